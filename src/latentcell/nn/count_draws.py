"""Draws of negative binomial counts, fast where most of them are 0."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial

_SMALL_MEAN = 5.0
"""Up to this mean, counts other than 0 are found by walking up the distribution function."""


class CountNegativeBinomial(NegativeBinomial):
    """torch's negative binomial whose draws cost little where the count is 0.

    A draw decides first whether the count is 0, by its probability. Of the others, those of a small mean are
    found by inverting the distribution function above 0, the rest as Poisson draws of gamma rates, as torch
    does for all of them. On cells, of whose counts some 95 % are 0, this is several times as fast.

    Examples
    --------
    >>> counts = CountNegativeBinomial(torch.full((10_000,), 2.0), logits=torch.tensor(0.0)).sample()
    >>> bool(abs(counts.mean() - 2.0) < 0.1)
    True
    """

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Counts, without gradient."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            theta, logits = self.total_count.expand(shape), self.logits.expand(shape)
            # log of the probability of 0: theta log(theta / (theta + mean)), with logits = log(mean / theta)
            log_zero = -theta * torch.nn.functional.softplus(logits)
            counts = torch.zeros(shape, dtype=log_zero.dtype, device=log_zero.device)
            seen = torch.rand(shape, dtype=log_zero.dtype, device=log_zero.device) >= log_zero.exp()
            small = theta * logits.exp() <= _SMALL_MEAN
            walk = seen & small
            counts[walk] = _positive(theta[walk].double(), logits[walk].double()).to(counts)
            rest = ~small
            rate = torch.distributions.Gamma(
                theta[rest], torch.exp(-logits[rest]), validate_args=False
            ).sample()
            counts[rest] = torch.poisson(rate)
        return counts


def _positive(theta: Tensor, logits: Tensor) -> Tensor:
    """Counts (n) given that they are not 0, by inversion, in double precision."""
    share = torch.sigmoid(logits)  # mean / (mean + theta)
    # in units of the probability of a count above 0, which may be far below 1
    above = -torch.expm1(-theta * torch.nn.functional.softplus(logits))
    left = torch.rand_like(theta)
    mass = torch.exp(-theta * torch.nn.functional.softplus(logits)) * theta * share / above
    counts = torch.ones_like(theta)
    active = torch.arange(len(theta), device=theta.device)
    k = 1
    while True:
        left = left - mass
        # a draw within rounding of 1 ends where the masses no longer count
        going = (left > 0) & (mass > 1e-17)
        active, left, mass, theta, share = (part[going] for part in (active, left, mass, theta, share))
        if not len(active):
            return counts
        mass = mass * (theta + k) / (k + 1) * share
        k += 1
        counts[active] = k
