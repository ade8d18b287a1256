"""Which genes each latent dimension moves, in the form in which scanpy keeps marker genes."""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._codes import checked_dims, dimension_names, down
from latentcell._errors import DataError, nearest
from latentcell.model import AE, CVAE, DCA, VAE, VSC, DisentangledVAE
from latentcell.model._jacobian import AbstractJacobian, EffectScale

from ._fit import added, made_by, weights_of

Direction = Literal["both", "up", "down"]


def rank_latent_genes(
    adata: AnnData,
    model: AE | CVAE | DCA | DisentangledVAE | VAE | VSC,
    *,
    key_added: str = _keys.RANK_LATENT_GENES,
    use_rep: str | None = None,
    n_genes: int | None = None,
    dims: int | Sequence[int] | None = None,
    direction: Direction = "both",
    scale: EffectScale | None = None,
    max_cells: int | None = 1000,
    seed: int = 0,
) -> None:
    r"""Rank the genes that each latent dimension moves, upwards and downwards.

    The effect of a dimension on a gene is the derivative of the gene's expected expression by the code
    (:meth:`latentcell.model.VAE.get_latent_jacobian`), averaged over cells and taken per standard deviation
    of the code. It is what the model says, not what correlates: a gene that merely goes along with a
    dimension's cells has no effect unless the decoder needs it.

    **Score.** A gene's effect in standard deviations of the gene, moderated:

    .. math:: s_{gd} = \frac{\bar J_{gd}\, \mathrm{sd}(z_d)}{\mathrm{sd}(x_g) + s_0},

    with :math:`\bar J` the mean effect, :math:`x_g` the expression of the gene over the same cells and
    :math:`s_0` the median of its standard deviation over genes. The denominator brings genes that only this
    dimension moves before those that are high and vary for many reasons (PBMC3k, dendritic cells: *FCER1A*
    first, by the plain effect 11th behind *HLA* genes); :math:`s_0` keeps genes that hardly vary at all
    from winning by noise. Effects on counts are on log(1 + counts per 10,000), where rare genes cannot move
    far. In a simulation with known genes and expression over four orders of magnitude (VAE, counts) 70 % of
    the top ten genes were true ones; by log fold changes 47 %, by mean over spread across cells 60 %. The
    spread is therefore stored beside the effect, and does not enter the score.

    There are **no p-values**: a derivative of one fitted model is no test, and genes were not sampled. The
    columns that scanpy's reader requires hold NaN; ``pval_cutoff=`` would thus drop everything. Train with
    other seeds to see what is stable.

    Parameters
    ----------
    adata
        Cells with the model's genes and keys, to average over; not a view.
    model
        A trained model with a decoder of codes.
    key_added
        ``uns`` key of the table.
    use_rep
        ``obsm`` key that the model's codes have in `adata`; it names the ``varm`` key and is kept with the
        table, so that :func:`latentcell.tl.describe_latent` knows whose genes they are. Default:
        ``"X_<model>"``, which must be there; a name that is given need not be.
    n_genes
        Genes to keep per dimension and direction; None keeps all, so that enrichment sees all.
    dims
        Dimensions of the table, from 0: one, several, or a mask of all; None takes all.
    direction
        ``"up"``: genes that rise with the dimension, in the groups ``"dim_0"``, ``"dim_1"``, ...;
        ``"down"``: those that fall, in ``"dim_0_down"``, ...; ``"both"``: both, unless no gene falls with
        any dimension (a non-negative linear decoder adds only).
    scale, max_cells, seed
        Of the derivative; see :meth:`latentcell.model.VAE.get_latent_jacobian`.

    Returns
    -------
    None. Written to `adata`:

    ``uns[key_added]``
        What :func:`scanpy.get.rank_genes_groups_df` and :func:`scanpy.pl.rank_genes_groups` read: ``names``,
        ``scores`` (see above; positive where a gene moves in the group's direction), ``logfoldchanges`` (the
        effect of one standard deviation of the code, with its sign; of counts in log2 units, else in the
        unit of the data), ``stds`` (its standard deviation over cells, same unit), ``pvals`` and
        ``pvals_adj`` (NaN), ``params``.
    ``varm["<model>_loadings"]``
        Of a linear decoder: its loadings (genes x n_latent), float32.
    ``varm["<model>_effects"]``
        Of others: mean effects per unit of the code (genes x n_latent), float32. Both hold all dimensions;
        genes that the model does not use are 0.

    Raises
    ------
    DataError
        If `adata` is a view or does not fit the model, an argument names what is not there, or the codes
        have another ``obsm`` key than the default of `use_rep`.

    References
    ----------
    Tusher, Tibshirani and Chu, PNAS 2001, `doi:10.1073/pnas.091062498
    <https://doi.org/10.1073/pnas.091062498>`__ (the moderated denominator); Svensson et al., Bioinformatics
    2020, `doi:10.1093/bioinformatics/btaa169 <https://doi.org/10.1093/bioinformatics/btaa169>`__ (genes
    from a linear decoder).

    Examples
    --------
    >>> import latentcell as lc
    >>> import scanpy as sc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.vae(adata, max_epochs=2, n_latent=3, progress=False)
    >>> lc.tl.rank_latent_genes(adata, model)
    >>> table = sc.get.rank_genes_groups_df(adata, group="dim_0", key="rank_latent_genes")
    >>> len(table) == adata.n_vars, bool(table["scores"].is_monotonic_decreasing)
    (True, True)
    >>> adata.varm["vae_effects"].shape
    (765, 3)
    """
    _check(adata, model, direction, n_genes)
    use_rep = _default_rep(adata, model) if use_rep is None else use_rep
    every = dimension_names(model.params["n_latent"])
    chosen = checked_dims(dims, len(every))
    found = model.get_latent_jacobian(adata, scale=scale, max_cells=max_cells, seed=seed)
    spread = np.asarray(model.get_latent_representation(adata)).std(axis=0, dtype=np.float64)
    unit = 1.0 if found.scale == "data" else 1.0 / math.log(2.0)
    signs = {"both": (1, -1), "up": (1,), "down": (-1,)}[direction]
    if direction == "both" and not (found.mean < 0).any():
        signs = (1,)
    moderated = found.data_std + np.median(found.data_std)
    yardstick = np.where(moderated > 0, moderated, 1.0)
    effects, stds = found.mean * spread, found.std * spread
    groups = [
        _ranked(model.spec.genes, sign, effects[:, dim], stds[:, dim], yardstick, n_genes, unit)
        for dim in chosen
        for sign in signs
    ]
    names = [every[dim] if sign > 0 else down(every[dim]) for dim in chosen for sign in signs]
    adata.uns[key_added] = {
        "params": {
            "groupby": use_rep,
            "reference": "unchanged",
            "method": "latent_jacobian",
            "use_raw": False,
            "model": type(model).__name__,
            "scale": found.scale,
            "n_ranked": len(model.spec.genes),
            _keys.WEIGHTS: weights_of(model),
            "seed": seed,
        },
        **{part: _records(names, [group[part] for group in groups]) for part in groups[0]},
    }
    if isinstance(model, VSC) and model.params["decoder"] == "linear":
        key, values = _keys.loadings(use_rep), model.get_loadings()
    else:
        key, values = _keys.effects(use_rep), found.mean
    adata.varm[key] = on_genes(adata, model.spec.genes, values)
    added(uns=[key_added], varm=[key])


