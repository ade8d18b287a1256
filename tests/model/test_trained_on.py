"""A model keeps which cells it was trained on, and so which it has not seen; a saved one, too."""

import json
import math

import pytest

import latentcell as lc
from latentcell._errors import ModelFileError
from latentcell.model import _record
from latentcell.model._trained_on import checked, divide, held_out_rows, trained_on

NAMES = [f"cell{i}" for i in range(40)]


@pytest.fixture(scope="module")
def adata():
    return lc.datasets.simulate_groups(n_cells=40, n_genes=30, n_markers=5, n_rare=0)


def train(adata, **options):
    lc.model.AE.setup_anndata(adata)
    model = lc.model.AE(adata, n_latent=2, hidden=(4,))
    model.train(max_epochs=1, enable_progress_bar=False, **options)
    return model


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize(("n_train", "n_held_out"), [(40, 0), (30, 10), (30, 4)])
def test_rows_follow_from_what_is_kept(shuffled, n_train, n_held_out):
    rows = divide(40, n_train, n_held_out, shuffled=shuffled, seed=3)
    assert [len(part) for part in rows] == [n_train, n_held_out]
    record = trained_on(NAMES, rows, 3, 1.23456)
    assert record["seconds"] == 1.235
    # also those that were in neither part have not been seen
    unseen = sorted(set(range(40)) - set(rows[0].tolist()))
    assert held_out_rows(record, NAMES).tolist() == unseen


def test_of_other_cells_nothing_is_said():
    record = trained_on(NAMES, divide(40, 30, 10, shuffled=True, seed=0), 0, None)
    assert held_out_rows(None, NAMES) is None
    for names in (NAMES[:-1], [*NAMES, "more"], NAMES[::-1], [*NAMES[:-1], "other"]):
        assert held_out_rows(record, names) is None


@pytest.mark.parametrize(
    "options", [{}, {"train_size": 0.75, "seed": 5}, {"train_size": 0.5, "shuffle_set_split": False}]
)
def test_a_saved_model_knows_its_held_out_cells(adata, tmp_path, options):
    model = train(adata, **options)
    expected = model.validation_indices_.tolist()
    assert len(expected) == adata.n_obs - math.ceil(adata.n_obs * options.get("train_size", 1.0))
    model.save(tmp_path / "m")
    loaded = lc.model.load(tmp_path / "m")
    assert loaded.trained_on_ == model.trained_on_
    assert held_out_rows(loaded.trained_on_, adata.obs_names).tolist() == expected
    assert loaded.trained_on_["seconds"] > 0
    assert adata.obs_names[0] not in (tmp_path / "m" / "model.json").read_text()


def test_a_baseline_is_fitted_to_all(adata, tmp_path):
    lc.model.PCAGaussian.setup_anndata(adata)
    model = lc.model.PCAGaussian(adata)
    assert model.trained_on_ is None
    model.train()
    model.save(tmp_path / "m")
    loaded = lc.model.load(tmp_path / "m")
    assert held_out_rows(loaded.trained_on_, adata.obs_names).tolist() == []
    assert loaded.trained_on_["seconds"] is None


def test_models_without_it_load(adata, tmp_path):
    model = train(adata)
    model.trained_on_ = None
    model.save(tmp_path / "m")
    assert "trained_on" not in json.loads((tmp_path / "m" / "model.json").read_text())
    assert lc.model.load(tmp_path / "m").trained_on_ is None


@pytest.mark.parametrize(
    "change",
    [
        {"n_cells": -1},
        {"n_cells": 10**30, "n_train": True},
        {"n_train": 41},
        {"shuffled": 1},
        {"seconds": "long"},
        {"seconds": -1.0},
        {"cells": "0123"},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_no_record_is_refused(adata, tmp_path, change):
    record = trained_on(NAMES, divide(40, 30, 10, shuffled=True, seed=0), 0, 1.0)
    assert checked(record) == record
    with pytest.raises(ValueError, match="no such record"):
        checked(record | change)
    train(adata).save(tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(_record.seal(whole | {"trained_on": record | change})))
    with pytest.raises(ModelFileError, match="damaged"):
        lc.model.load(tmp_path / "m")
