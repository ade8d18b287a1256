"""The tutorials run from the first cell to the last. They are executed in full when the pages are built."""

import json
import re
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import latentcell as lc

from .conftest import ROOT, run_code

NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
# minutes even with two epochs: classifiers, copulas and t-SNE of all cells take the time
LONG = {"augmentation", "denoising", "gan", "pbmc3k", "perturbation", "vaexprs"}
EPOCHS = {"sparse_codes": 20}  # five types shall have a dimension each


def cells(path: Path, kind: str) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.data
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if p.stem in LONG else ()) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_it_runs(path, data_dir, in_short, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    in_short.epochs = EPOCHS.get(path.stem, in_short.epochs)
    names: dict = {"display": lambda *shown: None}
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for number, code in enumerate(cells(path, "code"), 1):
            run_code(code, f"{path.stem}, cell {number}", 1, names)
            plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_has_a_question_outputs_and_a_place_in_the_list(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = cells(path, "markdown")[0]
    assert first.startswith("# ")
    assert len(first.split("\n\n")) > 1, "says under its title what it is about"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any(output["output_type"] == "display_data" for output in outputs), "not executed"
    assert not [output for output in outputs if output["output_type"] == "error"]
    listed = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    assert f"]({path.name})" in listed
    assert "?" in next(line for line in listed.splitlines() if f"]({path.name})" in line)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_in_the_text_exist(path):
    for room, name in sorted(set(re.findall(r"\blc\.([a-z]+)\.(\w+)", "\n".join(cells(path, "markdown"))))):
        assert hasattr(getattr(lc, room), name), f"{path.name}: there is no lc.{room}.{name}"
