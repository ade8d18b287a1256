"""From AnnData to what a model reads: a matrix with genes matched by name, and codes of its covariates."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scvi import REGISTRY_KEYS

from latentcell._checks import Kind, check_matrix, layer_names, matrix_kind
from latentcell._disk import opened
from latentcell._errors import DataError, nearest
from latentcell._scvi import SCVI_PREFIX, read_registry
from latentcell.train.loading import Cells

Indices = Sequence[int] | np.ndarray | None
"""Cells by position, or a boolean mask; None is all of them."""


@dataclass(frozen=True)
class DataSpec:
    """What a model must find in any AnnData it is given.

    Attributes
    ----------
    layer
        ``layers`` key of the matrix; None is ``X``.
    genes
        Gene names, in the model's order.
    batch_key, labels_key, size_factor_key
        ``obs`` keys, or None.
    unlabeled_category
        Label that stands for an unknown one; None where every cell must have a known label.
    batch, labels
        Known categories (the unlabeled one is not among them), or None without a key.
    categorical
        Categories of each further categorical covariate, by ``obs`` key.
    continuous
        ``obs`` keys of continuous covariates.
    """

    layer: str | None
    genes: list[str]
    batch_key: str | None
    labels_key: str | None
    size_factor_key: str | None
    unlabeled_category: str | None
    batch: list | None
    labels: list | None
    categorical: dict[str, list]
    continuous: list[str]

    @classmethod
    def from_registry(cls, registry: dict) -> "DataSpec":
        """Read the spec of the data that `registry` was made from."""
        found = read_registry(registry)
        args = found.pop("setup_args")
        keys = ("layer", "batch_key", "labels_key", "size_factor_key", "unlabeled_category")
        return cls(**{key: args[key] for key in keys}, **found)

    def without_labels(self) -> "DataSpec":
        """The same for a model that does not look at labels."""
        return replace(self, labels_key=None, labels=None)


def matrix_of(adata: AnnData, layer: str | None) -> Any:
    """The matrix of `adata` that `layer` names; a missing one is a :class:`DataError` that lists all."""
    if layer is None:
        if adata.X is None:
            raise DataError("adata.X is empty; name the matrix to use with setup_anndata(layer=...)")
        return adata.X
    if layer not in adata.layers:
        there = layer_names(adata.layers)
        raise DataError(
            f"layers has no {layer!r}; there are {there}. Name one with layer=, or None for X."
            f"{nearest(layer, there)}"
        )
    return adata.layers[layer]


def kind_of(adata: AnnData, layer: str | None) -> Kind:
    """What kind of numbers the matrix holds that `layer` names."""
    matrix = opened(matrix_of(adata, layer))
    return matrix_kind(matrix, adata.obs_names, adata.var_names, where=place_of(layer))


def place_of(layer: str | None) -> str:
    """How error messages call the matrix that `layer` names."""
    return "X" if layer is None else f"layers[{layer!r}]"


class _Columns:
    """Some columns of a matrix, in any order, read in slices of rows: nothing is copied as a whole."""

    def __init__(self, matrix: Any, genes: np.ndarray) -> None:
        self.matrix, self.genes = matrix, genes
        self.shape = (matrix.shape[0], len(genes))

    def __getitem__(self, rows: slice) -> Any:
        return self.matrix[rows][:, self.genes]


def _columns(matrix: Any, genes: np.ndarray) -> Any:
    return matrix[:, genes] if sparse.issparse(matrix) else _Columns(matrix, genes)


def check_registrable(adata: AnnData, spec_keys: dict[str, Any]) -> None:
    """Refuse an AnnData that cannot be set up: a view, repeated genes or cells, missing keys, missing values.

    Parameters
    ----------
    adata
        Cells.
    spec_keys
        Arguments of ``setup_anndata`` by name.
    """
    if not isinstance(adata, AnnData):
        hint = "; pass lc.pp.open_cells(collection.adatas)" if hasattr(adata, "adatas") else ""
        raise DataError(f"an AnnData is needed, got {type(adata).__name__}{hint}")
    if adata.is_view:
        raise DataError(
            "adata is a view of another AnnData; make it an object of its own: adata = adata.copy()"
        )
    if not adata.n_obs or not adata.n_vars:
        raise DataError(f"adata has no {'genes' if adata.n_obs else 'cells'}")
    _check_unique(adata.var_names, "gene", "adata.var_names_make_unique()")
    matrix_of(adata, spec_keys["layer"])
    for argument in ("batch_key", "labels_key", "size_factor_key"):
        if spec_keys[argument] is not None:
            _column(adata, spec_keys[argument], argument)
    for argument in ("categorical_covariate_keys", "continuous_covariate_keys"):
        for key in spec_keys[argument] or ():
            _column(adata, key, argument)
    for argument in ("size_factor_key", "continuous_covariate_keys"):
        keys = spec_keys[argument] or ()
        for key in [keys] if isinstance(keys, str) else keys:
            _numeric(adata, key, argument, positive=argument == "size_factor_key")


def collect(adata: AnnData, spec: DataSpec, *, kind: str, check: bool) -> Cells:
    """Cells of `adata` as the model wants them.

    Parameters
    ----------
    adata
        Any AnnData with the model's genes (in any order, among any others) and keys.
    spec
        What the model wants.
    kind
        What the likelihood needs the values to be: ``"counts"``, ``"unit"``, ``"finite"``.
    check
        Look at every value and refuse what is not of that kind.

    Raises
    ------
    DataError
        Naming the missing genes, keys or categories, or the first cells with values that do not fit.
    """
    matrix = opened(matrix_of(adata, spec.layer))
    genes = match_genes(adata.var_names, spec.genes)
    if check:
        values = matrix if genes is None else _columns(matrix, genes)
        check_matrix(values, adata.obs_names, spec.genes, kind=kind, where=place_of(spec.layer))  # type: ignore[arg-type]
    arrays: dict[str, np.ndarray] = {}
    if spec.batch_key is not None and spec.batch is not None:
        arrays[REGISTRY_KEYS.BATCH_KEY] = _codes(adata, spec.batch_key, spec.batch, "batch_key")
    if spec.labels_key is not None and spec.labels is not None:
        arrays[REGISTRY_KEYS.LABELS_KEY] = _label_codes(adata, spec)
    if spec.categorical:
        columns = [
            _codes(adata, key, values, "categorical_covariate_keys")
            for key, values in spec.categorical.items()
        ]
        arrays[REGISTRY_KEYS.CAT_COVS_KEY] = np.concatenate(columns, axis=1)
    if spec.continuous:
        numeric = [_numeric(adata, key, "continuous_covariate_keys") for key in spec.continuous]
        arrays[REGISTRY_KEYS.CONT_COVS_KEY] = np.stack(numeric, axis=1).astype(np.float32)
    if spec.size_factor_key is not None:
        factor = _numeric(adata, spec.size_factor_key, "size_factor_key", positive=True)
        arrays[REGISTRY_KEYS.SIZE_FACTOR_KEY] = factor[:, None].astype(np.float32)
    return Cells(matrix, genes=genes, arrays=arrays, cell_names=adata.obs_names, gene_names=spec.genes)


def match_genes(names: pd.Index, wanted: Sequence[str]) -> np.ndarray | None:
    """Positions of the wanted genes among `names`; None if `names` are just those, in that order."""
    if len(names) == len(wanted) and list(names) == list(wanted):
        return None
    _check_unique(names, "gene", "adata.var_names_make_unique()")
    positions = pd.Index(names).get_indexer(pd.Index(wanted))
    missing = [gene for gene, position in zip(wanted, positions, strict=True) if position < 0]
    if missing:
        named = ", ".join(repr(gene) for gene in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"{len(missing)} of the model's {len(wanted)} genes are not in adata.var_names: {named}. "
            "The model needs every gene that it was trained on; are these the same gene identifiers?"
        )
    return positions


def gene_positions(spec: DataSpec, genes: Sequence[str]) -> np.ndarray:
    """Positions among the model's genes of those that a user names."""
    if isinstance(genes, str):
        raise DataError(f"genes must be a list of names; for one gene pass {[genes]}")
    positions = pd.Index(spec.genes).get_indexer(pd.Index(genes))
    if (positions < 0).any():
        missing = [gene for gene, position in zip(genes, positions, strict=True) if position < 0]
        raise DataError(f"the model does not have these genes: {missing[:5]}.{nearest(missing, spec.genes)}")
    return positions


