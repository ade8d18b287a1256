"""What a model class of your own is made from: abstract classes, what they are told, errors they raise.

A final class names its parts. It derives from ``AbstractVariational`` (a code with a posterior and a prior)
or ``AbstractDeterministic`` (a code that is a function of the cell), hands its arguments on by
``own_params``, and puts parts of ``latentcell.nn`` together by ``self._assemble(Network(...), ...)``.
``AbstractBaseline`` is for generators without a network. :func:`latentcell.testing.check_model` then says
whether the class keeps what users expect.
"""

from latentcell._errors import DataError, ModelFileError, NotTrainedError, TrainingDivergedError

from ._arguments import own_params
from ._assembly import Network
from ._base import AbstractModel
from ._deterministic import AbstractDeterministic
from ._variational import AbstractVariational
from .baselines._base import AbstractBaseline

__all__ = [
    "AbstractBaseline",
    "AbstractDeterministic",
    "AbstractModel",
    "AbstractVariational",
    "DataError",
    "ModelFileError",
    "Network",
    "NotTrainedError",
    "TrainingDivergedError",
    "own_params",
]
