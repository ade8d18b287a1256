"""What the figures share: the user's settings that Matplotlib does not hold, and room between labels."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.text import Text
from sklearn.isotonic import IsotonicRegression

# ``sc.settings.set_figure_params`` stores two choices that have no public reader.


def rasterize() -> bool:
    """Whether the user asked scanpy for bitmap points in vector files (``vector_friendly=``)."""
    return bool(getattr(sc.settings, "_vector_friendly", False))


def has_frame() -> bool:
    """Whether the user wants axes around embeddings (``frameon=``)."""
    return bool(getattr(sc.settings, "_frameon", True))


def spread(positions: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Sorted centres moved apart as little as possible (least squares): `gap` of room each, in [low, high].

    Where `high - low` has no room for that, they are spaced evenly over it.
    """
    gap = min(gap, (high - low) / len(positions))
    low, high = low + gap / 2, high - gap / 2
    steps = gap * np.arange(len(positions))
    return (
        IsotonicRegression(y_min=low, y_max=high - steps[-1]).fit_transform(steps, positions - steps) + steps
    )


def part(ax: Axes, texts: Sequence[Text]) -> None:
    """Move texts of a 2-D Axes up or down until none covers another, at the present size of the Axes."""
    if ax.figure is None:
        return
    ax.figure.figure.draw_without_rendering()
    taken: list[tuple[float, float, float, float]] = []
    for text in sorted(texts, key=lambda text: text.get_position()[1]):
        box = text.get_window_extent()
        for step in sorted(range(-40, 41), key=abs):
            shift = 0.25 * step * box.height
            bottom, top = box.y0 + shift, box.y1 + shift
            if not any(box.x0 < x1 and x0 < box.x1 and bottom < y1 and y0 < top for x0, x1, y0, y1 in taken):
                break
        taken.append((box.x0, box.x1, bottom, top))
        x, y = ax.transData.transform(text.get_position())
        new_x, new_y = ax.transData.inverted().transform((x, y + shift))
        text.set_position((new_x, new_y))


def name_lines(ax: Axes, names: list[str], ends: np.ndarray) -> None:
    """Names right of the ends of the first lines of the Axes, one for each, moved apart."""
    assert ax.figure is not None
    ax.figure.figure.draw_without_rendering()
    low, high = ax.get_ylim()
    height = ax.get_window_extent().height / ax.figure.dpi * 72
    size = float(np.clip(height / (1.3 * len(names)), 4.5, 0.9 * plt.rcParams["font.size"]))
    order = np.argsort(ends, kind="stable")
    places = spread(ends[order], 1.3 * size / height * (high - low), low, high)
    for at, place in zip(order, places, strict=True):
        ax.annotate(
            names[at],
            xy=(1.0, ends[at]),
            xytext=(1.05, place),
            xycoords=ax.get_yaxis_transform(),
            textcoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=size,
            color=ax.lines[at].get_color(),
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0},
        )
