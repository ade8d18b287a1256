"""What is drawn as a point: codes of cells, or principal components of expression where a model has none."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from latentcell import _keys
from latentcell._checks import matrix_kind
from latentcell._codes import stored_codes
from latentcell._errors import DataError
from latentcell.model._cells import matrix_of
from latentcell.model.abstract import AbstractVariational

N_COMPS = 30
"""Principal components of the expression of models without codes."""

BASES = ("umap", "pca", "code")


@dataclass(frozen=True)
class Codes:
    """Codes of cells and of new ones, and what they are in words.

    Parameters
    ----------
    real, new
        Cells x dimensions; `new` is None where there are none.
    what
        Such as ``"codes of the VAE (10 dimensions)"``.
    of_model
        Whether they are the model's.
    unit_prior
        Whether they have a prior of variance 1.
    """

    real: np.ndarray
    new: np.ndarray | None
    what: str
    of_model: bool
    unit_prior: bool = False


def codes_of(model: Any, cells: AnnData, new: AnnData | None, seed: int) -> Codes:
    """Codes of cells and of new ones, by the same way: also the new ones are looked at, not remembered."""
    name = type(model).__name__
    for method, words in (("get_latent_representation", "codes"), ("project", "places among the codes")):
        if hasattr(model, method):
            encode = getattr(model, method)
            codes = np.asarray(encode(cells))
            of_new = None if new is None else np.asarray(encode(_with_sizes(new, model.spec)))
            what = f"{words} of the {name} ({codes.shape[1]} dimensions)"
            return Codes(codes, of_new, what, True, isinstance(model, AbstractVariational))
    values = logged(matrix_of(cells, model.spec.layer))
    n_comps = min(N_COMPS, cells.n_obs - 1, cells.n_vars)
    pca = PCA(n_comps, random_state=seed, svd_solver="randomized").fit(values)
    of_new = None if new is None else pca.transform(logged(new.X))
    return Codes(pca.transform(values), of_new, f"{n_comps} principal components of expression", False)


def _with_sizes(new: AnnData, spec: Any) -> AnnData:
    """New cells with what a model asks of cells: the layer, and the size factor if it has one."""
    if spec.layer is None and spec.size_factor_key is None:
        return new
    told = AnnData(new.X, obs=new.obs.copy(), var=new.var[[]].copy())
    if spec.layer is not None:
        told.layers[spec.layer] = told.X
    if spec.size_factor_key is not None:
        told.obs[spec.size_factor_key] = told.obs["library_size"]
    return told


def logged(values: Any) -> np.ndarray:
    """Counts as log1p CP10k, dense; other values as they are."""
    dense = values.toarray() if sparse.issparse(values) else np.array(values)
    dense = dense.astype(np.float32)
    if matrix_kind(values) != "counts":
        return dense
    total = dense.sum(axis=1, keepdims=True)
    return np.log1p(dense * (1e4 / np.where(total > 0, total, 1.0)))


def places_of(
    codes: Codes, basis: str, cells: AnnData, seed: int
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Where cells and new ones are drawn (each cells x 2), and how that was found, in words.

    Parameters
    ----------
    codes
        Of both.
    basis
        ``"umap"``, ``"pca"``, ``"code"`` (of two dimensions), or an ``obsm`` key.
    cells
        Where the ``obsm`` key is looked up.
    seed
        Of the map.
    """
    if basis not in BASES:
        found = stored_codes(cells, basis)
        if found.shape[1] < 2:
            raise DataError(f"adata.obsm[{basis!r}] has one dimension; a map needs two")
        return found[:, :2], None, f"obsm[{basis!r}] of the data"
    both = codes.real if codes.new is None else np.concatenate([codes.real, codes.new])
    n_dims = both.shape[1]
    if basis == "code":
        if n_dims != 2:
            raise DataError(
                f"basis='code' needs codes of two dimensions, here are {n_dims}; use 'umap' or 'pca'"
            )
        found, how = both, f"the {codes.what}, as they are"
    elif basis == "pca" or n_dims < 2 or len(both) < 4:
        pca = PCA(min(2, n_dims), svd_solver="full").fit(codes.real)
        shares = " and ".join(f"{share:.0%}" for share in pca.explained_variance_ratio_)
        found, how = (
            pca.transform(both),
            f"two principal components ({shares} of variance of the real cells) of the {codes.what}",
        )
    else:
        found, how = (
            _umap(both, seed),
            f"UMAP of the {codes.what}"
            + ("" if codes.new is None else ", real and generated cells together"),
        )
    if found.shape[1] < 2:
        found = np.column_stack([found[:, 0], np.zeros(len(found))])
    n_real = len(codes.real)
    return found[:n_real], None if codes.new is None else found[n_real:], how


def _umap(codes: np.ndarray, seed: int) -> np.ndarray:
    """UMAP by scanpy, of all rows together."""
    both = AnnData(codes.astype(np.float32), obs=pd.DataFrame(index=pd.RangeIndex(len(codes)).astype(str)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries among themselves, and of codes that are all alike
        sc.pp.neighbors(both, n_neighbors=min(15, len(codes) - 1), use_rep="X", random_state=seed)
        sc.tl.umap(both, random_state=seed)
    return np.asarray(both.obsm["X_umap"], dtype=np.float64)


def described(model: Any, cells: AnnData, codes: Codes) -> tuple[AnnData, str]:
    """Cells with their codes as one-call verbs write them, and the key: what ``lc.tl`` describes."""
    name = type(model).__name__.lower()
    key = _keys.latent(name)
    cells = cells.copy()
    cells.obsm[key] = codes.real
    cells.uns[_keys.params(key)] = {_keys.UNIT_PRIOR: codes.unit_prior}
    if hasattr(model, "get_inclusion_probability"):
        cells.obsm[_keys.hard(key)] = np.asarray(model.get_latent_representation(cells, hard=True))
    return cells, key
