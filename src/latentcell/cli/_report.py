"""A report on generated cells as one web page: no scripts, no other files, no network.

Whatever comes from files (names of genes and groups, paths, provenance) passes through :func:`html.escape`.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

from ._explanations import BETTER, EXPLANATIONS, title_of

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""Name of the rows of all cells in the table."""

SCORES = ["value", "real", "chance", "best"]


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its heading, what it shows in words, how to read it, and the image."""

    title: str
    alt: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Report:
    """What a report says.

    Parameters
    ----------
    facts
        What was compared: name and value, in order.
    groups
        Group by number of real, of generated and of scored cells (in each set), in order; empty without
        groups.
    table
        The result of ``lc.metrics.fidelity``.
    pictures
        Figures, in order.
    provenance
        What the generated cells say of their making.
    versions
        Name and version of software.
    """

    facts: Mapping[str, str]
    groups: Mapping[str, tuple[int, int, int]]
    table: "pd.DataFrame"
    pictures: Sequence[Picture]
    provenance: Mapping[str, str]
    versions: Mapping[str, str]

    def to_html(self) -> str:
        """The whole page."""
        page = resources.files(__package__).joinpath("_report.html").read_text(encoding="utf-8")
        names = list(dict.fromkeys(self.table["group"]))
        groups = [name for name in names if name != ALL]
        return Template(page).substitute(
            facts=_terms(self.facts),
            provenance=_terms(self.provenance) or "<p>The file does not say.</p>",
            versions=_terms(self.versions),
            group_sizes=_group_sizes(self.groups),
            overall=_scores(self.table, ALL, "all cells") if ALL in names else "",
            by_group="".join(_folded(self.table, name, self.groups.get(name)) for name in groups),
            by_group_heading="<h3>By group</h3>" if groups else "",
            figures="".join(map(_figure, self.pictures)),
            explanations=_explanations(self.table),
        )


def known_scores(table: "pd.DataFrame", group: str) -> "pd.DataFrame":
    """The rows of a group that have any score."""
    rows = table[table["group"] == group]
    return rows[rows[["value", "real", "chance"]].notna().any(axis=1)]


def number(value: float) -> str:
    """A score as readers see it: three digits after the point, or two digits that say something."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def _terms(entries: Mapping[str, str]) -> str:
    """A list of names and values."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in entries.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _group_sizes(groups: Mapping[str, tuple[int, int, int]]) -> str:
    if not groups:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{real:,}</td><td>{new:,}</td><td>{scored:,}</td></tr>'
        for name, (real, new, scored) in groups.items()
    )
    head = _heads("group", "real", "generated", "scored of each")
    return _scrolling("Number of cells of each group", f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")


def _heads(*words: str) -> str:
    return "".join(f'<th scope="col">{word}</th>' for word in words)


def _scrolling(caption: str, inner: str) -> str:
    """A table that scrolls by itself where the screen is too narrow for it."""
    caption = escape(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><caption>{caption}</caption>{inner}</table></div>"
    )


def _folded(table: "pd.DataFrame", group: str, sizes: tuple[int, int, int] | None) -> str:
    """Scores of one group, shown when its name is opened."""
    n_cells = f" <small>{sizes[0]:,} real, {sizes[1]:,} generated</small>" if sizes else ""
    scores = _scores(table, group, f"group {group}")
    return f"<details><summary>{escape(group)}{n_cells}</summary>{scores}</details>"


def _scores(table: "pd.DataFrame", group: str, name: str) -> str:
    """Scores of one group: a row per metric."""
    known = known_scores(table, group)
    if known.empty:
        return "<p>Too few cells for any score.</p>"
    head = _heads("metric", "generated", "real", "chance", "best", "better →")
    rows = "".join(map(_row, known.to_dict("records")))
    return _scrolling(f"Scores of {name}", f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")


def _row(row: Mapping[Any, Any]) -> str:
    """The scores of one metric."""
    first, *others = (number(row[name]) for name in SCORES)
    cells = "".join(f"<td>{text}</td>" for text in (f"<strong>{first}</strong>", *others))
    name = escape(title_of(row["metric"]))
    return f'<tr><th scope="row">{name}</th>{cells}<td>{_strip(row)}</td></tr>'


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


def _figure(picture: Picture) -> str:
    source = base64.b64encode(picture.png).decode("ascii")
    # the header of a PNG says its size; shown smaller than it is, it is sharp on fine screens
    width, height = (int.from_bytes(picture.png[at : at + 4]) * 2 // 3 for at in (16, 20))
    return (
        f"<figure><h3>{escape(picture.title)}</h3>"
        f'<img alt="{escape(picture.alt)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _explanations(table: "pd.DataFrame") -> str:
    """How to read each metric of the table that is explained."""
    rows = table.drop_duplicates("metric")
    items = "".join(
        f"<div><dt>{escape(title_of(metric))} <code>{escape(metric)}</code></dt>"
        f"<dd>{escape(EXPLANATIONS[metric][1])} <em>{escape(BETTER[better])}</em></dd></div>"
        for metric, better in zip(rows["metric"], rows["better"], strict=True)
        if metric in EXPLANATIONS
    )
    return f'<dl class="long">{items}</dl>'
