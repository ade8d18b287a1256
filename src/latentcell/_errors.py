"""Errors that users see. Each message names the cell, gene or argument, and says what to do."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_NEAR = 0.6
"""Similarity from which on a name is suggested (0 to 1), as difflib counts it."""


def nearest(name: Any, known: Iterable[Any]) -> str:
    """What to end the message of an error with: the name that was probably meant, as a question.

    Capitals, spaces, points, dashes and underscores count for nothing where that finds a name.

    Parameters
    ----------
    name
        What was asked for, or several of them, of which the first that is like a known one counts.
    known
        Names that there are.

    Returns
    -------
    ``" Did you mean 'cell_type'?"``, or ``""`` if nothing is near.

    Examples
    --------
    >>> nearest("CellType", ["batch", "cell_type"]), nearest("zzz", ["batch", "cell_type"])
    (" Did you mean 'cell_type'?", '')
    """
    there: dict[str, Any] = {}
    for one in known:
        if one is not None:
            there.setdefault(str(one), one)
    for wanted in name if isinstance(name, list | tuple | set) else [name]:
        plain = _plain(str(wanted))
        found = next((one for text, one in there.items() if plain and _plain(text) == plain), None)
        if found is None:
            texts = {text.casefold(): one for text, one in reversed(there.items())}
            near = get_close_matches(str(wanted).casefold(), texts, n=1, cutoff=_NEAR)
            found = texts[near[0]] if near else None
        if found is not None:
            return f" Did you mean {found!r}?"
    return ""


def _plain(text: str) -> str:
    return re.sub(r"[\s._-]", "", text).casefold()


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


class LatentCollapseWarning(UserWarning):
    """A model gives all cells the same code."""


class ModeCollapseWarning(UserWarning):
    """A GAN draws cells near a part of the real ones only."""
