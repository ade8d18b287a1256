"""What every verb that trains does: pick the genes and keys, train a model on them, say what was done."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from latentcell import __version__, _keys
from latentcell._checks import layer_names
from latentcell._disk import columns
from latentcell._errors import DataError, nearest
from latentcell.model import (
    AE,
    CVAE,
    DCA,
    DESC,
    GAN,
    SAUCIE,
    SCVIS,
    VAE,
    VASC,
    VSC,
    ConditionalGAN,
    DisentangledVAE,
    ScGen,
)
from latentcell.model._variational import AbstractVariational

Model = TypeVar(
    "Model",
    bound=AE
    | CVAE
    | DCA
    | DESC
    | SAUCIE
    | SCVIS
    | VAE
    | VASC
    | VSC
    | DisentangledVAE
    | ScGen
    | GAN
    | ConditionalGAN,
)
Mask = str | np.ndarray | None
_AUTO = "highly_variable"
_MANY_GENES = 5000
"""More genes than this are rarely chosen: those who marked none may not know that it can be done."""


def fit(
    model_class: type[Model],
    adata: AnnData,
    layer: str | None,
    mask_var: Mask,
    keys: dict[str, str | None],
    max_epochs: int | None,
    seed: int,
    progress: bool | None,
    model_args: dict[str, Any],
) -> Model:
    """Train a model on an object of its own that shares the matrix of `adata`; nothing is written to it."""
    columns = {name: key for name, key in keys.items() if name.endswith("_key")}
    cells = selection(adata, layer, mask_var, columns)
    model_class.setup_anndata(cells, layer=layer, **keys)  # type: ignore[arg-type]
    model = model_class(cells, seed=seed, **model_args)
    _hint_at_genes(adata, mask_var)
    start = sc.logging.info(f"training {model_class.__name__} on {cells.n_obs} cells x {cells.n_vars} genes")
    model.train(max_epochs=max_epochs, seed=seed, enable_progress_bar=shows(progress))
    sc.logging.info("    finished", time=start)
    return model


def shows(progress: bool | None) -> bool:
    """Whether to draw progress: as the user says, else unless scanpy is to be silent (verbosity 0)."""
    return int(sc.settings.verbosity) > 0 if progress is None else progress


def _hint_at_genes(adata: AnnData, mask_var: Mask) -> None:
    """Say how genes are marked, at a verbosity of 3, where very many are modelled that nobody chose."""
    chosen = not (isinstance(mask_var, str) and mask_var == "auto") or _AUTO in adata.var
    if not chosen and adata.n_vars > _MANY_GENES:
        sc.logging.hint(
            f"all {adata.n_vars} genes are modelled, as var has no {_AUTO!r}; fewer train faster. To mark "
            "the most variable ones: sc.pp.highly_variable_genes(adata, n_top_genes=2000) of log-normalised "
            "values, with flavor='seurat_v3' of counts. mask_var=None takes all and says nothing"
        )


def added(**slots: Sequence[str]) -> None:
    """Say which keys of which slots were written, where scanpy says so: at a verbosity of 3."""
    keys = [f"    {key!r} (adata.{slot})" for slot, keys in slots.items() for key in keys]
    sc.logging.hint("\n".join(["added", *keys]))


def selection(adata: AnnData, layer: str | None, mask_var: Mask, keys: dict[str, str | None]) -> AnnData:
    """An AnnData of the genes and keys to model, sharing the matrix of `adata` where all genes are taken.

    The model is set up on this object, so that nothing but the results is written to the user's.
    """
    if not isinstance(adata, AnnData):
        raise DataError(f"an AnnData is needed, got {type(adata).__name__}")
    if adata.is_view:
        raise DataError(
            "adata is a view, results would be lost; first make it your own: adata = adata.copy()"
        )
    if not adata.var_names.is_unique:
        raise DataError("gene names are not unique; first call adata.var_names_make_unique()")
    if layer is not None and layer not in adata.layers:
        there = layer_names(adata.layers)
        raise DataError(
            f"layers has no {layer!r}; there are {there}. Name one with layer=, or None for X."
            f"{nearest(layer, there)}"
        )
    for argument, key in keys.items():
        if key is not None and key not in adata.obs:
            raise DataError(
                f"obs has no {key!r} ({argument}); its columns are {list(adata.obs.columns)}."
                f"{nearest(key, adata.obs)}"
            )
    genes = _genes(adata, mask_var)
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise DataError("adata.X is empty; name the matrix to model with layer=")
    if genes is not None:
        matrix = columns(matrix, np.flatnonzero(genes))
    obs = adata.obs[list(dict.fromkeys(key for key in keys.values() if key is not None))].copy()
    var = _kept(adata.var if genes is None else adata.var.loc[genes])
    if layer is None:
        return AnnData(X=matrix, obs=obs, var=var)
    return AnnData(obs=obs, var=var, layers={layer: matrix})


def _kept(var: pd.DataFrame) -> pd.DataFrame:
    """What new cells will say of their genes: the columns that an .h5ad can hold."""
    # of two columns of one name a file has room for neither, and none for a second one of the index's
    names = var.columns[~var.columns.duplicated(keep=False)].drop([var.index.name], errors="ignore")
    found = var[[name for name in names if _can_be_written(name, var[name])]].copy()
    for name, kind in found.dtypes.items():
        # text of pandas' or Arrow's own types is not written, or only if anndata is told to
        if getattr(kind, "na_value", None) is pd.NA and pd.api.types.infer_dtype(found[name]) == "string":
            found[name] = found[name].astype(object).where(found[name].notna(), np.nan)
    return found


def _can_be_written(name: Any, column: pd.Series) -> bool:
    if not isinstance(name, str) or "/" in name or name in ("", ".", "..", "_index"):
        return False
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "string":
        return True
    masked = () if kind == "floating" else (pd.arrays.IntegerArray, pd.arrays.BooleanArray)
    held = isinstance(values.array, (pd.arrays.NumpyExtensionArray, *masked)) and values.dtype != object
    return kind in ("floating", "boolean", "integer") and held


def _genes(adata: AnnData, mask_var: Mask) -> np.ndarray | None:
    if isinstance(mask_var, str) and mask_var == "auto":
        mask_var = _AUTO if _AUTO in adata.var else None
    if mask_var is None:
        return None
    what = "mask_var"
    if isinstance(mask_var, str):
        what = f"var[{mask_var!r}] (mask_var)"
        if mask_var not in adata.var:
            raise DataError(
                f"var has no {mask_var!r} (mask_var); its columns are {list(adata.var.columns)}."
                f"{nearest(mask_var, adata.var)}"
            )
        mask_var = adata.var[mask_var].to_numpy()
    mask = np.asarray(mask_var)
    if mask.dtype != bool or mask.shape != (adata.n_vars,):
        names = mask.dtype.kind in "UO" and set(mask.ravel().tolist()) <= set(adata.var_names)
        raise DataError(
            f"{what} must be one boolean per gene ({adata.n_vars}), got {mask.dtype} of shape {mask.shape}"
            + ("; of names of genes, pass adata.var_names.isin(names)" if names else "")
        )
    if not mask.any():
        raise DataError(f"{what} selects no gene; mask_var=None takes all")
    return mask


def weights_of(model: Any) -> str:
    """A digest of a model's weights, by which what was computed with it is known again."""
    digest = blake2b(digest_size=8)
    for name, values in sorted(model.module.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(values.cpu().numpy()).tobytes())
    return digest.hexdigest()


