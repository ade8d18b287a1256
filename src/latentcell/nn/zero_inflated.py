"""A distribution of counts some of which are lost."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F


class ZeroInflated(Distribution):
    """0 with probability sigmoid(logits), else a draw from `base`.

    Parameters
    ----------
    base
        Distribution of counts, without event dimensions.
    logits
        Logit of the probability that a count is lost; broadcasts with `base`.

    Examples
    --------
    >>> from torch.distributions import Poisson
    >>> lossy = ZeroInflated(Poisson(torch.tensor(4.0)), torch.tensor(0.0))
    >>> float(lossy.mean)
    2.0
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, base: Distribution, logits: Tensor, validate_args: bool | None = None) -> None:
        self.base = base
        self.logits = logits
        shape = torch.broadcast_shapes(base.batch_shape, logits.shape)
        super().__init__(shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Mean, the lost counts taken as 0."""
        return torch.sigmoid(-self.logits) * self.base.mean

    @property
    def variance(self) -> Tensor:
        """Variance, the lost counts taken as 0."""
        kept = torch.sigmoid(-self.logits)
        return kept * (self.base.variance + (1 - kept) * self.base.mean.square())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of counts, nats."""
        kept = self.base.log_prob(value) - F.softplus(self.logits)
        return torch.where(value == 0, torch.logaddexp(-F.softplus(-self.logits), kept), kept)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Counts."""
        with torch.no_grad():
            counts = self.base.sample(sample_shape).expand(self._extended_shape(sample_shape))
            return counts * (torch.rand_like(counts) >= torch.sigmoid(self.logits))
