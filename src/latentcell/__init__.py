"""Latent spaces of single cells, and new cells drawn from them.

Everything public hangs off this package and is imported on first use, so that ``import latentcell``
stays fast and never loads torch:

* :mod:`latentcell.model`: the models (``AE``, ``VAE``, ``VSC``), in scvi-tools' manner
* :mod:`latentcell.tl`: one-call verbs on AnnData, in scanpy's manner
* :mod:`latentcell.pp`, :mod:`latentcell.pl`, :mod:`latentcell.metrics`, :mod:`latentcell.datasets`
* :mod:`latentcell.testing`: the contract that models keep, for models of your own
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentcell import datasets, metrics, model, pl, pp, testing, tl

__version__ = version("latentcell")
__all__ = ["__version__", "datasets", "metrics", "model", "pl", "pp", "testing", "tl"]

_SUBMODULES = frozenset({"datasets", "metrics", "model", "pl", "pp", "testing", "tl"})


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