def own_columns(obs: pd.DataFrame) -> pd.DataFrame:
    """``obs`` without the columns that scvi-tools keeps there."""
    return obs[[name for name in obs if not str(name).startswith(SCVI_PREFIX)]]


def rows_of(indices: Indices, n_obs: int) -> np.ndarray:
    """Positions of the cells that `indices` names: positions (also negative), a mask, or None for all."""
    if indices is None:
        return np.arange(n_obs)
    rows = np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_obs,):
            raise DataError(f"a boolean indices needs one entry per cell ({n_obs}), got {rows.shape}")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
        raise DataError("indices must be a list of cell positions (integers) or a boolean mask")
    if rows.size and (rows.min() < -n_obs or rows.max() >= n_obs):
        furthest = rows.max() if rows.max() >= n_obs else rows.min()
        raise DataError(f"indices reach {furthest}, but there are only {n_obs} cells")
    return np.where(rows < 0, rows + n_obs, rows).astype(np.int64)


def _label_codes(adata: AnnData, spec: DataSpec) -> np.ndarray:
    """Codes of labels (cells x 1); where there is an unlabeled category, unknown ones get n_labels."""
    key, labels = spec.labels_key, spec.labels
    if key is None or labels is None:
        raise TypeError("the model has no labels")
    if spec.unlabeled_category is None:
        return _codes(adata, key, labels, "labels_key")
    if key not in adata.obs:
        return np.full((adata.n_obs, 1), len(labels), dtype=np.int64)
    codes = _positions(labels, adata.obs[key])
    return np.where(codes < 0, len(labels), codes)[:, None]


