"""GANs: groups of cells are all drawn, a run that loses some says so, cells find their codes again."""

import warnings

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError, ModeCollapseWarning, ModelFileError, TrainingDivergedError
from latentcell.model._kinds import shares_of
from latentcell.model._watch import COLLAPSED, LOST, Watch
from latentcell.train.checkpoints import read_checkpoint
from latentcell.train.run import CHECKPOINT

SHARES = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.06, 0.04])
"""Of 8 groups, which have 3 of 24 genes each."""


def eight_groups(kind: str, n_cells: int = 2000, seed: int = 0) -> ad.AnnData:
    """Cells of 8 well separated groups (obs["group"]): counts of a depth of their own, or values."""
    rng = np.random.default_rng(seed)
    group = rng.choice(8, n_cells, p=SHARES)
    profile = np.repeat(np.eye(8), 3, axis=1)
    if kind == "counts":
        rate = (1 + 14 * profile) / (1 + 14 * profile).sum(1, keepdims=True)
        x = sparse.csr_matrix(rng.poisson(rate[group] * rng.lognormal(5, 0.3, n_cells)[:, None]))
    else:
        x = 3 * profile[group] + rng.normal(0, 0.5, (n_cells, 24))
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs["group"] = [f"group{i}" for i in group]
    return adata


def group_of(x: np.ndarray) -> np.ndarray:
    """The group whose three genes are highest."""
    return x.reshape(len(x), 8, 3).sum(2).argmax(1)


def trained(Model, adata, *, keys=None, fit=None, **arguments):
    Model.setup_anndata(adata, **(keys or {}))
    model = Model(adata, **arguments)
    model.train(accelerator="cpu", enable_progress_bar=False, **(fit or {}))
    return model


LITTLE = {"max_epochs": 80, "batch_size": 64, "lr": 0.01, "n_critic": 2}


def trained_a_little(Model, adata, **arguments):
    """A small model that has learned the groups, and not the noise of each gene within them."""
    sizes = {"n_latent": 8, "hidden": (32, 32), "critic_hidden": (32, 32), "decay": 0.99}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModeCollapseWarning)
        return trained(Model, adata, fit=LITTLE, **sizes, **arguments)


@pytest.fixture(scope="module")
def small():
    """A GAN of eight groups that was trained a little."""
    return trained_a_little(lc.model.GAN, eight_groups("values", 600))


# --- what is drawn ---


def draws_in_their_proportions(kind, **fit):
    """Fails unless each of eight groups is drawn as often as it comes, within a quarter.

    Returns the coverage of the cluster that is covered least, in the last epochs.
    """
    adata = eight_groups(kind)
    with warnings.catch_warnings():  # which says what is asserted here in figures
        warnings.simplefilter("ignore", ModeCollapseWarning)
        model = trained(lc.model.GAN, adata, fit=fit)
    new = model.generate(8000, seed=1).X
    drawn = np.bincount(group_of(new.toarray() if sparse.issparse(new) else new), minlength=8) / 8000
    real = np.bincount(group_of(adata.X.toarray() if kind == "counts" else adata.X), minlength=8) / 2000
    np.testing.assert_allclose(drawn, real, rtol=0.25)
    return model.history["lowest_coverage_train"]["lowest_coverage_train"].iloc[-5:].mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["counts", "values"])
def test_all_of_eight_groups_are_drawn_in_their_proportions_if_held_to_them(kind):
    draws_in_their_proportions(kind, n_kinds=16)


TOO_RARE = pytest.mark.xfail(
    reason="the critic alone draws the rarest group of counts at .66 of its share, where .75 is the bound; "
    "n_kinds=16 keeps it, and is no default as groups of 1 to 3 % can still be outside",
    raises=AssertionError,
    strict=True,
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("counts", marks=TOO_RARE), "values"])
def test_all_of_eight_groups_are_drawn_in_their_proportions(kind):
    assert draws_in_their_proportions(kind) > LOST


