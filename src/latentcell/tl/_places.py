"""Cells as places among the codes of a model: where they are, and what is decoded there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._codes import stored_codes
from latentcell._errors import DataError, nearest
from latentcell.model._adversarial import AbstractAdversarial
from latentcell.model._cells import DataSpec, match_genes
from latentcell.model._encoder import AbstractEncoder
from latentcell.model._generative import AbstractGenerator

from ._describe import row_blocks

TARGET_SUM = 1e4
"""Counts per cell to which expression is brought before its logarithm is taken."""
CHUNK = 1024
"""Cells that are decoded at once where only their mean is kept."""


def check_places(adata: AnnData, model: Any) -> None:
    """Refuse what is no AnnData, and models that cannot place cells among codes or decode them."""
    if not isinstance(adata, AnnData):
        raise DataError(f"an AnnData is needed, got {type(adata).__name__}")
    if not (
        isinstance(model, AbstractGenerator) and isinstance(model, AbstractEncoder | AbstractAdversarial)
    ):
        raise DataError(
            f"model: a {type(model).__name__} has no latent space to move in; use e.g. VAE, VSC or GAN"
        )


def places_of(
    adata: AnnData,
    model: AbstractGenerator,
    use_rep: str | None,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Codes of cells (cells x n_latent, float64), computed or from ``obsm[use_rep]``.

    Parameters
    ----------
    adata, model
        Cells, and a model that :func:`check_places` lets pass.
    use_rep
        ``obsm`` key of the model's codes; None asks the model: the code of its encoder, or the place that
        ``project`` of a GAN finds.
    rows
        Positions of the cells; None takes all.
    """
    if use_rep is not None:
        codes = stored_codes(adata, use_rep)
        if codes.shape[1] != model._n_latent:
            raise DataError(
                f"use_rep={use_rep!r} has {codes.shape[1]} dimensions, the model {model._n_latent}; these "
                "are not its codes"
            )
        return codes if rows is None else codes[rows]
    place = model.project if isinstance(model, AbstractAdversarial) else None
    place = cast("Any", model).get_latent_representation if place is None else place
    return np.asarray(place(adata, rows), dtype=np.float64)


@dataclass(frozen=True)
class Told:
    """What cells are besides their codes, as ``decode`` takes it: a value per cell, or nothing."""

    labels: np.ndarray | None
    batch: np.ndarray | None
    covariates: dict[str, np.ndarray]
    library_size: np.ndarray | None

    def at(self, rows: np.ndarray | slice) -> dict[str, Any]:
        """Arguments of ``decode`` for these cells."""
        return {
            "labels": None if self.labels is None else self.labels[rows],
            "batch": None if self.batch is None else self.batch[rows],
            "covariates": {key: values[rows] for key, values in self.covariates.items()},
            "library_size": None if self.library_size is None else self.library_size[rows],
        }


def told_of(adata: AnnData, model: AbstractGenerator) -> Told:
    """What the model is told of cells: label, batch, covariates, depth."""
    spec = model.spec
    batch = None if spec.batch_key is None else _column(adata, spec.batch_key)
    labels = _labels(adata, spec) if model.module.uses_labels and spec.labels_key else None
    covariates = {key: _column(adata, key) for key in [*spec.categorical, *spec.continuous]}
    return Told(labels, batch, covariates, depths_of(adata, model))


def mean_expression(
    model: AbstractGenerator, codes: np.ndarray, told: Told, genes: Sequence[str] | None
) -> np.ndarray:
    """Mean of decoded expression over codes (genes), as :func:`log_expression` has it."""
    total = 0.0
    for start in range(0, len(codes), CHUNK):
        rows = slice(start, start + CHUNK)
        new = model.decode(codes[rows], genes=genes, **told.at(rows))
        total = total + log_expression(cast("AnnData", new)).sum(axis=0)
    return np.asarray(total / len(codes))


def log_expression(new: AnnData, rows: Any = slice(None)) -> np.ndarray:
    """Expression of decoded cells (cells x genes, float64): of counts log(1 + counts per 10,000)."""
    values = np.asarray(cast("Any", new.X)[rows], dtype=np.float64)
    if "library_size" not in new.obs:
        return values
    size = new.obs["library_size"].to_numpy(dtype=float)[rows]
    return np.log1p(TARGET_SUM * values / size[:, None])


def rank_changes(new: AnnData, change: np.ndarray) -> None:
    """Write ``var["change"]`` and ``var["rank"]``: genes by how far they move, from 1."""
    new.var["change"] = change
    new.var["rank"] = pd.Series(-np.abs(change), index=new.var_names).rank(method="first").astype(int)


def _labels(adata: AnnData, spec: DataSpec) -> np.ndarray:
    """Labels of cells, all of which must be known: there is no cell to decode of an unknown one."""
    assert spec.labels_key is not None
    found = _column(adata, spec.labels_key)
    unknown = ~np.isin(found.astype(object), np.array(spec.labels, dtype=object))
    if unknown.any():
        cell = adata.obs_names[int(unknown.argmax())]
        raise DataError(
            f"obs[{spec.labels_key!r}] of cell {cell!r} is {found[unknown.argmax()]!r}, not a label that the "
            f"model knows ({spec.labels}); leave out the cells without one"
        )
    return found


def _column(adata: AnnData, key: str) -> np.ndarray:
    if key not in adata.obs:
        raise DataError(
            f"obs has no {key!r}, which the model was set up with (there: {', '.join(adata.obs)})."
            f"{nearest(key, adata.obs)}"
        )
    return adata.obs[key].to_numpy()


def depths_of(adata: AnnData, model: AbstractGenerator) -> np.ndarray | None:
    """Counts of each cell as the model counts them (cells); None where its data are no counts."""
    if model.module.likelihood.data_kind != "counts":
        return None
    if "library_size" in adata.obs and adata.obs.get(_keys.IS_GENERATED, pd.Series([False])).all():
        return adata.obs["library_size"].to_numpy(dtype=float)
    key = model.spec.size_factor_key
    if key is not None:
        return _column(adata, key).astype(float)
    genes = match_genes(adata.var_names, model.spec.genes)
    sizes = np.empty(adata.n_obs)
    for rows, block in row_blocks(adata, model.spec.layer):
        own = block if genes is None else block[:, genes]
        sizes[rows] = np.asarray(own.sum(axis=1)).ravel()
    return sizes
