"""Layers of a model as a drawing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.textpath import TextPath

from latentcell._errors import DataError

_COLORS = {
    "input": "0.45",
    "encoder": "C0",
    "latent": "C1",
    "decoder": "C2",
    "generator": "C2",
    "output": "0.45",
    "critic": "C3",
}
_PARTS = tuple(_COLORS)
_BRACKETED = tuple(part for part in _PARTS if part not in ("input", "output"))
_KEYS = ("part", "name", "size")

# Lengths in inches, type sizes in points.
_NAME_SIZE, _DETAIL_SIZE, _LEADING = 9.0, 7.5, 1.35
_NARROWEST, _WIDEST = 1.0, 4.2
_PADDING, _BETWEEN, _ARROW, _MARGIN = 0.09, 0.18, 0.26, 0.85


@dataclass
class _Box:
    """One layer: its text, and its place once laid out (centre and top)."""

    part: str
    branch: str | None
    name: list[str]
    detail: list[str]
    width: float
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0

    @property
    def needed_height(self) -> float:
        return (_NAME_SIZE * len(self.name) + _DETAIL_SIZE * len(self.detail)) * _LEADING / 72 + 2 * _PADDING


def architecture(model: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the layers of a model, from the input at the top to the output at the bottom.

    Each layer is a box with its name, number of units and details; its width grows with the logarithm of the
    number of units (as far as the text leaves it), so that the bottleneck is seen. Branches, such as mean,
    scale and inclusion probability of a code, stand side by side. Arrows show what feeds what: within a
    branch if it goes on in the next row, otherwise from all boxes of a row to all of the next. Colours and
    brackets at the left tell encoder, latent and decoder.

    Parameters
    ----------
    model
        Model with a method ``get_architecture()``, or the list that it returns: one dict per layer from input
        to output with ``part`` (``"input"``, ``"encoder"``, ``"latent"``, ``"decoder"``, ``"generator"``,
        ``"output"`` or ``"critic"``), ``name``, ``size``, and optionally ``detail`` and ``branch``.
        Consecutive layers of one part with different branches form a row.
    ax
        Axes to draw on; its text is scaled to fit the size that the Axes have now. By default a new figure of
        the size that the drawing needs.

    Returns
    -------
    The Axes, one inch of drawing per data unit.

    Raises
    ------
    DataError
        If `model` has no architecture, or a layer lacks an entry or has an unknown part.

    Examples
    --------
    >>> import latentcell as lc
    >>> layers = [
    ...     {"part": "input", "name": "genes", "size": 13714, "detail": "log1p"},
    ...     {"part": "encoder", "name": "Linear", "size": 128, "detail": "ReLU"},
    ...     {"part": "latent", "name": "mean", "size": 6, "branch": "mean"},
    ...     {"part": "latent", "name": "scale", "size": 6, "branch": "scale"},
    ...     {"part": "latent", "name": "z", "size": 6, "detail": "Gaussian"},
    ...     {"part": "decoder", "name": "Linear", "size": 128, "detail": "ReLU"},
    ...     {"part": "output", "name": "genes", "size": 13714, "detail": "negative binomial"},
    ... ]
    >>> ax = lc.pl.architecture(layers)
    >>> [text.get_text() for text in ax.texts][:3]
    ['genes · 13,714', 'log1p', 'Linear · 128']
    """
    layers = _layers(model)
    rows = _rows(layers)
    width, height = _place(rows)
    title = "" if isinstance(model, Sequence) else type(model).__name__
    if ax is None:
        _, ax = plt.subplots(figsize=(width + 0.2, height + (0.5 if title else 0.2)), layout="constrained")
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.set_xlim(0, width)
    ax.set_ylim(-height, 0)
    if title:
        ax.set_title(title)
    scale = _scale(ax, width)
    for above, below in zip(rows, rows[1:], strict=False):
        _connect(ax, above, below, scale)
    for row in rows:
        for box in row:
            _draw(ax, box, scale)
    _bracket(ax, rows, scale)
    return ax


def _layers(model: Any) -> list[Mapping[str, Any]]:
    """The description of the layers, checked."""
    if hasattr(model, "get_architecture"):
        model = model.get_architecture()
    if not isinstance(model, Iterable) or isinstance(model, str | Mapping):
        raise DataError(
            f"model: {type(model).__name__} has no method get_architecture() and is no list of layers."
        )
    layers = list(model)
    if not layers:
        raise DataError("model: its architecture has no layers.")
    for i, layer in enumerate(layers):
        missing = [key for key in _KEYS if not isinstance(layer, Mapping) or key not in layer]
        if missing:
            raise DataError(f"model: layer {i} of the architecture has no {', '.join(map(repr, missing))}.")
        if layer["part"] not in _PARTS:
            raise DataError(f"model: layer {i} has part {layer['part']!r}; use one of {', '.join(_PARTS)}.")
    return layers


