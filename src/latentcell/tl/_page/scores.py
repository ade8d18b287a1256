"""The table of scores of generated cells, each beside real cells and chance, and how to read it."""

import math
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from .explanations import BETTER, EXPLANATIONS, title_of
from .html import heads, number, scrolling

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""Name of the rows of all cells in the table."""

SCORES = ["value", "real", "chance", "best"]


def known_scores(table: "pd.DataFrame", group: str) -> "pd.DataFrame":
    """The rows of a group that have any score."""
    rows = table[table["group"] == group]
    return rows[rows[["value", "real", "chance"]].notna().any(axis=1)]


def score_table(
    table: "pd.DataFrame", group: str, name: str, *, light: Callable[[Mapping[Any, Any]], str] | None = None
) -> str:
    """Scores of one group: a row per metric, with its light (HTML) if there are lights."""
    known = known_scores(table, group)
    if known.empty:
        return "<p>Too few cells for any score.</p>"
    lit = [] if light is None else ["light"]
    head = heads("metric", *lit, "generated", "real", "chance", "best", "better →")
    rows = "".join(_row(row, light) for row in known.to_dict("records"))
    return scrolling(f"Scores of {name}", f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")


def _row(row: Mapping[Any, Any], light: Callable[[Mapping[Any, Any]], str] | None) -> str:
    """The scores of one metric."""
    first, *others = (number(row[name]) for name in SCORES)
    cells = "".join(f"<td>{text}</td>" for text in (f"<strong>{first}</strong>", *others))
    name = escape(title_of(row["metric"]))
    lit = "" if light is None else f"<td>{light(row)}</td>"
    return f'<tr><th scope="row">{name}</th>{lit}{cells}<td>{_strip(row)}</td></tr>'


def _strip(row: Mapping[Any, Any]) -> str:
    """The three scores on a line that ends with the best value at the right; the numbers stand beside it."""
    if row["better"] == "near best":
        places = [-abs(row[name] - row["best"]) for name in SCORES]
    else:
        places = [row[name] * (-1 if row["better"] == "lower" else 1) for name in SCORES]
    known = [place for place in places if math.isfinite(place)]
    if not math.isfinite(places[0]) or len(known) < 2:
        return ""
    high, width = max(known), (max(known) - min(known)) or 1.0
    at_value, at_real, at_chance = (112 - 104 * (high - place) / width for place in places[:3])
    marks = '<line x1="4" y1="9" x2="116" y2="9" class="rail"/>'
    if math.isfinite(at_chance):
        marks += f'<circle cx="{at_chance:.1f}" cy="9" r="4.5" class="chance"/>'
    if math.isfinite(at_real):
        marks += f'<line x1="{at_real:.1f}" y1="1" x2="{at_real:.1f}" y2="17" class="real"/>'
    marks += f'<circle cx="{at_value:.1f}" cy="9" r="4.5" class="generated"/>'
    return f'<svg class="strip" viewBox="0 0 120 18" width="120" height="18" aria-hidden="true">{marks}</svg>'


def explained(table: "pd.DataFrame") -> str:
    """How to read each metric of the table that is explained."""
    rows = table.drop_duplicates("metric")
    items = "".join(
        f"<div><dt>{escape(title_of(metric))} <code>{escape(metric)}</code></dt>"
        f"<dd>{escape(EXPLANATIONS[metric][1])} <em>{escape(BETTER[better])}</em></dd></div>"
        for metric, better in zip(rows["metric"], rows["better"], strict=True)
        if metric in EXPLANATIONS
    )
    return f'<dl class="long">{items}</dl>'