def test_cells_of_a_label_are_of_its_group():
    """Also of the rarest one, in numbers of one's own and in any order."""
    adata = eight_groups("values", 600)
    model = trained_a_little(lc.model.ConditionalGAN, adata, keys={"labels_key": "group"})
    new = model.generate(labels={"group7": 200, "group0": 10, "group3": 200}, seed=1)
    asked = np.repeat([7, 0, 3], [200, 10, 200])
    assert new.obs["group"].tolist() == [f"group{i}" for i in asked]
    assert (group_of(new.X) == asked).mean() > 0.97


# --- a run that fails says so ---


def test_a_generator_that_learns_nothing_is_reported():
    adata = eight_groups("values", 600)
    with pytest.warns(ModeCollapseWarning, match=r"near \d+% of the real ones only .*coverage_train"):
        model = trained(
            lc.model.GAN,
            adata,
            fit={"max_epochs": 27, "batch_size": 32, "lr": 0.0, "n_critic": 1},
            hidden=(4,),
            critic_hidden=(4,),
        )
    assert model.history["coverage_train"]["coverage_train"].iloc[-5:].mean() < COLLAPSED


def test_a_young_run_is_not_judged():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModeCollapseWarning)
        adata = eight_groups("values", 600)
        trained(
            lc.model.GAN,
            adata,
            fit={"max_epochs": 2, "batch_size": 32, "lr": 0.0},
            hidden=(4,),
            critic_hidden=(4,),
        )


@pytest.fixture
def watched(small, monkeypatch):
    """A watch, and what it records of a generator that draws given cells (cells x genes)."""
    watch = Watch(small.module, small._training_cells(), np.arange(600), seed=0)

    def records(cells):
        monkeypatch.setattr(small.module, "draw", lambda *args: torch.from_numpy(cells))
        return [watch() for _ in range(50)]

    return watch, records


def test_a_group_that_is_not_drawn_is_named(small, watched):
    """A generator that draws real cells, but for one group: most cells are covered, and one kind is not."""
    adata, (watch, records) = small.adata, watched
    groups, rng = group_of(adata.X), np.random.default_rng(0)

    def drawn(lost):
        chosen = rng.choice(np.flatnonzero(groups != lost), len(watch.rows), replace=False)
        return np.asarray(adata.X[chosen])

    whole = records(drawn(lost=None))
    assert whole[-1]["lowest_coverage_train"] > 0.8
    assert watch.complaint(whole, adata.obs_names) is None
    without = records(drawn(lost=2))
    assert without[-1]["coverage_train"] > COLLAPSED
    assert without[-1]["lowest_coverage_train"] < LOST
    complaint = watch.complaint(without, adata.obs_names)
    named = complaint.split("'")[1]
    assert groups[adata.obs_names.get_loc(named)] == 2


def test_cells_that_are_all_alike_are_reported(small, watched):
    """A generator that draws the middle of each group covers all cells; they have no spread."""
    watch, records = watched
    groups = group_of(small.adata.X)
    middles = np.stack([small.adata.X[groups == group].mean(0) for group in range(8)])
    found = records(middles[groups[watch.rows]])
    assert found[-1]["coverage_train"] > COLLAPSED
    assert found[-1]["lowest_coverage_train"] > LOST
    assert found[-1]["spread_train"] == pytest.approx(0, abs=1e-3)
    assert "too much alike: they lie 0.00 times" in watch.complaint(found, small.adata.obs_names)


def test_spread_is_that_of_the_drawn_cells(small, watched):
    watch, records = watched
    groups, rng = group_of(small.adata.X), np.random.default_rng(0)
    middles = np.stack([small.adata.X[groups == group].mean(0) for group in range(8)])[groups[watch.rows]]
    for factor in (0.5, 1.0, 1.5):
        cells = middles + factor * rng.normal(0, 0.5, middles.shape)
        assert records(cells.astype(np.float32))[0]["spread_train"] == pytest.approx(factor, rel=0.1)


def test_the_first_epochs_of_a_short_run_are_not_judged(small, watched):
    watch, _ = watched
    watch.seen = [[0.0], [0.9], [0.9]]
    good = {"coverage_train": 0.9, "spread_train": 1.0}
    bad = {"coverage_train": 0.0, "spread_train": 1.0}
    assert watch.complaint([bad, good, good], small.adata.obs_names) is None
    assert "near 0% of the real ones" in watch.complaint([good, good, bad], small.adata.obs_names)