def made_by(adata: AnnData, key: str, weights: Any) -> bool | None:
    """Whether the codes under an ``obsm`` key are of the model with these weights; None if nothing says."""
    known = adata.uns.get(_keys.params(key))
    ours = known.get(_keys.WEIGHTS) if isinstance(known, Mapping) else None
    return None if ours is None or weights is None else str(ours) == str(weights)


def record(model: Model, layer: str | None, keys: dict[str, str | None]) -> dict[str, Any]:
    """What ``uns`` says of a model."""
    history = model.history or {}
    known = {
        "model": type(model).__name__,
        "params": _plain(model.params),
        "gene_likelihood": model.gene_likelihood,
        "layer": layer or "X",
        _keys.UNIT_PRIOR: isinstance(model, AbstractVariational),
        "n_genes": len(model.spec.genes),
        "final": {name: float(frame[name].iloc[-1]) for name, frame in history.items()},
        "n_epochs": len(next(iter(history.values()))),
        _keys.WEIGHTS: weights_of(model),
        "latentcell": __version__,
    }
    return known | {name: key for name, key in keys.items() if key is not None}


def _plain(value: Any) -> Any:
    """Parameters as ``uns`` can hold them in an .h5ad: no None, schedules and tuples spelt out."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return np.array(value)
    return repr(value) if callable(value) else value
