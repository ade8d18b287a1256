"""Cells moved in latent space along a direction, and decoded there."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._errors import DataError
from latentcell.model import AE, CVAE, DCA, GAN, VAE, VSC, ConditionalGAN, DisentangledVAE

from ._directions import direction_of
from ._places import check_places, log_expression, mean_expression, places_of, rank_changes, told_of


def move_along(
    adata: AnnData,
    model: AE | CVAE | ConditionalGAN | DCA | DisentangledVAE | GAN | VAE | VSC,
    direction: str | np.ndarray,
    amount: float | Sequence[float] = 1.0,
    *,
    key: str = _keys.LATENT_DIRECTIONS,
    use_rep: str | None = None,
    genes: Sequence[str] | None = None,
) -> AnnData:
    """Move cells along a direction in latent space, and decode them there.

    Each cell keeps what it is besides its code: label, batch, covariates and depth as `adata` has them.

    Parameters
    ----------
    adata
        Cells to move, e.g. those of one type: ``adata[adata.obs["cell_type"] == "B"]``. Not changed.
    model
        The model whose latent space it is.
    direction
        Name of a direction that :func:`latent_directions` found, or a vector (n_latent) in units of the code.
    amount
        How far, in steps of the direction: of named ones, standard deviations of the codes along it. Below 0:
        the other way. Several: each cell is decoded at each of them, which
        :func:`latentcell.pl.latent_traversal` draws.
    key
        ``uns`` key of the directions.
    use_rep
        ``obsm`` key under which `adata` has the model's codes; None computes them.
    genes
        Decode these genes only, in this order. Default: all, which takes cells x amounts x genes x 4 bytes.

    Returns
    -------
    AnnData (cells x genes; with several amounts, all cells at the first one, then all at the next) as from
    :meth:`decode <latentcell.model.VAE.decode>`: ``X``, the likelihood's mean (expected counts at the cell's
    depth, or on the scale of the data); ``obsm["X_<model>"]``, the moved codes; and

    ``obs``
        The columns of `adata`, but for two: ``obs["cell"]`` is the name of the cell that was moved,
        ``obs["value"]`` by how much.
    ``var["change"]``
        How far the gene moves on average: from the lowest amount to the highest, of one amount from where
        cells were (decoded there as well, so that what the model cannot draw is no change). Of counts in
        log(1 + counts per 10,000), else in the unit of the data.
    ``var["rank"]``
        Genes by the size of their change, from 1.
    ``uns["latentcell"]``
        Where the cells come from, with ``"direction"``.

    Raises
    ------
    DataError
        If `adata` does not fit the model, or there is no such direction or gene.

    References
    ----------
    Guan (2018), TL-GAN: transparent latent-space GAN, `github.com/SummitKwan/transparent_latent_gan
    <https://github.com/SummitKwan/transparent_latent_gan>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0, seed=0)
    >>> model = lc.tl.vae(adata, max_epochs=20, n_latent=4, progress=False)
    >>> table = lc.tl.latent_directions(adata, model, "group")
    >>> moved = lc.tl.move_along(adata, model, "group=group2", [-1, 0, 1])
    >>> moved.shape
    (270, 1000)
    >>> top = moved.var.nsmallest(20, "rank")
    >>> top["change"].abs().is_monotonic_decreasing
    True
    """
    check_places(adata, model)
    vector = direction_of(adata, model, direction, key)
    amounts = np.atleast_1d(np.asarray(amount, dtype=np.float64))
    if amounts.ndim != 1 or not len(amounts) or not np.isfinite(amounts).all():
        raise DataError(f"amount must be a finite number or several of them, got {amount!r}")
    codes, told = places_of(adata, model, use_rep), told_of(adata, model)
    n = len(codes)
    rows = np.tile(np.arange(n), len(amounts))
    value = np.repeat(amounts, n)
    new = cast("AnnData", model.decode(codes[rows] + value[:, None] * vector, genes=genes, **told.at(rows)))
    source = adata.obs.iloc[rows].set_index(new.obs_names)
    new.obs = pd.concat([source.drop(columns=source.columns.intersection(new.obs.columns)), new.obs], axis=1)
    new.obs["cell"] = adata.obs_names.to_numpy()[rows]
    new.obs["value"] = value

    def mean_at(position: int) -> np.ndarray:
        return log_expression(new, slice(position * n, (position + 1) * n)).mean(axis=0)

    start = (
        mean_expression(model, codes, told, genes) if len(amounts) == 1 else mean_at(int(amounts.argmin()))
    )
    rank_changes(new, mean_at(int(amounts.argmax())) - start)
    new.uns[_keys.UNS]["direction"] = direction if isinstance(direction, str) else "direction"
    return new
