"""The page of ``latentcell evaluate``: it needs nothing else, shows every score, and trusts no name."""

import base64
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from latentcell.cli._report import Picture, Report
from latentcell.tl._page.html import number

HOSTILE = '<script>alert("x")</script>'
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAADCAYAAABWKLW/AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """Elements, their attributes, and text by the element it stands in."""

    VOID = frozenset({"meta", "img", "line", "circle"})

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.open, self.rows = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "tr" in self.open:
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture
def table():
    nan = float("nan")
    rows = [
        ("all", "classifier_auc_genes", 0.6421, 0.51, 0.7, 0.5, "near best"),
        ("all", "mmd2", 0.00012, 0.0, 0.25, 0.0, "lower"),
        ("all", f"new_{HOSTILE}", nan, 0.5, nan, nan, "higher"),
        (HOSTILE, "coverage", 0.9, 0.95, 0.2, 1.0, "higher"),
        (HOSTILE, "recall", nan, nan, nan, 1.0, "higher"),
        ("rare", "coverage", nan, nan, nan, 1.0, "higher"),
    ]
    return pd.DataFrame(rows, columns=["group", "metric", "value", "real", "chance", "best", "better"])


@pytest.fixture
def html(table):
    return Report(
        facts={"Real cells": f"{HOSTILE}.h5ad", "Seed": "0"},
        groups={HOSTILE: (1200, 30, 25), "rare": (3, 2, 0)},
        table=table,
        pictures=[Picture(f"PCA {HOSTILE}", f'of "{HOSTILE}', f"caption {HOSTILE} $facts", PNG)],
        provenance={HOSTILE: HOSTILE},
        versions={"latentcell": "0.0"},
    ).to_html()


def test_the_page_needs_nothing_else(html):
    page = Page(html)
    assert {tag for tag, _ in page.elements}.isdisjoint(
        {"script", "link", "iframe", "object", "base", "form"}
    )
    for _, attrs in page.elements:
        assert "href" not in attrs
        assert attrs.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert not any(name.startswith("on") for name in attrs)
    assert not re.search(r"url\(|@import|https?:", html)
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_names_from_files_are_text(html):
    assert "<script" not in html
    page = Page(html)
    # file, group size, its scores' caption, summary, provenance (twice), metric, picture's title and caption
    assert sum(HOSTILE in text for text in page.text) == 9
    assert page.all("img")[0]["alt"] == f'of "{HOSTILE}'
    assert any(text.endswith("$facts") for text in page.text)


def test_every_score_stands_beside_real_and_chance(html):
    rows = Page(html).rows
    head = ["metric", "generated", "real", "chance", "best", "better →"]
    assert rows.count(head) == 2
    assert ["Classifier AUC, genes", "0.642", "0.510", "0.700", "0.500", ""] in rows
    assert ["Maximum mean discrepancy, squared", "0.00012", "0.000", "0.250", "0.000", ""] in rows
    assert [f"new_{HOSTILE}", "–", "0.500", "–", "–", ""] in rows
    assert ["Coverage", "0.900", "0.950", "0.200", "1.000", ""] in rows
    assert [HOSTILE, "1,200", "30", "25"] in rows
    assert len(rows) == 3 + 4 + 2  # heads included


def test_better_is_to_the_right(html):
    """Circles of generated and chance, lines of real, by their place on each row's line."""
    strips = re.findall(r'<svg class="strip".*?</svg>', html)
    assert len(strips) == 3  # the score that these cells do not have is not drawn
    places = [
        {
            kind: float(re.search(rf'[cx]x?1?="([\d.]+)"[^>]*class="{kind}"', strip)[1])
            for kind in ("generated", "real", "chance")
        }
        for strip in strips
    ]
    assert places[0]["chance"] < places[0]["generated"] < places[0]["real"]  # AUC .70, .64, .51: near .5
    assert places[1]["chance"] == 8  # of mmd2, lower is better
    assert places[1]["real"] == 112
    assert places[2]["chance"] < places[2]["generated"] < places[2]["real"]  # coverage
    # in proportion, from chance to the best value: (.9 - .2) / (1 - .2)
    assert places[2]["generated"] == pytest.approx(8 + 104 * 0.7 / 0.8, abs=0.1)
    assert places[0]["real"] == pytest.approx(8 + 104 * 0.19 / 0.2, abs=0.1)


def test_scores_that_are_all_best_are_at_the_right(table):
    table = table[:1].assign(metric="exact_copies", value=0.0, real=0.0, chance=0.0, best=0.0, better="lower")
    (strip,) = re.findall(r'<svg class="strip".*?</svg>', Report({}, {}, table, [], {}, {}).to_html())
    assert re.findall(r'<circle cx="([\d.]+)"', strip) == ["112.0", "112.0"]


def test_the_page_can_be_read_by_all(html):
    page = Page(html)
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("meta")[1] == {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["aria-hidden"] == "true" for svg in page.all("svg"))
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {section["aria-labelledby"] for section in page.all("section")} == ids
    assert len(page.all("caption")) == len(page.all("table")) == 3
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    # two thirds of its pixels
    assert [(image["width"], image["height"]) for image in page.all("img")] == [("2", "2")]


def test_metrics_of_the_table_are_explained(html):
    explained = html.split('class="long"')[1]
    assert "A random forest tries to tell generated from real cells" in explained
    assert "<code>coverage</code>" in explained
    assert "lower is better" in explained
    assert "<code>precision</code>" not in explained  # not in the table


def test_groups_without_scores_say_so(html):
    assert (
        "<summary>rare <small>3 real, 2 generated</small></summary><p>Too few cells for any score.</p>"
        in html
    )
    assert "Recall" not in [row[0] for row in Page(html).rows]


def test_without_groups_and_provenance(table):
    report = Report({}, {}, table[table["group"] == "all"], [], {}, {})
    page = report.to_html()
    assert "<details" not in page
    assert "By group" not in page
    assert "The file does not say." in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (-0.25, "-0.250"),
        (0.0, "0.000"),
        (0.00123, "0.0012"),
        (-2e-5, "-2e-05"),
        (12.3456, "12.346"),
        (float("nan"), "–"),
    ],
)
def test_numbers_keep_two_digits_that_say_something(value, text):
    assert number(value) == text
