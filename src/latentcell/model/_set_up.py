"""What a model is told of its cells: which slots of an AnnData hold what; and those cells, checked."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from anndata import AnnData
from scvi.model.base import BaseModelClass

from latentcell._errors import DataError, nearest
from latentcell._scvi import SCVI_PREFIX, register
from latentcell.module.autoencoder import Autoencoder
from latentcell.module.gan import GAN
from latentcell.nn.schedules import Cosine
from latentcell.train.loading import Cells

from . import _files
from ._cells import DataSpec, check_registrable, collect, gene_positions, matrix_of, place_of
from ._mark import mark_of


def check_set_up(model_class: type, adata: AnnData | None, registry: dict | None) -> None:
    """Refuse to build a model on nothing, or on cells that no model was told of."""
    name = model_class.__name__
    if adata is not None and not isinstance(adata, AnnData):
        raise DataError(f"{name} needs an AnnData, got {type(adata).__name__}: {name}(adata)")
    if adata is None and registry is None:
        raise DataError(f"{name} needs an AnnData: {name}(adata)")
    if adata is not None and not any(str(key).startswith(SCVI_PREFIX) for key in adata.uns):
        raise DataError(f"adata is not set up; first call {name}.setup_anndata(adata, ...)")


class AbstractSetUp(BaseModelClass):
    """A model of cells that were set up for it."""

    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {
        "lr": 1e-3,
        "lr_schedule": Cosine(1.0, 0.0),
        "batch_size": None,
        "max_epochs": None,
        "weight_decay": 0.0,
        "gradient_clip": None,
        "adam_eps": 1e-8,
    }
    COUNT_TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {}
    PRESETS: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {}
    module: Autoencoder | GAN

    def __init__(self, adata: AnnData | None, registry: dict | None, params: dict[str, Any]) -> None:
        check_set_up(type(self), adata, registry)
        for name, value in params.items():
            try:
                _files.encode(value)
            except TypeError as error:
                raise DataError(
                    f"{name}={value!r} cannot be saved with the model; "
                    "pass a number or one of latentcell.nn.schedules"
                ) from error
        super().__init__(adata, registry=registry)
        self.params = params
        self.spec = DataSpec.from_registry(self.registry)
        self.train_defaults = dict(self.TRAIN_DEFAULTS)
        self._mark = None if adata is None else mark_of(matrix_of(adata, self.spec.layer))

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        unlabeled_category: str | None = None,
    ) -> None:
        """Tell the model where in `adata` to find its data. Nothing is copied.

        Parameters
        ----------
        adata
            Cells x genes; not a view. scvi-tools keeps its codes in ``obs["_scvi_*"]``, ``obsm["_scvi_*"]``
            and ``uns["_scvi_*"]``, as for any of its models.
        layer
            ``layers`` key of the matrix to model; None is ``X``.
        batch_key
            ``obs`` key of the batch, which the decoder is told, so that the code need not hold it.
        labels_key
            ``obs`` key of cell labels, which conditional models are told.
        size_factor_key
            ``obs`` key of each cell's size factor, in counts; without it the cell's total count is used.
            Only count likelihoods use it.
        categorical_covariate_keys, continuous_covariate_keys
            ``obs`` keys of further covariates, which the decoder is told.
        unlabeled_category
            Label of cells whose label is not known, e.g. ``"unknown"``. New cells whose label is missing or
            new to the model then count as unknown; without it they are an error.

        Raises
        ------
        DataError
            If `adata` is a view, a key or layer is missing, a value is missing, or gene names repeat.
        """
        arguments = {
            "layer": layer,
            "batch_key": batch_key,
            "labels_key": labels_key,
            "size_factor_key": size_factor_key,
            "categorical_covariate_keys": categorical_covariate_keys,
            "continuous_covariate_keys": continuous_covariate_keys,
            "unlabeled_category": unlabeled_category,
        }
        check_registrable(adata, arguments)
        register(cls, adata, arguments)

    @classmethod
    def from_preset(cls, name: str, adata: AnnData, **overrides: Any) -> Self:
        """Build the model with a document's settings, for the architecture and for :meth:`train`.

        Parameters
        ----------
        name
            A key of :attr:`PRESETS`.
        adata
            Cells, set up with :meth:`setup_anndata`.
        **overrides
            Arguments of the constructor that replace the preset's.

        Raises
        ------
        DataError
            If there is no such preset.
        """
        if name not in cls.PRESETS:
            raise DataError(
                f"{cls.__name__} has no preset {name!r}; there are {sorted(cls.PRESETS)}."
                f"{nearest(name, cls.PRESETS)}"
            )
        preset = cls.PRESETS[name]
        model = cls(adata, **(preset["model"] | overrides))
        model.train_defaults |= preset["train"]
        return model

    def _cells(self, adata: AnnData | None) -> Cells:
        """Checked cells of `adata`, or those the model was built with."""
        if adata is None or adata is self.adata:
            return self._training_cells()
        return self._collect(adata, check=True)

    def _training_cells(self) -> Cells:
        adata = self._adata_or_own(None)
        now = mark_of(matrix_of(adata, self.spec.layer))
        if self._mark is None or now is None or now == self._mark:
            return self._collect(adata, check=False)
        if now.shape == self._mark.shape:
            raise DataError(
                f"{place_of(self.spec.layer)} of the cells that this {type(self).__name__} was built with "
                "was changed since, by sc.pp.normalize_total, log1p or scale perhaps, and would be read as "
                "what it was before. Pass cells as they were with adata=, or build the model anew on a layer "
                "that stays (adata.layers['counts'] = adata.X.copy(), then layer='counts')"
            )
        return self._collect(adata, check=True)

    def _adata_or_own(self, adata: AnnData | None) -> AnnData:
        found = self.adata if adata is None else adata
        if found is None:
            raise DataError("the model was loaded without cells; pass adata=..., or load(dir, adata)")
        return found

    def _collect(self, adata: AnnData, *, check: bool) -> Cells:
        spec = self.spec if self.module.uses_labels else self.spec.without_labels()
        return collect(adata, spec, kind=self.module.likelihood.data_kind, check=check)

    def _gene_positions(self, genes: Sequence[str]) -> np.ndarray:
        return gene_positions(self.spec, genes)

    def _gene_names(self, genes: Sequence[str] | None) -> list[str]:
        return list(self.spec.genes if genes is None else genes)
