"""Directions with a name, cells moved along them, ways between groups: against known generators and loops."""

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold

import latentcell as lc
from latentcell._errors import DataError

SCORE = np.array([2.0, -1.0, 0.0, 1.0])
"""Slopes of the score that the cells of the linear generator have."""


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


@pytest.fixture(scope="module")
def linear():
    """A GAN whose generator is a known linear map of 4 codes to 12 genes, and 300 cells that it drew."""
    rng = np.random.default_rng(0)
    z, weights = rng.normal(size=(300, 4)), rng.normal(size=(4, 12))
    x = z @ weights + 3.0 + rng.normal(0, 0.05, (300, 12))
    adata = ad.AnnData(x.astype(np.float32), obsm={"truth": z})
    adata.var_names, adata.obs_names = [f"gene{j}" for j in range(12)], [f"cell{i}" for i in range(300)]
    adata.obs["score"] = z @ SCORE + rng.normal(0, 0.3, 300)
    adata.obs["other"] = z @ np.array([1.0, 1.0, 1.0, 0.0])
    adata.obs["kind"] = pd.Categorical(np.array(["high", "middle", "low"])[
        np.digitize(-z[:, 1] - z[:, 3], [-0.6, 0.6])
    ])  # fmt: skip
    lc.model.GAN.setup_anndata(adata)
    model = lc.model.GAN(
        adata, n_latent=4, hidden=(8,), critic_hidden=(32,), gene_likelihood="identity", seed=0
    )
    model.train(1, enable_progress_bar=False)
    network = model.module.averaged
    with torch.no_grad():  # relu(z) - relu(-z) is z
        network.body.layers[0].weight.copy_(torch.cat([torch.eye(4), -torch.eye(4)]))
        network.body.norms[0].norm.running_mean.zero_()
        network.body.norms[0].norm.running_var.fill_(1 - network.body.norms[0].norm.eps)
        network.body.norms[0].scale.fill_(1.0)
        network.body.norms[0].shift.zero_()
        network.head.weight.copy_(torch.from_numpy(np.concatenate([weights, -weights])).T)
        network.head.bias.fill_(3.0)
        network.likelihood.unit.fill_(1.0)
    model.templates_ = model._remember(np.arange(300), 0)
    adata.obsm["X_gan"] = model.project()
    return adata, model


@pytest.fixture(scope="module")
def factors():
    """Counts of three types, of an age that all cells have, in two batches; and a VAE of them."""
    adata = lc.datasets.simulate_factors(
        300,
        90,
        factors={
            "type": lc.datasets.DiscreteFactor(3, usage=(1, 1)),
            "age": lc.datasets.ContinuousFactor(cell_share=1),
        },
        batches=2,
        seed=1,
    )
    adata.obs["age"] = adata.obsm["factors"]["age"].to_numpy()
    lc.model.VAE.setup_anndata(adata, batch_key="batch")
    model = lc.model.VAE(adata, n_latent=5, hidden=(32,))
    model.train(60, enable_progress_bar=False)
    return adata, model


@pytest.fixture(scope="module")
def sparse():
    """Three groups of 40 cells with 20 markers each; and a VSC of them."""
    adata = lc.datasets.simulate_groups(n_cells=40, n_genes=100, n_markers=20, n_rare=0, seed=0)
    lc.model.VSC.setup_anndata(adata, labels_key="group")
    model = lc.model.VSC(adata, n_latent=5, hidden=(16,))
    model.train(60, enable_progress_bar=False)
    return adata, model


# --- directions ---


def test_a_known_direction_is_found_among_projected_cells(linear):
    adata, model = linear
    adata = adata.copy()
    table = lc.tl.latent_directions(adata, model, ["score", "gene5"])
    weight = model.module.averaged.head.weight.numpy()[5, :4]
    stored = adata.uns["latent_directions"]
    assert table.index.tolist() == stored["names"].tolist() == ["score", "gene5"]
    assert cosine(stored["directions"][0], SCORE) > 0.98
    assert cosine(stored["directions"][1], weight) > 0.98
    assert (table["score"] > 0.9).all()
    assert (table["metric"] == "R2").all()
    assert table["kind"].tolist() == ["number", "gene"]


