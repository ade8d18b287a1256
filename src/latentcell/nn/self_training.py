"""Clusters as centroids in the code: soft assignments, and how they are trained on themselves."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .latents import Code
from .schedules import Schedule

_MOMENTUM = 0.1
"""Share of the last step in the running sizes of clusters."""


class Centroids(nn.Module):
    r"""Centres of clusters in the code, and the probability of each cluster given a code.

    .. math:: q_{ij} = \frac{(1 + \lVert z_i - \mu_j \rVert^2 / \nu)^{-(\nu + 1) / 2}}
        {\sum_k (1 + \lVert z_i - \mu_k \rVert^2 / \nu)^{-(\nu + 1) / 2}}

    There is room for `n_most`, so that the number of clusters can be found in training; :meth:`start` says
    how many there are, until then there is none. Distances are in units of the root mean squared distance of
    a code to its centre at that time: the scale of an autoencoder's code is open.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    n_most
        Clusters at most.
    degrees_of_freedom
        nu: the smaller, the more a distant cluster counts.

    Attributes
    ----------
    sizes
        Share of cells in each cluster (n_most).
    n_used, n_starts
        Clusters that there are, and how many times they have been found.
    n_clusters
        The first of them as a number that needs not be fetched from a device.
    scale
        The unit of distances.
    """

    sizes: Tensor
    n_used: Tensor
    n_starts: Tensor
    scale: Tensor

    def __init__(self, n_latent: int, n_most: int, degrees_of_freedom: float = 1.0) -> None:
        super().__init__()
        self.degrees_of_freedom = degrees_of_freedom
        self.centers = nn.Parameter(torch.zeros(n_most, n_latent))
        self.register_buffer("sizes", torch.zeros(n_most))
        self.register_buffer("n_used", torch.zeros((), dtype=torch.int64))
        self.register_buffer("n_starts", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.ones(()))
        self.n_clusters = 0

    def start(self, z: Tensor, clusters: Tensor) -> None:
        """Take the means of codes (cells x n_latent) in each of clusters 0, 1, ... (cells) as centres."""
        n = torch.bincount(clusters)
        if not 1 <= len(n) <= len(self.centers) or bool((n == 0).any()):
            raise ValueError(
                f"1 to {len(self.centers)} clusters with cells are needed, got sizes {n.tolist()}"
            )
        sums = torch.zeros(len(n), z.shape[1], dtype=z.dtype, device=z.device).index_add_(0, clusters, z)
        means = sums / n[:, None]
        with torch.no_grad():
            self.centers.zero_()
            self.centers[: len(n)] = means
            self.sizes.zero_()
            self.sizes[: len(n)] = n.to(z.dtype) / len(z)
            self.scale.copy_((z - means[clusters]).square().sum(1).mean().sqrt().clamp(min=1e-12))
            self.n_used.fill_(len(n))
            self.n_clusters = len(n)
            self.n_starts += 1

    def forward(self, z: Tensor) -> Tensor:
        """Log-probabilities of the clusters (cells x clusters) of codes (cells x n_latent)."""
        centers = self.centers[: self.n_clusters]
        # sums of squares, whose gradient is finite where a code lies on a centre
        squared = (z[:, None] - centers).square().sum(-1) / self.scale.square()
        power = -(self.degrees_of_freedom + 1) / 2
        return torch.log_softmax(power * torch.log1p(squared / self.degrees_of_freedom), dim=-1)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.n_clusters = max(int(self.n_used), 0)

    def follow(self, q: Tensor) -> Tensor:
        """Sizes of the clusters as shares (clusters); in training they follow q (cells x clusters)."""
        sizes = self.sizes[: q.shape[1]]
        if self.training and self.centers.requires_grad:
            sizes.lerp_(q.mean(0), _MOMENTUM)
        return sizes


@dataclass(frozen=True)
class SelfTraining:
    r"""Divergence of soft assignments q from a sharper target p that is made of them, mean over cells.

    .. math:: KL(p_i \| q_i) = \sum_j p_{ij} \log \frac{p_{ij}}{q_{ij}}, \qquad
        p_{ij} = \frac{q_{ij}^2 / f_j}{\sum_k q_{ik}^2 / f_k}

    with :math:`f_j` the size of cluster j: what a cell is likely to be, it becomes more surely, and large
    clusters do not swallow small ones. p is held constant; :math:`f` is a running mean over steps. 0 as long
    as there are no clusters.

    Parameters
    ----------
    centroids
        The clusters.
    weight
        Schedule or number.

    References
    ----------
    Xie, Girshick and Farhadi, Unsupervised deep embedding for clustering analysis, ICML 2016,
    `arXiv:1511.06335 <https://arxiv.org/abs/1511.06335>`__. Li et al., DESC, Nature Communications 2020,
    `doi:10.1038/s41467-020-15851-3 <https://doi.org/10.1038/s41467-020-15851-3>`__.
    """

    centroids: Centroids
    weight: float | Schedule
    name: ClassVar[str] = "self_training"

    def __call__(self, code: Code) -> Tensor:
        """Nats per cell (a scalar)."""
        if not self.centroids.n_clusters:
            return code.z.sum() * 0.0
        log_q = self.centroids(code.z)
        with torch.no_grad():
            sizes = self.centroids.follow(log_q.exp())
            log_p = torch.log_softmax(2 * log_q - sizes.log(), dim=-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1).mean()
