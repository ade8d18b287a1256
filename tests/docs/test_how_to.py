"""The code of the how-to pages and of the README runs, in the order in which it stands."""

import warnings

import matplotlib.pyplot as plt
import pytest

from .conftest import ROOT, blocks, run_code

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
MADE_OF_CODE = [page for page in PAGES if page.name != "index.md"]


@pytest.mark.parametrize("page", [*MADE_OF_CODE, ROOT / "README.md"], ids=lambda page: page.stem)
def test_code_runs(page, my_cells, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    found = blocks(page)
    assert found, f"{page.name} has no code"
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of libraries; what ours warn about, tests of their own say
        for line, code in found:
            run_code(code, page.name, line, names)


@pytest.mark.parametrize("page", MADE_OF_CODE, ids=lambda page: page.stem)
def test_a_page_has_a_question_what_to_look_at_and_what_goes_wrong(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    question = next(line for line in lines[1:] if line)
    assert question.startswith("*")
    assert any("?" in line for line in lines[2:5])
    headings = [line for line in lines if line.startswith("## ")]
    assert "## What goes wrong" in headings
    assert {"## What to look at", "## Look first", "## What was measured, and what was not"} & set(headings)
