"""Factors of variation: who uses which programme how much, and which genes it acts on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from latentcell._errors import DataError
from latentcell.datasets._splat import check_range, check_whole, effects


@dataclass(frozen=True, kw_only=True)
class _Programme:
    """What discrete and continuous factors share; see :class:`DiscreteFactor`."""

    usage: tuple[float, float] = (0.0, 1.0)
    gene_share: float = 0.1
    loc: float = 1.0
    scale: float = 0.5
    down: float = 0.1

    def __post_init__(self) -> None:
        low, high = _pair(self.usage)
        if not 0 <= low <= high <= 1:
            raise DataError(
                f"usage={self.usage!r} must be (lowest, highest) with 0 <= lowest <= highest <= 1."
            )
        check_range("gene_share", self.gene_share, 0, 1, open_below=True)
        check_range("loc", self.loc)
        check_range("scale", self.scale, 0)
        check_range("down", self.down, 0, 1)

    def draw_usage(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Usage of the programme by `n` cells that use it."""
        return (
            rng.uniform(*self.usage, size=n) if self.usage[0] < self.usage[1] else np.full(n, self.usage[0])
        )


@dataclass(frozen=True)
class DiscreteFactor(_Programme):
    """Groups of cells, each with a programme of its own, for :func:`simulate_factors`.

    Parameters
    ----------
    n_levels
        Number of groups.
    proportions
        Their shares of the cells, scaled to sum 1; the numbers of cells are these to within one cell.
        ``None``: all equal.
    usage
        Lowest and highest usage by a cell of its group's programme, drawn uniformly; it uses no other of this
        factor. ``(0, 1)``: the groups are arms of a star, and their cells are alike at its centre.
        ``(1, 1)``: clear-cut groups.
    gene_share
        Share of the genes that each programme acts on (Splat's ``de.prob``), at least one gene.
    loc, scale
        The natural-log fold change of such a gene at usage 1 has the size ``|N(loc, scale)|`` (Splat's
        ``de.facLoc`` and ``de.facScale``).
    down
        Probability that a gene is lowered instead of raised (Splat's ``de.downProb``).

    Raises
    ------
    DataError
        If a value is out of range.

    References
    ----------
    Zappia et al. (2017), https://doi.org/10.1186/s13059-017-1305-0

    Examples
    --------
    >>> import latentcell as lc
    >>> groups = lc.datasets.DiscreteFactor(2, proportions=(3, 1), usage=(1, 1))
    >>> adata = lc.datasets.simulate_factors(factors={"type": groups})
    >>> adata.obs["type"].value_counts().to_dict()
    {'type_1': 900, 'type_2': 300}
    """

    n_levels: int = 5
    proportions: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("n_levels", self.n_levels, 1)
        if self.proportions is None:
            return
        if len(self.proportions) != self.n_levels:
            raise DataError(
                f"proportions has {len(self.proportions)} values for n_levels={self.n_levels} levels: "
                "give one for each."
            )
        for share in self.proportions:
            check_range("proportions", share, 0, open_below=True)

    def columns(self, name: str) -> list[str]:
        """Names of the programmes of the factor `name`: one per level."""
        return [f"{name}_{level + 1}" for level in range(self.n_levels)]

    def draw(self, rng: np.random.Generator, n_cells: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Level of each cell, and usages (cells x levels)."""
        sizes = share_out(n_cells, self.proportions or [1.0] * self.n_levels)
        if min(sizes) < 1:
            raise DataError(
                f"n_cells={n_cells} are too few for {self.n_levels} levels with these proportions: one has "
                "no cell. Raise n_cells, or lower n_levels."
            )
        levels = rng.permutation(np.repeat(np.arange(self.n_levels), sizes))
        usages = np.zeros((n_cells, self.n_levels))
        usages[np.arange(n_cells), levels] = self.draw_usage(rng, n_cells)
        return levels, usages


@dataclass(frozen=True)
class ContinuousFactor(_Programme):
    """One programme that a share of all cells use, for :func:`simulate_factors`.

    Parameters
    ----------
    cell_share
        Share of the cells that use the programme: a random choice that depends on no other factor, so that it
        cuts across every group. Kotliar et al. simulate 0.35.
    usage
        Lowest and highest usage by these cells, drawn uniformly; it is 0 in the others.
    gene_share, loc, scale, down
        As of :class:`DiscreteFactor`.

    Raises
    ------
    DataError
        If a value is out of range.

    References
    ----------
    Kotliar et al. (2019), https://doi.org/10.7554/eLife.43803

    Examples
    --------
    >>> import latentcell as lc
    >>> activity = lc.datasets.ContinuousFactor(cell_share=0.5, usage=(0.1, 0.7))
    >>> adata = lc.datasets.simulate_factors(factors={"activity": activity})
    >>> float((adata.obsm["factors"]["activity"] > 0).mean())
    0.5
    """

    cell_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("cell_share", self.cell_share, 0, 1, open_below=True)

    def columns(self, name: str) -> list[str]:
        """The programme has the name of its factor."""
        return [name]

    def draw(self, rng: np.random.Generator, n_cells: int) -> tuple[np.ndarray | None, np.ndarray]:
        """No levels, and usages (cells x 1)."""
        users = rng.permutation(n_cells)[: max(1, round(self.cell_share * n_cells))]
        usages = np.zeros((n_cells, 1))
        usages[users, 0] = self.draw_usage(rng, len(users))
        return None, usages


Factor = DiscreteFactor | ContinuousFactor
FactorLike = Factor | int | Literal["continuous"]


def resolve_factors(factors: Mapping[str, FactorLike] | None) -> dict[str, Factor]:
    """Factors as objects: a number of levels is a discrete one; ``None`` is five identities, one activity."""
    if factors is None:
        factors = {"identity": DiscreteFactor(5), "activity": ContinuousFactor()}
    if not isinstance(factors, Mapping):
        raise DataError(
            f"factors must be a mapping of names to factors, not {type(factors).__name__}: give for instance "
            "{'identity': 5, 'activity': 'continuous'}."
        )
    resolved = {name: _resolve(name, factor) for name, factor in factors.items()}
    columns = [column for name, factor in resolved.items() for column in factor.columns(name)]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DataError(f"factors give two programmes the name {twice[0]!r}. Rename a factor.")
    return resolved


def _resolve(name: str, factor: Any) -> Factor:
    if not isinstance(name, str) or not name or "/" in name:
        raise DataError(f"factors has the name {name!r}: give a string, not empty and without '/'.")
    if isinstance(factor, DiscreteFactor | ContinuousFactor):
        return factor
    if factor == "continuous":
        return ContinuousFactor()
    if isinstance(factor, int | np.integer) and not isinstance(factor, bool):
        return DiscreteFactor(int(factor))
    raise DataError(
        f"factors[{name!r}]={factor!r} must be a number of levels, 'continuous', a DiscreteFactor or a "
        "ContinuousFactor."
    )


def draw_genes(
    rng: np.random.Generator, factors: Mapping[str, Factor], index: pd.Index, *, disjoint: bool
) -> pd.DataFrame:
    """Natural-log fold changes of the genes of `index` at usage 1 of every programme; 0: not of it."""
    n_genes = len(index)
    sizes = {
        column: (max(1, round(factor.gene_share * n_genes)), factor)
        for name, factor in factors.items()
        for column in factor.columns(name)
    }
    total = sum(size for size, _ in sizes.values())
    if disjoint and total > n_genes:
        raise DataError(
            f"disjoint=True needs {total} genes for {len(sizes)} programmes, and n_genes={n_genes}. Raise "
            "n_genes, or lower gene_share."
        )
    table = pd.DataFrame(0.0, index=index, columns=list(sizes))
    free = rng.permutation(n_genes)
    for column, (size, factor) in sizes.items():
        genes = free[:size]
        table[column] = np.bincount(
            genes, weights=effects(rng, size, factor.loc, factor.scale, factor.down), minlength=n_genes
        )
        free = free[size:] if disjoint else rng.permutation(n_genes)
    return table


def share_out(n: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `shares` that sum to `n`: the largest remainders get the rest."""
    exact = n * np.asarray(shares, dtype=float) / np.sum(shares)
    sizes = np.floor(exact).astype(int)
    rest = np.argsort(sizes - exact, kind="stable")[: n - sizes.sum()]
    sizes[rest] += 1
    return sizes.tolist()


def _pair(values: Any) -> tuple[float, float]:
    """Two numbers, or two that are in no range."""
    try:
        low, high = values
        return float(low), float(high)
    except (TypeError, ValueError):
        return np.nan, np.nan
