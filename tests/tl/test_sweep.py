"""A sweep trains what is missing and nothing twice, and its numbers are those of the models themselves."""

import numpy as np
import pandas as pd
import pytest

import latentcell as lc
from latentcell._errors import DataError, TrainingDivergedError
from latentcell.tl import _sweep

QUICK = {"n_latent": 2, "hidden": (8,), "max_epochs": 3, "progress": False}


@pytest.fixture
def cells():
    adata = lc.datasets.simulate_groups(n_genes=60, n_markers=10, n_rare=0, seed=0)
    adata.obsm["factors"] = pd.get_dummies(adata.obs["group"]).astype(float)
    return adata


@pytest.fixture
def fits(monkeypatch):
    """The settings and seeds of every training, in order."""
    calls = []
    fit = _sweep.fit

    def counted(model_class, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args):
        calls.append((model_args["beta"], seed))
        return fit(model_class, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)

    monkeypatch.setattr(_sweep, "fit", counted)
    return calls


def test_the_numbers_are_those_of_the_models(cells):
    table = lc.tl.sweep(
        cells, lc.model.VAE, {"beta": [0.5, 4]}, seeds=[3], factors="factors", groupby="group", **QUICK
    )
    model = lc.tl.vae(cells, beta=4, n_latent=2, hidden=(8,), max_epochs=3, seed=3, progress=False)
    mine = table[table["beta"] == 4].set_index(["metric", "factor"])["value"]
    history = model.history
    assert mine["elbo", "all"] == history["elbo_train"]["elbo_train"].iloc[-1]
    assert mine["kl", "all"] == history["kl_local_train"]["kl_local_train"].iloc[-1]
    assert mine["reconstruction_loss", "all"] + mine["kl", "all"] == pytest.approx(mine["elbo", "all"])
    codes = cells.obsm["X_vae"]
    leiden = lc.metrics.leiden(codes, cells.obs["group"]).query("best").iloc[0]
    assert (mine["nmi", "all"], mine["ari", "all"]) == (leiden["nmi"], leiden["ari"])
    found = lc.metrics.disentanglement(codes, cells.obsm["factors"], seed=0)
    expected = found.set_index(["metric", "factor"])["value"]
    assert mine[expected.index].equals(expected)


def test_every_combination_is_there_in_order(cells, fits):
    grid = {"beta": [4, 0.5], "n_latent": [2, 3]}
    table = lc.tl.sweep(cells, lc.model.VAE, grid, seeds=[1, 0], max_epochs=1, hidden=(8,), progress=False)
    models = table[["beta", "n_latent", "seed"]].drop_duplicates().to_numpy().tolist()
    assert models == [[b, n, s] for b in (4, 0.5) for n in (2, 3) for s in (1, 0)]
    assert list(table.columns) == ["beta", "n_latent", "seed", "metric", "factor", "value"]


def test_a_list_of_settings_is_a_grid_too(cells, fits):
    settings = [{"beta": 1.0, "gene_scale": "gene"}, {"beta": 2.0, "gene_scale": 0.5}]
    table = lc.tl.sweep(cells, lc.model.VAE, settings, seeds=[0], **QUICK)
    assert fits == [(1.0, 0), (2.0, 0)]
    assert table.drop_duplicates("beta")["gene_scale"].tolist() == ["gene", 0.5]


