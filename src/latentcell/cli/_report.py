"""A report on generated cells as one web page: no scripts, no other files, no network.

Whatever comes from files (names of genes and groups, paths, provenance) passes through :func:`html.escape`.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from latentcell.tl._page.html import asset, heads, scrolling, terms
from latentcell.tl._page.scores import ALL, explained, score_table

if TYPE_CHECKING:
    import pandas as pd


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
            style=asset("common.css"),
            facts=terms(self.facts),
            provenance=terms(self.provenance) or "<p>The file does not say.</p>",
            versions=terms(self.versions),
            group_sizes=_group_sizes(self.groups),
            overall=score_table(self.table, ALL, "all cells") if ALL in names else "",
            by_group="".join(_folded(self.table, name, self.groups.get(name)) for name in groups),
            by_group_heading="<h3>By group</h3>" if groups else "",
            figures="".join(map(_figure, self.pictures)),
            explanations=explained(self.table),
        )


def _group_sizes(groups: Mapping[str, tuple[int, int, int]]) -> str:
    if not groups:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{real:,}</td><td>{new:,}</td><td>{scored:,}</td></tr>'
        for name, (real, new, scored) in groups.items()
    )
    head = heads("group", "real", "generated", "scored of each")
    return scrolling("Number of cells of each group", f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")


def _folded(table: "pd.DataFrame", group: str, sizes: tuple[int, int, int] | None) -> str:
    """Scores of one group, shown when its name is opened."""
    n_cells = f" <small>{sizes[0]:,} real, {sizes[1]:,} generated</small>" if sizes else ""
    scores = score_table(table, group, f"group {group}")
    return f"<details><summary>{escape(group)}{n_cells}</summary>{scores}</details>"


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