def test_directions_are_ridge_slopes_in_units_of_the_code(linear):
    adata, model = linear
    adata, rng = adata.copy(), np.random.default_rng(1)
    mixed = rng.normal(size=(300, 4)) @ np.diag([5.0, 0.2, 1.0, 1.0]) @ (np.eye(4) + 0.3)
    mixed[:, 2] = 7.0  # a dimension that the model does not use
    adata.obsm["mixed"] = mixed
    adata.obs["y"] = mixed @ [0.1, 4.0, 0.0, -1.0] + rng.normal(size=300)
    table = lc.tl.latent_directions(adata, model, "y", use_rep="mixed", key_added="mine")
    u = np.delete(stats.zscore(np.delete(mixed, 2, 1), axis=0), [], 1)
    y = stats.zscore(adata.obs["y"].to_numpy())

    def fit(penalty):
        gram = u.T @ u + penalty * 300 * np.eye(3)
        slopes = np.linalg.solve(gram, u.T @ y)
        leverage = 1 / 300 + np.einsum("ij,jk,ik->i", u, np.linalg.inv(gram), u)
        return slopes, np.square((y - u @ slopes) / (1 - leverage)).sum()

    penalties = [10.0 ** (k / 2) for k in range(-8, 3)]
    best = min(penalties, key=lambda penalty: fit(penalty)[1])
    assert table["penalty"].item() == pytest.approx(best)
    axis = fit(best)[0] / np.linalg.norm(fit(best)[0])
    found = adata.uns["mine"]["directions"][0]
    np.testing.assert_allclose(found[[0, 1, 3]], axis * (u @ axis).std() * mixed.std(0)[[0, 1, 3]])
    assert found[2] == 0
    assert adata.uns["mine"]["effects"].item() == pytest.approx(fit(best)[0] @ axis * (u @ axis).std())
    # a step of 1 is one standard deviation of cells along the direction
    steps = (mixed / np.where(mixed.std(0) > 0, mixed.std(0), 1)) @ np.insert(axis, 2, 0.0)
    moved = ((mixed + found) / np.where(mixed.std(0) > 0, mixed.std(0), 1)) @ np.insert(axis, 2, 0.0)
    np.testing.assert_allclose(moved - steps, steps.std())


def test_scores_are_those_of_a_loop_over_folds(linear):
    adata, model = linear
    adata = adata.copy()
    table = lc.tl.latent_directions(adata, model, ["kind", "score"], use_rep="truth", seed=3)
    u = stats.zscore(adata.obsm["truth"], axis=0)
    kinds = adata.obs["kind"].astype(str).to_numpy()
    targets = {f"kind={kind}": (kinds == kind).astype(float) for kind in ("high", "low", "middle")}
    targets["score"] = adata.obs["score"].to_numpy()
    assert table.index.tolist() == list(targets)
    for name, target in targets.items():
        y, predicted = stats.zscore(target), np.empty(300)
        if name == "score":
            folds = KFold(5, shuffle=True, random_state=3).split(u)
        else:
            codes = np.unique(kinds, return_inverse=True)[1]
            folds = StratifiedKFold(5, shuffle=True, random_state=3).split(u, codes)
        for train, test in folds:
            v, center = u[train] - u[train].mean(0), y[train].mean()
            errors, slopes = [], []
            for penalty in np.logspace(-4, 1, 11) * 300:
                gram = v.T @ v + penalty * np.eye(4)
                slopes.append(np.linalg.solve(gram, v.T @ (y[train] - center)))
                leverage = 1 / len(train) + (v @ np.linalg.inv(gram) * v).sum(1)
                errors.append(np.square((y[train] - center - v @ slopes[-1]) / (1 - leverage)).sum())
            predicted[test] = center + (u[test] - u[train].mean(0)) @ slopes[int(np.argmin(errors))]
        if name == "score":
            expected = 1 - np.square(y - predicted).sum() / np.square(y - y.mean()).sum()
        else:
            expected = roc_auc_score(target, predicted)
        assert table.loc[name, "score"] == pytest.approx(expected, abs=1e-6)
    assert table["metric"].tolist() == ["AUROC"] * 3 + ["R2"]


