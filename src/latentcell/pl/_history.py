"""Training curves."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from latentcell._curves import SPLITS, Panel, curves_of, panels_of, title_of


def history(
    history: Any, keys: str | Sequence[str] | None = None, *, log: bool = False, ax: Axes | None = None
) -> Figure | Axes:
    """Draw training curves.

    One small panel per quantity. Training, validation and test curves of a quantity share its panel
    (``elbo_train`` with ``elbo_validation``, ``train_loss`` with ``validation_loss``) and have the same
    colours in all panels. What belongs to no split, such as ``beta``, ``temperature`` or ``lr``, is a weight
    or schedule: each has a panel of its own, in grey, after the others. Epochs without a value are bridged.

    Parameters
    ----------
    history
        A trained model (anything with ``.history``), or such a history: a mapping from key to a data frame
        of one column, or a series, whose index counts epochs or steps.
    keys
        What to draw, in this order: keys of the history (``"elbo_train"``) or quantities, which stand for
        all their splits (``"elbo"``). By default everything; with `ax`, the first quantity.
    log
        Logarithmic vertical axes. Panels that hold zero or negative values stay linear.
    ax
        Draw all curves into these Axes instead of one panel per quantity.

    Returns
    -------
    The Figure if it has several panels, the Axes if there is one panel or `ax` was given.

    Raises
    ------
    DataError
        If `history` is no history or is empty, if a key is not in it, or if it holds what is not a number.

    Examples
    --------
    >>> import pandas as pd
    >>> import latentcell as lc
    >>> curves = {
    ...     "elbo_train": pd.DataFrame({"elbo_train": [9.0, 5.0, 4.0]}),
    ...     "elbo_validation": pd.DataFrame({"elbo_validation": [9.5, 6.0, 5.5]}),
    ...     "beta": pd.DataFrame({"beta": [0.0, 0.5, 1.0]}),
    ... }
    >>> figure = lc.pl.history(curves)
    >>> [panel.get_title() for panel in figure.axes]
    ['ELBO', 'beta']
    >>> lc.pl.history(curves, "elbo", log=True).get_yscale()
    'log'
    """
    panels = panels_of(curves_of(history), keys, first_only=ax is not None and keys is None)
    if ax is not None:
        _draw_together(ax, panels, log)
        return ax
    width, height = plt.rcParams["figure.figsize"]
    if len(panels) == 1:
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
        _draw(ax, panels[0], log, legend=True)
        ax.set_xlabel(_index_name(panels[0]))
        return ax
    n_columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    n_rows = -(-len(panels) // n_columns)
    letter = plt.rcParams["font.size"] / 72
    size = n_columns * max(0.5 * width, 20 * letter), n_rows * max(0.5 * height, 15 * letter)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
    axes = grid.ravel()
    with_legend = max(panels, key=lambda panel: 0 if panel.is_schedule else len(panel.curves))
    for panel_axes, panel in zip(axes, panels, strict=False):
        _draw(panel_axes, panel, log, legend=panel is with_legend)
    for unused in axes[len(panels) :]:
        unused.remove()
    names = {_index_name(panel) for panel in panels}
    if len(names) == 1:
        figure.supxlabel(names.pop(), fontsize=plt.rcParams["axes.labelsize"])
    else:
        for panel_axes, panel in zip(axes, panels, strict=False):
            panel_axes.set_xlabel(_index_name(panel))
    return figure


def _index_name(panel: Panel) -> str:
    return str(panel.curves[0][1].index.name or "epoch")


def _plot(ax: Axes, curve: pd.Series, **style: Any) -> None:
    """One line; a run of one epoch shows as a point."""
    ax.plot(curve.index.to_numpy(), curve.to_numpy(), marker="o" if len(curve) == 1 else None, **style)


def _draw(ax: Axes, panel: Panel, log: bool, *, legend: bool) -> None:
    for split, curve in panel.curves:
        color = f"C{SPLITS.index(split)}" if split in SPLITS else "0.4"
        _plot(ax, curve, label=split or title_of(panel.quantity), color=color)
    ax.set_title(title_of(panel.quantity))
    _finish(ax, panel.curves, log)
    if legend and not panel.is_schedule:
        ax.legend(frameon=False)


def _draw_together(ax: Axes, panels: Sequence[Panel], log: bool) -> None:
    """All curves in one Axes: a colour for each quantity, or for each split if there is one quantity."""
    if len(panels) == 1:
        _draw(ax, panels[0], log, legend=True)
    else:
        styles = dict(zip(("", *SPLITS), ("-", "-", "--", ":"), strict=True))
        for i, panel in enumerate(panels):
            for split, curve in panel.curves:
                label = f"{title_of(panel.quantity)}, {split}" if split else title_of(panel.quantity)
                _plot(ax, curve, label=label, color=f"C{i}", linestyle=styles.get(split, "-."))
        _finish(ax, [curve for panel in panels for curve in panel.curves], log)
        ax.legend(frameon=False)
    ax.set_xlabel(_index_name(panels[0]))


def _finish(ax: Axes, curves: Sequence[tuple[str, pd.Series]], log: bool) -> None:
    if log and all(np.all(curve > 0) for _, curve in curves):
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
