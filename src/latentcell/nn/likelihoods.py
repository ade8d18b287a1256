"""Likelihoods: what the data are, given the decoder's raw output.

A likelihood names the raw outputs it wants from the decoder (each cells x genes), turns them into a
distribution, and gives the negative log-likelihood of cells summed over genes. `library` (cells x 1) is each
cell's total count and is used by count likelihoods only. Its own parameters, if any, are logarithms per gene,
trained at `lr_factor` times the network's learning rate.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Normal
from torch.distributions import StudentT as StudentTDistribution
from torch.nn import functional as F

from latentcell._sparse import SparseCells

from .components import ComponentStudentT
from .counts import CountLikelihood, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from .last_layer import LastLayer, SparseWhen
from .log_scale import OnLogScale
from .lossy import Lossy
from .normal_loss import normal_nll
from .sparse import linear_normal_nll
from .student_t_loss import student_t_nll

Raw = dict[str, Tensor]
__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "CountLikelihood",
    "Gaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]


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
    lr_factor = 1.0
    outputs = ("mean",)
    data_kind = "finite"
    unit = "that of the data"
    sparse_when: SparseWhen = "mostly zeros"
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

    def sparse_negative_log_likelihood(self, x: SparseCells, last: LastLayer) -> Tensor:
        """Nats per cell (cells); no array of cells x genes is made at all."""
        return linear_normal_nll(x, last.h, *last.maps["mean"], self._log_scale())

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
    lr_factor = 1.0
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


class StudentT(nn.Module):
    """Student's t around the decoder's output, with one scale per gene: a normal that forgives outliers.

    Parameters
    ----------
    n_genes
        Genes.
    degrees
        Degrees of freedom, above 2 so that the variance is finite. 5: tails that forgive single values and
        still have a fourth moment.
    min_scale
        See :class:`Gaussian`.
    """

    name = "student_t"
    lr_factor = 1.0
    outputs = ("mean",)
    data_kind = "finite"
    unit = "that of the data"

    def __init__(self, n_genes: int, *, degrees: float = 5.0, min_scale: float = 0.05) -> None:
        super().__init__()
        if not degrees > 2:
            raise ValueError(f"degrees must be above 2, got {degrees}")
        self.degrees = float(degrees)
        self.log_min_scale = math.log(min_scale)
        self.raw_scale = nn.Parameter(torch.zeros(n_genes))

    @property
    def detail(self) -> str:
        """What the drawing of the model says."""
        return f"Student's t, {self.degrees:g} degrees of freedom: mean, scale per gene"

    def scale(self) -> Tensor:
        """Scale per gene (genes); the standard deviation is sqrt(degrees / (degrees - 2)) times that."""
        return self.raw_scale.clamp(min=self.log_min_scale).exp()

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Start the scales at the data's; return the decoder bias that gives the data's mean (genes)."""
        with torch.no_grad():
            self.raw_scale.copy_((std * math.sqrt(1 - 2 / self.degrees)).clamp(min=0.1).log())
        return mean

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias of a decoder that can only add to it: half the mean (genes)."""
        return 0.5 * bias

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Student's t distribution of each value (cells x genes)."""
        return StudentTDistribution(self.degrees, raw["mean"], self.scale(), validate_args=False)

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected value (cells x genes) on the scale of the data."""
        return raw["mean"]

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        scale = self.scale()
        return student_t_nll(x, raw["mean"], scale, torch.full_like(scale, self.degrees))


ByName = Gaussian | Bernoulli | StudentT | Poisson | NegativeBinomial | ZeroInflatedNegativeBinomial
Likelihood = ByName | Lossy | ComponentStudentT | OnLogScale
LIKELIHOODS: dict[str, type[ByName]] = {
    kind.name: kind
    for kind in (Gaussian, Bernoulli, StudentT, Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial)
}
