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

    def schedule_values(self, names: list[str], progress: float) -> dict[str, float]:
        """What the history says of the KL terms `names`: their weights, as ``beta...``."""
        return {
            name.replace("kl", "beta"): weight for name, weight in self.weights_at(names, progress).items()
        }

    def __call__(self, reconstruction: Tensor, kl: Mapping[str, Tensor], progress: float) -> Tensor:
        """Loss (a scalar) of a batch from per-cell terms in nats."""
        per_cell = reconstruction
        for name, weight in self.weights_at(list(kl), progress).items():
            per_cell = per_cell + weight * kl[name]
        return per_cell.mean()


@dataclass(frozen=True)
class Capacity:
    r"""Reconstruction error plus the distance of the mean KL from a capacity.

    .. math:: L = \frac1N \sum_i -\log p(x_i | z_i) + \beta(t) \, \Big| \frac1N \sum_i KL(i) - C(t) \Big|

    The code is given C nats to speak of a cell, which rise as training goes on, so that what explains most is
    learned first, in dimensions of its own. With C = 0 this is the beta-VAE.

    Parameters
    ----------
    beta
        Weight of the distance, a schedule or a number: beta of Kimmel, gamma of Burgess et al.
    capacity
        C in nats per cell, a schedule or a number.

    References
    ----------
    Burgess et al., Understanding disentangling in beta-VAE, 2018, `arXiv:1804.03599
    <https://arxiv.org/abs/1804.03599>`__, equation 8. Kimmel, 2020, `doi:10.1101/2020.03.04.972166
    <https://doi.org/10.1101/2020.03.04.972166>`__.
    """

    beta: float | Schedule
    capacity: float | Schedule

    def schedule_values(self, names: list[str], progress: float) -> dict[str, float]:
        """What the history says: ``beta`` and ``capacity``."""
        return {
            "beta": as_schedule(self.beta)(progress),
            "capacity": as_schedule(self.capacity)(progress),
        }

    def __call__(self, reconstruction: Tensor, kl: Mapping[str, Tensor], progress: float) -> Tensor:
        """Loss (a scalar) of a batch from per-cell terms in nats."""
        values = self.schedule_values(list(kl), progress)
        total = sum((term.mean() for term in kl.values()), start=reconstruction.new_zeros(()))
        return reconstruction.mean() + values["beta"] * (total - values["capacity"]).abs()


Objective = BetaELBO | Capacity
