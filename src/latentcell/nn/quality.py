"""How near generated cells are to real ones, cheap enough to be watched in training."""

import torch
from torch import Tensor

NEIGHBORS = 5


def neighbor_radius(x: Tensor, k: int = NEIGHBORS) -> Tensor:
    """Distance of each cell to its k-th neighbour among the others (cells).

    Parameters
    ----------
    x
        Cells x dimensions, at least two.
    k
        Neighbours; fewer where there are not as many cells.
    """
    # the nearest is the cell itself
    return torch.cdist(x, x).kthvalue(min(k, len(x) - 1) + 1, dim=1).values


def covered(real: Tensor, generated: Tensor, radius: Tensor) -> Tensor:
    """Whether real cells have a generated cell within their radius (cells).

    The share of those is called coverage; higher is better. As many real as generated cells of one
    distribution have 1 - 2^-k if radii are distances to the k-th neighbour (0.97 with 5); a generator that
    leaves out half of the cells has half. Cells drawn in the middle of each kind of cells cover as much:
    look at how far drawn cells lie from each other, too.

    Parameters
    ----------
    real, generated
        Cells x dimensions.
    radius
        Of the real cells (cells): :func:`neighbor_radius`.

    References
    ----------
    Naeem et al., Reliable fidelity and diversity metrics for generative models, ICML 2020,
    `arXiv:2002.09797 <https://arxiv.org/abs/2002.09797>`__.
    """
    return torch.cdist(real, generated).min(dim=1).values <= radius


def mean_distance(x: Tensor) -> Tensor:
    """Mean Euclidean distance of two different cells (a scalar) of cells x dimensions."""
    return torch.pdist(x).mean()


def energy_distance(real: Tensor, generated: Tensor, within_real: Tensor | None = None) -> Tensor:
    r"""Energy distance of two samples: :math:`2 E|x - y| - E|x - x'| - E|y - y'|`, without bias.

    Lower is better; 0 is expected where the distributions are the same, and a sample can fall below.

    Parameters
    ----------
    real, generated
        Cells x dimensions, at least two of each.
    within_real
        :func:`mean_distance` of the real cells, if it is known.

    References
    ----------
    Szekely and Rizzo (2013), J Stat Plan Inference 143, https://doi.org/10.1016/j.jspi.2013.03.018
    """
    within_real = mean_distance(real) if within_real is None else within_real
    return 2 * torch.cdist(real, generated).mean() - within_real - mean_distance(generated)
