"""What a decoder's last layer hands to a likelihood that computes its loss from sparse cells."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Map = tuple[Tensor, Tensor]
"""A linear map: weight (genes x k) and bias (genes)."""
SparseWhen = Literal["never", "mostly zeros", "always"]
"""Which cells a likelihood takes as sparse ones: none, where that is faster than dense, or all."""


@dataclass(frozen=True)
class LastLayer:
    """Raw outputs as the linear maps they are, before any array of cells x genes is made.

    Attributes
    ----------
    h
        What the raw outputs are linear in (cells x k).
    maps
        Weight (genes x k) and bias (genes) of each raw output, by its name.
    library
        Size factor of each cell (cells x 1).
    group
        Which row of a dispersion by batch or label is a cell's (cells, integers); None without such.
    half
        Whether to take the products with the maps in bfloat16.
    """

    h: Tensor
    maps: dict[str, Map]
    library: Tensor
    group: Tensor | None = None
    half: bool = False