def _rows(layers: Sequence[Mapping[str, Any]]) -> list[list[_Box]]:
    """Boxes in rows: consecutive branches of one part share a row."""
    largest = max(2, *(layer["size"] for layer in layers))
    rows: list[list[_Box]] = []
    for layer in layers:
        box = _box(layer, largest)
        joins = (
            box.branch is not None
            and rows
            and rows[-1][0].branch is not None
            and rows[-1][0].part == box.part
            and box.branch not in [other.branch for other in rows[-1]]
        )
        if joins:
            rows[-1].append(box)
        else:
            rows.append([box])
    return rows


def _box(layer: Mapping[str, Any], largest: int) -> _Box:
    share = np.log(max(layer["size"], 1)) / np.log(largest)
    room = _NARROWEST + (_WIDEST - _NARROWEST) * share - 2 * _PADDING
    words = [*str(layer["name"]).split(), f"· {layer['size']:,}"]
    name = _wrap(words, room, _NAME_SIZE, bold=True)
    detail = _wrap(str(layer.get("detail") or "").split(), room, _DETAIL_SIZE)
    longest = max(
        [_text_width(line, _NAME_SIZE, bold=True) for line in name]
        + [_text_width(d, _DETAIL_SIZE) for d in detail]
    )
    return _Box(layer["part"], layer.get("branch"), name, detail, max(room, longest) + 2 * _PADDING)


def _wrap(words: Sequence[str], room: float, size: float, *, bold: bool = False) -> list[str]:
    """Lines no longer than `room` inches, except for words that are longer."""
    lines: list[str] = []
    for word in words:
        if lines and _text_width(f"{lines[-1]} {word}", size, bold=bold) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of one line in inches, with a little to spare."""
    font = FontProperties(family=plt.rcParams["font.family"], weight="bold" if bold else "normal")
    outline = TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=font)
    return 1.03 * float(outline.vertices[:, 0].max(initial=0)) / 72


def _place(rows: Sequence[Sequence[_Box]]) -> tuple[float, float]:
    """Give every box its place; return width and height of the drawing in inches."""
    widths = [sum(box.width for box in row) + _BETWEEN * (len(row) - 1) for row in rows]
    middle = _MARGIN + max(widths) / 2
    y = 0.0
    for row, row_width in zip(rows, widths, strict=True):
        height = max(box.needed_height for box in row)
        x = middle - row_width / 2
        for box in row:
            box.x, box.y, box.height = x + box.width / 2, y, height
            x += box.width + _BETWEEN
        y -= height + _ARROW
    return _MARGIN + max(widths) + 0.05, -y - _ARROW


def _scale(ax: Axes, width: float) -> float:
    """Inches on paper per inch of drawing, at the present size of the Axes."""
    assert ax.figure is not None
    ax.figure.figure.draw_without_rendering()
    return ax.get_window_extent().width / ax.figure.dpi / width


def _connect(ax: Axes, above: Sequence[_Box], below: Sequence[_Box], scale: float) -> None:
    """Arrows from row to row."""
    shared = {box.branch for box in above} & {box.branch for box in below} - {None}
    for start in above:
        for end in below:
            if {start.branch, end.branch} & shared and start.branch != end.branch:
                continue
            arrow = FancyArrowPatch(
                (start.x, start.y - start.height),
                (end.x, end.y),
                arrowstyle="-|>",
                mutation_scale=9 * scale,
                linewidth=0.9 * scale,
                color="0.35",
                shrinkA=0,
                shrinkB=0,
            )
            ax.add_patch(arrow)


def _draw(ax: Axes, box: _Box, scale: float) -> None:
    """One box and its text: the name with the number of units, below it the details."""
    color = np.array(to_rgb(_COLORS[box.part]))
    patch = FancyBboxPatch(
        (box.x - box.width / 2, box.y - box.height),
        box.width,
        box.height,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=tuple(0.22 * color + 0.78),
        edgecolor=tuple(color),
        linewidth=1.1 * scale,
    )
    ax.add_patch(patch)
    y = box.y - (box.height - box.needed_height) / 2 - _PADDING
    for lines, size, weight in ((box.name, _NAME_SIZE, "bold"), (box.detail, _DETAIL_SIZE, "normal")):
        height = size * _LEADING * len(lines) / 72
        if lines:
            text = "\n".join(lines)
            place: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": 1.15, "parse_math": False}
            ax.text(box.x, y - height / 2, text, fontsize=size * scale, fontweight=weight, **place)
        y -= height


def _bracket(ax: Axes, rows: Sequence[Sequence[_Box]], scale: float) -> None:
    """Bars and names of encoder, latent, decoder and so on at the left."""
    for part in _BRACKETED:
        boxes = [box for row in rows for box in row if box.part == part]
        if not boxes:
            continue
        top, bottom = boxes[0].y, boxes[-1].y - boxes[-1].height
        color = _COLORS[part]
        ax.plot(
            [_MARGIN - 0.16] * 2, [top, bottom], color=color, linewidth=2.5 * scale, solid_capstyle="round"
        )
        place: dict[str, Any] = {"ha": "right", "va": "center", "color": color}
        ax.text(_MARGIN - 0.25, (top + bottom) / 2, part, fontsize=_NAME_SIZE * scale, **place)