def _positions(categories: list, column: pd.Series) -> np.ndarray:
    """Position of each value among the categories (cells); -1 where it is none of them."""
    return pd.Index(categories, dtype=object).get_indexer(pd.Index(column.astype(object))).astype(np.int64)


def _codes(adata: AnnData, key: str, categories: list, argument: str) -> np.ndarray:
    column = _column(adata, key, argument)
    codes = _positions(categories, column)
    if (codes < 0).any():
        unknown = sorted({repr(value) for value in column[codes < 0]})
        raise DataError(
            f"obs[{key!r}] holds {', '.join(unknown[:5])}, unknown to the model ({argument}); it knows "
            f"{', '.join(repr(value) for value in categories[:10])}{', ...' if len(categories) > 10 else ''}."
        )
    return codes[:, None]


def _column(adata: AnnData, key: str, argument: str) -> pd.Series:
    if key not in adata.obs:
        there = ", ".join(repr(str(name)) for name in adata.obs.columns) or "none"
        raise DataError(
            f"obs has no {key!r} ({argument}={key!r}); its columns are {there}.{nearest(key, adata.obs)}"
        )
    column = adata.obs[key]
    if column.isna().any():
        cells = ", ".join(repr(str(name)) for name in adata.obs_names[column.isna()][:3])
        raise DataError(
            f"obs[{key!r}] ({argument}) is missing for {int(column.isna().sum())} cells, e.g. {cells}. "
            "Leave those cells out or give them a category of their own."
        )
    return column


def _numeric(adata: AnnData, key: str, argument: str, *, positive: bool = False) -> np.ndarray:
    column = _column(adata, key, argument)
    if not pd.api.types.is_numeric_dtype(column):
        raise DataError(f"obs[{key!r}] ({argument}) must hold numbers, it holds {column.dtype}.")
    values = column.to_numpy(dtype=float)
    bad = ~np.isfinite(values) | ((values <= 0) if positive else False)
    if bad.any():
        cell = adata.obs_names[int(np.flatnonzero(bad)[0])]
        need = "positive and finite" if positive else "finite"
        raise DataError(f"obs[{key!r}] ({argument}) must be {need}; cell {cell!r} has {values[bad][0]}.")
    return values


def _check_unique(names: pd.Index, what: str, fix: str) -> None:
    if not names.is_unique:
        repeated: list[Hashable] = list(dict.fromkeys(names[names.duplicated()]))
        named = ", ".join(repr(str(name)) for name in repeated[:3])
        raise DataError(f"{len(repeated)} {what} names occur more than once, e.g. {named}; first call {fix}")