def test_a_feature_that_codes_do_not_hold_scores_as_chance(linear):
    adata, model = linear
    adata, rng = adata.copy(), np.random.default_rng(0)
    adata.obs["noise"] = rng.normal(size=300)
    adata.obs["coin"] = rng.random(300) < 0.5
    table = lc.tl.latent_directions(adata, model, ["noise", "coin"], use_rep="truth")
    assert table.index.tolist() == ["noise", "coin=False", "coin=True"]
    assert table["score"].iloc[0] < 0.05
    assert abs(table["score"].iloc[1:] - 0.5).max() < 0.1
    assert adata.uns["latent_directions"]["cosines"][1, 2] == pytest.approx(-1)


def test_cells_without_a_value_are_left_out(linear):
    adata, model = linear
    part, whole = adata[100:].copy(), adata.copy()
    whole.obs.loc[whole.obs_names[:100], "score"] = np.nan
    whole.obs.loc[whole.obs_names[:100], "kind"] = np.nan
    table = lc.tl.latent_directions(whole, model, ["score", "kind", "other"], use_rep="truth")
    assert table["n_cells"].tolist() == [200, 200, 200, 200, 300]
    other = lc.tl.latent_directions(part, model, ["score", "kind"], use_rep="truth")
    assert other["n_cells"].tolist() == [200] * 4
    # codes are standardised over all cells in one, over fewer in the other
    assert np.abs(table["score"].iloc[:4] - other["score"]).max() < 0.01
    for a, b in zip(
        whole.uns["latent_directions"]["directions"][:4],
        part.uns["latent_directions"]["directions"],
        strict=True,
    ):
        assert cosine(a, b) > 0.995


def test_held_features_stay_while_the_own_one_moves(linear):
    """In generated cells, whose genes are linear in the codes that made them, as TL-GAN has it."""
    adata, model = linear
    new = model.generate(400, output="mean", seed=0)
    genes = ["gene0", "gene1", "gene2"]
    free = lc.tl.latent_directions(new, model, genes, use_rep="X_gan", key_added="free")
    held = lc.tl.latent_directions(new, model, genes, use_rep="X_gan", key_added="held", hold=True)
    assert (free["score"] > 0.999).all()
    np.testing.assert_allclose(free["kept"], 1)
    u = new.obsm["X_gan"].std(0, dtype=float)
    slopes, axes = new.uns["free"]["directions"] / u, new.uns["held"]["directions"] / u
    for i, j in itertools.product(range(3), repeat=2):
        if i != j:
            assert abs(cosine(axes[i], slopes[j])) < 1e-12
    np.testing.assert_allclose(held["kept"], [cosine(a, b) for a, b in zip(axes, slopes, strict=True)])
    effects = new.uns["held"]["effects"]
    assert np.abs(effects - np.diag(np.diag(effects))).max() < 1e-12
    for i, gene in enumerate(genes):
        moved = lc.tl.move_along(new, model, gene, 2.0, key="held", use_rep="X_gan")
        change = moved.var["change"][genes] / new.X[:, :3].std(0)
        assert change.iloc[i] == pytest.approx(2 * effects[i, i], rel=0.01)
        assert change.iloc[i] > 0.3
        assert np.abs(change.drop(gene)).max() < 0.01
        loose = lc.tl.move_along(new, model, gene, 2.0, key="free", use_rep="X_gan").var["change"]
        assert np.abs(loose[genes] / new.X[:, :3].std(0)).drop(gene).max() > 0.1


def test_what_is_held_can_be_chosen(linear):
    adata, model = linear
    adata = adata.copy()

    def effects(hold):
        lc.tl.latent_directions(adata, model, ["kind", "score", "other"], use_rep="truth", hold=hold)
        return np.abs(adata.uns["latent_directions"]["effects"]) < 1e-12

    # kind=high, kind=low, kind=middle, score, other
    nothing = np.zeros((5, 5), dtype=bool)
    np.testing.assert_array_equal(effects(False), nothing)
    expected = nothing.copy()
    expected[[0, 1, 2, 4], 3] = True
    np.testing.assert_array_equal(effects("score"), expected)
    expected[[0, 1, 2, 3], 4] = True
    np.testing.assert_array_equal(effects(["score", "other"]), expected)
    one = nothing.copy()
    one[[1, 2, 3, 4], 0] = True
    np.testing.assert_array_equal(effects("kind=high"), one)


