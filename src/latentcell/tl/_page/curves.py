"""Training curves as small drawings."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from latentcell._curves import Panel, curves_of, panels_of, title_of

from .html import number

WIDTH, HEIGHT = 240, 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 8, 8
MOST_POINTS = 300


def drawn(history: Mapping[str, Any]) -> str:
    """A drawing for each quantity, with its first, last and lowest values in words."""
    return "".join(map(_panel, panels_of(curves_of(history), None, first_only=False)))


def _panel(panel: Panel) -> str:
    known = [(split, curve) for split, curve in panel.curves if len(curve)]
    finite = np.concatenate([curve.to_numpy() for _, curve in known]) if known else np.zeros(0)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return ""
    title = title_of(panel.quantity)
    low, high = float(finite.min()), float(finite.max())
    epochs = np.concatenate([curve.index.to_numpy(dtype=float) for _, curve in known])
    first, last = float(epochs.min()), float(epochs.max())
    lines, said = "", []
    for split, curve in known:
        values = curve.to_numpy()
        at = curve.index.to_numpy(dtype=float)
        keep = np.isfinite(values)
        values, at = values[keep], at[keep]
        if not len(values):
            continue
        step = math.ceil(len(values) / MOST_POINTS)
        chosen = np.unique(np.append(np.arange(0, len(values), step), len(values) - 1))
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * _share(at[chosen], first, last)
        y = _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - _share(values[chosen], low, high))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        lines += f'<polyline points="{points}" class="{split or "weight"}"/>'
        lines += f'<circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="2.5" class="{split or "weight"}"/>'
        said.append(
            f'<li class="{split or "weight"}">{escape(split) + ": " if split else ""}'
            f"{_short(values[0])} → <strong>{_short(values[-1])}</strong></li>"
        )
    words = f"{title}, epochs {first:g} to {last:g}, from {_short(low)} to {_short(high)}"
    return (
        f'<figure class="curve"><h3>{escape(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" class="frame"/>{lines}</svg>'
        f'<div class="ends"><span>epoch {first:g}</span><span>range {_short(low)} to {_short(high)}</span>'
        f"<span>{last:g}</span></div><ul>{''.join(said)}</ul></figure>"
    )


def _share(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1 else number(float(value))
