"""A sweep trains what is missing and nothing twice, and its numbers are those of the models themselves."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

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
    assert mine["active_dims", "all"] == (codes.var(axis=0) > 0.01).sum()
    quick = sorted(
        {"best_correlation", "matched_correlation", "mig", "sap", "modularity", "total_correlation"}
    )
    found = lc.metrics.disentanglement(codes, cells.obsm["factors"], metrics=quick, seed=0)
    expected = found.set_index(["metric", "factor"])["value"]
    assert mine[expected.index].equals(expected)
    assert not [name for name in mine.index.get_level_values("metric") if name.startswith("dci")]


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


def scored(model, adata):
    return {"dims": model.get_latent_representation().shape[1], "cells": adata.n_obs}


CHANGES = {
    "a value": lambda cells, arguments: cells.X.data.__setitem__(3, 99.0),
    "genes of the values": lambda cells, arguments: cells.X.indices.__setitem__(
        slice(None), cells.X.indices[::-1].copy()
    ),
    "an argument": lambda cells, arguments: arguments.update(max_epochs=4),
    "the model": lambda cells, arguments: arguments.update(model_class=lc.model.DisentangledVAE),
    "factors": lambda cells, arguments: arguments.update(factors=None),
    "names of factors": lambda cells, arguments: arguments.update(
        factors=cells.obsm["factors"].rename(columns={"group1": "first"})
    ),
    "groups": lambda cells, arguments: setattr(
        cells, "obs", cells.obs.assign(group=cells.obs["group"].to_numpy()[::-1])
    ),
    "genes": lambda cells, arguments: arguments.update(mask_var=np.arange(60) < 30),
    "metrics": lambda cells, arguments: arguments.update(metrics=["mig"]),
    "a score": lambda cells, arguments: arguments.update(score=scored),
}


@pytest.mark.parametrize("change", CHANGES)
def test_results_of_something_else_are_refused(cells, tmp_path, change):
    cells.X = sparse.csr_matrix(cells.X)
    path = tmp_path / "sweep.csv"
    arguments = {"model_class": lc.model.VAE, "factors": "factors", "groupby": "group", "path": path} | QUICK
    again = lc.tl.sweep(cells, grid={"beta": [1]}, seeds=[0], **arguments)
    assert lc.tl.sweep(cells.copy(), grid={"beta": [1]}, seeds=[0], **arguments).equals(again)
    before = path.read_bytes()
    CHANGES[change](cells, arguments)
    with pytest.raises(DataError, match=r"other cells, arguments, scores or versions; name another path"):
        lc.tl.sweep(cells, grid={"beta": [1]}, seeds=[0], **arguments)
    assert path.read_bytes() == before


def test_cells_on_disk_can_be_resumed(cells, fits, tmp_path):
    cells.X = sparse.csr_matrix(cells.X)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    for _ in range(2):
        backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        lc.tl.sweep(backed, lc.model.VAE, {"beta": [1]}, seeds=[0], path=tmp_path / "sweep.csv", **QUICK)
        backed.file.close()
    assert fits == [(1, 0)]


def test_two_processes_share_a_file(cells, tmp_path, monkeypatch):
    path, fit = tmp_path / "sweep.csv", _sweep.fit

    def another_process_meanwhile(*args):
        monkeypatch.setattr(_sweep, "fit", fit)
        lc.tl.sweep(cells, lc.model.VAE, {"beta": [7]}, seeds=[0], path=path, **QUICK)
        return fit(*args)

    monkeypatch.setattr(_sweep, "fit", another_process_meanwhile)
    lc.tl.sweep(cells, lc.model.VAE, {"beta": [1]}, seeds=[0], path=path, **QUICK)
    assert set(pd.read_csv(path, comment="#")["beta"]) == {1.0, 7.0}


def test_factors_are_matched_by_the_names_of_cells(cells):
    shuffled = cells.obsm["factors"].sample(frac=1, random_state=0)
    arguments = {"grid": {"beta": [1]}, "seeds": [0], "metrics": ["mig"]} | QUICK
    tables = [
        lc.tl.sweep(cells, lc.model.VAE, factors=factors, **arguments) for factors in ("factors", shuffled)
    ]
    values = [table[table["metric"] == "mig"]["value"].tolist() for table in tables]
    assert values[0] == values[1]


def test_cells_without_a_factor_or_group_are_left_out_of_its_scores(cells):
    cells.obs["half"] = cells.obs["group"].where(np.arange(90) % 2 == 0)
    arguments = {"grid": {"beta": [1]}, "seeds": [0], "metrics": ["mig"]} | QUICK
    table = lc.tl.sweep(cells, lc.model.VAE, factors=["half"], groupby="half", **arguments)
    model = lc.tl.vae(cells, beta=1, **QUICK)
    codes = model.get_latent_representation()[::2]
    expected = lc.metrics.mutual_information_gap(codes, cells.obs[["half"]][::2])["value"].mean()
    assert table.query("metric == 'mig' and factor == 'all'")["value"].item() == expected


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
    table = lc.tl.sweep(cells, lc.model.VAE, {"beta": [1]}, seeds=[0], score=scored, **QUICK)
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
        ({"factors": pd.DataFrame({"a": np.arange(90.0)}, index=range(5, 95))}, "its index is neither"),
        ({"factors": ["rare"]}, "its level 'a' has 3 cells"),
        ({"factors": ["nothing"]}, "is missing in every cell"),
        ({"groupby": "one"}, "fewer than two groups"),
        ({"metrics": ["mig"]}, "metrics are of factors"),
        ({"factors": "factors", "metrics": ["irs"]}, "must be among"),
        ({"factors": "factors", "metrics": ["single_latent_accuracy"]}, "all are continuous"),
        ({"path": "table.txt"}, "must end in .csv"),
        ({"path": "nowhere/table.csv"}, "there is no folder 'nowhere'"),
        ({"grid": {"betta": [1]}}, r"\['betta'\] are no arguments of VAE"),
        ({"beeta": 1}, r"\['beeta'\] are no arguments of VAE"),
        ({"layer": "counts"}, "layers has no 'counts'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_trained(cells, fits, change, message):
    cells.obs["rare"] = np.where(np.arange(90) < 3, "a", "b")
    cells.obs["nothing"], cells.obs["one"] = np.nan, "a"
    arguments = {"grid": {"beta": [1]}, "seeds": [0]} | QUICK | change
    with pytest.raises(DataError, match=message):
        lc.tl.sweep(cells, lc.model.VAE, **arguments)
    assert fits == []