def test_a_resumed_run_knows_what_was_seen(tmp_path):
    adata = eight_groups("values", 200)
    seen = []
    for epochs in (2, 3):
        model = lc.model.GAN
        model.setup_anndata(adata)
        model = model(adata, n_latent=2, hidden=(4,), critic_hidden=(4,))
        plans = []
        run = model._run
        model._run = lambda plan, *args, run=run, plans=plans, **kwargs: (
            plans.append(plan),
            run(plan, *args, **kwargs),
        )
        model.train(
            epochs, accelerator="cpu", enable_progress_bar=False, checkpoint_dir=tmp_path, resume=epochs == 3
        )
        seen.append(plans[0].watch.seen)
    assert len(seen[1]) == 3
    assert seen[1][:2] == seen[0]


def run_of(adata, folder, epochs, **fit):
    """A small run with checkpoints, and the plan that it had."""
    lc.model.GAN.setup_anndata(adata)
    model, plans = lc.model.GAN(adata, n_latent=2, hidden=(4,), critic_hidden=(4,)), []
    run = model._run
    model._run = lambda plan, *args, **kwargs: (plans.append(plan), run(plan, *args, **kwargs))
    told = {"accelerator": "cpu", "enable_progress_bar": False, "checkpoint_dir": folder}
    model.train(epochs, **told, **({"n_kinds": 16} | fit))
    return model, plans[0]


def test_a_resumed_run_goes_on_with_its_multipliers(tmp_path):
    adata = eight_groups("values", 200)
    _, plan = run_of(adata, tmp_path / "whole", 4)
    run_of(adata, tmp_path / "part", 2)
    _, again = run_of(adata, tmp_path / "part", 4, resume=True)
    assert plan.shares.price.abs().min() > 0
    assert len(plan.shares.price) == 16
    kept = read_checkpoint(tmp_path / "part" / CHECKPOINT)["latentcell"]["price"]
    torch.testing.assert_close(kept, [again.shares.price, again.shares.lacking])
    _, last = run_of(adata, tmp_path / "part", 4, resume=True)  # nothing is left to do
    torch.testing.assert_close(last.shares.price, again.shares.price)


def test_a_run_that_was_begun_without_kinds_goes_on_without(tmp_path):
    adata = eight_groups("values", 200)
    run_of(adata, tmp_path, 2, n_kinds=0)
    _, plan = run_of(adata, tmp_path, 3, resume=True)
    assert plan.shares is None


@pytest.mark.parametrize("n_kinds", [0, 5])
def test_another_number_of_kinds_is_another_run(tmp_path, n_kinds):
    adata = eight_groups("values", 200)
    run_of(adata, tmp_path, 2)
    with pytest.raises(ModelFileError, match=f"it has 16 kinds of cells .* where this has {n_kinds};"):
        run_of(adata, tmp_path, 3, n_kinds=n_kinds, resume=True)


# --- kinds that are held to their shares ---


@pytest.mark.parametrize("kind", ["counts", "values"])
def test_kinds_of_real_cells_are_parts_of_the_groups_and_have_their_shares(kind):
    adata = eight_groups(kind)
    lc.model.GAN.setup_anndata(adata)
    model = lc.model.GAN(adata, hidden=(4,), critic_hidden=(4,))
    cells = model._training_cells()
    shares = shares_of(model.module, cells, np.arange(2000), 16, seed=0)
    batch = cells.batch(np.arange(2000))
    features = model.module.features(batch["X"], model.module.library(batch), batch)
    found = shares.membership(features).numpy()
    np.testing.assert_allclose(shares.target, found.mean(0), atol=1e-4)
    groups = group_of(batch["X"].numpy())
    of_group = np.stack([found[groups == group].mean(0) for group in range(8)])  # 8 x kinds
    assert len(of_group.T) == 16
    main = of_group.argmax(0)
    assert set(main) == set(range(8))
    shared = [shares.target[main == group].sum() for group in range(8)]
    np.testing.assert_allclose(shared, np.bincount(groups) / 2000, rtol=0.05)


