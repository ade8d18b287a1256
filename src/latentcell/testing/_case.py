"""A model class under test: what it can do, and the trained models that the checks share."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from anndata import AnnData
from scvi.model.base import BaseModelClass

from latentcell._errors import DataError

from ._cells import KEYS, LABELS, dense, make_cells

RESULTS = {
    "get_latent_representation": "codes",
    "get_reconstruction": "genes",
    "get_reconstruction_error": "number",
    "get_elbo": "number",
    "get_inclusion_probability": "codes",
    "get_marginal_ll": "number",
    "get_denoised": "genes",
    "get_normalized_expression": "genes",
}
"""Every method that looks at cells, and what it gives of a cell."""

DRAWN = ("get_elbo", "get_marginal_ll", "get_normalized_expression")
"""Methods that measure on draws, so that other batches have other draws."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model class, what it cannot do without, and models of it that are trained once and shared.

    Parameters
    ----------
    model
        The class.
    setup
        Arguments that ``setup_anndata`` cannot do without, by keys of :func:`make_cells`, e.g.
        ``{"labels_key": "label"}`` for a conditional model.
    arguments
        Arguments of the constructor; small sizes make the checks quick.
    counts_only
        Whether the class models counts and nothing else; None finds out by trying.
    epochs
        Of the model that knows all it can be told: enough to tell 3 kinds of 60 cells at a rate of 0.01.

    Examples
    --------
    >>> import latentcell as lc
    >>> case = lc.testing.Case(lc.model.CVAE, setup={"labels_key": "label"})
    >>> case.can("encode"), case.can("posterior"), lc.testing.Case(lc.model.GeneShuffle).can("encode")
    (True, True, False)
    """

    model: type[Any]
    setup: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    counts_only: bool | None = None
    epochs: int = 20

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.model.__name__

    def can(self, capability: str) -> bool:
        """Whether the class has a capability, told by its methods and what they take."""
        return CAPABILITIES[capability](self)

    def takes(self, method: str, argument: str) -> bool:
        """Whether a method has an argument of that name; ``**kwargs`` hands it on to the class above."""
        for owner in self.model.__mro__:
            found = vars(owner).get(method)
            if found is None:
                continue
            parameters = inspect.signature(getattr(owner, method)).parameters
            if argument in parameters:
                return True
            if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
                return False
        return False

    @property
    def defaults(self) -> dict[str, Any]:
        """Arguments of its constructor that have a default, and the default; see :meth:`takes`."""
        found: dict[str, Any] = {}
        for owner in self.model.__mro__:
            if "__init__" not in vars(owner):
                continue
            parameters = inspect.signature(vars(owner)["__init__"]).parameters
            here = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
            found = here | found
            if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
                break
        return found

    @property
    def keys(self) -> dict[str, Any]:
        """All that its ``setup_anndata`` can be told of the cells."""
        return {key: value for key, value in KEYS.items() if self.takes("setup_anndata", key)}

    @property
    def results(self) -> list[str]:
        """Its methods that look at cells."""
        return [name for name in RESULTS if _has(name)(self)]

    def build(self, adata: AnnData, keys: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
        """An untrained model on `adata` itself."""
        self.model.setup_anndata(adata, **{**self.setup, **(keys or {})})
        return self.model(adata, **{**self.arguments, **arguments})

    def fit(self, model: Any, max_epochs: int = 2, **arguments: Any) -> Any:
        """Train a model, at rates that do not hang on its defaults."""
        fixed = {"accelerator": "cpu", "enable_progress_bar": False, "lr": 1e-3, "weight_decay": 0.0}
        told = {"max_epochs": max_epochs, **fixed, **arguments}
        model.train(**{key: value for key, value in told.items() if self.takes("train", key)})
        return model

    def train(
        self,
        adata: AnnData,
        keys: Mapping[str, Any] | None = None,
        *,
        max_epochs: int = 2,
        fit: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Any:
        """A model trained on `adata` itself."""
        return self.fit(self.build(adata, keys, **arguments), max_epochs, **(fit or {}))

    def look(self, model: Any, method: str, *args: Any, **kwargs: Any) -> np.ndarray:
        """An array with a row per cell, whatever the method calls its arguments."""
        if RESULTS[method] == "number":
            kwargs["return_mean"] = False
        few = dict.fromkeys(DRAWN, "n_samples") | {"get_marginal_ll": "n_mc_samples"}
        if method in few:
            kwargs[few[method]] = 16
        if method == "get_normalized_expression":
            kwargs["return_numpy"] = True
        if method == "get_denoised" and "batch_size" in kwargs:
            kwargs["chunk_size"] = kwargs.pop("batch_size")
        return getattr(model, method)(*args, **kwargs)

    def outcome(self, model: Any, adata: AnnData | None = None) -> np.ndarray:
        """What a model is judged by: codes of cells (its own by default), else cells that it draws."""
        if self.can("encode"):
            return model.get_latent_representation(adata)
        return dense(model.generate(40, seed=3).X)

    @property
    def new_cells(self) -> AnnData:
        """Cells never trained on; others each time, so that who writes to them spoils no other check."""
        return self._new_cells.copy()

    @cached_property
    def _new_cells(self) -> AnnData:
        return make_cells(n_cells=55, seed=1)

    @cached_property
    def trained(self) -> Any:
        """A model of counts without covariates. Not to be changed."""
        return self.train(make_cells())

    @cached_property
    def informed(self) -> Any:
        """A model of counts that knows all it can be told of the cells, trained longer. Not to be changed."""
        return self.train(make_cells(), self.keys, max_epochs=self.epochs, fit={"lr": 0.01})

    @cached_property
    def traces(self) -> dict[str, list[str]]:
        """What using the model changes in the process; see ``_process.changes``."""
        from ._process import changes

        return changes(self)

    @cached_property
    def draws_by_label(self) -> bool:
        """Whether new cells can be asked for by label, which is found by asking."""
        if not self.can("generate") or not self.can("labels"):
            return False
        try:
            self.informed.generate(labels={LABELS[0]: 1})
        except DataError as error:
            return "labels do not steer" not in str(error)
        return True

    @cached_property
    def layers(self) -> tuple[str | None, ...]:
        """Matrices of :func:`make_cells` that it can model; None is ``X``."""
        return (None, "unit", "log") if self.can("any data") else (None,)

    @cached_property
    def models_any_data(self) -> bool:
        """Whether it takes data that are not counts; told, or found by trying."""
        if self.counts_only is not None:
            return not self.counts_only
        try:
            self.build(make_cells(), {"layer": "log"})
        except DataError:
            return False
        return True


def _has(*methods: str) -> Callable[[Case], bool]:
    def own(model: type, method: str) -> bool:
        # scvi-tools' base class has some methods that say only that they are not implemented
        found = getattr(model, method, None)
        return found is not None and found is not getattr(BaseModelClass, method, None)

    return lambda case: all(own(case.model, method) for method in methods)


def _takes(method: str, *arguments: str) -> Callable[[Case], bool]:
    return lambda case: all(case.takes(method, argument) for argument in arguments)


CAPABILITIES: dict[str, Callable[[Case], bool]] = {
    "encode": _has("get_latent_representation"),
    "reconstruct": _has("get_reconstruction", "get_reconstruction_error"),
    "posterior": _has("get_elbo"),
    "marginal likelihood": _has("get_marginal_ll"),
    "generate": _has("generate"),
    "decode": _has("decode", "interpolate", "traverse"),
    "any data": lambda case: case.models_any_data,
    "any likelihood": _takes("__init__", "gene_likelihood"),
    "batches": _takes("setup_anndata", "batch_key"),
    "labels": _takes("setup_anndata", "labels_key"),
    "cells by label": lambda case: case.draws_by_label,
    "covariates": _takes("setup_anndata", "categorical_covariate_keys", "continuous_covariate_keys"),
    "size factors": _takes("setup_anndata", "size_factor_key"),
    "epochs": _takes("train", "max_epochs", "batch_size", "train_size"),
    "rates": _takes("train", "max_epochs", "lr", "lr_schedule"),
    "early stopping": _takes("train", "early_stopping", "early_stopping_patience"),
    "checkpoints": _takes("train", "max_epochs", "lr_schedule", "checkpoint_dir", "resume"),
}
"""What a check may need; decided by a class's methods and their arguments, never by its name."""
