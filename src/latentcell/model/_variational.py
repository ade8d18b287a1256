"""What a model adds whose code has a posterior and a prior: bounds on the likelihood, draws, generation."""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor
from torch.distributions import Distribution

from latentcell._errors import DataError, NotTrainedError
from latentcell.module.autoencoder import Batch
from latentcell.nn.latents import Code, Deterministic

from ._cells import Indices
from ._generation import Source
from ._generative import AbstractGenerative

_DRAWS_AT_ONCE = 2**24
"""Values (draws x cells x genes) decoded at once for the marginal likelihood; no influence on results."""


class AbstractVariational(AbstractGenerative):
    """A model whose code has a posterior and a prior: adds the evidence lower bound and draws."""

    SOURCES: ClassVar[tuple[Source, ...]] = ("posterior", "prior", "mixture")

    # at 1e-3 batches mix less after as many steps; decay holds back a part of what the faster rate overfits
    COUNT_TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {"lr": 3e-3, "weight_decay": 0.5}

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        give_mean: bool = True,
        batch_size: int | None = None,
        return_dist: bool = False,
        *,
        seed: int = 0,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Code of each cell: the posterior's mean.

        Parameters
        ----------
        adata
            Cells with the model's genes (in any order, among others) and keys; None takes those the model was
            built with.
        indices
            Cells to take, in this order (positions or a boolean mask); None takes all.
        give_mean
            Return the mean; False returns one draw.
        batch_size
            Cells encoded at once; no influence on the result, but on draws.
        return_dist
            Return mean and variance of the posterior instead.
        seed
            Of the draw.

        Returns
        -------
        Array (cells x n_latent), float32, rows in the order of `indices`; two of them with `return_dist`.

        Raises
        ------
        NotTrainedError
            Before :meth:`train`.
        DataError
            Naming genes, keys, categories or values that do not fit.
        """
        if return_dist:
            return self._posterior(adata, indices, batch_size)
        if not give_mean:
            return self._sampled(adata, indices, batch_size, seed)
        return self._codes(lambda code, batch: code.mean, adata, indices, batch_size)

    def get_elbo(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        batch_size: int | None = None,
        *,
        return_mean: bool = True,
        n_samples: int = 1,
        seed: int = 0,
    ) -> float | np.ndarray:
        """Negative evidence lower bound of cells, with every KL weight 1; lower is better.

        The sign is scvi-tools': reconstruction error plus KL.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_reconstruction`; another batch size gives other draws.
        return_mean
            Mean over cells; False gives one value per cell.
        n_samples
            Draws of the code per cell that the reconstruction error is averaged over.
        seed
            Of the draws.

        Returns
        -------
        Nats per cell: a float, or an array (cells).
        """
        if n_samples < 1:
            raise DataError(f"n_samples must be at least 1, got {n_samples}")

        def bound(code: Code, batch: Batch) -> Tensor:
            x, library, _ = self.module.read(batch)
            total = self.module.kl(code)
            for _ in range(n_samples):
                raw = self.module.decode_raw(self.module.encode(batch).z, batch)
                total = total + self.module.likelihood.negative_log_likelihood(x, raw, library) / n_samples
            return total

        values = self._map(bound, adata, indices, batch_size, seed)
        return float(values.mean(dtype=np.float64)) if return_mean else values

    def get_marginal_ll(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        n_mc_samples: int = 1000,
        batch_size: int | None = None,
        return_mean: bool = True,
        *,
        seed: int = 0,
    ) -> float | np.ndarray:
        r"""Log-likelihood of cells with the code integrated out; higher is better.

        Importance sampling with the posterior as proposal (the IWAE bound):
        :math:`\log p(x) \approx \log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x)`, from below, and tighter than
        the evidence lower bound for every K > 1.

        Parameters
        ----------
        adata, indices
            See :meth:`get_reconstruction`.
        n_mc_samples
            Draws K of the code per cell.
        batch_size
            Cells at once; another one gives other draws. Default: 64.
        return_mean
            Mean over cells; False gives one value per cell.
        seed
            Of the draws.

        Returns
        -------
        Nats per cell: a float, or an array (cells).

        References
        ----------
        Burda, Grosse and Salakhutdinov, ICLR 2016, `arXiv:1509.00519 <https://arxiv.org/abs/1509.00519>`__.
        """
        if n_mc_samples < 1:
            raise DataError(f"n_mc_samples must be at least 1, got {n_mc_samples}")

        def estimate(code: Code, batch: Batch) -> Tensor:
            x = self.module.read(batch)[0]
            at_once = max(1, _DRAWS_AT_ONCE // x.numel())
            parts = []
            for done in range(0, n_mc_samples, at_once):
                # 2 at least, so that draws have an axis of their own
                n = max(2, min(at_once, n_mc_samples - done))
                parts.append(self._log_weights(batch, n)[: n_mc_samples - done])
            return torch.logsumexp(torch.cat(parts), 0) - math.log(n_mc_samples)

        values = self._map(estimate, adata, indices, batch_size or 64, seed)
        return float(values.mean(dtype=np.float64)) if return_mean else values

    def _log_weights(self, batch: Batch, n_samples: int) -> Tensor:
        """Log p(x|z) p(z) / q(z|x) of draws z ~ q (samples x cells)."""
        code = self.module.encode(batch, n_samples)
        qz, draw = _posterior_of(code)
        x, library, _ = self.module.read(batch)
        raw = self.module.decode_raw(code.z, batch)
        error = self.module.likelihood.negative_log_likelihood(x, raw, library)
        if isinstance(self.module.latent, Deterministic):
            raise TypeError("a deterministic code has no prior")
        prior = self.module.latent.prior.distribution()
        return (prior.log_prob(draw) - qz.log_prob(draw)).sum(-1) - error

    def _posterior(
        self, adata: AnnData | None, indices: Indices, batch_size: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the posterior before the latent's transform (each cells x n_latent)."""

        def both(code: Code, batch: Batch) -> Tensor:
            qz, _ = _posterior_of(code)
            return torch.stack([qz.mean, qz.variance], dim=1)

        values = self._map(both, adata, indices, batch_size)
        return values[:, 0], values[:, 1]

    def _sampled(
        self,
        adata: AnnData | None,
        indices: Indices,
        batch_size: int | None,
        seed: int,
    ) -> np.ndarray:
        """One draw of each cell's code (cells x n_latent)."""
        return self._map(lambda code, batch: code.z, adata, indices, batch_size, seed)

    def _point(self, code: Code) -> Tensor:
        return code.mean


def _posterior_of(code: Code) -> tuple[Distribution, Tensor]:
    if code.qz is None or code.draw is None:
        raise NotTrainedError("this code has no posterior")
    return code.qz, code.draw
