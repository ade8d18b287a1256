"""Table of scores as a heat map: models by metrics."""

from collections.abc import Collection, Iterable
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap

from latentcell._errors import DataError, nearest

_MODEL_COLUMNS = ("embedding", "model")
_NOT_METRICS = ("n_dims", "protocol", "seed")


def scores(
    table: pd.DataFrame,
    *,
    index: str | None = None,
    columns: str = "metric",
    values: str = "value",
    lower_is_better: Collection[str] = (),
    annotate: bool = True,
    best: Literal["bold"] | None = "bold",
    digits: int = 3,
    cmap: str | Colormap = "Blues",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw a table of scores as a heat map, one row per model and one column per metric.

    In the cells stands the mean over repeats (seeds), with ± its standard deviation where there are several.
    Every column has a colour scale of its own, from its worst to its best mean, so that metrics of different
    range can be read side by side; the best of each column is bold (all that look equally good when rounded).
    Rows and columns keep the table's order. A dash marks a score that is missing.

    Never averaged over are ``n_dims`` (a model that has several gets a row for each) and ``protocol``
    (a column for each).

    Parameters
    ----------
    table
        Tidy: one score per row, with columns `index`, `columns`, `values` and, if there are, ``seed``,
        ``n_dims`` and ``protocol``. Or wide: one row per model (and seed), one numeric column per metric.
    index
        Column that names the models; by default ``"embedding"`` or ``"model"``, or else (wide tables) the
        table's index.
    columns, values
        Columns of a tidy table that name the metric and hold the score.
    lower_is_better
        Metrics whose lowest value is best. They are marked with an arrow.
    annotate
        Write the values into the cells.
    best
        How to mark the best of each column; None leaves it unmarked.
    digits
        Significant digits of a column's largest value; the others get as many decimals.
    cmap
        Colour map from worst to best.
    ax
        Axes to draw on; by default a new figure, large enough for the table.

    Returns
    -------
    The Axes of the table. The colour bar is another Axes of the same figure.

    Raises
    ------
    DataError
        If the columns cannot be found, scores are not numbers, or one model has several values for the
        same metric and seed.

    Examples
    --------
    >>> import pandas as pd
    >>> import latentcell as lc
    >>> table = pd.DataFrame(
    ...     {
    ...         "embedding": ["PCA", "VSC", "VSC", "PCA", "VSC", "VSC"],
    ...         "metric": ["NMI", "NMI", "NMI", "ARI", "ARI", "ARI"],
    ...         "seed": [0, 0, 1, 0, 0, 1],
    ...         "value": [0.773, 0.80, 0.82, 0.618, 0.59, 0.61],
    ...     }
    ... )
    >>> ax = lc.pl.scores(table)
    >>> [text.get_text() for text in ax.texts]
    ['0.773', '0.618', '0.810\n± 0.014', '0.600\n± 0.014']
    """
    means, deviations = _summarise(table, index, columns, values)
    reverse = np.array([name.split("\n")[0] in lower_is_better for name in means.columns])
    unknown = set(lower_is_better) - {name.split("\n")[0] for name in means.columns}
    if unknown:
        raise DataError(f"lower_is_better names {sorted(unknown)}, which are not metrics of the table.")
    shades = _shades(means.to_numpy(), reverse)
    if ax is None:
        ax = _new_axes(means)
    colormap = plt.get_cmap(cmap).with_extremes(bad="white")
    image = ax.imshow(shades, cmap=colormap, vmin=-0.1, vmax=1.15, aspect="auto")
    ax.set_xticks(
        range(means.shape[1]),
        [_column_label(name, lower) for name, lower in zip(means.columns, reverse, strict=True)],
    )
    ax.xaxis.tick_top()
    ax.set_yticks(range(means.shape[0]), list(means.index))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(0.5, means.shape[1] - 1), minor=True)
    ax.set_yticks(np.arange(0.5, means.shape[0] - 1), minor=True)
    ax.grid(False)
    ax.grid(which="minor", color="white", linewidth=2)
    ax.tick_params(which="minor", length=0)
    if annotate:
        _annotate(ax, means, deviations, reverse, image.to_rgba(shades), digits, best)
    assert ax.figure is not None
    bar = ax.figure.colorbar(image, ax=ax, ticks=[0, 1], shrink=0.6, aspect=15)
    bar.ax.set_ylim(0, 1)
    bar.ax.set_yticklabels(["worst of\ncolumn", "best of\ncolumn"], fontsize="small")
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    return ax


def _summarise(
    table: pd.DataFrame, index: str | None, columns: str, values: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean and standard deviation (NaN for a single value) over repeats, models x metrics."""
    if not len(table):
        raise DataError("table: it has no rows.")
    if index is not None and index not in [*table.columns, table.index.name]:
        raise DataError(
            f"index={index!r} is not a column of the table, which has: {_listed(table.columns)}."
            f"{nearest(index, table.columns)}"
        )
    index = index or next((name for name in _MODEL_COLUMNS if name in table.columns), None)
    tidy = columns in table.columns and values in table.columns
    if not tidy:
        table, index = _melted(table, index, columns, values)
    elif index is None:
        raise DataError(f"index: name the column that holds the models. Columns: {_listed(table.columns)}.")
    elif index not in table.columns:
        table = table.reset_index()
    if not pd.api.types.is_numeric_dtype(table[values]):
        raise DataError(f"values={values!r}: scores must be numbers, not {table[values].dtype}.")

    rows, cols = [index], [columns]
    if "n_dims" in table and table.groupby(index, observed=True)["n_dims"].nunique(dropna=False).max() > 1:
        rows.append("n_dims")
    if "protocol" in table and table["protocol"].nunique(dropna=False) > 1:
        cols.append("protocol")
    if "seed" in table and table.duplicated([*rows, *cols, "seed"]).any():
        first = table.loc[table.duplicated([*rows, *cols, "seed"]), [*rows, *cols, "seed"]].iloc[0].to_dict()
        raise DataError(
            f"table: several values for {first}. Select one of them, or give every run a seed of its own: "
            "only runs that differ in seed, n_dims or protocol can be told apart."
        )
    row_names = table[index].astype(str)
    if len(rows) > 1:
        row_names = row_names + table["n_dims"].map(lambda n: "" if pd.isna(n) else f", {n:g} dims")
    column_names = table[columns].astype(str)
    if len(cols) > 1:
        column_names = column_names + "\n" + table["protocol"].astype(str)
    groups = table.groupby([row_names.rename("row"), column_names.rename("column")], sort=False)[values]
    means, deviations = groups.mean().unstack(), groups.std().unstack()
    order = row_names.unique(), column_names.unique()
    return means.reindex(order[0], columns=order[1]), deviations.reindex(order[0], columns=order[1])


def _melted(table: pd.DataFrame, index: str | None, columns: str, values: str) -> tuple[pd.DataFrame, str]:
    """A wide table as a tidy one, and the name of the column of models."""
    if index is None or index not in table.columns:
        index = index or str(table.index.name or "model")
        table = table.reset_index(names=index)
    kept = [index, *(name for name in _NOT_METRICS if name in table.columns and name != index)]
    metrics = [name for name in table.select_dtypes("number").columns if name not in kept]
    if not metrics:
        raise DataError(
            f"table: it is neither tidy (columns {columns!r} and {values!r}) nor wide (a numeric column per "
            f"metric). It has: {_listed(table.columns)}. Name the columns with columns= and values=."
        )
    return table.melt(id_vars=kept, value_vars=metrics, var_name=columns, value_name=values), index


def _shades(means: np.ndarray, reverse: np.ndarray) -> np.ndarray:
    """Means scaled to 0 (worst) to 1 (best) in each column; 0.5 where all are the same."""
    finite = np.where(np.isfinite(means), means, np.nan)
    present = np.isfinite(finite).any(axis=0)
    low, high = np.zeros(means.shape[1]), np.zeros(means.shape[1])
    low[present], high[present] = np.nanmin(finite[:, present], axis=0), np.nanmax(finite[:, present], axis=0)
    width = np.where(high > low, high - low, 1)
    shades = np.where(high > low, (finite - low) / width, np.where(np.isfinite(finite), 0.5, np.nan))
    return np.where(reverse, 1 - shades, shades)


def _annotate(
    ax: Axes,
    means: pd.DataFrame,
    deviations: pd.DataFrame,
    reverse: np.ndarray,
    colors: np.ndarray,
    digits: int,
    best: str | None,
) -> None:
    """Write the cells, row by row."""
    values, spreads = means.to_numpy(dtype=float), deviations.to_numpy(dtype=float)
    decimals = [_decimals(column, digits) for column in values.T]
    rounded = np.stack(
        [column.round(places) for column, places in zip(values.T, decimals, strict=True)], axis=1
    )
    signed = np.where(np.isfinite(rounded), np.where(reverse, -rounded, rounded), -np.inf)
    is_best = (signed == signed.max(axis=0)) & np.isfinite(signed) & (np.isfinite(signed).sum(axis=0) > 1)
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            mean, deviation = float(values[i, j]), float(spreads[i, j])
            text = "–" if np.isnan(mean) else f"{mean:.{decimals[j]}f}"
            if np.isfinite(deviation):
                text += f"\n± {deviation:.{decimals[j]}f}"
            dark = colors[i, j, :3] @ (0.299, 0.587, 0.114) < 0.5
            ax.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontweight="bold" if best == "bold" and is_best[i, j] else "normal",
            )


def _decimals(column: np.ndarray, digits: int) -> int:
    """Decimals that leave the largest value of a column `digits` significant digits."""
    largest = np.abs(column[np.isfinite(column)]).max(initial=0)
    return 0 if largest == 0 else max(0, digits - 1 - int(np.floor(np.log10(largest))))


def _column_label(name: str, lower: bool) -> str:
    metric, *protocol = name.split("\n")
    return "\n".join([f"{metric} ↓" if lower else metric, *protocol])


def _new_axes(means: pd.DataFrame) -> Axes:
    """Axes on a new figure whose cells hold their text and the labels of rows and columns."""
    size = plt.rcParams["font.size"] / 72
    longest = max(len(part) for name in means.columns for part in name.split("\n"))
    cell_width = size * max(5.5, 0.65 * longest + 1)
    width = means.shape[1] * cell_width + size * (0.6 * max(map(len, means.index)) + 9)
    height = size * (3.2 * means.shape[0] + 3.5)
    _, ax = plt.subplots(figsize=(max(width, 4), max(height, 1.8)), layout="constrained")
    return ax


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(str(name)) for name in names)
