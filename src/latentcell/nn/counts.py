"""Likelihoods of counts: Poisson, negative binomial, zero-inflated negative binomial.

The mean of a gene is library x its share of the cell's counts. See :mod:`latentcell.nn.likelihoods` for what
a likelihood is.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions import Poisson as PoissonDistribution
from torch.nn import functional as F

from latentcell._sparse import SparseCells

from .count_draws import CountNegativeBinomial
from .count_head import Settings, count_nll
from .count_loss import negative_binomial_nll, poisson_nll, zero_inflated_negative_binomial_nll
from .last_layer import LastLayer, SparseWhen
from .zero_inflated import ZeroInflated

Raw = dict[str, Tensor]
Dispersion = Literal["gene", "gene-batch", "gene-label", "gene-cell"]
Link = Literal["softmax", "log"]
LOG_THETA_RANGE = (-10.0, 10.0)
"""e^10: Poisson to within 1e-4 of the variance at mean 2."""
THETA_START: dict[Link, float] = {"softmax": 1.0, "log": 10.0}
"""Inverse dispersion from which training starts, see :class:`NegativeBinomial`."""


class CountLikelihood(nn.Module):
    """What count likelihoods share: the mean of each count, from the decoder's output and the library.

    Parameters
    ----------
    n_genes
        Genes.
    link
        ``"softmax"``: the shares of a cell's genes are softmax(raw output) and sum to 1. ``"log"``: they are
        exp(raw output), so that a decoder's weights are log fold changes of single genes; a sparse coder's
        additive programmes read better so.
    """

    data_kind = "counts"
    unit = "counts"
    lr_factor = 1.0
    outputs: tuple[str, ...]
    sparse_when: SparseWhen = "always"

    def __init__(self, n_genes: int, *, link: Link = "softmax") -> None:
        super().__init__()
        if link not in get_args(Link):
            raise ValueError(f"link must be 'softmax' or 'log', got {link!r}")
        self.link = link

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Decoder bias that gives the data's mean composition (genes)."""
        return (mean + 1e-8).log() - mean.sum().log()

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias that a decoder can only add to: the mean, shares being relative (genes)."""
        return bias

    def log_mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Log of the expected counts, before any zero inflation (cells x genes)."""
        if self.link == "log":
            # a share above e^2 is none: the bound keeps exp finite while the loadings still settle
            return raw["mean"].clamp(max=2.0) + library.log()
        return F.log_softmax(raw["mean"], dim=-1) + library.log()

    def share(self, raw: Raw) -> Tensor:
        """Share of each gene in a cell's counts, before any zero inflation (cells x genes)."""
        if self.link == "softmax":
            return raw["mean"].softmax(-1)
        return self.log_mean(raw, raw["mean"].new_ones(())).exp()

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected counts (cells x genes)."""
        return self.log_mean(raw, library).exp()

    def sparse_negative_log_likelihood(self, x: SparseCells, last: LastLayer) -> Tensor:
        """Nats per cell (cells)."""
        settings = Settings(softmax=self.link == "softmax", half=last.half)
        wanted = [last.maps[name] for name in self.outputs]
        return count_nll(x, last.library, last.h, wanted, self._table(), last.group, settings)

    def _table(self) -> Tensor | None:
        """Log of the inverse dispersion (genes, or groups x genes); None where there is none."""
        return None


class Poisson(CountLikelihood):
    """Counts whose variance is their mean: sampling noise alone.

    Parameters
    ----------
    n_genes, link
        See :class:`CountLikelihood`.
    """

    name = "poisson"
    outputs = ("mean",)
    detail = "Poisson: mean"

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Poisson distribution of each count (cells x genes)."""
        return PoissonDistribution(self.mean(raw, library), validate_args=False)

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        return poisson_nll(x, self.log_mean(raw, library))


