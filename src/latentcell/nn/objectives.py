"""Objectives: what training minimises, from a reconstruction error and the terms of a KL divergence."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .schedules import Constant, Schedule, as_schedule


@dataclass(frozen=True)
class BetaELBO:
    r"""Reconstruction error plus weighted KL terms, averaged over the cells of a batch.

    .. math:: L = \frac1N \sum_i \Big[ -\log p(x_i | z_i) + \sum_k \beta_k(t) \, KL_k(i) \Big]

    With all weights 1 this is the negative evidence lower bound.

    Parameters
    ----------
    weights
        Schedule (or number) per KL term; a term without one has weight 1.

    References
    ----------
    Higgins et al., beta-VAE, ICLR 2017, `openreview.net/forum?id=Sy2fzU9gl
    <https://openreview.net/forum?id=Sy2fzU9gl>`__.
    """

    weights: Mapping[str, float | Schedule]

    def weights_at(self, names: list[str], progress: float) -> dict[str, float]:
        """Weight of each KL term at `progress` of training (0 to 1)."""
        return {name: as_schedule(self.weights.get(name, Constant(1.0)))(progress) for name in names}

    def __call__(self, reconstruction: Tensor, kl: Mapping[str, Tensor], progress: float) -> Tensor:
        """Loss (a scalar) of a batch from per-cell terms in nats."""
        per_cell = reconstruction
        for name, weight in self.weights_at(list(kl), progress).items():
            per_cell = per_cell + weight * kl[name]
        return per_cell.mean()
