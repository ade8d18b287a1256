"""One call from counts to denoised expression."""

import os
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._errors import DataError, nearest
from latentcell.model import DCA
from latentcell.model._streams import check_out

from ._fit import added, fit, record

Scale = Literal["counts", "cp10k", "log1p"]
Also = Literal["dispersion", "dropout"]


def denoise(
    adata: AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    gene_likelihood: Literal["nb", "zinb", "poisson"] = "nb",
    scale: Scale = "counts",
    genes: Sequence[str] | None = None,
    also: Sequence[Also] = (),
    sparse_below: float | None = None,
    out: str | os.PathLike | None = None,
    max_epochs: int | None = None,
    key_added: str = "denoised",
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> DCA:
    """Denoise counts with a deep count autoencoder. ``X`` is never touched.

    Parameters
    ----------
    adata
        Cells x genes; not a view. The model is trained on all genes.
    layer
        ``layers`` key of the counts; None is ``X``.
    batch_key
        ``obs`` key of the batch, which the decoder is told.
    gene_likelihood
        See :class:`latentcell.model.DCA`.
    scale
        ``"counts"``: expected counts at each cell's depth; ``"cp10k"``: per 10,000 counts; ``"log1p"``:
        log(1 + cp10k).
    genes
        Write these genes only. Default: all, which takes cells x genes x 4 bytes of memory.
    also
        ``"dispersion"`` (the negative binomial's theta), ``"dropout"`` (probability that a count is lost,
        ``"zinb"`` only): written as well.
    sparse_below
        Write a sparse matrix in which values below this one are 0.
    out
        Write denoised values to this file (.h5ad or .zarr) in chunks instead of to `adata`: an AnnData with
        the values in ``X`` and the ``obs`` of `adata`.
    max_epochs, seed, progress
        See :func:`latentcell.tl.ae`.
    key_added
        Key of the values.
    **model_args
        Arguments of :class:`latentcell.model.DCA`, e.g. ``n_latent=32``, ``hidden=(64,)``.

    Returns
    -------
    The trained model. Written to `adata` (unless to `out`), for ``key_added="denoised"``:

    ``layers["denoised"]``
        Denoised values (cells x genes), float32; with `genes` instead ``obsm["denoised"]``, a frame with a
        column per gene.
    ``var["denoised_dispersion"]``, ``layers["denoised_dropout"]``
        What `also` asks for; a dispersion that differs between cells is in ``layers``.
    ``uns["denoised"]``
        Parameters, scale, layer, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view, the matrix does not hold counts or an argument does not fit.

    References
    ----------
    Eraslan et al., Nature Communications 2019, `doi:10.1038/s41467-018-07931-2
    <https://doi.org/10.1038/s41467-018-07931-2>`__.

    Examples
    --------
    >>> import numpy as np, latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> adata.X = np.round(adata.X)
    >>> model = lc.tl.denoise(adata, max_epochs=2, scale="log1p", progress=False)
    >>> adata.layers["denoised"].shape
    (90, 1000)
    """
    _check_scale(scale)
    _check_genes(adata, genes)
    _check_also(also, gene_likelihood, alone=out is None and genes is None)
    if key_added == layer:
        raise DataError(f"key_added={key_added!r} would replace the counts; choose another key")
    if out is not None:
        check_out(out)
    keys = {"batch_key": batch_key}
    model_args = model_args | {"gene_likelihood": gene_likelihood}
    model = fit(DCA, adata, layer, None, keys, max_epochs, seed, progress, model_args)
    if out is not None:
        model.get_denoised(adata, genes=genes, scale=scale, sparse_below=sparse_below, out=out)
        return model
    values = model.get_denoised(genes=genes, scale=scale, sparse_below=sparse_below)
    if genes is None:
        adata.layers[key_added] = values
    else:
        dense = values if isinstance(values, np.ndarray) else values.toarray()  # type: ignore[union-attr]
        adata.obsm[key_added] = pd.DataFrame(dense, index=adata.obs_names, columns=list(genes))
    written: dict[str, list[str]] = {"layers" if genes is None else "obsm": [key_added]}
    for name in also:
        found = model.get_denoised(which=name)
        if name == "dispersion" and model.params["dispersion"] == "gene":
            adata.var[f"{key_added}_dispersion"] = np.asarray(found)[0]
            written["var"] = [f"{key_added}_dispersion"]
        else:
            adata.layers[f"{key_added}_{name}"] = found
            written["layers"].append(f"{key_added}_{name}")
    adata.uns[_keys.params(key_added)] = record(model, layer, keys) | {"scale": scale}
    added(**written, uns=[_keys.params(key_added)])
    return model


def _check_scale(scale: str) -> None:
    if scale not in get_args(Scale):
        raise DataError(
            f"scale must be one of {get_args(Scale)}, got {scale!r}.{nearest(scale, get_args(Scale))}"
        )


def _check_genes(adata: AnnData, genes: Sequence[str] | None) -> None:
    if genes is None:
        return
    _check_list("genes", genes)
    if not isinstance(adata, AnnData):
        raise DataError(f"an AnnData is needed, got {type(adata).__name__}")
    names = pd.Index(genes)
    missing = names[~names.isin(adata.var_names)].tolist()
    if missing:
        raise DataError(f"genes that are not in adata.var_names: {missing[:5]}")
    if not len(names):
        raise DataError("genes is empty; name some, or pass None for all")
    if not names.is_unique:
        raise DataError(f"genes names some twice: {names[names.duplicated()].unique().tolist()[:5]}")


def _check_also(also: Sequence[str], gene_likelihood: str, *, alone: bool) -> None:
    """Refuse what cannot be written; `alone`: all genes go to adata, so that there is room beside them."""
    _check_list("also", also)
    for name in also:
        if name not in get_args(Also):
            raise DataError(f"also may name {get_args(Also)}, got {name!r}")
        if name == "dropout" and gene_likelihood != "zinb":
            raise DataError("also='dropout' needs gene_likelihood='zinb'")
        if name == "dispersion" and gene_likelihood == "poisson":
            raise DataError("also='dispersion' needs gene_likelihood='nb' or 'zinb'")
    if also and not alone:
        raise DataError("also= is written beside all genes in adata; with genes= or out= use the model")


def _check_list(argument: str, names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise DataError(f"{argument} must be a list of names, for one: {argument}={[names]!r}")
