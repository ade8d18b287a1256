"""DIP-VAE: a VAE whose posterior means are pressed to be uncorrelated.

Kumar, Sattigeri and Balakrishnan, ICLR 2018, arXiv:1711.00848.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from latentcell.model.abstract import AbstractVariational, DataError, Network, own_params
from latentcell.nn.latents import Code, Gaussian
from latentcell.nn.objectives import BetaELBO


@dataclass(frozen=True)
class Decorrelation:
    """Squared distance of the covariance of posterior means (n_latent x n_latent) from the identity."""

    weight: float
    name: ClassVar[str] = "decorrelation"

    def __call__(self, code: Code) -> Tensor:
        """A scalar: the penalty of a batch of codes."""
        covariance = torch.cov(code.qz.loc.T, correction=0)
        return (covariance - torch.eye(len(covariance), device=covariance.device)).square().sum()


class DIPVAE(AbstractVariational):
    """VAE whose dimensions do not go together over cells.

    `decorrelation` is the weight of the penalty; the other arguments are those of lc.model.VAE.
    """

    def __init__(
        self,
        adata=None,
        *,
        registry=None,
        n_latent: int = 10,
        hidden: Sequence[int] = (128,),
        decorrelation: float = 10.0,
        gene_likelihood="auto",
        seed: int = 0,
    ):
        super().__init__(adata, registry, own_params(locals()))
        if decorrelation < 0:
            raise DataError(f"decorrelation must be 0 or more, got {decorrelation}")
        network = Network(
            n_latent=n_latent,
            hidden=hidden,
            activation="relu",
            norm="batch",
            dropout=0.1,
            gene_likelihood=gene_likelihood,
            gene_scale=1.0,
            dispersion="gene",
            standardize_input=True,
            encode_covariates=False,
        )
        self._assemble(
            network,
            latent=lambda n_in: Gaussian(n_in, n_latent),
            objective=BetaELBO({"kl": 1.0}),
            penalties=[Decorrelation(decorrelation)],
        )

    def _latent_detail(self) -> str:
        return "normal"
