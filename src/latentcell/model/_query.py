"""New cells and trained models: bring an AnnData to a model's genes, let a model learn new batches."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from torch import Tensor, cat

from latentcell import _keys
from latentcell._checks import check_numbers
from latentcell._disk import opened
from latentcell._errors import DataError
from latentcell._scvi import extend_batches
from latentcell.module.autoencoder import Autoencoder

from ._cells import DataSpec, _check_unique, _column, matrix_of, place_of

if TYPE_CHECKING:
    from ._base import AbstractModel
    from ._likelihood import AbstractLikelihoodModel

AnyModel = TypeVar("AnyModel", bound="AbstractModel")
Model = TypeVar("Model", bound="AbstractLikelihoodModel")
LEAST_GENES = 0.5
"""Share of a model's genes that cells must have: with fewer, most of what the encoder saw is missing."""
_CHUNK = 2**24
"""Values of a matrix on disk that are read at once."""


def prepare(adata: AnnData, spec: DataSpec) -> AnnData:
    """A new AnnData with the genes of `spec` in their order, those that `adata` lacks filled with 0."""
    _check_unique(adata.var_names, "gene", "adata.var_names_make_unique()")
    positions = pd.Index(adata.var_names).get_indexer(pd.Index(spec.genes))
    is_filled = positions < 0
    n_there, n_genes = int((~is_filled).sum()), len(spec.genes)
    if n_there < LEAST_GENES * n_genes:
        missing = [gene for gene, filled in zip(spec.genes, is_filled, strict=True) if filled]
        raise DataError(
            f"only {n_there} of the model's {n_genes} genes ({n_there / n_genes:.0%}) are in "
            f"adata.var_names, at least {LEAST_GENES:.0%} are needed; missing are "
            f"{', '.join(map(repr, missing[:5]))}"
            f"{', ...' if len(missing) > 5 else ''}. Are these the same gene identifiers?"
        )
    values = opened(matrix_of(adata, spec.layer))
    check_numbers(values, place_of(spec.layer))
    matrix = _columns_or_zeros(values, positions)
    var = pd.DataFrame({_keys.IS_FILLED: is_filled}, index=pd.Index(spec.genes))
    obs = adata.obs.copy()
    if spec.layer is None:
        return AnnData(matrix, obs=obs, var=var)
    return AnnData(obs=obs, var=var, layers={spec.layer: matrix})


def extend(cls: type[Model], adata: AnnData, reference: Model, *, unfrozen: bool) -> Model:
    """A copy of `reference` that knows the batches of `adata` too, and trains only those if not unfrozen."""
    reference._require_trained()
    new = _new_batches(adata, reference.spec)
    model = cls(None, registry=extend_batches(reference.registry, new), **reference.params)
    weights, free = _grown(reference.module, model.module)
    model.module.to(next(reference.module.parameters()))  # its device and precision
    model.module.load_state_dict(weights)
    model.module.eval()
    model.train_defaults = dict(reference.train_defaults)
    model.is_trained_ = True
    if not unfrozen:
        model.module.freeze(free)
    model.attach(adata)
    return model


def reference_of(cls: type[AnyModel], given: Any) -> AnyModel:
    """The model that a user named, by itself or by its folder."""
    if isinstance(given, str | os.PathLike):
        return cls.load(Path(given))
    if type(given) is not cls:
        raise DataError(
            f"reference_model must be a {cls.__name__} or the folder of a saved one, "
            f"got a {type(given).__name__}"
        )
    return given


def check_something_to_train(module: Autoencoder) -> None:
    """Refuse to train a frozen module without new batches."""
    if module.free is not None and not module.free:
        raise DataError(
            "nothing to train: the reference knows all batches of these cells, and its weights are frozen. "
            "Ask for results at once, or load_query_data(..., unfrozen=True) to go on training everything."
        )


def _new_batches(adata: AnnData, spec: DataSpec) -> list:
    """Batches of `adata` that the model does not know."""
    if spec.batch_key is None or spec.batch is None:
        raise DataError(
            "the reference model was set up without batch_key, so it has nothing to learn of new batches; "
            "embed the cells with it as it is: model.get_latent_representation(adata)"
        )
    column = _column(adata, spec.batch_key, "batch_key").astype(object)
    known = set(spec.batch)
    new = sorted((value for value in column.unique() if value not in known), key=repr)
    as_text = {str(value): value for value in spec.batch}
    for value in new:
        if str(value) in as_text:
            raise DataError(
                f"obs[{spec.batch_key!r}] holds {value!r}, which the model knows as "
                f"{as_text[str(value)]!r}; give it the type that it had: "
                f"{type(as_text[str(value)]).__name__}"
            )
    return new


def _grown(old: Autoencoder, new: Autoencoder) -> tuple[dict[str, Tensor], dict[str, tuple[int, int, int]]]:
    """Weights of `old` in the shapes of `new`, which knows more batches, and where the new ones lie.

    A new batch starts as the mean of the known ones, in the middle of what the layers behind were trained on.
    0 need not lie there: what known batches have in common may be in their weights as well as in the bias.
    """
    n_known, n_new = old.covariates.n_batch, new.covariates.n_batch - old.covariates.n_batch
    # a cell's covariates follow everything else that a layer reads, and its batch is the first of them
    n_behind = old.covariates.n_columns - n_known
    weights, free = old.state_dict(), {}
    for name, target in new.state_dict().items():
        value = weights[name]
        if value.shape == target.shape:
            continue
        (dim,) = [d for d, size in enumerate(target.shape) if size != value.shape[d]]
        at = value.shape[dim] - (0 if name == "likelihood.log_theta" else n_behind)
        mean = value.narrow(dim, at - n_known, n_known).mean(dim, keepdim=True)
        before, behind = value.narrow(dim, 0, at), value.narrow(dim, at, value.shape[dim] - at)
        weights[name] = cat([before, mean.repeat_interleave(n_new, dim), behind], dim)
        free[name] = (dim, at, at + n_new)
    return weights, free


def _columns_or_zeros(matrix: Any, positions: np.ndarray) -> Any:
    """Columns of a matrix (in memory or on disk) in memory, of its own kind; zeros where a position is -1."""
    there = np.flatnonzero(positions >= 0)
    step = max(1, _CHUNK // max(1, matrix.shape[1]))
    slices = [slice(start, start + step) for start in range(0, matrix.shape[0], step)]
    if getattr(matrix, "format", "dense") == "dense":
        out = np.zeros((matrix.shape[0], len(positions)), dtype=matrix.dtype)
        for rows in slices:
            out[rows, there] = matrix[rows][:, positions[there]]
        return out
    ones = np.ones(len(there), dtype=matrix.dtype)
    choice = sparse.csr_matrix((ones, (positions[there], there)), shape=(matrix.shape[1], len(positions)))
    if sparse.issparse(matrix):
        out = matrix @ choice.asformat(matrix.format)
    elif matrix.format == "csc":  # rows cannot be read from it
        out = matrix.to_memory() @ choice.tocsc()
    else:
        out = sparse.vstack([matrix[rows] @ choice for rows in slices], format="csr")
    out.sort_indices()
    return out