def test_age_moves_the_genes_of_age_and_leaves_the_type(factors):
    adata, model = factors
    adata = adata.copy()
    table = lc.tl.latent_directions(adata, model, ["age", "type"], hold="type")
    assert (table["score"] > [0.5, 0.9, 0.9, 0.9]).all()
    moved = lc.tl.move_along(adata, model, "age", [-2, 0, 2])
    genes = adata.varm["factor_genes"]["age"].to_numpy()
    up = roc_auc_score(genes > 0, moved.var["change"])
    assert up > 0.9, up
    x = np.log1p(1e4 * adata.X.toarray() / adata.X.sum(1).A1[:, None])
    judge = LogisticRegression(max_iter=500).fit(x, adata.obs["type"])

    def called(cells):
        return judge.predict(np.log1p(1e4 * cells.X / cells.obs["library_size"].to_numpy()[:, None]))

    stays = called(moved[moved.obs["value"] == 0]) == called(moved[moved.obs["value"] == 2])
    assert stays.mean() > 0.95
    to = lc.tl.move_along(adata, model, "type=type_2", [0, 4])
    shares = (called(to) == "type_2").reshape(2, -1).mean(1)
    assert shares[0] < 0.45
    assert shares[1] > 0.9


def test_more_cells_are_of_a_type_along_its_direction(sparse):
    adata, model = sparse
    adata = adata.copy()
    table = lc.tl.latent_directions(adata, model, "group")
    assert (table["score"] > 0.99).all()
    judge = LogisticRegression(max_iter=500).fit(adata.X, adata.obs["group"])
    for group in adata.obs["group"].cat.categories:
        others = adata[adata.obs["group"] != group]
        moved = lc.tl.move_along(others, model, f"group={group}", [0, 1.5, 3])
        shares = (judge.predict(moved.X) == group).reshape(3, 80).mean(1)
        assert shares[0] < 0.05
        assert shares[2] > 0.9
        assert (np.diff(shares) >= 0).all()
        own = moved.var["marker_of"] == group
        assert roc_auc_score(own, moved.var["change"]) > 0.95
        assert (moved.var["change"][own] > 0).mean() > 0.8


def test_directions_are_written_and_read(linear, tmp_path):
    adata, model = linear
    adata = adata.copy()
    table = lc.tl.latent_directions(adata, model, ["kind", "score"], hold=["score"], use_rep="X_gan")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    stored = ad.read_h5ad(tmp_path / "cells.h5ad")
    again = stored.uns["latent_directions"]
    np.testing.assert_array_equal(again["directions"], adata.uns["latent_directions"]["directions"])
    pd.testing.assert_frame_equal(
        pd.DataFrame(again["table"], index=pd.Index(again["names"], name="direction"))[table.columns],
        table,
        check_dtype=False,
        check_index_type=False,
    )
    a = lc.tl.move_along(stored[:5], model, "kind=low", 1.0, use_rep="X_gan")
    np.testing.assert_array_equal(a.X, lc.tl.move_along(adata[:5], model, "kind=low", 1.0, use_rep="X_gan").X)
    assert again["params"]["hold"].tolist() == ["score"]
    assert again["params"]["model"] == "GAN"


@pytest.mark.parametrize("source", ["projected", "generated"])
def test_more_cells_of_a_gan_are_of_a_type_along_its_direction(linear, source):
    """Real cells that were placed; and TL-GAN's way, generated ones with the labels of a classifier."""
    real, model = linear
    judge = LogisticRegression(max_iter=500).fit(real.X, real.obs["kind"])
    cells = real.copy()
    if source == "generated":
        cells = model.generate(300, seed=1)
        cells.obs["kind"] = judge.predict(cells.X)
    table = lc.tl.latent_directions(cells, model, "kind", use_rep="X_gan")
    assert table.loc[["kind=high", "kind=low"], "score"].min() > 0.95
    others = cells[cells.obs["kind"] != "low"]
    moved = lc.tl.move_along(others, model, "kind=low", [0, 1, 2, 4], use_rep="X_gan")
    shares = (judge.predict(moved.X) == "low").reshape(4, -1).mean(1)
    assert shares[0] < 0.1
    assert (np.diff(shares) > 0).all()
    assert shares[3] > 0.98
    truth = model.module.averaged.head.weight.numpy()[:, :4] @ [0.0, -1.0, 0.0, -1.0]  # kind's own slopes
    assert cosine(moved.var["change"], truth) > 0.95


# --- cells that are moved ---


