"""Clusters as binary codes: a layer of near-binary units, and what presses it to tell clusters apart."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .latents import Code
from .schedules import Schedule

N_HIDDEN = 32
"""Units of the hidden layer between a code and its binary units."""


class BinaryLayer(nn.Module):
    """Codes to units between 0 and 1; rounded, they are the binary code of a cell's cluster.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    n_units
        Bits: up to 2^n_units clusters.
    n_hidden
        Units of the one hidden layer.

    Attributes
    ----------
    counts
        Training cells of each binary code (2^n_units).
    pairs, heights
        Codes that are one cluster, in the order in which they are joined (2^n_units x 2, the first becomes
        part of the second; filled up with -1), and how high the pass between them is.
    """

    counts: Tensor
    pairs: Tensor
    heights: Tensor
    powers: Tensor

    def __init__(self, n_latent: int, n_units: int, n_hidden: int = N_HIDDEN) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(2**n_units, dtype=torch.int64))
        self.register_buffer("pairs", torch.full((2**n_units, 2), -1))
        self.register_buffer("heights", torch.full((2**n_units,), -1.0))
        self.register_buffer("powers", 2 ** torch.arange(n_units), persistent=False)
        self.layers = nn.Sequential(
            # the scale of an autoencoder's code is open
            nn.BatchNorm1d(n_latent, affine=False),
            nn.Linear(n_latent, n_hidden),
            nn.Tanh(),
            nn.Linear(n_hidden, n_units),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Logits of the units (cells x units) of codes (cells x n_latent)."""
        return self.layers(z)

    def codes(self, z: Tensor) -> Tensor:
        """Binary code of each cell as a number (cells, integers below 2^n_units)."""
        return ((self(z) > 0).long() * self.powers).sum(-1)

    def remember(
        self, codes: Tensor, pairs: np.ndarray | None = None, heights: np.ndarray | None = None
    ) -> None:
        """Keep the codes (cells) of training cells, and which are one cluster (merges x 2; merges)."""
        self.counts.copy_(torch.bincount(codes, minlength=len(self.counts)))
        self.pairs.fill_(-1)
        self.heights.fill_(-1.0)
        if pairs is not None and heights is not None:
            self.pairs[: len(pairs)] = torch.from_numpy(pairs)
            self.heights[: len(heights)] = torch.from_numpy(heights)

    def clusters(self, min_cells: int, valley: float | None = None) -> Tensor:
        """Cluster of each code (2^n_units): 0 has the most cells; -1 of codes with fewer than `min_cells`.

        Codes are joined while the next pass is at least `valley` as high as the lower summit; None: never.
        """
        taken = self.counts >= max(min_cells, 1)
        counts = self.counts.where(taken, 0)
        root = torch.arange(len(counts), device=counts.device)
        for (small, large), height in zip(self.pairs.tolist(), self.heights.tolist(), strict=True):
            if valley is None or small < 0 or height < valley:
                break
            root[root == small] = large
            counts[large] += counts[small]
            counts[small] = 0
        order = torch.argsort(counts, descending=True, stable=True)
        found = torch.empty_like(order)
        found[order] = torch.arange(len(order), device=order.device)
        return torch.where(taken, found[root], -1)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # models saved before clusters were joined
        for name in ("pairs", "heights"):
            state_dict.setdefault(prefix + name, torch.full_like(getattr(self, name), -1))
        super()._load_from_state_dict(state_dict, prefix, *args)


@dataclass(frozen=True)
class InformationDimension:
    r"""Entropy of the units of a binary layer: how far they are from 0 and 1.

    .. math:: \frac1N \sum_i \sum_u -b_{iu} \log b_{iu} - (1 - b_{iu}) \log(1 - b_{iu})

    A border between two binary codes costs what the cells on it are unsure of: borders move to where there
    are few cells, and units that tell no clusters apart become constant. The layer is trained, not the code:
    a code that gives way to borders makes room for them wherever they happen to be.

    Parameters
    ----------
    layer
        The layer.
    weight
        Schedule or number.

    References
    ----------
    Amodio et al., SAUCIE, Nature Methods 2019, `doi:10.1038/s41592-019-0576-7
    <https://doi.org/10.1038/s41592-019-0576-7>`__.
    """

    layer: BinaryLayer
    weight: float | Schedule
    name: ClassVar[str] = "information_dimension"

    def __call__(self, code: Code) -> Tensor:
        """Nats per cell (a scalar)."""
        logits = self.layer(code.z.detach())
        on = torch.sigmoid(logits)
        return -(on * F.logsigmoid(logits) + (1 - on) * F.logsigmoid(-logits)).sum(-1).mean()


@dataclass(frozen=True)
class WithinClusterDistance:
    r"""Squared distance of two cells if they have the same binary code, else 0, relative to that of any two.

    .. math::

        \frac{\sum_{i \ne j} d_{ij}^2 \, s_{ij}}{\sum_{i \ne j} d_{ij}^2},
        \qquad s_{ij} = \prod_u b_{iu} b_{ju} + (1 - b_{iu})(1 - b_{ju})

    with :math:`d_{ij}` the distance of their codes and :math:`s_{ij}` the probability that all units agree if
    each is drawn. 1: all cells are in one cluster; 0: cells of a cluster have the same code. It asks for
    clusters that are many and tight, where the information dimension asks for few. The layer is trained, not
    the code.

    Parameters
    ----------
    layer
        The layer.
    weight
        Schedule or number.

    References
    ----------
    Amodio et al., SAUCIE, Nature Methods 2019, `doi:10.1038/s41592-019-0576-7
    <https://doi.org/10.1038/s41592-019-0576-7>`__.
    """

    layer: BinaryLayer
    weight: float | Schedule
    name: ClassVar[str] = "within_cluster_distance"

    def __call__(self, code: Code) -> Tensor:
        """The share, 0 to 1 (a scalar)."""
        z = code.z.detach()
        logits = self.layer(z)
        on, off = F.logsigmoid(logits), F.logsigmoid(-logits)
        # log of the probability that a unit agrees: cells x cells x units
        agree = torch.logaddexp(on[:, None] + on, off[:, None] + off).sum(-1).exp()
        squared = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square()
        return (squared * agree).sum() / squared.sum().clamp(min=1e-12)
