"""Known factors of cells, from tables and arrays: floating-point ones are continuous, others discrete."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_codes, check_labels

LEAST_CELLS = 5
"""Fewest cells of a level: one in each fold of the cross-validation."""

ALL = "all"
"""Name of the rows that sum up all factors."""


@dataclass(frozen=True)
class Factor:
    """One factor: its value in every cell (cells), or the position of the cell's level among `levels`."""

    name: str
    values: np.ndarray
    levels: tuple[str, ...] = ()

    @property
    def is_discrete(self) -> bool:
        """Whether the factor has levels."""
        return bool(self.levels)

    @property
    def members(self) -> np.ndarray:
        """Which cells are of which level (cells x levels, bool)."""
        return self.values[:, None] == np.arange(len(self.levels))


def check_codes_and_factors(
    z: Any, factors: Any, *, any_scale: bool = False
) -> tuple[np.ndarray, list[Factor]]:
    """Give codes as floats (cells x dimensions), and one `Factor` for each column of `factors`."""
    codes = check_codes(z, any_scale=any_scale)
    table = _as_table(factors)
    if len(table) != len(codes):
        raise DataError(f"factors has {len(table)} rows for {len(codes)} cells in z.")
    if table.shape[1] == 0:
        raise DataError("factors has no column; give one for each factor.")
    names = [str(name) for name in table.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"factors has several columns named {', '.join(map(repr, repeated))}. Rename them.")
    if ALL in names:
        raise DataError(f"A factor is named {ALL!r}, as are the rows over all factors. Rename it.")
    return codes, [_factor(name, table.iloc[:, position]) for position, name in enumerate(names)]


def equal_width_bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Bin of every value (0 to n_bins - 1), of equally wide ones from the lowest to the highest value."""
    if n_bins < 2:
        raise DataError(f"n_bins={n_bins} must be at least 2.")
    edges = np.linspace(values.min(), values.max(), n_bins + 1)
    return np.searchsorted(edges[1:-1], values, side="right")


def per_factor(factors: list[Factor], scores: np.ndarray, dims: np.ndarray | None = None) -> pd.DataFrame:
    """Table of one score for each factor, and the dimension it comes from (below 0: none)."""
    if dims is None:
        dims = np.full(len(factors), -1)
    chosen = pd.array([int(dim) if dim >= 0 else pd.NA for dim in dims], dtype="Int64")
    index = pd.Index([factor.name for factor in factors], name="factor")
    return pd.DataFrame({"value": np.asarray(scores, dtype=float), "dim": chosen}, index=index)


def gaps(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the best dimension is ahead of the next one, and which it is, for each column.

    `scores` is dimensions x factors; a second dimension that does not exist has the score 0.
    """
    ordered = np.sort(scores, axis=0)
    return ordered[-1] - (ordered[-2] if len(scores) > 1 else 0), scores.argmax(axis=0)


def _as_table(factors: Any) -> pd.DataFrame:
    """Give factors as columns, their types kept."""
    if isinstance(factors, pd.DataFrame):
        return factors
    if sparse.issparse(factors):
        raise DataError("factors must be dense; give factors.toarray().")
    if isinstance(factors, pd.Series):
        return factors.to_frame("factor" if factors.name is None else factors.name)
    if not isinstance(factors, pd.Categorical):
        factors = np.asarray(factors)
        if factors.ndim == 2:
            return pd.DataFrame(factors).rename(columns=lambda position: f"factor_{position}")
        if factors.ndim != 1:
            raise DataError(f"factors must be cells x factors; its shape is {factors.shape}.")
    return pd.DataFrame({"factor": factors})


def _factor(name: str, column: pd.Series) -> Factor:
    """Read one column; refuse missing values, a constant, and levels of few cells."""
    told = f"factors[{name!r}]"
    if pd.api.types.is_float_dtype(column.dtype):
        values = check_codes(column.to_numpy(dtype=float, na_value=np.nan)[:, None], name=told)[:, 0]
        if np.ptp(values) == 0:
            raise DataError(f"{told} has the same value in all cells: nothing can follow it. Leave it out.")
        return Factor(name, values)
    positions, levels = check_labels(column, name=told)
    if len(levels) < 2:
        raise DataError(f"{told} is {levels[0]!r} in all cells: nothing can follow it. Leave it out.")
    n_cells = np.bincount(positions)
    rarest = int(n_cells.argmin())
    if n_cells[rarest] < LEAST_CELLS:
        raise DataError(
            f"{told} is discrete, and its level {levels[rarest]!r} has {n_cells[rarest]} cells; "
            f"at least {LEAST_CELLS} are needed. Leave these cells out or merge levels; if the factor is "
            "continuous, give it as floating-point numbers: factors.astype(float)."
        )
    return Factor(name, positions, tuple(map(str, levels)))
