"""Errors that users see. Each message names the cell, gene or argument, and says what to do."""


class LatentcellError(Exception):
    """Base of every error raised on purpose by latentcell."""


class DataError(LatentcellError, ValueError):
    """The data cannot be used as they are: wrong scale, missing key, NaN, empty cells, unknown genes."""


class NotTrainedError(LatentcellError, RuntimeError):
    """A result was asked of a model that has not been trained."""


class TrainingDivergedError(LatentcellError, RuntimeError):
    """A loss became NaN or infinite during training; training was stopped there."""


class DistributedError(LatentcellError, RuntimeError):
    """Training in several processes stopped because one of them was gone."""


class ModelFileError(LatentcellError, ValueError):
    """A saved model cannot be read: missing, damaged, of another class or of an unknown version."""


class ModeCollapseWarning(UserWarning):
    """A GAN draws cells near a part of the real ones only."""
