"""Parts of adversarial models: generator, critic, gradient penalty, counts that let gradients through.

References
----------
Gulrajani et al., Improved training of Wasserstein GANs, NeurIPS 2017, `arXiv:1704.00028
<https://arxiv.org/abs/1704.00028>`__; Miyato and Koyama, cGANs with projection discriminator, ICLR 2018,
`arXiv:1802.05637 <https://arxiv.org/abs/1802.05637>`__; de Vries et al., Modulating early visual processing
by language, NeurIPS 2017, `arXiv:1707.00683 <https://arxiv.org/abs/1707.00683>`__ (conditional batch norm).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Gamma
from torch.nn import functional as F

SLOPE = 0.2
"""Of the critic's leaky ReLU below 0, as is usual for critics."""


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are those of the cell's label.

    Parameters
    ----------
    n_features
        Features.
    n_labels
        Labels; with 0 or 1 it is batch norm.
    """

    def __init__(self, n_features: int, n_labels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_features, affine=False, eps=0.001)
        self.scale = nn.Parameter(torch.ones(max(n_labels, 1), n_features))
        self.shift = nn.Parameter(torch.zeros(max(n_labels, 1), n_features))

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        """Features (cells x n_features) of cells with labels (cells, integers)."""
        return self.norm(h) * self.scale[labels] + self.shift[labels]


class GeneratorBody(nn.Module):
    """Linear layers without bias, each with (conditional) batch norm and ReLU, as in scGAN.

    Parameters
    ----------
    n_in
        Noise, depth and covariates per cell.
    sizes
        Units of each layer.
    n_labels
        Labels that steer the norms; 0 for none.
    """

    def __init__(self, n_in: int, sizes: Sequence[int], n_labels: int = 0) -> None:
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        widths = (n_in, *self.sizes)
        self.layers = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(ConditionalBatchNorm(size, n_labels) for size in self.sizes)
        self.n_out = widths[-1]

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        """Inputs (cells x n_in) of cells with labels (cells, integers) to features (cells x n_out)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = F.relu(norm(layer(h), labels))
        return h


class Critic(nn.Module):
    r"""Score of how real a cell is, whatever the scale; with labels, by projection.

    With features :math:`h(x)` of the last layer the score is :math:`v^T h + b`, and with labels
    :math:`v^T h + b + e_y^T h`: how real the cell is, and how much it is one of label y. There is no norm
    over the batch, which would make a cell's gradient depend on the others.

    Parameters
    ----------
    n_in
        Features per cell.
    sizes
        Units of each layer.
    n_labels
        Labels; 0 for none.
    """

    def __init__(self, n_in: int, sizes: Sequence[int], n_labels: int = 0) -> None:
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        widths = (n_in, *self.sizes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.head = nn.Linear(widths[-1], 1)
        self.of_label = nn.Parameter(torch.randn(n_labels, widths[-1]) * widths[-1] ** -0.5)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Scores (cells) of cells x features with labels (cells, integers)."""
        h = x
        for layer in self.layers:
            h = F.leaky_relu(layer(h), SLOPE)
        score = self.head(h)[:, 0]
        return score if not len(self.of_label) else score + (self.of_label[labels] * h).sum(1)


def gradient_penalty(
    critic: nn.Module, real: Tensor, generated: Tensor, labels: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Penalty that keeps the critic's slope at 1 between real and generated cells.

    .. math:: E[(\| \nabla_{\hat x} D(\hat x) \|_2 - 1)^2], \quad \hat x = a x + (1 - a) \tilde x .

    Parameters
    ----------
    critic
        Cells x features and labels to scores (cells).
    real, generated
        Cells x features.
    labels
        Of both (cells, integers).
    share
        The share a of the real cell in each place between (cells x 1), from 0 to 1.

    Returns
    -------
    Penalty (a scalar) and the norms of the gradients (cells), without gradient.
    """
    between = (share * real + (1 - share) * generated).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between, labels).sum(), between, create_graph=True)
    norms = slope.norm(dim=1)
    return (norms - 1).square().mean(), norms.detach()


def straight_through_counts(mean: Tensor, theta: Tensor | None = None) -> Tensor:
    r"""Poisson or negative binomial counts through which gradients pass as if counts were rates.

    A count is a Poisson draw k of a rate; the rate is the mean, or with `theta` the mean times gamma noise of
    mean 1 and variance 1 / theta, which is differentiable itself. The derivative of the count by its rate is
    taken to be 1. For a score f of counts it stands for
    :math:`\partial_\lambda E f(k) = E[f(k+1) - f(k)]`: exact where f is linear over a step of one count, and
    not as random as a score-function estimate.

    Parameters
    ----------
    mean
        Expected counts (cells x genes).
    theta
        Inverse dispersion, broadcast to the same shape; None draws Poisson counts.

    Returns
    -------
    Counts (cells x genes), with the gradient of their rates.
    """
    rate = mean
    if theta is not None:
        theta = theta.expand_as(mean)
        rate = mean * Gamma(theta, theta, validate_args=False).rsample()
    # no rate of 0 or more: torch stops there, a GPU for good; the result is not finite all the same
    counts = torch.poisson(rate.detach().nan_to_num(0.0, 0.0, 0.0))
    return rate + (counts - rate).detach()
