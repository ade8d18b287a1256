import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError
from latentcell.metrics.fidelity import METRICS

N_GENES = 60
QUICK = {"n_trees": 8, "n_comps": 8}
TYPES = np.array(["B", "NK", "T"])


def cells(n, seed, name="cell", sizes=(0.5, 0.3, 0.2)):
    """Counts of three groups, each with its markers, and a programme that couples genes within groups."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([0, 1, 2], np.round(n * np.array(sizes)).astype(int))
    mean = 1 + 5 * (np.arange(N_GENES) % 6 == groups[:, None])
    programme = np.exp(0.8 * rng.normal(size=(n, 1)) * np.where(np.arange(N_GENES) % 2, 1, -1))
    library = rng.lognormal(0, 0.3, size=(n, 1))
    counts = rng.poisson(mean * programme * library).astype(np.float32)
    obs = pd.DataFrame({"type": pd.Categorical(TYPES[groups])}, index=[f"{name}_{i:04}" for i in range(n)])
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(N_GENES)]))


def gene_shuffle(adata, seed=0):
    """Permute every gene within each group: margins per group are kept, nothing else."""
    rng = np.random.default_rng(seed)
    new = adata.copy()
    for group in TYPES:
        rows = np.flatnonzero(new.obs["type"] == group)
        new.X[rows] = rng.permuted(new.X[rows], axis=0)
    return new


def score(table, metric, group="all", column="value"):
    return table.set_index(["group", "metric"]).loc[(group, metric), column]


@pytest.fixture(scope="module")
def sets():
    return {"real": cells(240, 1, "real"), "reference": cells(360, 2, "train")}


@pytest.fixture(scope="module")
def fresh(sets):
    return lc.metrics.fidelity(sets["real"], cells(200, 3, "new"), "type", sets["reference"], **QUICK)


@pytest.fixture(scope="module")
def shuffled(sets):
    new = gene_shuffle(sets["reference"])
    return lc.metrics.fidelity(sets["real"], new, "type", sets["reference"], **QUICK)


@pytest.fixture
def no_forests(monkeypatch):
    """Leave out the classifiers of real and generated cells, which take most of the time."""
    monkeypatch.setattr("latentcell.metrics._scores.classifier_auc", lambda *_, **__: 0.5)


class TestTable:
    def test_has_a_row_for_each_group_and_metric(self, fresh):
        assert list(fresh.columns) == ["group", "metric", "value", "real", "chance", "best", "better"]
        assert list(fresh["group"].unique()) == ["all", *TYPES]
        for _, rows in fresh.groupby("group"):
            assert list(rows["metric"]) == list(METRICS)
        assert set(fresh["better"]) == {"higher", "lower", "near best"}
        assert np.isfinite(fresh[["value", "real", "chance", "best"]].to_numpy()).all()

    def test_says_what_is_best(self, fresh):
        """Chance where a classifier guesses, 0 of errors, 1 of shares and agreements."""
        even = {"classifier_auc_genes", "classifier_auc_pcs", "nearer_to_training"}
        errors = {"mmd2", "wasserstein2", "zero_fraction_rmse", "ks_genes", "ks_library_size"}
        errors |= {"ks_detected_genes", "exact_copies"}
        for row in fresh.itertuples():
            assert row.best == (0.5 if row.metric in even else float(row.metric not in errors)), row.metric
            either = row.metric in even | {"density", "marker_lfc_slope"}
            side = "near best" if either else "lower" if row.metric in errors else "higher"
            assert row.better == side, row.metric

    @pytest.mark.usefixtures("no_forests")
    def test_the_least_numbers_are_taken(self, sets):
        least = {"n_top_genes": 2, "n_comps": 1, "n_trees": 1, "min_cells": 6, "max_cells": 6}
        table = lc.metrics.fidelity(sets["real"], cells(50, 3, "new"), **least)
        told = table.attrs["fidelity"]
        assert (told["n_genes"], told["n_comps"], told["n_trees"]) == (2, 1, 1)
        assert told["n_cells"] == {"all": 6}
        # the correlations of genes are one number, which agrees with nothing
        without = table[table["metric"] != "gene_correlation"]
        assert np.isfinite(without[["value", "real", "chance"]].to_numpy()).all()

    def test_groups_are_told_apart_by_a_quarter_of_the_trees(self, sets, monkeypatch):
        asked = []
        monkeypatch.setattr(
            "latentcell.metrics._scores.classifier_auc",
            lambda *_, n_trees, seed: asked.append(n_trees) or 0.5,
        )
        real, new = sets["real"], cells(200, 3, "new")
        lc.metrics.fidelity(real, new, "type", n_comps=8, n_trees=23, controls=False)
        assert asked == [23, 23] + [5, 5] * len(TYPES)  # on genes and on components

    def test_without_controls_it_has_the_same_values(self, sets, fresh):
        new = cells(200, 3, "new")
        alone = lc.metrics.fidelity(sets["real"], new, "type", sets["reference"], controls=False, **QUICK)
        pd.testing.assert_frame_equal(alone, fresh.drop(columns=["real", "chance"]))

    def test_tells_how_it_was_made(self, fresh):
        told = fresh.attrs["fidelity"]
        # 240 real cells are halved; each group's cells among them
        assert told["n_cells"] == {"all": 120, "B": 60, "NK": 36, "T": 24}
        assert told["n_cells_per_set"] == {
            "judged": 120,
            "generated": 200,
            "basis": 120,
            "fresh": 360,
            "chance": 360,
        }
        assert told["too_few"] == {}
        assert (told["counts"], told["n_genes"], told["n_comps"]) == (True, N_GENES, 8)

    @pytest.mark.usefixtures("no_forests")
    def test_rows_that_the_data_do_not_have_are_absent(self, sets):
        real, new = sets["real"].copy(), cells(100, 3, "new")
        for adata in (real, new):
            adata.X = np.log1p(adata.X)
        table = lc.metrics.fidelity(real, new, **QUICK)
        absent = {"ks_library_size", "ks_detected_genes", "marker_lfc_pearson", "marker_lfc_slope"}
        absent |= {"train_on_generated_f1", "label_f1", "nearer_to_training", "exact_copies"}
        assert list(table["metric"]) == [name for name in METRICS if name not in absent]
        assert set(table["group"]) == {"all"}
        # without a reference real is cut in three
        assert table.attrs["fidelity"]["n_cells_per_set"] == {
            "judged": 80,
            "generated": 100,
            "fresh": 80,
            "basis": 80,
            "chance": 80,
        }


class TestWhatItFinds:
    def test_fresh_cells_score_as_real_ones(self, fresh):
        for metric, tolerance in {
            "classifier_auc_genes": 0.12,
            "classifier_auc_pcs": 0.12,
            "mmd2": 0.03,
            "neighbor_mixing": 0.05,
            "coverage": 0.1,
            "gene_mean_pearson": 0.05,
            "ks_genes": 0.03,
            "gene_correlation": 0.05,
            "marker_lfc_slope": 0.1,
            "train_on_generated_f1": 0.1,
            "label_f1": 0.1,
            "nearer_to_training": 0.12,
        }.items():
            value, real = score(fresh, metric), score(fresh, metric, column="real")
            assert value == pytest.approx(real, abs=tolerance), metric
        assert score(fresh, "classifier_auc_genes") == pytest.approx(0.5, abs=0.1)
        assert score(fresh, "nearer_to_training") == pytest.approx(0.5, abs=0.1)
        assert score(fresh, "exact_copies") == 0

    def test_chance_knows_the_marginals_and_nothing_else(self, fresh):
        for metric in ("gene_mean_pearson", "zero_fraction_rmse", "ks_genes"):
            real, chance = score(fresh, metric, column="real"), score(fresh, metric, column="chance")
            assert chance == pytest.approx(real, abs=0.06), metric
        assert score(fresh, "classifier_auc_genes", column="chance") > 0.75
        assert abs(score(fresh, "gene_correlation", column="chance")) < 0.3
        assert abs(score(fresh, "marker_lfc_slope", column="chance")) < 0.2
        assert score(fresh, "train_on_generated_f1", column="chance") < 0.5
        assert score(fresh, "label_f1", column="chance") < 0.5
        assert score(fresh, "ks_library_size", column="chance") > 0.2

    def test_genes_shuffled_within_groups_are_found_by_what_genes_do_together(self, shuffled):
        assert score(shuffled, "classifier_auc_genes") > 0.65
        assert (
            score(shuffled, "classifier_auc_genes")
            > score(shuffled, "classifier_auc_genes", column="real") + 0.2
        )
        for group in ["all", *TYPES]:
            assert score(shuffled, "gene_correlation", group, "real") > 0.8
            assert abs(score(shuffled, "gene_correlation", group)) < 0.4
        # and by nothing that looks at one gene or one group mean
        for metric in ("gene_mean_pearson", "zero_fraction_rmse"):
            assert score(shuffled, metric) == pytest.approx(score(shuffled, metric, column="real"), abs=0.03)
        assert score(shuffled, "label_f1") > 0.8

    @pytest.mark.usefixtures("no_forests")
    def test_copies_are_found(self, sets):
        table = lc.metrics.fidelity(sets["real"], sets["reference"][:200], "type", sets["reference"], **QUICK)
        assert score(table, "exact_copies") == 1
        assert score(table, "exact_copies", column="real") == 0
        # as many training cells as the 120 held-out ones, of 360
        assert score(table, "nearer_to_training") == pytest.approx((1 + 120 / 360) / 2, abs=0.08)
        assert score(table, "nearer_to_training", column="real") == pytest.approx(0.5, abs=0.1)

    def test_shuffled_labels_are_found_and_cost_nothing_else(self, sets):
        new = cells(200, 3, "new")
        new.obs["type"] = np.random.default_rng(0).permutation(new.obs["type"].to_numpy())
        table = lc.metrics.fidelity(sets["real"], new, "type", sets["reference"], **QUICK)
        assert score(table, "label_f1") < 0.5 < 0.8 < score(table, "label_f1", column="real")
        assert score(table, "train_on_generated_f1") < 0.55
        assert abs(score(table, "marker_lfc_slope")) < 0.3
        assert score(table, "classifier_auc_genes") == pytest.approx(0.5, abs=0.12)

    @pytest.mark.usefixtures("no_forests")
    def test_attenuated_markers_lower_the_slope(self, sets):
        new = cells(200, 3, "new")
        rng = np.random.default_rng(0)
        strangers = rng.random(200) < 0.4
        new.obs.loc[strangers, "type"] = rng.permutation(new.obs["type"].to_numpy()[strangers])
        table = lc.metrics.fidelity(sets["real"], new, "type", sets["reference"], **QUICK)
        assert 0.5 < score(table, "marker_lfc_slope") < 0.9

    @pytest.mark.usefixtures("no_forests")
    def test_missing_depth_variation_is_found(self, sets):
        new = cells(200, 3, "new")
        new.X = np.random.default_rng(0).binomial(new.X.astype(int), 0.5).astype(np.float32)
        table = lc.metrics.fidelity(sets["real"], new, "type", sets["reference"], **QUICK)
        assert score(table, "ks_library_size") > 0.5 > 0.2 > score(table, "ks_library_size", column="real")
        assert score(table, "ks_detected_genes") > 0.3


@pytest.mark.usefixtures("no_forests")
class TestHowItCompares:
    def test_order_of_cells_and_genes_does_not_matter(self, sets, monkeypatch):
        monkeypatch.undo()
        rng = np.random.default_rng(5)
        given = sets["real"], cells(60, 3, "new")
        real, new = (a[rng.permutation(a.n_obs), rng.permutation(N_GENES)] for a in given)
        expected = lc.metrics.fidelity(*given, n_trees=2)
        pd.testing.assert_frame_equal(lc.metrics.fidelity(real, new, n_trees=2), expected)

    def test_sparse_is_dense(self, sets):
        given = sets["real"], cells(200, 3, "new"), "type", sets["reference"]
        expected = lc.metrics.fidelity(*given, **QUICK)
        real, new, reference = (adata.copy() for adata in (given[0], given[1], given[3]))
        real.X, new.X, reference.X = (
            sparse.csr_matrix(real.X),
            sparse.csc_array(new.X),
            reference.X.astype(int),
        )
        pd.testing.assert_frame_equal(lc.metrics.fidelity(real, new, "type", reference, **QUICK), expected)

    def test_seed_decides(self, sets):
        given = sets["real"], cells(200, 3, "new")
        first, again, other = (lc.metrics.fidelity(*given, seed=seed, **QUICK) for seed in (0, 0, 1))
        pd.testing.assert_frame_equal(again, first)
        assert not other["value"].equals(first["value"])
        assert other.attrs["fidelity"]["seed"] == 1

    def test_inputs_stay_as_they_are(self, sets):
        real, new = sets["real"].copy(), cells(60, 3, "new")
        before = real.copy(), new.copy()
        lc.metrics.fidelity(real, new, "type", sets["reference"], **QUICK)
        for adata, old in zip((real, new), before, strict=True):
            assert np.array_equal(adata.X, old.X)
            assert adata.obs.equals(old.obs)
            assert not adata.obsm
            assert not adata.uns

    def test_layer_is_of_real_cells_and_of_generated_ones_that_have_it(self, sets):
        new = cells(60, 3, "new")
        expected = lc.metrics.fidelity(sets["real"], new, **QUICK)
        real = sets["real"].copy()
        real.layers["counts"] = real.X.copy()
        real.X = np.log1p(real.X)
        layered = new.copy()
        layered.layers["counts"] = new.X.copy()
        layered.X = np.log1p(new.X)
        for generated in (new, layered):
            table = lc.metrics.fidelity(real, generated, layer="counts", **QUICK)
            pd.testing.assert_frame_equal(table, expected)

    def test_given_basis_leaves_real_whole(self, sets):
        real, basis = sets["real"][::2], sets["real"][1::2]
        table = lc.metrics.fidelity(
            real, cells(200, 3, "new"), "type", sets["reference"], basis=basis, **QUICK
        )
        sizes = table.attrs["fidelity"]["n_cells_per_set"]
        assert (sizes["judged"], sizes["basis"]) == (120, 120)

    def test_max_cells_bounds_every_set(self, sets):
        table = lc.metrics.fidelity(
            sets["real"], cells(200, 3, "new"), "type", sets["reference"], max_cells=60, **QUICK
        )
        assert set(table.attrs["fidelity"]["n_cells_per_set"].values()) == {60}
        # groups in proportion
        assert table.attrs["fidelity"]["n_cells"] == {"all": 60, "B": 30, "NK": 18, "T": 12}

    def test_other_frequencies_of_groups_do_not_change_what_is_asked_within(self, sets):
        balanced = cells(240, 7, "new", sizes=(1 / 3, 1 / 3, 1 / 3))
        table = lc.metrics.fidelity(sets["real"], balanced, "type", sets["reference"], **QUICK)
        for metric in ("marker_lfc_slope", "label_f1", "gene_correlation"):
            value, real = score(table, metric), score(table, metric, column="real")
            assert value == pytest.approx(real, abs=0.1), metric
        assert score(table, "mmd2") > score(table, "mmd2", "B") + 0.01

    def test_small_groups_are_missing_and_named(self, sets):
        new = cells(200, 3, "new")
        new = new[(new.obs["type"] != "T") | (np.arange(200) > 195)]
        table = lc.metrics.fidelity(sets["real"], new, "type", sets["reference"], **QUICK)
        rare = table[table["group"] == "T"]
        assert rare[["value", "chance"]].isna().all(axis=None)
        assert table.attrs["fidelity"]["too_few"] == {"T": {"judged": 24, "generated": 4, "fresh": 72}}
        assert table.attrs["fidelity"]["n_cells"]["T"] == 0
        assert np.isfinite(score(table, "label_f1"))

    def test_a_group_rare_in_training_only_is_still_judged(self, sets):
        reference = sets["reference"]
        reference = reference[(reference.obs["type"] != "T") | (np.arange(360) > 354)]
        table = lc.metrics.fidelity(sets["real"], cells(200, 3, "new"), "type", reference, **QUICK)
        rare = table[table["group"] == "T"].set_index("metric")
        assert rare["value"].notna().all()
        assert rare.loc["mmd2", ["real", "chance"]].isna().all()


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda a: a[:, 3:], "generated lacks 3 genes that real has: 'g0', 'g1', 'g2'"),
            (lambda a: a[:4], "too few cells; at least 10 .*: 120 judged, 4 generated"),
            (lambda a: AnnData(np.log1p(a.X), a.obs, a.var), "real holds counts and generated does not"),
            (
                lambda a: AnnData(a.X, a.obs.rename(columns={"type": "kind"}), a.var),
                r"groupby='type' is not a column of generated.obs \(there: 'kind'\)",
            ),
            (lambda a: AnnData(a.X, a.obs[[]], a.var), r"generated.obs \(there: none\)"),
            (lambda a: a.X, "generated must be an AnnData object; it is ndarray"),
            (lambda a: AnnData(obs=a.obs, var=a.var), "generated.X is None"),
        ],
    )
    def test_refuses_generated(self, sets, change, match):
        with pytest.raises(DataError, match=match):
            lc.metrics.fidelity(sets["real"], change(cells(50, 3, "new")), "type", sets["reference"])

    def test_refuses_more_genes(self, sets):
        with pytest.raises(DataError, match=r"real lacks 2 genes that generated has: 'g0', 'g1'\. Compare"):
            lc.metrics.fidelity(sets["real"][:, 2:], cells(50, 3, "new"))
        with pytest.raises(DataError, match="that generated has: 'g7', 'g0'"):  # in its own order
            lc.metrics.fidelity(sets["real"][:, 8:], cells(50, 3, "new")[:, [7, 0, *range(8, N_GENES)]])

    def test_refuses_missing_labels_and_strange_ones(self, sets):
        new = cells(50, 3, "new")
        new.obs["type"] = new.obs["type"].astype(object)
        new.obs.loc["new_0003", "type"] = None
        with pytest.raises(DataError, match="is missing for 1 cells, first 'new_0003'"):
            lc.metrics.fidelity(sets["real"], new, "type")
        new.obs["type"] = "monocyte"
        with pytest.raises(DataError, match="no group in common: 'B', 'NK', 'T' and 'monocyte'"):
            lc.metrics.fidelity(sets["real"], new, "type")

    def test_refuses_a_group_of_the_name_all(self, sets):
        real, new = sets["real"].copy(), cells(50, 3, "new")
        for adata in (real, new):
            adata.obs["type"] = adata.obs["type"].astype(str).replace("B", "all")
        with pytest.raises(DataError, match="A group is named 'all'"):
            lc.metrics.fidelity(real, new, "type")

    def test_refuses_real_cells_that_were_trained_on(self, sets):
        with pytest.raises(DataError, match="real must hold cells that the generator has not seen, and 120"):
            lc.metrics.fidelity(sets["real"], cells(50, 3, "new"), "type", sets["real"][:120])

    def test_refuses_unknown_layers_nan_and_double_names(self, sets):
        real, new = sets["real"].copy(), cells(50, 3, "new")
        with pytest.raises(DataError, match=r"layer='counts' is not in real.layers \(there: none\)"):
            lc.metrics.fidelity(real, new, layer="counts")
        new.X[3, 5] = np.nan
        with pytest.raises(DataError, match="generated.X holds NaN or inf: cell 'new_0003', gene 'g5'"):
            lc.metrics.fidelity(real, new)
        new.var_names = ["g0", "g0", *new.var_names[2:]]
        with pytest.raises(DataError, match="gene names of generated are not unique"):
            lc.metrics.fidelity(real, new)

    @pytest.mark.parametrize(
        ("option", "match"),
        [
            ({"n_top_genes": 1}, "n_top_genes=1"),
            ({"n_comps": 0}, "n_comps=0 and n_trees=100 must be at least 1"),
            ({"n_trees": 0}, "n_comps=30 and n_trees=0 must be at least 1"),
            ({"min_cells": 5}, "min_cells=5 must be at least 6"),
            ({"max_cells": 8}, "at most max_cells=8"),
        ],
    )
    def test_refuses_numbers(self, sets, option, match):
        with pytest.raises(DataError, match=match):
            lc.metrics.fidelity(sets["real"], cells(50, 3, "new"), **option)

    def test_refuses_backed(self, sets, tmp_path):
        import anndata as ad

        sets["real"].write_h5ad(tmp_path / "real.h5ad")
        backed = ad.read_h5ad(tmp_path / "real.h5ad", backed="r")
        with pytest.raises(DataError, match="real is backed"):
            lc.metrics.fidelity(backed, cells(50, 3, "new"))
        backed.file.close()
