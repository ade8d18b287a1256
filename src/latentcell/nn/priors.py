"""Distributions of codes: the spike and slab, and the priors that codes are held to.

The spike-and-slab distribution is taken with respect to the sum of Lebesgue measure and a point mass at 0, so
that it has a density everywhere: 1 - gamma at exactly 0 and gamma * N(z; mu, sigma) elsewhere.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, constraints, kl_divergence
from torch.distributions.kl import register_kl


class SpikeAndSlab(Distribution):
    r"""Zero with probability :math:`1-\gamma`, else from :math:`N(\mu, \sigma^2)`; independent entries.

    Parameters
    ----------
    loc, scale
        Mean and standard deviation of the slab.
    logits
        Log-odds of the inclusion probability gamma. Log-odds, not probabilities, so that gamma can approach
        both ends with a gradient and both log(gamma) and log(1 - gamma) stay exact.

    References
    ----------
    Tonolini, Jensen and Murray-Smith, Variational Sparse Coding, UAI 2020, PMLR 115:690-700.

    Examples
    --------
    >>> d = SpikeAndSlab(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.0]))
    >>> d.mean, d.variance
    (tensor([1.5000]), tensor([2.7500]))
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "logits": constraints.real,
    }
    support = constraints.real

    def __init__(
        self, loc: Tensor, scale: Tensor, logits: Tensor, *, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.logits = torch.broadcast_tensors(loc, scale, logits)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def probs(self) -> Tensor:
        """Inclusion probability gamma, 0 to 1."""
        return torch.sigmoid(self.logits)

    @property
    def mean(self) -> Tensor:
        """Gamma * mu."""
        return self.probs * self.loc

    @property
    def variance(self) -> Tensor:
        """Gamma * (sigma^2 + mu^2) - (gamma * mu)^2."""
        return self.probs * (self.scale**2 + self.loc**2) - self.mean**2

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with exact zeros, without gradient."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            slab = self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            # torch refuses to draw with NaN; here NaN comes out, and whoever asked can say of which cell
            probs = self.probs.expand(shape)
            return torch.where(probs.isnan(), probs, slab * torch.bernoulli(probs.nan_to_num(0.0)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density with respect to Lebesgue measure plus a point mass at 0."""
        slab = Normal(self.loc, self.scale, validate_args=False).log_prob(value)
        inside = nn.functional.logsigmoid(self.logits) + slab
        return torch.where(value == 0, nn.functional.logsigmoid(-self.logits), inside)


def kl_slab(q: Normal | SpikeAndSlab, p: Normal | SpikeAndSlab) -> Tensor:
    """Element-wise KL divergence between the two Gaussian slabs (nats), not yet weighted by inclusion."""
    return kl_divergence(
        Normal(q.loc, q.scale, validate_args=False), Normal(p.loc, p.scale, validate_args=False)
    )


def kl_spike(q_logits: Tensor, p_logits: Tensor) -> Tensor:
    """Element-wise KL (nats) between Bernoulli distributions given by log-odds, exact at both ends."""
    log_q, log_not_q = nn.functional.logsigmoid(q_logits), nn.functional.logsigmoid(-q_logits)
    log_p, log_not_p = nn.functional.logsigmoid(p_logits), nn.functional.logsigmoid(-p_logits)
    gamma = torch.sigmoid(q_logits)
    return gamma * (log_q - log_p) + torch.sigmoid(-q_logits) * (log_not_q - log_not_p)


@register_kl(SpikeAndSlab, SpikeAndSlab)
def _kl_spike_and_slab(q: SpikeAndSlab, p: SpikeAndSlab) -> Tensor:
    r"""KL(q||p) = gamma * KL(slab_q||slab_p) + KL(Bernoulli(gamma)||Bernoulli(alpha)), element-wise."""
    return q.probs * kl_slab(q, p) + kl_spike(q.logits, p.logits)


class StandardNormal(nn.Module):
    """Prior N(0, 1) for every dimension."""

    zero: Tensor

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.register_buffer("zero", torch.zeros(n_latent), persistent=False)

    def distribution(self) -> Normal:
        """The prior of one cell's code (n_latent)."""
        return Normal(self.zero, torch.ones_like(self.zero), validate_args=False)


class SpikeAndSlabPrior(nn.Module):
    """Prior alpha N(0, 1) + (1 - alpha) delta_0 for every dimension.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    alpha
        Prior share of cells in which a dimension is on, strictly between 0 and 1.
    """

    zero: Tensor
    logits: Tensor

    def __init__(self, n_latent: int, alpha: float) -> None:
        super().__init__()
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha is a prior probability strictly between 0 and 1, got {alpha}")
        self.n_latent = n_latent
        self.alpha = float(alpha)
        self.register_buffer("zero", torch.zeros(n_latent), persistent=False)
        self.register_buffer("logits", torch.logit(torch.full((n_latent,), self.alpha)), persistent=False)

    def distribution(self) -> SpikeAndSlab:
        """The prior of one cell's code (n_latent)."""
        return SpikeAndSlab(self.zero, torch.ones_like(self.zero), self.logits, validate_args=False)
