"""Likelihoods: what the data are, given the decoder's raw output.

A likelihood names the raw outputs it wants from the decoder (each cells x genes), turns them into a
distribution, and gives the negative log-likelihood of cells summed over genes. `library` (cells x 1) is each
cell's total count and is used by count likelihoods only.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Normal
from torch.distributions import NegativeBinomial as NegativeBinomialDistribution
from torch.nn import functional as F

from latentcell._sparse import SparseCells

from .count_loss import negative_binomial_nll
from .normal_loss import normal_nll
from .sparse import linear_normal_nll

Raw = dict[str, Tensor]


class Gaussian(nn.Module):
    """Normal data around the decoder's output, with one standard deviation per gene.

    With a fixed scale of sqrt(1/2) the negative log-likelihood is the sum of squared errors plus a constant.

    Parameters
    ----------
    n_genes
        Genes.
    scale
        ``"gene"`` learns a standard deviation per gene (so that noisy genes weigh less); a number fixes it.
    min_scale
        Lower bound of a learned scale: without it the scale of a gene that hardly varies runs to 0 and its
        log-likelihood to infinity.
    """

    name = "normal"
    outputs = ("mean",)
    data_kind = "finite"
    unit = "that of the data"
    fixed_log_scale: Tensor

    def __init__(self, n_genes: int, *, scale: Literal["gene"] | float = "gene", min_scale: float = 0.05):
        super().__init__()
        self.learned = scale == "gene"
        self.log_min_scale = math.log(min_scale)
        if self.learned:
            self.raw_scale = nn.Parameter(torch.zeros(n_genes))
        else:
            if not (isinstance(scale, int | float) and scale > 0):
                raise ValueError(f"scale must be 'gene' or a positive number, got {scale!r}")
            log_scale = torch.full((n_genes,), math.log(scale))
            self.register_buffer("fixed_log_scale", log_scale, persistent=False)

    @property
    def detail(self) -> str:
        """What the drawing of the model says."""
        return "normal: mean" + (", standard deviation per gene" if self.learned else "")

    def scale(self) -> Tensor:
        """Standard deviation per gene (genes)."""
        return self._log_scale().exp()

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Start the scales at the data's; return the decoder bias that gives the data's mean (genes)."""
        if self.learned:
            with torch.no_grad():
                self.raw_scale.copy_(std.clamp(min=0.1).log())
        return mean

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias of a decoder that can only add to it: half the mean (genes)."""
        return 0.5 * bias

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Normal distribution of each value (cells x genes)."""
        return Normal(raw["mean"], self.scale(), validate_args=False)

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected value (cells x genes) on the scale of the data."""
        return raw["mean"]

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        return normal_nll(x, raw["mean"], self._log_scale())

    def sparse_negative_log_likelihood(
        self, x: SparseCells, h: Tensor, maps: dict[str, tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Nats per cell (cells) where the raw outputs are linear maps (weight, bias) of h (cells x k)."""
        return linear_normal_nll(x, h, *maps["mean"], self._log_scale())

    def _log_scale(self) -> Tensor:
        if self.learned:
            return self.raw_scale.clamp(min=self.log_min_scale)
        return self.fixed_log_scale


class Bernoulli(nn.Module):
    """Binary cross-entropy on values from 0 to 1.

    On values strictly between 0 and 1 this is the cross-entropy that the documents use (VAExprs, Keras), not
    the log-density of a distribution on [0, 1].
    """

    name = "bernoulli"
    outputs = ("mean",)
    data_kind = "unit"
    unit = "0 to 1, that of the data"
    detail = "Bernoulli: mean"

    def __init__(self, n_genes: int) -> None:
        super().__init__()

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Decoder bias that gives the data's mean (genes)."""
        return torch.logit(mean, eps=1e-3)

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias of a decoder that can only add to it: half the mean's odds (genes)."""
        return bias - math.log(2.0)

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Bernoulli distribution of each value (cells x genes)."""
        return BernoulliDistribution(logits=raw["mean"], validate_args=False)

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected value (cells x genes), 0 to 1."""
        return torch.sigmoid(raw["mean"])

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        return F.binary_cross_entropy_with_logits(
            raw["mean"], x.expand_as(raw["mean"]), reduction="none"
        ).sum(-1)


class NegativeBinomial(nn.Module):
    """Counts with mean library x share of each gene, and one inverse dispersion theta per gene.

    The variance is mu + mu^2 / theta. theta starts at 10, near the Poisson distribution: started low it
    explains the differences between cells as noise before the code can.

    Parameters
    ----------
    n_genes
        Genes.
    link
        ``"softmax"``: the shares of a cell's genes are softmax(raw output) and sum to 1. ``"log"``: they are
        exp(raw output), so that a decoder's weights are log fold changes of single genes; a sparse coder's
        additive programmes read better so.

    References
    ----------
    Lopez et al., Nature Methods 2018, `doi:10.1038/s41592-018-0229-2
    <https://doi.org/10.1038/s41592-018-0229-2>`__.
    """

    name = "nb"
    outputs = ("mean",)
    data_kind = "counts"
    unit = "counts"
    detail = "negative binomial: mean, dispersion per gene"

    def __init__(self, n_genes: int, *, link: Literal["softmax", "log"] = "softmax") -> None:
        super().__init__()
        if link not in ("softmax", "log"):
            raise ValueError(f"link must be 'softmax' or 'log', got {link!r}")
        self.link = link
        self.log_theta = nn.Parameter(torch.full((n_genes,), math.log(10.0)))

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Decoder bias that gives the data's mean composition (genes)."""
        return (mean + 1e-8).log() - mean.sum().log()

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias that a decoder can only add to: the mean, shares being relative (genes)."""
        return bias

    def log_mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Log of the expected counts (cells x genes)."""
        if self.link == "log":
            # a share above e^2 is none: the bound keeps exp finite while the loadings still settle
            return raw["mean"].clamp(max=2.0) + library.log()
        return F.log_softmax(raw["mean"], dim=-1) + library.log()

    def theta(self) -> Tensor:
        """Inverse dispersion per gene (genes)."""
        return self._bounded().exp()

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Negative binomial distribution of each count (cells x genes)."""
        log_theta = self._bounded()
        return NegativeBinomialDistribution(
            total_count=log_theta.exp(), logits=self.log_mean(raw, library) - log_theta, validate_args=False
        )

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected counts (cells x genes)."""
        return self.log_mean(raw, library).exp()

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        log_mu = self.log_mean(raw, library)
        if log_mu.dim() == 2:
            return negative_binomial_nll(x, log_mu, self._bounded())
        return torch.stack([negative_binomial_nll(x, draw, self._bounded()) for draw in log_mu])

    def _bounded(self) -> Tensor:
        return self.log_theta.clamp(-10.0, 10.0)  # e^10: Poisson to within 1e-4 of the variance at mean 2


Likelihood = Gaussian | Bernoulli | NegativeBinomial
LIKELIHOODS: dict[str, type[Gaussian] | type[Bernoulli] | type[NegativeBinomial]] = {
    kind.name: kind for kind in (Gaussian, Bernoulli, NegativeBinomial)
}
