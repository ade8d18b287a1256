"""The t-SNE term: cells that are neighbours in what the encoder sees shall be so in the code."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .latents import Code
from .schedules import Schedule

_STEPS = 24
_LOG_PRECISION = (-12.0, 12.0)


def neighbor_probabilities(x: Tensor, perplexity: float) -> Tensor:
    r"""Joint probabilities of t-SNE: how much cells are each other's neighbours.

    :math:`p_{j|i} \propto e^{-b_i d_{ij}^2}`, with :math:`b_i` such that the entropy of i's neighbours is
    log(`perplexity`) (found by halving an interval), and :math:`p_{ij} = (p_{j|i} + p_{i|j}) / 2n`.

    Parameters
    ----------
    x
        Cells x dimensions, at least 2 cells.
    perplexity
        Effective number of neighbours; no more than a third of the other cells.

    Returns
    -------
    Cells x cells, symmetric, with a diagonal of 0 and the sum 1.

    References
    ----------
    Van der Maaten and Hinton, JMLR 9, 2008, https://jmlr.org/papers/v9/vandermaaten08a.html.

    Examples
    --------
    >>> p = neighbor_probabilities(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), 1.0)
    >>> bool(p[0, 1] > 100 * p[0, 2]), round(float(p.sum()), 6)
    (True, 1.0)
    """
    n = len(x)
    target = math.log(min(max(perplexity, 1.0 + 1e-3), max((n - 1) / 3, 1.0 + 1e-3)))
    square = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    square.fill_diagonal_(torch.inf)
    # relative to the typical distance, so that precisions lie within fixed bounds
    nearest = square.min(1, keepdim=True).values
    square = square - nearest
    finite = square.isfinite()
    typical = torch.where(finite, square, 0.0).sum(1, keepdim=True) / (n - 1)
    square = square / typical.clamp(min=1e-20)
    low, high = (x.new_full((n, 1), bound) for bound in _LOG_PRECISION)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        too_wide = _entropy(square, middle.exp()) > target
        low, high = torch.where(too_wide, middle, low), torch.where(too_wide, high, middle)
    conditional = torch.softmax(-square * ((low + high) / 2).exp(), dim=1)
    return (conditional + conditional.T) / (2 * n)


def _entropy(square: Tensor, precision: Tensor) -> Tensor:
    log_p = torch.log_softmax(-square * precision, dim=1)
    return -torch.where(log_p.isfinite(), log_p.exp() * log_p, 0.0).sum(1, keepdim=True)


@dataclass(frozen=True)
class StochasticNeighbors:
    r"""Divergence of neighbourhoods in the code from those in what the encoder sees, within a batch.

    .. math:: KL(P \| Q) = \sum_{i \neq j} p_{ij} \log\frac{p_{ij}}{q_{ij}}, \qquad
        q_{ij} = \frac{(1 + \|z_i - z_j\|^2)^{-1}}{\sum_{k \neq l} (1 + \|z_k - z_l\|^2)^{-1}}

    with P of :func:`neighbor_probabilities`. Memory is that of batch x batch values.

    Parameters
    ----------
    weight
        Schedule or number.
    perplexity
        Effective number of neighbours among the cells of a batch.

    References
    ----------
    Van der Maaten and Hinton, JMLR 9, 2008, https://jmlr.org/papers/v9/vandermaaten08a.html. Ding, Condon and
    Shah, Nature Communications 2018, `doi:10.1038/s41467-018-04368-5
    <https://doi.org/10.1038/s41467-018-04368-5>`__.
    """

    weight: float | Schedule
    perplexity: float = 10.0
    name: ClassVar[str] = "neighbors"

    def __call__(self, code: Code) -> Tensor:
        """Nats (a scalar) of a batch."""
        if not isinstance(code.seen, Tensor):
            raise TypeError("this penalty needs what the encoder sees, as a dense tensor")
        if len(code.z) < 3:
            return code.z.new_zeros(())
        with torch.no_grad():
            p = neighbor_probabilities(code.seen.detach(), self.perplexity)
            self_information = torch.where(p > 0, p * p.clamp(min=1e-30).log(), 0.0).sum()
        z = code.z
        # distances by differences: their gradient is 0, not NaN, where two codes are the same
        affinity = 1 / (1 + (z[:, None] - z[None]).square().sum(-1))
        affinity = affinity - torch.diag(torch.diagonal(affinity))
        # sum p log q = sum p log a - log sum a, as the sum of p is 1
        log_affinity = affinity.clamp(min=1e-30).log()
        return self_information - (p * log_affinity).sum() + affinity.sum().log()