def on_genes(adata: AnnData, genes: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Rows of `values` (genes x dimensions) put at these genes of `adata`, float32; 0 for the others."""
    placed = np.zeros((adata.n_vars, values.shape[1]), dtype=np.float32)
    placed[adata.var_names.get_indexer(list(genes))] = values
    return placed


def _check(adata: AnnData, model: Any, direction: str, n_genes: int | None) -> None:
    if not isinstance(model, AbstractJacobian):
        raise DataError(f"model: a {type(model).__name__} has no decoder of codes, so no genes of dimensions")
    if adata.is_view:
        raise DataError(
            "adata is a view, results would be lost; first make it your own: adata = adata.copy()"
        )
    if direction not in get_args(Direction):
        raise DataError(
            f"direction must be one of {get_args(Direction)}, got {direction!r}."
            f"{nearest(direction, get_args(Direction))}"
        )
    if n_genes is not None and n_genes < 1:
        raise DataError(f"n_genes must be at least 1, or None for all, got {n_genes}")


def _default_rep(adata: AnnData, model: Any) -> str:
    """Where one-call verbs write codes of a model of this class, or wrote those of this very model."""
    key, weights = _keys.latent(type(model).__name__.lower()), weights_of(model)
    own = [there for there in adata.obsm if made_by(adata, there, weights)]
    if own and key not in own:
        return own[0]
    if key not in adata.obsm:
        there = ", ".join(adata.obsm) or "nothing"
        raise DataError(
            f"adata.obsm has no {key!r} (there: {there}); say where this model's codes are with use_rep="
            f".{nearest(key, adata.obsm)}"
        )
    if made_by(adata, key, weights) is False:
        raise DataError(
            f"adata.obsm[{key!r}] holds codes of another {type(model).__name__} than this one, as it is now; "
            "say where this model's codes are with use_rep="
        )
    return key


def _ranked(
    genes: list[str],
    sign: int,
    effect: np.ndarray,
    std: np.ndarray,
    yardstick: np.ndarray,
    n_genes: int | None,
    unit: float,
) -> dict[str, np.ndarray]:
    """Genes in the order of their score in one direction, with what the table says of them."""
    score = sign * effect / yardstick
    order = np.argsort(-score, kind="stable")[:n_genes]
    nothing = np.full(len(order), np.nan)
    return {
        "names": np.array(genes, dtype=object)[order],
        "scores": score[order].astype(np.float32),
        "logfoldchanges": (unit * effect[order]).astype(np.float32),
        "stds": (unit * std[order]).astype(np.float32),
        "pvals": nothing,
        "pvals_adj": nothing,
    }


def _records(names: list[str], columns: list[np.ndarray]) -> np.recarray:
    return pd.DataFrame(dict(zip(names, columns, strict=True))).to_records(index=False)
