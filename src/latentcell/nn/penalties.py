"""Penalties: what a paper adds to the loss beside reconstruction and KL, from the codes of a batch.

A penalty has a `name` for the history, a `weight` (a schedule or a number) and gives a scalar. It is no part
of the evidence lower bound.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Normal

from .binary_clusters import InformationDimension, WithinClusterDistance
from .discrepancy import BatchDiscrepancy
from .latents import Code
from .neighbors import StochasticNeighbors
from .schedules import Schedule
from .self_training import SelfTraining


@dataclass(frozen=True)
class TotalCorrelation:
    r"""Total correlation of the codes: how far their joint distribution is from the product of its margins.

    .. math:: TC = E_{q(z)}\Big[\log q(z) - \sum_j \log q(z_j)\Big]

    where q(z) is the mean of the posteriors of the batch's cells. Beside the KL with weight 1, a weight of
    beta - 1 gives the beta-TCVAE. The paper's minibatch-weighted estimate differs from this one by a
    constant, so the gradient is the same. The value depends on the size of the batch: a cell's own posterior
    is one of few. Memory is that of batch x batch x n_latent values.

    Parameters
    ----------
    weight
        Schedule or number.

    References
    ----------
    Chen, Li, Grosse and Duvenaud, Isolating sources of disentanglement in VAEs, NeurIPS 2018,
    `arXiv:1802.04942 <https://arxiv.org/abs/1802.04942>`__.
    """

    weight: float | Schedule
    name: ClassVar[str] = "total_correlation"

    def __call__(self, code: Code) -> Tensor:
        """Nats (a scalar) of a batch of Gaussian codes."""
        loc, scale, draw = _gaussian(code)
        n_cells = math.log(loc.shape[0])
        # log q(z_ij | x_k): draws x posteriors x dimensions
        log_q = Normal(loc, scale, validate_args=False).log_prob(draw[:, None])
        joint = torch.logsumexp(log_q.sum(-1), 1) - n_cells
        margins = (torch.logsumexp(log_q, 1) - n_cells).sum(-1)
        return (joint - margins).mean()


Penalty = (
    TotalCorrelation
    | BatchDiscrepancy
    | InformationDimension
    | WithinClusterDistance
    | SelfTraining
    | StochasticNeighbors
)


def _gaussian(code: Code) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and draw (each cells x n_latent) of Gaussian codes before any transform."""
    if not isinstance(code.qz, Normal) or code.draw is None:
        raise TypeError("this penalty is for codes with a Gaussian posterior")
    return code.qz.loc, code.qz.scale, code.draw