class NegativeBinomial(CountLikelihood):
    """Counts with mean mu and variance mu + mu^2 / theta; theta is the inverse dispersion.

    At the network's learning rate theta would move by a factor of a few in a whole training: it is trained at
    8 times that rate. Where it starts matters still. A network (softmax link) that is told at first that
    counts are near Poisson fits their noise; a sparse coder (log link) that is told they are noisy leaves to
    the noise what its few dimensions could explain. Theta starts at 1 there and at 10 here.

    Parameters
    ----------
    n_genes, link
        See :class:`CountLikelihood`.
    dispersion
        One theta per ``"gene"``; per gene and batch or label (``"gene-batch"``, ``"gene-label"``: the raw
        outputs then hold the group of each cell, ``"group"``, an integer per cell); or per gene and cell
        (``"gene-cell"``: a raw output of its own).
    n_groups
        Number of batches or labels, where dispersion is by one of them.

    References
    ----------
    Lopez et al., Nature Methods 2018, `doi:10.1038/s41592-018-0229-2
    <https://doi.org/10.1038/s41592-018-0229-2>`__.
    """

    name = "nb"
    lr_factor = 8.0
    outputs: tuple[str, ...] = ("mean",)
    family = "negative binomial"

    def __init__(
        self,
        n_genes: int,
        *,
        link: Link = "softmax",
        dispersion: Dispersion = "gene",
        n_groups: int = 0,
    ) -> None:
        super().__init__(n_genes, link=link)
        if dispersion not in get_args(Dispersion):
            raise ValueError(f"dispersion must be one of {get_args(Dispersion)}, got {dispersion!r}")
        self.dispersion = dispersion
        self.log_start = math.log(THETA_START[link])
        if dispersion == "gene-cell":
            self.outputs = (*self.outputs, "log_theta")
            self.sparse_when = "never"
            return
        if dispersion == "gene":
            shape: tuple[int, ...] = (n_genes,)
        elif n_groups > 0:
            shape = (n_groups, n_genes)
        else:
            raise ValueError(f"dispersion={dispersion!r} needs the number of groups, got {n_groups}")
        self.log_theta = nn.Parameter(torch.full(shape, self.log_start))

    @property
    def detail(self) -> str:
        """What the drawing of the model says."""
        return f"{self.family}: mean, dispersion per {self.dispersion.replace('-', ' and ')}"

    def theta(self, raw: Raw | None = None) -> Tensor:
        """Inverse dispersion: genes, or cells x genes where it is by batch, label or cell."""
        return self._bounded(raw or {}).exp()

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Negative binomial distribution of each count (cells x genes)."""
        log_theta = self._bounded(raw)
        return CountNegativeBinomial(
            total_count=log_theta.exp(), logits=self.log_mean(raw, library) - log_theta, validate_args=False
        )

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        return negative_binomial_nll(x, self.log_mean(raw, library), self._bounded(raw))

    def _table(self) -> Tensor:
        return self.log_theta.clamp(*LOG_THETA_RANGE)

    def _bounded(self, raw: Raw) -> Tensor:
        if self.dispersion == "gene-cell":
            return (raw["log_theta"] + self.log_start).clamp(*LOG_THETA_RANGE)
        table = self._table()
        return table if self.dispersion == "gene" else table[raw["group"]]


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """A negative binomial count that is lost (0) with a probability of its own in every cell and gene.

    The probability's logit is a raw output of the decoder, ``"dropout"``. On data with unique molecular
    identifiers the plain negative binomial usually suffices.

    Parameters
    ----------
    n_genes, link, dispersion, n_groups
        See :class:`NegativeBinomial`.

    References
    ----------
    Eraslan et al., Nature Communications 2019, `doi:10.1038/s41467-018-07931-2
    <https://doi.org/10.1038/s41467-018-07931-2>`__; Svensson, Nature Biotechnology 2020,
    `doi:10.1038/s41587-019-0379-5 <https://doi.org/10.1038/s41587-019-0379-5>`__.
    """

    name = "zinb"
    outputs = ("mean", "dropout")
    family = "zero-inflated negative binomial"

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Zero-inflated negative binomial distribution of each count (cells x genes)."""
        return ZeroInflated(super().distribution(raw, library), raw["dropout"])

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected counts, the lost ones counted as 0 (cells x genes)."""
        return torch.sigmoid(-raw["dropout"]) * super().mean(raw, library)

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells)."""
        return zero_inflated_negative_binomial_nll(
            x, self.log_mean(raw, library), self._bounded(raw), raw["dropout"]
        )
