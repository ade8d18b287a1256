"""Counts modelled on a log scale, by a likelihood of continuous values."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions import Poisson as PoissonDistribution

from latentcell._sparse import SparseCells

from .counts import CountLikelihood
from .last_layer import LastLayer

Raw = dict[str, Tensor]
LEAST = 1e-3
"""Expected counts per 10,000 of a gene at least: shares are positive."""


class OnLogScale(CountLikelihood):
    """Counts whose log(1 + counts per 10,000) follow a likelihood of continuous values.

    The loss is that of the values, which is no likelihood of the counts: compare it with nothing but itself.
    What is expected of a gene is its decoded value brought back to counts per 10,000, as a share of the
    cell's; new counts are drawn about it as Poisson. The exponential of a mean logarithm is below the mean:
    each gene has a factor for that (Duan's smearing estimate), 1 until :meth:`smear` finds it.

    Parameters
    ----------
    n_genes
        Genes.
    values
        Likelihood of the values.

    References
    ----------
    Duan, Journal of the American Statistical Association 78, 1983, `doi:10.1080/01621459.1983.10478017
    <https://doi.org/10.1080/01621459.1983.10478017>`__.
    """

    PER = 1e4
    factor: Tensor

    def __init__(self, n_genes: int, values: nn.Module) -> None:
        super().__init__(n_genes)
        self.values = values
        self.register_buffer("factor", torch.ones(n_genes))
        self.name: str = values.name  # type: ignore[assignment]
        self.outputs: tuple[str, ...] = values.outputs  # type: ignore[assignment]
        self.lr_factor: float = values.lr_factor  # type: ignore[assignment]
        # 0 is 0 on a log scale too
        self.sparse_when = getattr(values, "sparse_when", "never")
        self.detail = f"{values.detail}, of log1p CP10k"

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Decoder bias from mean and deviation of the *values* (genes)."""
        return self.values.start(mean, std)  # type: ignore[operator]

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias of a decoder that can only add to it (genes)."""
        return self.values.baseline(bias)  # type: ignore[operator]

    def smear(self, counts: Tensor, expected: Tensor) -> None:
        """Let expected counts have the means of the data, from sums over the same cells (each genes)."""
        found = self.factor * counts / expected.clamp(min=1e-30)
        self.factor.copy_(found.clamp(0.05, 20.0))

    def logged(self, counts: Tensor, library: Tensor) -> Tensor:
        """The values (cells x genes) of counts."""
        return torch.log1p(counts * (self.PER / library))

    def log_mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Log of the expected counts (cells x genes)."""
        values = self.values.mean(raw, torch.ones_like(library))  # type: ignore[operator]
        counts = torch.expm1(values.clamp(max=20.0)).clamp(min=LEAST) * self.factor
        return counts.log() - counts.sum(-1, keepdim=True).log() + library.log()

    def share(self, raw: Raw) -> Tensor:
        """Share of each gene in a cell's counts (cells x genes)."""
        return self.log_mean(raw, raw["mean"].new_ones(())).exp()

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Poisson distribution of each count (cells x genes)."""
        return PoissonDistribution(self.mean(raw, library), validate_args=False)

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell of the values (cells)."""
        return self.values.negative_log_likelihood(  # type: ignore[operator]
            self.logged(x, library), raw, torch.ones_like(library)
        )

    def sparse_negative_log_likelihood(self, x: SparseCells, last: LastLayer) -> Tensor:
        """Nats per cell of the values (cells)."""
        values = x.with_data(x.log1p(self.PER / last.library))
        return self.values.sparse_negative_log_likelihood(  # type: ignore[operator]
            values, replace(last, library=torch.ones_like(last.library))
        )