def test_cells_that_are_all_alike_have_no_kinds():
    adata = ad.AnnData(np.ones((100, 5), np.float32) * 2.5)
    lc.model.GAN.setup_anndata(adata)
    model = lc.model.GAN(adata, hidden=(4,), critic_hidden=(4,))
    assert shares_of(model.module, model._training_cells(), np.arange(100), 16, seed=0) is None
    assert shares_of(model.module, model._training_cells(), np.arange(15), 16, seed=0) is None  # too few
    model.train(2, accelerator="cpu", enable_progress_bar=False, n_kinds=16)


def test_another_number_of_critic_steps_is_another_run(tmp_path):
    adata = eight_groups("values", 200)
    lc.model.GAN.setup_anndata(adata)
    told = {"accelerator": "cpu", "enable_progress_bar": False, "checkpoint_dir": tmp_path}
    lc.model.GAN(adata, hidden=(4,), critic_hidden=(4,)).train(1, **told)
    with pytest.raises(ModelFileError, match="steps of the critic for each of the generator was 3 and is 2"):
        lc.model.GAN(adata, hidden=(4,), critic_hidden=(4,)).train(2, n_critic=2, resume=True, **told)


# --- whatever the scale of the data ---


def test_the_unit_of_values_does_not_matter():
    found = []
    for unit in (1.0, 1024.0):  # a power of two, so that rounding is the same
        adata = eight_groups("values", 200)
        adata.X = adata.X * np.float32(unit)
        lc.model.GAN.setup_anndata(adata)
        model = lc.model.GAN(adata, n_latent=4, hidden=(16,), critic_hidden=(16,))
        model.train(5, accelerator="cpu", enable_progress_bar=False)
        found.append((model.generate(50, seed=1).X / unit, model.project()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


# --- training that breaks ---


def test_values_that_became_nan_are_named():
    adata = eight_groups("values", 200)
    lc.model.GAN.setup_anndata(adata)
    model = lc.model.GAN(adata, n_latent=2, hidden=(4,), critic_hidden=(4,))
    adata.X[17, 5] = np.nan  # after it was checked
    with pytest.raises(TrainingDivergedError) as error:
        model.train(2, accelerator="cpu", enable_progress_bar=False)
    message = str(error.value)
    assert "gene '5' of cell '17' is nan" in message
    assert "cells '17')" in message  # and no other
    assert "gradient_clip" not in message  # which GANs do not have
    assert not model.is_trained


# --- codes of cells ---


def test_a_drawn_cell_is_placed_where_it_came_from(small):
    new = small.decode(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    again = small.decode(small.project(ad.AnnData(new.X, var=small.adata.var)))
    assert np.square(again.X - new.X).mean() < 0.05 * np.square(new.X - new.X.mean(0)).mean()


def test_gradient_steps_make_cells_more_probable(small):
    """Each cell's misfit, in units of what first places leave, and the prior of its code; to a minimum."""
    least = 0.05 * float(small.module.unit)
    x, residual = small.adata.X[:30], np.maximum(small.templates_.noise.residual, least)

    def misfit(codes):
        error = (x - small.decode(codes).X) / residual
        return 0.5 * np.square(error).sum(1) + 0.5 * np.square(codes).sum(1)

    first, last = (small.project(indices=range(30), n_steps=n) for n in (0, 400))
    assert (misfit(last) < misfit(first) + 1e-3).all()
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = last + rng.normal(size=last.shape).astype(np.float32) * 0.1
        assert misfit(moved).mean() > misfit(last).mean()


def test_a_cells_place_does_not_hang_on_the_other_cells(small):
    whole = small.project(indices=range(20), n_steps=20)
    for batch_size in (1, 7):
        some = small.project(indices=[3, 19, 5], n_steps=20, batch_size=batch_size)
        np.testing.assert_allclose(some, whole[[3, 19, 5]], rtol=1e-3, atol=1e-4)


def test_the_path_between_two_cells_goes_from_one_to_the_other(small):
    groups = group_of(small.adata.X)
    start, end = (int(np.flatnonzero(groups == group)[0]) for group in (0, 1))
    path = small.interpolate(small.project(indices=[start])[0], small.project(indices=[end])[0], steps=5)
    found = group_of(path.X)
    assert (found[0], found[-1]) == (0, 1)


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_latent": 0}, "n_latent, hidden and critic_hidden must be positive"),
        ({"critic_hidden": (8, 0)}, "n_latent, hidden and critic_hidden must be positive"),
        ({"penalty_weight": 0.0}, "penalty_weight must be above 0"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\)"),
        ({"gene_likelihood": "zinb"}, "gene_likelihood must be 'auto', 'nb', 'poisson'"),
    ],
)
def test_arguments_of_the_network_out_of_range_are_refused(arguments, message):
    adata = eight_groups("values", 50)
    lc.model.GAN.setup_anndata(adata)
    with pytest.raises(DataError, match=message):
        lc.model.GAN(adata, **arguments)


@pytest.mark.parametrize("arguments", [{"batch_size": 1}, {"max_epochs": 0}, {"n_critic": 0}], ids=str)
def test_arguments_of_training_out_of_range_are_refused(arguments):
    adata = eight_groups("values", 50)
    lc.model.GAN.setup_anndata(adata)
    with pytest.raises(DataError, match="batch_size must be at least 2, max_epochs and n_critic 1"):
        lc.model.GAN(adata).train(**arguments)


def test_less_than_no_kinds_are_refused():
    adata = eight_groups("values", 50)
    lc.model.GAN.setup_anndata(adata)
    with pytest.raises(DataError, match="n_kinds must be 0 or more, got -1"):
        lc.model.GAN(adata).train(n_kinds=-1)


def test_a_run_without_a_step_of_the_generator_is_refused():
    adata = eight_groups("values", 16)
    lc.model.GAN.setup_anndata(adata)
    with pytest.raises(DataError, match=r"makes 2 steps of the critic, .* after each 3 of them"):
        lc.model.GAN(adata).train(1)


def test_double_precision_is_refused():
    adata = eight_groups("values", 50)
    lc.model.GAN.setup_anndata(adata)
    with pytest.raises(DataError, match="precision='64-true' is not for GANs"):
        lc.model.GAN(adata).train(1, precision="64-true")


def test_depths_that_cannot_be_are_refused_when_a_model_is_loaded(tmp_path):
    adata = eight_groups("counts", 100)
    model = trained(lc.model.GAN, adata, fit={"max_epochs": 2}, hidden=(4,), critic_hidden=(4,))
    model.module.depth[1] = 0.0
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="depth is no unit"):
        lc.model.load(tmp_path / "model")


