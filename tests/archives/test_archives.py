"""Models that earlier versions saved: each is read for ever and gives what it gave then (see make.py)."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

import latentcell as lc
from latentcell._errors import DataError

MAKE = runpy.run_path(str(Path(__file__).with_name("make.py")))
cells_of, given_by, platform_of = MAKE["cells_of"], MAKE["given_by"], MAKE["platform_of"]
ARCHIVES = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))
EXPECTED = {path: json.loads((path / "expected.json").read_text(encoding="utf-8")) for path in ARCHIVES}
FIRST = Path(__file__).with_name("0.1.0-format1")
MODELS = [(path, name) for path in ARCHIVES for name in EXPECTED[path]["models"]]

# Sums of products of float32 in another order: other processors and versions of torch differ by this much.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_every_class_is_in_the_newest_archives():
    newest = {EXPECTED[path]["version"] for path in ARCHIVES}
    assert lc.__version__ in newest, f"python tests/archives/make.py tests/archives/{lc.__version__}"
    classes = {name for name in lc.model.__all__ if hasattr(getattr(lc.model, name), "save")}
    found = {
        model["class"]
        for path in ARCHIVES
        if EXPECTED[path]["version"] == lc.__version__
        for model in EXPECTED[path]["models"].values()
    }
    assert found == classes


def test_archives_are_small_and_hold_no_pickle():
    files = [file for path in ARCHIVES for file in path.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    assert {file.suffix for file in files} == {".json", ".safetensors"}


@pytest.mark.parametrize(("archive", "name"), MODELS, ids=[f"{path.name}-{name}" for path, name in MODELS])
def test_a_model_gives_what_it_gave_when_it_was_saved(archive, name):
    """Loaded alone: no training data are at hand."""
    expected = EXPECTED[archive]["models"][name]
    model = lc.model.load(archive / name)
    assert type(model).__name__ == expected["class"]
    assert model.adata is None
    assert model.is_trained
    if expected["class"] == "GeneShuffle":
        with pytest.raises(DataError, match="draws from real cells"):
            model.generate(3)
        model.attach(cells_of(EXPECTED[archive]["training_cells"]))
    found = given_by(model, cells_of(EXPECTED[archive]["new_cells"]))
    assert found.keys() == expected.keys()
    for key in {"class", "genes", "labels", "clusters"} & expected.keys():
        assert found[key] == expected[key]
    for key in {"codes", "reconstruction", "cluster_probabilities"} & expected.keys():
        np.testing.assert_allclose(found[key], expected[key], **CLOSE, err_msg=key)
    for curve, values in expected.get("history", {}).items():
        np.testing.assert_allclose(found["history"][curve], values, err_msg=curve)
    assert_same_draws(found["generated"], expected["generated"], EXPECTED[archive]["platform"])


def assert_same_draws(found, expected, platform):
    """The same cells where they were drawn by the same libraries; else of the same mean and spread."""
    if platform == platform_of():
        np.testing.assert_allclose(found["first"], expected["first"], **CLOSE)
        assert found["label"] == expected["label"]
    mean, sd, n = np.array(expected["mean"]), np.array(expected["sd"]), 300
    error = np.sqrt((sd**2 + np.array(found["sd"]) ** 2) / n)
    assert (np.abs(np.array(found["mean"]) - mean) < 6 * error + 1e-6).all()
    np.testing.assert_allclose(found["sd"], sd, rtol=0.5, atol=0.05)


def test_a_model_of_the_first_format_is_replaced_by_one_of_this(tmp_path):
    """Its weights had one name for all, its record no checksum."""
    old = FIRST / "AE"
    assert json.loads((old / "model.json").read_text())["format"] == 1
    shutil.copytree(old, tmp_path / "AE")
    (tmp_path / "AE" / "adata.h5ad").write_text("cells, as save_anndata=True wrote them beside any model")
    model = lc.model.load(tmp_path / "AE")
    model.save(tmp_path / "AE", overwrite=True)
    record = json.loads((tmp_path / "AE" / "model.json").read_text())
    assert record["format"] == 2
    assert {file.name for file in (tmp_path / "AE").iterdir()} == {"model.json", record["weights"]}
    cells = cells_of(EXPECTED[FIRST]["new_cells"])
    codes = lc.model.load(tmp_path / "AE").get_latent_representation(cells)
    np.testing.assert_array_equal(codes, model.get_latent_representation(cells))
