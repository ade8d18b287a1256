"""Figures of a sweep: scores against a setting, and distortion against rate."""

from collections.abc import Collection, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.stats import t as student

from latentcell._colors import default_colors, listed
from latentcell._errors import DataError, nearest

_RESULTS = ("seed", "metric", "factor", "value")
_ALL = "all"
_DEFAULT = (
    "best_correlation",
    "matched_correlation",
    "mig",
    "single_latent_accuracy",
    "nmi",
    "ari",
)
_WORDS = {
    "best_correlation": "best |r| of a dimension",
    "matched_correlation": "matched |r|",
    "mig": "mutual information gap",
    "sap": "separated attribute predictability",
    "single_latent_accuracy": "accuracy from one dimension",
    "nmi": "NMI of Leiden clusters",
    "ari": "ARI of Leiden clusters",
}


def disentanglement(
    table: pd.DataFrame,
    metrics: str | Sequence[str] | None = None,
    *,
    x: str | None = None,
    hue: str | None = None,
    factors: Collection[str] | bool = True,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw scores of a sweep against one of its settings: how readable dimensions are, and the price.

    A panel per metric. A thin line per factor and a thick black one for all of them; points are means over
    seeds, bars their 95 % confidence intervals (Student's t). With `hue`, a line per value of another setting
    instead, for all factors together.

    Parameters
    ----------
    table
        What :func:`latentcell.tl.sweep` returns.
    metrics
        Metrics to draw, in this order. Default: those of best and matched correlation, mutual information
        gap, accuracy from one dimension, NMI and ARI that are there.
    x
        Setting on the horizontal axis; default the first. Logarithmic where its values span a factor of 8 or
        more.
    hue
        Another setting, a line (and colour) per value. Runs that differ in yet others are averaged over.
    factors
        Which factors to draw lines of: names, or all or none of them.
    ax
        Axes to draw one metric on.

    Returns
    -------
    The Figure if it has several panels, the Axes if there is one panel or `ax` was given.

    Raises
    ------
    DataError
        If columns or metrics are not there.

    References
    ----------
    Kimmel, 2020, `doi:10.1101/2020.03.04.972166 <https://doi.org/10.1101/2020.03.04.972166>`__, whose figures
    these are.

    Examples
    --------
    >>> import pandas as pd
    >>> import latentcell as lc
    >>> rows = [(1, 0, "mig", "all", 0.1), (4, 0, "mig", "all", 0.2)]
    >>> rows += [(1, 0, "ari", "all", 0.7), (4, 0, "ari", "all", 0.5)]
    >>> table = pd.DataFrame(rows, columns=["beta", "seed", "metric", "factor", "value"])
    >>> [panel.get_title() for panel in lc.pl.disentanglement(table).axes]
    ['mutual information gap', 'ARI of Leiden clusters']
    """
    table, x, hue = _settings(table, x, hue)
    there = list(dict.fromkeys(table["metric"]))
    wanted = [metrics] if isinstance(metrics, str) else metrics
    wanted = [name for name in _DEFAULT if name in there] if wanted is None else list(wanted)
    for name in wanted:
        if name not in there:
            raise DataError(
                f"metrics: {name!r} is not in the table, which has: {listed(there)}.{nearest(name, there)}"
            )
    if not wanted:
        raise DataError(f"name metrics to draw; the table has: {listed(there)}.")
    if ax is not None and len(wanted) > 1:
        raise DataError(f"ax holds one panel; name one of the metrics {listed(wanted)}.")
    names = _factors(table, wanted, factors) if hue is None else []
    colors = dict(zip(names, default_colors(len(names)), strict=True))
    figure, axes = (None, [ax]) if ax is not None else _panels(len(wanted))
    for panel, metric in zip(axes, wanted, strict=True):
        _scores(panel, table[table["metric"] == metric], x, hue, colors)
        panel.set_title(_WORDS.get(metric, metric.replace("_", " ")))
        panel.set_xlabel(x)
    _legend(axes)
    return figure if figure is not None and len(axes) > 1 else axes[0]


def rate_distortion(
    table: pd.DataFrame, *, x: str | None = None, hue: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw distortion (reconstruction error) against rate (KL) of the models of a sweep.

    A small point per model; means over seeds are joined in the order of setting `x`, which stands beside
    them. Of two models with the same rate, the one with less distortion is better; beta and capacity move
    along the curve.

    Parameters
    ----------
    table
        What :func:`latentcell.tl.sweep` returns.
    x
        Setting that is written beside the means; default the first.
    hue
        Another setting, a curve (and colour) per value.
    ax
        Axes to draw on; by default a new figure.

    Returns
    -------
    The Axes.

    Raises
    ------
    DataError
        If columns or metrics are not there.

    References
    ----------
    Alemi et al., Fixing a broken ELBO, ICML 2018, `arXiv:1711.00464 <https://arxiv.org/abs/1711.00464>`__.

    Examples
    --------
    >>> import pandas as pd
    >>> import latentcell as lc
    >>> rows = [(1, 0, "kl", "all", 9.0), (1, 0, "reconstruction_loss", "all", 100.0)]
    >>> rows += [(4, 0, "kl", "all", 5.0), (4, 0, "reconstruction_loss", "all", 106.0)]
    >>> table = pd.DataFrame(rows, columns=["beta", "seed", "metric", "factor", "value"])
    >>> [text.get_text() for text in lc.pl.rate_distortion(table).texts]
    ['beta = 1', '4']
    """
    table, x, hue = _settings(table, x, hue)
    for name in ("kl", "reconstruction_loss"):
        if name not in set(table["metric"]):
            raise DataError(f"the table has no metric {name!r}; it is written by lc.tl.sweep.")
    setting = [name for name in table if name not in ("metric", "factor", "value")]
    wide = table.pivot_table(index=setting, columns="metric", values="value", observed=True).reset_index()
    if ax is None:
        _, ax = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
    groups: list[tuple[Any, pd.DataFrame]]
    groups = [(None, wide)] if hue is None else list(wide.groupby(hue, sort=False, observed=True))
    for (value, part), color in zip(groups, default_colors(len(groups)), strict=True):
        means = part.groupby(x, observed=True)[["kl", "reconstruction_loss"]].mean()
        ax.scatter(part["kl"], part["reconstruction_loss"], s=10, color=color, alpha=0.4, linewidths=0)
        label = None if hue is None else f"{hue} = {_number(value)}"
        ax.plot(means["kl"], means["reconstruction_loss"], "-o", ms=5, color=color, label=label)
        for i, (setting_value, mean) in enumerate(means.iterrows()):
            text = _number(setting_value)
            ax.annotate(
                f"{x} = {text}" if i == 0 else text,
                (mean["kl"], mean["reconstruction_loss"]),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize="small",
                color=color if hue else "0.2",
            )
    ax.set_xlabel("rate: KL (nats per cell)")
    ax.set_ylabel("distortion: reconstruction error (nats per cell)")
    ax.margins(x=0.12)
    if hue is not None:
        ax.legend(frameon=False)
    return ax


def _settings(table: pd.DataFrame, x: str | None, hue: str | None) -> tuple[pd.DataFrame, str, str | None]:
    """The columns that are settings, checked, and the table with those that are not all numbers as words."""
    missing = [name for name in _RESULTS if name not in table]
    if missing:
        raise DataError(f"table has no columns {missing}; it must be one that lc.tl.sweep returns.")
    settings = [str(name) for name in table.columns if name not in _RESULTS]
    x = settings[0] if x is None and settings else x
    for argument, name in (("x", x), ("hue", hue)):
        if name not in settings and not (argument == "hue" and name is None):
            raise DataError(
                f"{argument}={name!r} is not a setting of the table: {listed(settings)}."
                f"{nearest(name, settings)}"
            )
    if x == hue:
        raise DataError(f"x and hue are both {x!r}; name two settings.")
    words = {}
    for name in settings:
        if not pd.api.types.is_numeric_dtype(table[name]) or table[name].isna().any():
            text = [_number(value) if pd.notna(value) else "None" for value in table[name]]
            words[name] = pd.Categorical(text, categories=list(dict.fromkeys(text)))
    return table.assign(**words), str(x), hue


def _factors(table: pd.DataFrame, metrics: list[str], factors: Collection[str] | bool) -> list[str]:
    there = [str(name) for name in table.loc[table["metric"].isin(metrics), "factor"].unique()]
    there = [name for name in there if name != _ALL]
    if isinstance(factors, bool):
        return there if factors else []
    for name in factors:
        if name not in there:
            raise DataError(
                f"factors: {name!r} is not in the table, which has: {listed(there)}.{nearest(name, there)}"
            )
    return list(factors)


def _scores(ax: Axes, rows: pd.DataFrame, x: str, hue: str | None, colors: dict[str, str]) -> None:
    """One metric: lines of the factors and of all, or of all per value of another setting."""
    together = rows[rows["factor"] == _ALL]
    if hue is None:
        for name, color in colors.items():
            _line(ax, rows[rows["factor"] == name], x, color=color, linewidth=1.0, ms=3, label=name)
        label = "all factors" if colors else None
        _line(ax, together, x, color="black", linewidth=2.0, ms=4, label=label)
    else:
        levels = list(together[hue].unique())
        for value, color in zip(levels, default_colors(len(levels)), strict=True):
            label = f"{hue} = {_number(value)}"
            part = together[together[hue] == value]
            _line(ax, part, x, color=color, linewidth=1.5, ms=4, label=label)
    if pd.api.types.is_numeric_dtype(rows[x]):
        values = np.sort(rows[x].unique())
        if values[0] > 0 and values[-1] / values[0] >= 8:
            ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(values.tolist()))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
        ax.xaxis.set_minor_locator(NullLocator())


def _line(ax: Axes, rows: pd.DataFrame, x: str, **style: Any) -> None:
    """Means over the runs with bars of their 95 % confidence intervals."""
    if rows.empty:
        return
    groups = rows.groupby(x, observed=False)["value"]
    mean, n = groups.mean(), groups.size()
    error = groups.std().fillna(0) / np.sqrt(n) * student.ppf(0.975, np.maximum(n - 1, 1))
    ax.errorbar(list(mean.index), mean, error if error.any() else None, fmt="-o", **style)


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    n_columns = min(n, 3)
    n_rows = -(-n // n_columns)
    size = (3.6 * n_columns + 1.4, 3.0 * n_rows)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
    axes = list(grid.ravel())
    for unused in axes[n:]:
        unused.remove()
    return figure, axes[:n]


def _legend(axes: Sequence[Axes]) -> None:
    """One legend for all panels, at the right of the last one of the first row."""
    handles: dict[str, Any] = {}
    for ax in axes:
        drawn, labels = ax.get_legend_handles_labels()
        for handle, label in zip(drawn, labels, strict=True):
            handles.setdefault(label, handle)
    if not handles:
        return
    axes[min(len(axes), 3) - 1].legend(
        list(handles.values()),
        list(handles),
        frameon=False,
        fontsize="small",
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
    )


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
