"""How near generated cells are to real ones, cheap enough to be watched in training."""

import torch
from torch import Tensor

NEIGHBORS = 5


def covered(real: Tensor, generated: Tensor, k: int = NEIGHBORS) -> Tensor:
    """Whether real cells have a generated cell within the distance of their k-th real neighbour (cells).

    The share of those is called coverage; higher is better. As many real as generated cells of one
    distribution have 1 - 2^-k at best (0.97 with 5); a generator that leaves out half of the cells has half.

    Parameters
    ----------
    real, generated
        Cells x dimensions.
    k
        Neighbours; fewer where there are not as many cells.

    References
    ----------
    Naeem et al., Reliable fidelity and diversity metrics for generative models, ICML 2020,
    `arXiv:2002.09797 <https://arxiv.org/abs/2002.09797>`__.
    """
    among = torch.cdist(real, real)
    radius = among.kthvalue(min(k, len(real) - 1) + 1, dim=1).values  # the nearest is the cell itself
    return torch.cdist(real, generated).min(dim=1).values <= radius


def energy_distance(real: Tensor, generated: Tensor) -> Tensor:
    r"""Energy distance of two samples: :math:`2 E|x - y| - E|x - x'| - E|y - y'|`, without bias.

    Lower is better; 0 is expected where the distributions are the same, and a sample can fall below.

    Parameters
    ----------
    real, generated
        Cells x dimensions, at least two of each.

    References
    ----------
    Szekely and Rizzo (2013), J Stat Plan Inference 143, https://doi.org/10.1016/j.jspi.2013.03.018
    """

    def within(x: Tensor) -> Tensor:
        return torch.pdist(x).mean()

    return 2 * torch.cdist(real, generated).mean() - within(real) - within(generated)