def test_a_sweep_goes_on_where_it_stopped(cells, fits, tmp_path, monkeypatch):
    path, grid = tmp_path / "sweep.csv", {"beta": [0.5, 1, 4]}
    whole = lc.tl.sweep(cells, lc.model.VAE, grid, seeds=[0, 1], **QUICK)
    fits.clear()
    counted = _sweep.fit

    def stop_at_the_fourth(*args):
        if len(fits) == 3:
            raise KeyboardInterrupt
        return counted(*args)

    monkeypatch.setattr(_sweep, "fit", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        lc.tl.sweep(cells, lc.model.VAE, grid, seeds=[0, 1], path=path, **QUICK)
    monkeypatch.setattr(_sweep, "fit", counted)
    fits.clear()
    resumed = lc.tl.sweep(cells, lc.model.VAE, grid, seeds=[0, 1], path=path, **QUICK)
    assert fits == [(1, 1), (4, 0), (4, 1)]
    same = [name for name in whole.columns if name != "value"]
    assert resumed[same].equals(whole[same])
    timed = whole["metric"] == "seconds"
    assert np.array_equal(resumed["value"][~timed], whole["value"][~timed])  # to the bit, through the file
    fits.clear()
    larger = lc.tl.sweep(cells, lc.model.VAE, {"beta": [4.0, 9]}, seeds=[0], path=path, **QUICK)
    assert fits == [(9, 0)]  # 4.0 is 4
    assert larger["beta"].drop_duplicates().tolist() == [4.0, 9]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.csv"]


@pytest.mark.parametrize("change", ["cells", "argument", "model", "factors", "genes"])
def test_results_of_something_else_are_refused(cells, tmp_path, change):
    path, Model, arguments = tmp_path / "sweep.csv", lc.model.VAE, dict(QUICK)
    lc.tl.sweep(cells, Model, {"beta": [1]}, seeds=[0], path=path, **arguments)
    before = path.read_bytes()
    if change == "cells":
        cells.X[3, 3] += 1
    elif change == "argument":
        arguments["max_epochs"] = 4
    elif change == "model":
        Model = lc.model.DisentangledVAE
    elif change == "factors":
        arguments["factors"] = "factors"
    elif change == "genes":
        arguments["mask_var"] = np.arange(60) < 30
    with pytest.raises(DataError, match=r"other cells or arguments; name another path"):
        lc.tl.sweep(cells, Model, {"beta": [1]}, seeds=[0], path=path, **arguments)
    assert path.read_bytes() == before


def test_another_file_is_never_overwritten(cells, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds something else"):
        lc.tl.sweep(cells, lc.model.VAE, {"beta": [1]}, seeds=[0], path=path, **QUICK)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_diverged_model_is_named_and_the_others_are_trained(cells, monkeypatch):
    fit = _sweep.fit

    def diverging(*args):
        if args[-1]["beta"] == 4:
            raise TrainingDivergedError("loss is not finite")
        return fit(*args)

    monkeypatch.setattr(_sweep, "fit", diverging)
    with pytest.warns(UserWarning, match=r"diverged with beta=4, seed=0: loss is not finite"):
        table = lc.tl.sweep(cells, lc.model.VAE, {"beta": [4, 1]}, seeds=[0], **QUICK)
    assert table[table["beta"] == 4][["metric", "value"]].to_numpy().tolist() == [["diverged", 1.0]]
    assert "elbo" in table[table["beta"] == 1]["metric"].tolist()


def test_scores_of_ones_own(cells, fits):
    def dims(model, adata):
        return {"dims": model.get_latent_representation().shape[1], "cells": adata.n_obs}

    table = lc.tl.sweep(cells, lc.model.VAE, {"beta": [1]}, seeds=[0], score=dims, **QUICK)
    assert table.set_index("metric")["value"][["dims", "cells"]].tolist() == [2.0, 90.0]


def test_a_code_that_is_one_point_has_no_clusters(cells, monkeypatch):
    monkeypatch.setattr(
        lc.model.VAE, "get_latent_representation", lambda self: np.ones((90, 2), dtype=np.float32)
    )
    table = lc.tl.sweep(cells, lc.model.VAE, {"beta": [1]}, seeds=[0], groupby="group", **QUICK)
    assert table.set_index("metric")["value"][["nmi", "ari"]].tolist() == [0.0, 0.0]


def test_progress_is_drawn_unless_it_is_not_wanted(cells, capfd):
    lc.tl.sweep(cells, lc.model.VAE, {"beta": [1, 2]}, seeds=[0], **QUICK)
    assert capfd.readouterr() == ("", "")
    lc.tl.sweep(cells, lc.model.VAE, {"beta": [1, 2]}, seeds=[0], **(QUICK | {"progress": True}))
    out, err = capfd.readouterr()
    assert out == ""
    assert "Sweep of VAE" in err
    assert "2/2" in err


def test_columns_of_obs_are_factors(cells):
    table = lc.tl.sweep(cells, lc.model.VAE, {"beta": [1]}, seeds=[0], factors=["group"], **QUICK)
    assert "mig" in set(table["metric"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {}}, "grid is empty"),
        ({"grid": {"beta": []}}, "grid is empty"),
        ({"grid": {"beta": 4}}, r"grid\['beta'\] must be a list"),
        ({"grid": {"beta": [print]}}, "is not a number, a string or None"),
        ({"grid": [{"beta": 1}, {"n_latent": 2}]}, "same arguments"),
        ({"grid": {"seed": [1]}}, r"must not hold \['seed'\]"),
        ({"grid": {"n_latent": [1]}}, r"must not hold \['n_latent'\]"),
        ({"seeds": []}, "seeds is empty"),
        ({"groupby": "kind"}, "groupby='kind' is not a column"),
        ({"factors": "kind"}, "'kind' is neither a key of adata.obsm"),
        ({"factors": pd.DataFrame({"a": [1.0]})}, "1 rows; it needs one per cell, 90"),
        ({"path": "table.txt"}, "must end in .csv"),
    ],
)
def test_bad_arguments_are_named(cells, change, message):
    arguments = {"grid": {"beta": [1]}, "seeds": [0]} | QUICK | change
    with pytest.raises(DataError, match=message):
        lc.tl.sweep(cells, lc.model.VAE, **arguments)