def test_moved_cells_keep_batch_and_depth_and_are_decoded_where_they_are(factors):
    adata, model = factors
    some = adata[[7, 150, 299, 20]].copy()
    vector = np.array([0.5, 0.0, -1.0, 0.0, 0.25])
    moved = lc.tl.move_along(some, model, vector, [1.0, -2.0])
    z = model.get_latent_representation(some)
    depth = some.X.sum(1).A1
    for row, (amount, cell) in enumerate(itertools.product([1.0, -2.0], range(4))):
        one = model.decode(
            z[[cell]] + amount * vector, batch=some.obs["batch"].iloc[cell], library_size=depth[cell]
        )
        np.testing.assert_allclose(moved.X[row], one.X[0], rtol=1e-4)
        np.testing.assert_allclose(moved.obsm["X_vae"][row], z[cell] + amount * vector, rtol=1e-5)
    assert moved.obs["value"].tolist() == [1.0] * 4 + [-2.0] * 4
    assert moved.obs["cell"].tolist() == some.obs_names.tolist() * 2
    assert moved.obs["batch"].tolist() == some.obs["batch"].tolist() * 2
    assert moved.obs["type"].tolist() == some.obs["type"].tolist() * 2
    assert moved.obs["is_generated"].all()
    logs = np.log1p(1e4 * moved.X / moved.obs["library_size"].to_numpy()[:, None])
    np.testing.assert_allclose(moved.var["change"], logs[:4].mean(0) - logs[4:].mean(0), atol=1e-6)
    order = moved.var.sort_values("rank")["change"].abs()
    assert order.is_monotonic_decreasing
    assert sorted(moved.var["rank"]) == list(range(1, 91))


def test_change_of_one_amount_is_from_where_cells_were(factors):
    adata, model = factors
    vector = np.array([0.5, 0.0, -1.0, 0.0, 0.25])
    names = adata.var_names[[8, 3]].tolist()
    one = lc.tl.move_along(adata[:30], model, vector, -1.5, genes=names)
    both = lc.tl.move_along(adata[:30], model, vector, [-1.5, 0.0], genes=names)
    assert one.var_names.tolist() == names
    np.testing.assert_allclose(one.var["change"], -both.var["change"], rtol=1e-5)


def test_a_conditional_model_is_told_each_cells_label():
    adata = lc.datasets.simulate_groups(n_cells=20, n_genes=30, n_markers=5, n_rare=0, seed=0)
    lc.model.CVAE.setup_anndata(adata, labels_key="group")
    model = lc.model.CVAE(adata, n_latent=2, hidden=(8,))
    model.train(20, enable_progress_bar=False)
    some = adata[[0, 25, 45]].copy()
    moved = lc.tl.move_along(some, model, np.array([1.0, 0.0]), 1.0)
    z = model.get_latent_representation(some) + [1.0, 0.0]
    expected = model.decode(z, labels=some.obs["group"].tolist())
    np.testing.assert_allclose(moved.X, expected.X, rtol=1e-5)
    assert moved.obs["group"].tolist() == ["group1", "group2", "group3"]
    path = lc.tl.interpolate(adata, model, "group1", "group3", 3, labels="group2")
    assert path.obs["group"].tolist() == ["group2"] * 3


def test_covariates_and_size_factors_are_those_of_the_cell():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(3.0, size=(30, 6)).astype(np.float32) + 1)
    adata.obs["site"] = pd.Categorical(np.array(["x", "y", "z"])[np.arange(30) % 3])
    adata.obs["dose"], adata.obs["size"] = rng.normal(size=30), rng.uniform(10, 20, 30)
    keys = {"categorical_covariate_keys": ["site"], "continuous_covariate_keys": ["dose"]}
    lc.model.VAE.setup_anndata(adata, size_factor_key="size", **keys)
    model = lc.model.VAE(adata, n_latent=2, hidden=(4,))
    model.train(2, enable_progress_bar=False)
    adata.obsm["X_vae"] = model.get_latent_representation()
    moved = lc.tl.move_along(adata, model, np.array([0.0, 1.0]), 0.5, use_rep="X_vae")
    for row in (0, 13):
        one = model.decode(
            adata.obsm["X_vae"][[row]] + [0.0, 0.5],
            covariates={key: adata.obs[key].iloc[row] for key in ("site", "dose")},
            library_size=adata.obs["size"].iloc[row],
        )
        np.testing.assert_allclose(moved.X[row], one.X[0], rtol=1e-5)
    for key in ("site", "dose", "size"):
        without = adata.copy()
        del without.obs[key]
        with pytest.raises(DataError, match=f"obs has no '{key}', which the model was set up with"):
            lc.tl.move_along(without, model, np.array([0.0, 1.0]), use_rep="X_vae")