def test_cells_of_other_genes_are_brought_to_those_of_the_model(small):
    few = ad.AnnData(small.adata.X[:10, :20], var=small.adata.var.iloc[:20])
    query = lc.model.GAN.prepare_query_anndata(few, small)
    assert small.project(query).shape == (10, 8)


def test_a_sweep_of_gans_is_refused_before_any_is_trained():
    with pytest.raises(DataError, match="a GAN has no encoder"):
        lc.tl.sweep(eight_groups("values", 50), lc.model.GAN, {"n_latent": [2]})


def test_a_conditional_gan_needs_all_labels():
    adata = eight_groups("values", 200)
    lc.model.ConditionalGAN.setup_anndata(adata)
    with pytest.raises(DataError, match=r"needs labels: ConditionalGAN\.setup_anndata\(adata, labels_key="):
        lc.model.ConditionalGAN(adata)
    lc.model.ConditionalGAN.setup_anndata(adata, labels_key="group", unlabeled_category="group3")
    with pytest.raises(DataError, match="needs the label of every cell"):
        lc.model.ConditionalGAN(adata)


@pytest.mark.parametrize(
    ("values", "likelihood"),
    [("counts", "poisson"), ("log", "relu"), ("unit", "relu"), ("scaled", "identity")],
)
def test_the_output_follows_from_the_data(values, likelihood):
    x = np.random.default_rng(0).poisson(3.0, (60, 6)).astype(np.float32) + 1
    kinds = {"counts": x, "log": np.log1p(x), "unit": x / x.max(), "scaled": x - x.mean(0)}
    adata = ad.AnnData(kinds[values])
    lc.model.GAN.setup_anndata(adata)
    assert lc.model.GAN(adata).params["gene_likelihood"] == likelihood
