"""What a latent dimension does to genes: the decoder's derivative, averaged over cells."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor
from torch.nn import functional as F

from latentcell._codes import checked_dims
from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood, ZeroInflatedNegativeBinomial
from latentcell.nn.latents import Code

from ._cells import Indices, rows_of
from ._expected import CP10K, AbstractExpected

EffectScale = Literal["log1p", "log", "data"]
_AT_ONCE = 2**23
"""Derivatives (cells x genes x dimensions) held at once; no influence on results."""


class LatentJacobian(NamedTuple):
    """What each dimension does to each gene, over cells: what ``get_latent_jacobian`` of a model returns."""

    mean: np.ndarray
    """Mean over cells of the derivative (genes x dimensions, float64)."""
    std: np.ndarray
    """Standard deviation over cells of the derivative (genes x dimensions, float64)."""
    data_std: np.ndarray
    """Standard deviation of each gene in the data, over all of these cells (genes, float64): of
    log(1 + counts per 10,000), zeros included, or on the scale of the data."""
    n_cells: np.ndarray
    """Cells that `mean` and `std` are taken over, one number per dimension."""
    scale: EffectScale
    """What was differentiated: ``"log1p"``, ``"log"`` or ``"data"``."""


class AbstractJacobian(AbstractExpected):
    """A model whose decoder can be differentiated: adds what each dimension does to each gene."""

    def get_latent_jacobian(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        *,
        genes: Sequence[str] | None = None,
        dims: int | Sequence[int] | None = None,
        scale: EffectScale | None = None,
        max_cells: int | None = 1000,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> LatentJacobian:
        r"""Change of each gene's expected expression per unit of each dimension, averaged over cells.

        For cell i, gene g and dimension d it is :math:`\partial f_g(z_i, c_i) / \partial z_{id}`: f is the
        decoder up to the mean of the likelihood (after zero inflation, as :meth:`decode` and :meth:`traverse`
        give it), on `scale`; z_i the cell's code without noise; c_i its own batch, label and covariates. One
        forward-mode product gives one dimension for all genes. A linear
        decoder of normal data has the same derivative, its loadings, in every cell; so has one of counts on
        the scale ``"log"`` where rates are not a softmax (VSC) and nothing is zero-inflated.

        A dimension of the sparse coder acts on a cell only where it is on: the mean is taken over those
        cells (inclusion probability above 1/2), and over all where it is on in none.

        Parameters
        ----------
        adata, indices
            See :meth:`get_latent_representation`.
        genes
            Genes to return, in this order; None returns all of the model's.
        dims
            Dimensions, from 0: one, several, or a mask of all; None takes all.
        scale
            For counts ``"log1p"``, log(1 + counts per 10,000), the default: a change of a gene that is hardly
            expressed counts for little; or ``"log"``, log of the gene's expected share of the counts: log
            fold changes, of rare genes the noisiest. For other data ``"data"``, the scale of the data.
        max_cells
            Take a random sample of this many cells, which hardly changes a mean; None takes all.
        seed
            Of the sample.
        batch_size
            Cells at once; no influence on the result. Default: as memory (32 MB of derivatives) allows.

        Returns
        -------
        :class:`latentcell.model.LatentJacobian`: ``mean`` and ``std`` (genes x dimensions), per
        unit of the code as :meth:`get_latent_representation` reports it; ``data_std`` (genes), the spread of
        the data themselves; ``n_cells``; ``scale``.

        Raises
        ------
        DataError
            Naming dimensions, genes or arguments that do not fit.
        NotTrainedError
            Before :meth:`train`.

        Examples
        --------
        >>> import latentcell as lc
        >>> adata = lc.datasets.simulate_groups(seed=0)
        >>> lc.model.VAE.setup_anndata(adata)
        >>> model = lc.model.VAE(adata, n_latent=4)
        >>> model.train(max_epochs=3, enable_progress_bar=False)
        >>> effects = model.get_latent_jacobian(dims=[0, 2])
        >>> effects.mean.shape == (adata.n_vars, 2), effects.n_cells, effects.scale
        (True, array([90, 90]), 'data')
        """
        self._require_trained()
        scale = self._effect_scale(scale)
        wanted, chosen = self._wanted(genes), checked_dims(dims, self._network.n_latent)
        if max_cells is not None and max_cells < 1:
            raise DataError(f"max_cells must be at least 1, or None for all, got {max_cells}")
        rows = rows_of(indices, self._adata_or_own(adata).n_obs)
        if max_cells is not None and len(rows) > max_cells:
            rows = np.sort(np.random.default_rng(seed).choice(rows, max_cells, replace=False))
        acts = self._map(lambda code, batch: self._acts(code)[:, chosen], adata, rows, None)
        acts |= ~acts.any(axis=0)
        if batch_size is None:
            batch_size = max(1, _AT_ONCE // (len(self.spec.genes) * (len(chosen) + 1)))

        def read(code: Code, batch: Batch) -> Tensor:
            found = self._derivatives(self._point(code), batch, chosen, scale)
            return torch.cat([found, self._on_scale(batch)[:, :, None]], dim=-1)[:, wanted]

        acts = np.concatenate([acts, np.ones((len(acts), 1), dtype=bool)], axis=1)
        stream = self._stream(read, adata, rows, batch_size)
        mean, std = _masked_moments((values, acts[done : done + len(values)]) for done, _, values in stream)
        unit = self._unit[chosen]
        return LatentJacobian(
            mean[:, :-1] * unit, std[:, :-1] * unit, std[:, -1], acts[:, :-1].sum(axis=0), scale
        )

    def _acts(self, code: Code) -> Tensor:
        """Where a dimension can change a cell's expression (cells x n_latent, booleans)."""
        return torch.ones_like(code.mean, dtype=torch.bool)

    def _derivatives(self, z: Tensor, batch: Batch, dims: list[int], scale: EffectScale) -> Tensor:
        """Derivatives (cells x genes x dims) of expected expression, by forward-mode products."""
        likelihood = self.module.likelihood

        def expected(z: Tensor) -> Tensor:
            raw = self.module.decode_raw(z, batch)
            if not isinstance(likelihood, CountLikelihood):
                return likelihood.mean(raw, self.module.library(batch))
            log_share = likelihood.log_mean(raw, z.new_ones(()))
            if isinstance(likelihood, ZeroInflatedNegativeBinomial):
                log_share = log_share + F.logsigmoid(-raw["dropout"])
            return log_share if scale == "log" else (CP10K * log_share.exp()).log1p()

        found = []
        for dim in dims:
            direction = torch.zeros_like(z)
            direction[:, dim] = 1.0
            with warnings.catch_warnings():  # torch's own, when it loads its rules of differentiation
                warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
                found.append(torch.func.jvp(expected, (z,), (direction,))[1])
        return torch.stack(found, dim=-1)

    def _on_scale(self, batch: Batch) -> Tensor:
        """The data (cells x genes) themselves: log(1 + counts per 10,000) of counts."""
        x, library, _ = self.module.read(batch)
        return torch.log1p(CP10K * x / library) if self._is_count else x

    def _effect_scale(self, scale: EffectScale | None) -> EffectScale:
        if scale is None:
            return "log1p" if self._is_count else "data"
        if scale not in get_args(EffectScale):
            raise DataError(
                f"scale must be one of {get_args(EffectScale)}, got {scale!r}."
                f"{nearest(scale, get_args(EffectScale))}"
            )
        if self._is_count == (scale == "data"):
            fitting = "'log1p' or 'log'" if self._is_count else "'data'"
            raise DataError(f"scale={scale!r}: for the likelihood {self.gene_likelihood!r} use {fitting}")
        return scale


def _masked_moments(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over cells (each genes x k) of values (cells x genes x k), by mask (cells x k).

    Sums are about the first cell's values, so that what does not vary has a deviation of exactly 0.
    """
    first: np.ndarray | None = None
    total: Any = 0.0
    square: Any = 0.0
    n: Any = 0
    for values, mask in blocks:
        values = values.astype(np.float64)
        first = values[0] if first is None else first
        values = np.where(mask[:, None], values - first, 0.0)
        total = total + values.sum(axis=0)
        square = square + np.square(values).sum(axis=0)
        n = n + mask.sum(axis=0)
    if first is None:
        raise DataError("no cells to look at: indices is empty")
    shift = total / n
    return first + shift, np.sqrt(np.maximum(square / n - np.square(shift), 0.0))
