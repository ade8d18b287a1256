"""Tables of the page on which model to take say what the benchmark's files say."""

import importlib.util
import json

import pytest

from .conftest import ROOT


@pytest.fixture(scope="module")
def zoo():
    """The script that makes the page's tables and figure."""
    spec = importlib.util.spec_from_file_location("zoo_figure", ROOT / "docs/figures/zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_every_table_as_the_results_give_it(zoo):
    page = (ROOT / "docs/choosing.md").read_text(encoding="utf-8")
    for title, text in zoo.tables().items():
        assert text in page, f"{title}: run docs/figures/zoo.py and put its tables on the page"


def test_there_are_three_seeds_of_every_model_and_data_set(zoo):
    runs = {
        (run["model"], run["data"], run["seed"])
        for path in (ROOT / "benchmarks/results/zoo").glob("*.json")
        for run in [json.loads(path.read_text())]
    }
    assert runs == {
        (model, data, seed)
        for model in zoo.MODELS
        for data in zoo.DATA
        for seed in (0, 1, 2)
        if not (data == "yan" and model in zoo.ROWS["COUNTS_ONLY"])
    }


def test_a_score_is_written_with_its_spread_and_the_best_in_bold(zoo):
    assert zoo.with_spread(0.9951, 0.004) == "1.00 ± .00"
    assert zoo.with_spread(0.5, float("nan")) == ".50"
    assert zoo.with_spread(-0.014, 0.1, best=True) == "**-.01 ± .10**"
    assert zoo.with_spread(float("nan"), float("nan")) == ""
