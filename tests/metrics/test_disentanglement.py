import numpy as np
import pandas as pd
import pytest

import latentcell as lc
from latentcell._errors import DataError

AXIS_ALIGNED = [
    "best_correlation",
    "matched_correlation",
    "mig",
    "sap",
    "modularity",
    "dci_disentanglement",
    "dci_completeness",
    "single_latent_accuracy",
]
N_CELLS = 600


@pytest.fixture(scope="module")
def factors():
    rng = np.random.default_rng(0)
    usage = {name: rng.random(N_CELLS) for name in ("activity", "cycle", "stress")}
    return pd.DataFrame(
        {**usage, "condition": rng.permutation(np.repeat(["control", "treated"], N_CELLS // 2))}
    )


@pytest.fixture(scope="module")
def codes(factors):
    """Hand-made codes of which the right order is known."""
    rng = np.random.default_rng(1)
    truth = factors.assign(condition=factors["condition"] == "treated").to_numpy(float)
    truth = (truth - truth.mean(axis=0)) / truth.std(axis=0)
    half = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    rotation = np.kron(np.eye(2), half)
    return {
        "perfect": truth[:, [2, 0, 3, 1]] * [-1, 20, 0.5, -3],
        "rotated": truth[:, [0, 3, 1, 2]] @ rotation,
        "random": rng.normal(size=truth.shape),
        "copied": np.hstack([truth, -2 * truth]),
    }


@pytest.fixture(scope="module")
def tables(codes, factors):
    return {name: lc.metrics.disentanglement(z, factors) for name, z in codes.items()}


@pytest.fixture(scope="module")
def overall(tables):
    return {
        name: table[table["factor"] == "all"].set_index("metric")["value"] for name, table in tables.items()
    }


def test_layout(tables, factors):
    table = tables["perfect"]
    assert list(table.columns) == ["metric", "factor", "value", "dim", "best", "better"]
    each = ["all", *factors]
    expected = {
        "best_correlation": each,
        "matched_correlation": each,
        "mig": each,
        "sap": each,
        "modularity": ["all"],
        "dci_disentanglement": ["all"],
        "dci_completeness": each,
        "dci_informativeness": each,
        "total_correlation": ["all"],
        "single_latent_accuracy": ["all", "condition"],
    }
    rows = list(zip(table["metric"], table["factor"], strict=True))
    assert rows == [(metric, factor) for metric, names in expected.items() for factor in names]
    assert set(table.loc[table["better"] == "lower", "metric"]) == {"total_correlation"}
    best = table.set_index(["metric", "factor"])["best"]
    assert best["total_correlation", "all"] == 0
    assert best["sap", "condition"] == 0.5
    assert best["sap", "all"] == pytest.approx(3.5 / 4)
    assert (best.drop(["sap", "total_correlation"], level="metric") == 1).all()
    assert table["dim"].dtype == "Int64"
    assert table.loc[table["factor"] == "all", "dim"].isna().all()
    assert table.attrs["disentanglement"] == {
        "n_cells": N_CELLS,
        "n_dims": 4,
        "constant_dims": [],
        "discrete": ["condition"],
        "n_bins": 20,
        "max_cells": 3000,
        "seed": 0,
    }


@pytest.mark.parametrize("metric", AXIS_ALIGNED)
def test_perfect_codes_are_best_and_a_rotation_is_seen(overall, tables, metric):
    row = tables["perfect"].query("metric == @metric and factor == 'all'")
    # information of 20 bins and 600 cells, and importance that trees give to noise, cost a little
    assert row["value"].item() > 0.9 * row["best"].item()
    assert overall["perfect"][metric] > overall["rotated"][metric] + 0.1
    assert overall["perfect"][metric] > overall["random"][metric] + 0.3


def test_perfect_codes_name_their_dimensions(tables):
    chosen = tables["perfect"].dropna(subset="dim")
    dims = {"activity": 1, "cycle": 3, "stress": 0, "condition": 2}
    assert [dims[factor] for factor in chosen["factor"]] == chosen["dim"].tolist()
    assert len(chosen) == 5 * 4 + 1


def test_a_rotation_leaves_what_can_be_predicted(overall):
    assert overall["perfect"]["dci_informativeness"] > 0.99
    assert overall["rotated"]["dci_informativeness"] > 0.85
    assert overall["rotated"]["best_correlation"] == pytest.approx(0.5**0.5, abs=0.05)
    assert overall["rotated"]["mig"] < 0.1
    assert overall["rotated"]["sap"] < 0.1


def test_random_codes_are_near_chance(tables):
    value = tables["random"].set_index(["metric", "factor"])["value"]
    assert value["best_correlation", "all"] < 0.1
    assert value["matched_correlation", "all"] <= value["best_correlation", "all"]
    assert value["mig", "all"] < 0.05
    assert value["sap", "all"] < 0.05
    assert value["single_latent_accuracy", "condition"] == pytest.approx(0.5, abs=0.06)
    assert value["dci_informativeness", "condition"] == pytest.approx(0.5, abs=0.12)
    assert (value["dci_informativeness"].drop(["all", "condition"]) < 0.05).all()
    assert value["dci_disentanglement", "all"] < 0.3


def test_copies_have_no_gap_yet_match(overall):
    assert overall["copied"]["mig"] == pytest.approx(0, abs=0.01)  # mirrored bins differ at their edges
    assert overall["copied"]["sap"] == pytest.approx(0, abs=1e-9)
    assert overall["copied"]["matched_correlation"] == pytest.approx(1)
    assert overall["copied"]["best_correlation"] == pytest.approx(1)
    assert overall["copied"]["modularity"] == pytest.approx(overall["perfect"]["modularity"], abs=0.01)
    assert overall["copied"]["dci_completeness"] < overall["perfect"]["dci_completeness"] - 0.1
    assert overall["copied"]["total_correlation"] == np.inf
    assert overall["perfect"]["total_correlation"] < 0.05


def test_rows_are_the_metrics_own(tables, codes, factors):
    metrics = {
        "best_correlation": lc.metrics.best_correlation,
        "matched_correlation": lc.metrics.matched_correlation,
        "mig": lc.metrics.mutual_information_gap,
        "sap": lc.metrics.separated_attribute_predictability,
        "single_latent_accuracy": lc.metrics.single_latent_accuracy,
    }
    for name, metric in metrics.items():
        rows = tables["rotated"].loc[lambda table, name=name: table["metric"] == name].set_index("factor")
        alone = metric(codes["rotated"], factors)
        pd.testing.assert_frame_equal(rows.loc[alone.index, ["value", "dim"]], alone)
        assert rows.loc["all", "value"] == pytest.approx(alone["value"].mean())
    value = tables["rotated"].query("factor == 'all'").set_index("metric")["value"]
    assert value["modularity"] == lc.metrics.modularity(codes["rotated"], factors)
    assert value["total_correlation"] == lc.metrics.total_correlation(codes["rotated"])
    for name, score in lc.metrics.dci(codes["rotated"], factors).items():
        assert value[f"dci_{name}"] == pytest.approx(score)


def test_levels_do_not_weigh_on_the_mean_over_factors(codes, factors):
    """Two levels of one factor, four of another: ``all`` is the mean of two factors."""
    several = factors[["condition"]].assign(type=np.arange(N_CELLS) % 4)
    rows = lc.metrics.disentanglement(codes["perfect"], several, metrics=["single_latent_accuracy"])
    value = rows.set_index("factor")["value"]
    assert list(value.index) == ["all", "condition", "type", *(f"type={level}" for level in range(4))]
    assert value["all"] == pytest.approx((value["condition"] + value["type"]) / 2)
    assert (rows["best"] == 1).all()


def test_asked_metrics_only(codes, factors):
    table = lc.metrics.disentanglement(
        codes["random"], factors, metrics=["total_correlation", "mig"], n_bins=5
    )
    assert table["metric"].unique().tolist() == ["mig", "total_correlation"]
    gap = lc.metrics.mutual_information_gap(codes["random"], factors, n_bins=5)["value"].mean()
    assert table["value"].iloc[0] == pytest.approx(gap)
    one = lc.metrics.disentanglement(codes["random"], factors, metrics="modularity")
    assert one["metric"].tolist() == ["modularity"]


def test_continuous_factors_have_no_accuracy(codes, factors):
    quick = ["sap", "total_correlation"]
    continuous = factors[["activity", "cycle"]]
    table = lc.metrics.disentanglement(codes["perfect"], continuous, metrics=quick)
    assert (table.query("metric == 'sap'")["best"] == 1).all()
    with pytest.raises(DataError, match="No factor is discrete"):
        lc.metrics.disentanglement(codes["perfect"], continuous, metrics=["single_latent_accuracy"])
    few = lc.metrics.disentanglement(codes["perfect"], continuous, max_cells=30)
    assert "single_latent_accuracy" not in set(few["metric"])


def test_one_dimension_and_one_factor(codes, factors):
    table = lc.metrics.disentanglement(codes["perfect"][:, 1:2], factors["activity"], max_cells=60)
    value = table.query("factor == 'all'").set_index("metric")["value"]
    undefined = ["modularity", "dci_disentanglement", "dci_completeness"]
    assert value[undefined].isna().all()
    assert value.drop([*undefined, "total_correlation", "dci_informativeness"]).tolist() == pytest.approx(
        [1] * 4
    )
    assert value["total_correlation"] == 0
    assert table["factor"].unique().tolist() == ["all", "activity"]


def test_constant_dimensions_are_named(codes, factors):
    z = codes["perfect"].copy()
    z[:, 2] = 0.1
    table = lc.metrics.disentanglement(z, factors, metrics=["matched_correlation"])
    assert table.attrs["disentanglement"]["constant_dims"] == [2]


@pytest.mark.parametrize("metrics", [[], ["MIG"], "accuracy"])
def test_unknown_metrics(codes, factors, metrics):
    with pytest.raises(DataError, match="must be among best_correlation"):
        lc.metrics.disentanglement(codes["perfect"], factors, metrics=metrics)


def test_refuses_before_anything_is_computed(codes, factors):
    with pytest.raises(DataError, match="factors has 599 rows for 600 cells"):
        lc.metrics.disentanglement(codes["perfect"], factors.iloc[1:])
    with pytest.raises(DataError, match=r"factors\['stress'\] has the same value"):
        lc.metrics.disentanglement(codes["perfect"], factors.assign(stress=1.0))
