"""What a page is asked to show."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """Arguments of :func:`latentcell.tl.report`, checked."""

    groupby: str | None
    basis: str
    color: list[str] | None
    genes: list[str] | None
    n_cells: int
    n_generated: int
    source: str | None
    seed: int
