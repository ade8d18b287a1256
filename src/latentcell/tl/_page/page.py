"""The page as a whole: its sections in order, style, script and data; whatever is text is escaped."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

import pandas as pd

from .facts import Remark
from .html import as_json, asset, heads, scrolling, terms
from .judge import FAIR, FAIR_TIMES, GOOD, GOOD_TIMES, WORDS, light_of
from .scores import ALL, explained, score_table

_LEVELS = {"bad": "Wrong", "look": "Look here", "good": "Fine"}


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, heading, and what it holds, as HTML."""

    anchor: str
    title: str
    html: str


def page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    data: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """The HTML of the whole page; it asks for no other file, and runs no script but its own."""
    script = asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return Template(asset("report.html")).substitute(
        title=escape(title),
        lead=escape(lead),
        hash=f"sha256-{digest}",
        style=asset("common.css"),
        own_style=asset("report.css"),
        links="".join(f'<li><a href="#{part.anchor}">{escape(part.title)}</a></li>' for part in sections),
        sections="".join(
            f'<section aria-labelledby="{part.anchor}"><h2 id="{part.anchor}">{escape(part.title)}</h2>'
            f"{part.html}</section>\n"
            for part in sections
        ),
        versions=terms(versions),
        data=as_json(data),
        script=script,
    )


def remarks(found: Sequence[Remark]) -> str:
    """What a reader should know, with how grave it is in words."""
    items = "".join(
        f'<li class="{remark.level}"><b>{_LEVELS[remark.level]}</b><span>{escape(remark.text)}</span></li>'
        for remark in found
    )
    return f'<ul class="remarks">{items}</ul>'


def sizes(column: str, found: Mapping[str, tuple[int, int | None]]) -> str:
    """Cells of each group or batch, folded if there are many."""
    known = any(unseen for _, unseen in found.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{n:,}</td>'
        + (f"<td>{unseen:,}</td>" if known else "")
        + "</tr>"
        for name, (n, unseen) in found.items()
    )
    head = heads(*(["name", "cells", "held out"] if known else ["name", "cells"]))
    table = scrolling(f"Cells by {column}", f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")
    summary = f"{len(found)} values of column {column}"
    return (
        f"<details{' open' if len(found) <= 12 else ''}><summary>{escape(summary)}</summary>{table}</details>"
    )


def missing(why: str) -> str:
    """Why a section has no content."""
    return f'<p class="why">Left out: {escape(why)}.</p>'


def map_of(panels: Mapping[str, tuple[str, int]], label: str, *, shared: bool) -> str:
    """The frame of a map that the script fills.

    Parameters
    ----------
    panels
        Heading and number of cells of each set that is drawn beside the others.
    label
        What the map shows, in words.
    shared
        Whether cells can be coloured by what all sets have only.
    """
    figures = "".join(
        f'<figure class="panel" data-set="{name}"><figcaption>{escape(heading)}</figcaption>'
        f'<canvas tabindex="0" role="img" data-what="{escape(name)} cells" '
        f'aria-label="{escape(label)}: {escape(heading)}, {n:,} cells. Arrow keys go from cell to '
        f'cell."></canvas></figure>'
        for name, (heading, n) in panels.items()
    )
    choice = "shared" if shared else "all"
    return (
        f'<div class="map" data-colorings="{choice}"><form class="controls">'
        "<label>Colour by<br><select></select></label>"
        '<label>Find a cell<br><input type="search" autocomplete="off" spellcheck="false"></label>'
        '<button type="submit">Find</button>'
        '<button type="button" data-turn="on">All groups on</button>'
        '<button type="button" data-turn="off">All groups off</button></form>'
        f'<div class="stage"><div class="panels">{figures}</div><fieldset class="legend"></fieldset></div>'
        '<p class="said" role="status"></p>'
        "<noscript><p>The map is drawn by a script, which is switched off; all else is "
        "here.</p></noscript></div>"
    )


def lights(table: pd.DataFrame) -> str:
    """Scores over all cells with their traffic lights, those of groups, and how to read them."""
    known = table[table[["value", "real", "chance"]].notna().any(axis=1)]
    lit = {index: light_of(row) for index, row in zip(known.index, known.to_dict("records"), strict=True)}
    overall = [lit[index] for index in known.index[known["group"] == ALL]]
    totals = "".join(
        f"<li>{_lamp(light)} {overall.count(light)} of {len(overall)}</li>"
        for light in WORDS
        if light in overall
    )
    groups = [name for name in dict.fromkeys(table["group"]) if name != ALL]
    by_group = "".join(
        f"<details><summary>{escape(group)} "
        f"<small>{_in_words([lit[i] for i in known.index[known['group'] == group]])}"
        f"</small></summary>{score_table(table, group, f'group {group}', light=_light)}</details>"
        for group in groups
    )
    return (
        f'<ul class="sum">{totals}</ul>'
        f"{score_table(table, ALL, 'all cells', light=_light)}"
        f"{'<h3>By group</h3>' + by_group if groups else ''}"
        "<h3>What the lights mean</h3>"
        f"<p>Each score stands between two others: <em>chance</em>, real cells whose genes were shuffled "
        f"one by one, "
        f"and <em>real</em>, other real cells in place of the generated ones. {_lamp('good')} at least "
        f"{GOOD:.0%} of "
        f"the way from chance to real, or as good as real; {_lamp('fair')} at least {FAIR:.0%}; "
        f"{_lamp('poor')} less. "
        f"Where chance is as good as real, the distance from the best value counts: good up to "
        f"{GOOD_TIMES:g} times "
        f"that of real cells, fair up to {FAIR_TIMES:g} times. {_lamp('none')}: too few cells. The limits "
        f"are a "
        "convention, not a test: near a limit, another seed can change the light.</p>"
        f"<details><summary>How to read each score</summary>{explained(table)}</details>"
    )


def _light(row: Mapping[Any, Any]) -> str:
    return _lamp(light_of(row))


def _lamp(light: str) -> str:
    """A light whose shape and word say what its colour says."""
    return f'<span class="light"><span class="lamp l-{light}" aria-hidden="true"></span>{WORDS[light]}</span>'  # type: ignore[index]


def _in_words(found: Sequence[str]) -> str:
    return (
        ", ".join(f"{found.count(light)} {word}" for light, word in WORDS.items() if light in found)
        or "too few cells"
    )
