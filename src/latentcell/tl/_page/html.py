"""Parts of web pages: what comes from data passes through :func:`html.escape`."""

import json
import math
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any


def asset(name: str) -> str:
    """A file of this folder, such as the style that all pages have."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def as_json(value: Any) -> str:
    r"""JSON that may stand inside of a ``<script>``: no text in it can end the element.

    Examples
    --------
    >>> print(as_json("</b>"))
    "\u003c/b\u003e"
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def number(value: float) -> str:
    """A score as readers see it: three digits after the point, or two digits that say something."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def terms(entries: Mapping[str, str]) -> str:
    """A list of names and values."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in entries.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def heads(*words: str) -> str:
    return "".join(f'<th scope="col">{word}</th>' for word in words)


def scrolling(caption: str, inner: str) -> str:
    """A table that scrolls by itself where the screen is too narrow for it."""
    caption = escape(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><caption>{caption}</caption>{inner}</table></div>"
    )