def test_generated_cells_are_moved_at_the_depth_they_were_drawn_at(factors):
    adata, model = factors
    new = model.generate(6, seed=0)
    for name in set(new.layers) - {None}:
        del new.layers[name]
    moved = lc.tl.move_along(new, model, np.zeros(5), 1.0, use_rep="X_vae")
    np.testing.assert_array_equal(moved.obs["library_size"], new.obs["library_size"])
    np.testing.assert_allclose(moved.var["change"], 0, atol=1e-6)


# --- ways between groups ---


def test_a_path_leads_from_group_to_group_through_a_gan(linear):
    adata, model = linear
    path = lc.tl.interpolate(adata, model, "low", "high", 5, groupby="kind")
    weights = model.module.averaged.head.weight.numpy()[:, :4]
    ends = [adata.obsm["X_gan"][adata.obs["kind"] == kind].mean(0) for kind in ("low", "high")]
    share = np.linspace(0, 1, 5)[:, None]
    np.testing.assert_allclose(path.X, ((1 - share) * ends[0] + share * ends[1]) @ weights.T + 3, atol=1e-3)
    assert path.obs["step"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    expected = weights @ (ends[1] - ends[0])
    np.testing.assert_allclose(path.var["change"], expected, atol=1e-3)
    order = np.argsort(-np.abs(expected))
    assert path.var["rank"].iloc[order].tolist() == list(range(1, 13))
    # truth: the difference of the cells themselves
    x = [adata.X[adata.obs["kind"] == kind].mean(0) for kind in ("low", "high")]
    assert np.corrcoef(x[1] - x[0], path.var["change"])[0, 1] > 0.99


@pytest.mark.parametrize("name", ["factors", "sparse"])
def test_a_path_ranks_the_genes_that_differ(name, request):
    adata, model = request.getfixturevalue(name)
    column, told = ("type", {"batch": "batch1"}) if name == "factors" else (None, {})
    groups = adata.obs[column or "group"].cat.categories
    path = lc.tl.interpolate(adata, model, groups[0], groups[1], 4, groupby=column, **told)
    if name == "factors":
        effect = adata.varm["factor_genes"]
        truth = (effect["type_2"] - effect["type_1"]).to_numpy()
        counts = path.X / path.obs["library_size"].to_numpy()[:, None]
        change = np.log1p(1e4 * counts[-1]) - np.log1p(1e4 * counts[0])
    else:
        marked = adata.var["marker_of"].astype(str).to_numpy()
        truth = (marked == groups[1]).astype(float) - (marked == groups[0])
        change = path.X[-1] - path.X[0]
    np.testing.assert_allclose(path.var["change"], change, atol=1e-5)
    clear = np.abs(truth) > 0.3
    assert roc_auc_score(clear, -path.var["rank"]) > 0.9
    assert roc_auc_score(truth[clear] > 0, path.var["change"][clear]) > 0.95


def test_ends_may_be_codes(factors):
    adata, model = factors
    z = model.get_latent_representation(adata)
    path = lc.tl.interpolate(adata, model, z[3], z[4], 2, batch="batch2", genes=adata.var_names[:4].tolist())
    expected = model.decode(z[[3, 4]], batch="batch2", genes=adata.var_names[:4].tolist())
    np.testing.assert_allclose(path.X, expected.X, rtol=1e-4)
    assert path.uns["latentcell"]["start"] == "a code"


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "nothing"}, "'nothing' is neither a column"),
        ({"by": []}, "by is empty"),
        ({"by": ["score", "score"]}, "'score' more than once"),
        ({"by": "gene3"}, "both a column of adata.obs and a gene"),
        ({"by": "constant"}, "'constant' has the same value in all cells"),
        ({"by": "one"}, "fewer than two categories"),
        ({"by": "unknown"}, "fewer than two categories"),
        ({"by": "twice"}, "categories that read the same"),
        ({"by": "few"}, "'few=rare' has 4 cells, 5 are needed"),
        ({"by": "hardly"}, "'hardly' is known of 9 cells, 10 are needed"),
        ({"by": "infinite"}, "infinite values"),
        ({"by": ["score", "twin"], "hold": True}, "nothing of 'score' is left while 'twin'"),
        ({"by": "score", "hold": ["gene4"]}, "hold: \\['gene4'\\] are neither"),
        ({"by": "gene4", "layer": "none"}, "layer='none'"),
        ({"by": "score", "use_rep": "none"}, "'none' is not in adata.obsm"),
        ({"by": "score", "use_rep": "wide"}, "5 dimensions, the model 4"),
        ({"by": "score", "use_rep": "flat"}, "the codes are the same in all cells"),
    ],
)
def test_bad_features_are_named(linear, arguments, message):
    adata, model = linear
    adata = adata.copy()
    adata.obs["gene3"], adata.obs["constant"], adata.obs["one"] = 1.0, 2.0, "x"
    adata.obs["unknown"] = pd.Categorical([None] * 300, ["x", "y"])
    adata.obs["twice"] = pd.Series([1, "1", "2"] * 100, index=adata.obs_names, dtype=object)
    adata.obs["few"] = ["rare"] * 4 + ["common"] * 296
    adata.obs["hardly"] = [*np.arange(9.0), *[np.nan] * 291]
    adata.obs["infinite"] = [np.inf, *np.arange(299.0)]
    adata.obs["twin"] = 2 * adata.obs["score"]
    adata.obsm["wide"], adata.obsm["flat"] = np.eye(300, 5), np.ones((300, 4))
    with pytest.raises(DataError, match=message):
        lc.tl.latent_directions(adata, model, **({"use_rep": "truth"} | arguments))


