"""Values that are lost to 0, the more often the smaller they are: VASC's zero-inflation layer."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution
from torch.nn import functional as F

from .zero_inflated import ZeroInflated

Raw = dict[str, Tensor]


def relaxed_gate(logits: Tensor, temperature: Tensor | float) -> Tensor:
    r"""Log of a Gumbel-softmax draw of a gate that is open with probability sigmoid(logits).

    With two outcomes the Gumbel-softmax of log-probabilities (open, closed) is

    .. math:: m = \sigma\big((\mathrm{logit}\, p + G_1 - G_2) / \tau\big)

    with :math:`G_1, G_2` standard Gumbel, whose difference is logistic. Below :math:`\tau = 1` draws gather
    at 0 and 1; their gradient with respect to the logits is there at any temperature.

    Parameters
    ----------
    logits
        Of the gate being open, any shape.
    temperature
        Above 0.

    Returns
    -------
    log m in the shape of `logits`, at most 0.

    References
    ----------
    Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017, `arXiv:1611.01144
    <https://arxiv.org/abs/1611.01144>`__.
    """
    u = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    return F.logsigmoid((logits + u.log() - (-u).log1p()) / temperature)


class Lossy(nn.Module):
    r"""Non-negative values, of which small ones are lost: cross-entropy through a zero-inflation layer.

    Values are divided by the largest of the training cells. With x the decoder's output between 0 and 1
    (sigmoid of the raw one), a value is lost with probability

    .. math:: \pi = e^{-s \, x^2},

    s = 1 in VASC. In training the loss is the cross-entropy of the data to x times a relaxed draw of what is
    kept, at ``raw["temperature"]`` (see :func:`relaxed_gate`). Else the draw is summed over exactly, as in

    .. math:: -\log p(0) = -\log[\pi + (1 - \pi)(1 - x)], \qquad
        -\log p(y) = -\log(1 - \pi) - y \log x - (1 - y) \log(1 - x) \quad (y > 0),

    which the relaxed loss has for its limit at temperature 0, averaged over draws, no less.

    Parameters
    ----------
    n_genes
        Genes.
    steepness
        s: 1 loses even a value at the top in 37 of 100 cells.

    References
    ----------
    Wang and Gu, VASC, Genomics, Proteomics & Bioinformatics 2018, `doi:10.1016/j.gpb.2018.08.003
    <https://doi.org/10.1016/j.gpb.2018.08.003>`__.
    """

    name = "lossy"
    lr_factor = 1.0
    outputs = ("mean",)
    data_kind = "non-negative"
    unit = "that of the data"
    detail = "values from 0 to 1, lost if small"
    largest: Tensor

    def __init__(self, n_genes: int, *, steepness: float = 1.0) -> None:
        super().__init__()
        if not steepness > 0:
            raise ValueError(f"steepness must be positive, got {steepness}")
        self.steepness = float(steepness)
        self.register_buffer("largest", torch.ones(()))

    def start_at(self, largest: float) -> None:
        """Take the largest of the training cells' values as 1."""
        self.largest.fill_(largest if largest > 0 else 1.0)

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Decoder bias at which the expected values are the data's mean, as far as they can (genes)."""
        grid = torch.linspace(-9.0, 9.0, 2001)
        expected = self._kept({"mean": grid}).exp() * torch.sigmoid(grid)
        at = torch.searchsorted(expected, (mean / self.largest).clamp(max=float(expected[-1])))
        return grid[at.clamp(max=len(grid) - 1)]

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias of a decoder that can only add to it (genes)."""
        return bias - math.log(2.0)

    def lost(self, raw: Raw) -> Tensor:
        """Probability that a value is lost (cells x genes)."""
        return torch.exp(self._log_lost(raw))

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Zero-inflated Bernoulli distribution of each value, in units of the largest (cells x genes)."""
        logits = self._log_lost(raw) - self._kept(raw)
        return ZeroInflated(BernoulliDistribution(logits=raw["mean"], validate_args=False), logits)

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected value (cells x genes), the lost ones counted as 0."""
        return self.largest * torch.exp(self._kept(raw) + F.logsigmoid(raw["mean"]))

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        y = (x / self.largest).clamp(max=1.0).expand_as(raw["mean"])
        log_kept = self._kept(raw)
        if "temperature" in raw:
            log_mask = relaxed_gate(log_kept - self._log_lost(raw), raw["temperature"])
            log_x = (F.logsigmoid(raw["mean"]) + log_mask).clamp(max=-1e-6)
            return -(y * log_x + (1 - y) * _log1m_exp(log_x)).sum(-1)
        whole = F.binary_cross_entropy_with_logits(raw["mean"], y, reduction="none") - log_kept
        at_zero = -torch.logaddexp(self._log_lost(raw), log_kept + F.logsigmoid(-raw["mean"]))
        return torch.where(y == 0, at_zero, whole).sum(-1)

    def _log_lost(self, raw: Raw) -> Tensor:
        return -self.steepness * torch.sigmoid(raw["mean"]).square().clamp(min=1e-8)

    def _kept(self, raw: Raw) -> Tensor:
        """Log-probability that a value is kept (cells x genes)."""
        return _log1m_exp(self._log_lost(raw))


def _log1m_exp(log_p: Tensor) -> Tensor:
    """log(1 - p) from log p < 0."""
    return torch.log(-torch.expm1(log_p))