def test_bad_moves_and_ways_are_named(linear):
    adata, model = linear
    adata = adata.copy()
    with pytest.raises(DataError, match="adata is a view"):
        lc.tl.latent_directions(adata[:50], model, "score")
    with pytest.raises(DataError, match=r"first call lc.tl.latent_directions"):
        lc.tl.move_along(adata, model, "score")
    lc.tl.latent_directions(adata, model, "score", use_rep="truth")
    with pytest.raises(DataError, match=r"direction='age' is not in .* there are \['score'\]"):
        lc.tl.move_along(adata, model, "age")
    with pytest.raises(DataError, match=r"4 finite numbers \(n_latent\), got \(3,\)"):
        lc.tl.move_along(adata, model, np.ones(3))
    for amount in ([], np.nan, [[1.0]]):
        with pytest.raises(DataError, match="amount must be a finite number"):
            lc.tl.move_along(adata, model, "score", amount)
    with pytest.raises(DataError, match="groupby is needed"):
        lc.tl.interpolate(adata, model, "low", "high")
    with pytest.raises(DataError, match="groupby='age' is not a column"):
        lc.tl.interpolate(adata, model, "low", "high", groupby="age")
    with pytest.raises(DataError, match="end='none' is not in"):
        lc.tl.interpolate(adata, model, "low", "none", groupby="kind")
    shuffle = lc.model.GeneShuffle
    shuffle.setup_anndata(adata)
    with pytest.raises(DataError, match="a GeneShuffle has no latent space"):
        lc.tl.interpolate(adata, shuffle(adata), "low", "high", groupby="kind")


def test_cells_whose_label_is_not_known_are_named():
    adata = lc.datasets.simulate_groups(seed=0)
    adata.obs["group"] = adata.obs["group"].astype(str)
    adata.obs.loc[adata.obs_names[3:6], "group"] = "unknown"
    lc.model.CVAE.setup_anndata(adata, labels_key="group", unlabeled_category="unknown")
    model = lc.model.CVAE(adata, n_latent=2, hidden=(4,))
    model.train(1, accelerator="cpu", enable_progress_bar=False)
    name = adata.obs_names[3]
    with pytest.raises(
        DataError, match=rf"obs\['group'\] of cell '{name}' is 'unknown'.*leave out the cells"
    ):
        lc.tl.move_along(adata, model, np.ones(2))
    known = adata[adata.obs["group"] != "unknown"].copy()
    assert lc.tl.move_along(known, model, np.ones(2)).n_obs == adata.n_obs - 3
