"""scGen: predictions of types not seen in a condition, what must not reach them, and batches removed."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError

TYPES = ["B", "Mono", "NK", "T"]
CHANGE = {"condition_key": "drug", "stimulated": "yes", "control": "no"}


def simulate(seed=0, n=40, n_genes=60):
    """Counts of four types in two conditions: 12 genes of each type, and 12 that the drug changes in all."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(1).gamma(2.0, 4.0, size=n_genes) + 1
    rows, kinds, drugs = [], [], []
    for k, kind in enumerate(TYPES):
        for drug in ("no", "yes"):
            rate = base.copy()
            rate[12 * k : 12 * k + 12] *= 3.0
            if drug == "yes":
                rate[48:] *= 4.0
            rows.append(rng.poisson(rate / rate.sum() * 600, size=(n, n_genes)))
            kinds += [kind] * n
            drugs += [drug] * n
    counts = np.concatenate(rows).astype(np.float32)
    adata = ad.AnnData(np.log1p(counts / counts.sum(1, keepdims=True) * 600))
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.obs["kind"], adata.obs["drug"] = pd.Categorical(kinds), pd.Categorical(drugs)
    adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    adata.obs["donor"] = np.array(["d1", "d2"])[np.arange(adata.n_obs) % 2]
    return adata


def unseen(adata):
    return ((adata.obs["kind"] == "T") & (adata.obs["drug"] == "yes")).to_numpy()


def train(adata, layer=None, epochs=150, decoder="linear", **keys):
    lc.model.ScGen.setup_anndata(adata, layer=layer, labels_key="kind", **keys)
    model = lc.model.ScGen(adata, n_latent=10, hidden=(32,), decoder=decoder)
    model.train(epochs, accelerator="cpu", enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def cells():
    return simulate()


@pytest.fixture(scope="module", params=[None, "counts"])
def trained(request, cells):
    """A model that has seen no stimulated T cell. Not to be changed."""
    return train(cells[~unseen(cells)].copy(), request.param)


@pytest.fixture(scope="module")
def of_counts(cells):
    return train(cells[~unseen(cells)].copy(), "counts")


def log_means(new, trained):
    """Means of cells as log-normalised values (genes)."""
    if trained.spec.layer is None:
        return new.X.mean(0)
    x = new.X.toarray() if sparse.issparse(new.X) else new.X
    return np.log1p(x / x.sum(1, keepdims=True) * 600).mean(0)


def test_a_type_that_was_not_seen_is_predicted(cells, trained):
    """Beside what no change and the noise of a sample score."""
    output = "mean" if trained.spec.layer is None else "sample"
    new = trained.predict(**CHANGE, cell_type="T", output=output)
    real = cells[unseen(cells)].X
    control = cells[(cells.obs["kind"] == "T") & (cells.obs["drug"] == "no")].X
    predicted, target, start = log_means(new, trained), real.mean(0), control.mean(0)
    error = np.square(predicted - target).mean()
    nothing = np.square(start - target).mean()
    assert error < 0.05 * nothing
    assert np.corrcoef(predicted - start, target - start)[0, 1] > 0.95
    # the genes of the type stay
    assert predicted[36:48].mean() == pytest.approx(target[36:48].mean(), rel=0.05)


def test_cells_say_what_they_are(cells, trained):
    new = trained.predict(**CHANGE, cell_type="T")
    of_type = ((cells.obs["kind"] == "T") & (cells.obs["drug"] == "no")).to_numpy()
    assert new.obs["cell"].tolist() == cells.obs_names[of_type].tolist()
    assert (new.obs["drug"] == "yes").all()
    assert (new.obs["kind"] == "T").all()
    assert new.obs["is_generated"].all()
    assert list(new.var_names) == list(cells.var_names)
    told = new.uns["latentcell"]
    assert (told["model"], told["source"], told["stimulated"], told["control"]) == (
        "ScGen",
        "shift",
        "yes",
        "no",
    )
    assert set(told["weights"]["learned_on"]) == {"B", "Mono", "NK"}
    assert told["weights"]["weight"].sum() == pytest.approx(1.0)
    unit = {None: "that of the data", "counts": "expected counts at the depth of the cell"}
    assert told["unit"] == unit[trained.spec.layer]


def test_codes_are_moved_by_the_shift_and_decoded_there(cells, trained):
    for weighting in ("balanced", "similarity"):
        new = trained.predict(**CHANGE, cell_type="T", weighting=weighting)
        shift = trained.get_shift(**CHANGE, cell_type="T", weighting=weighting)
        codes = pd.DataFrame(trained.get_latent_representation(), index=trained.adata.obs_names)
        moved = codes.loc[new.obs["cell"]].to_numpy() + shift
        np.testing.assert_allclose(new.obsm["X_scgen"], moved, rtol=1e-5, atol=1e-5)
        size = None if trained.spec.layer is None else new.obs["library_size"].to_numpy()
        by_hand = trained.decode(moved.astype(np.float32), library_size=size)
        np.testing.assert_allclose(new.X, by_hand.X, rtol=1e-4, atol=1e-4)


def test_the_balanced_shift_is_the_mean_of_the_types(cells, trained):
    codes, obs = trained.get_latent_representation().astype(float), trained.adata.obs
    by_hand = [
        codes[(obs["kind"] == kind) & (obs["drug"] == "yes")].mean(0)
        - codes[(obs["kind"] == kind) & (obs["drug"] == "no")].mean(0)
        for kind in ("B", "Mono", "NK")
    ]
    expected = np.mean(by_hand, axis=0)
    found = trained.get_shift(**CHANGE, cell_type="T", weighting="balanced")
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    # T is seen in one condition only, so it is not among all types either
    np.testing.assert_allclose(trained.get_shift(**CHANGE), expected, rtol=1e-6, atol=1e-8)


def test_what_was_held_out_has_no_part_in_the_prediction(cells, trained):
    """Garbage in the place of the stimulated cells of the type: the same bits."""
    garbage = cells.copy()
    rng = np.random.default_rng(9)
    garbage.X[unseen(cells)] = rng.normal(50, 30, size=(unseen(cells).sum(), cells.n_vars))
    counts = garbage.layers["counts"].toarray()
    counts[unseen(cells)] = rng.integers(1, 10_000, size=(unseen(cells).sum(), cells.n_vars))
    garbage.layers["counts"] = sparse.csr_matrix(counts)
    for weighting in ("balanced", "similarity"):
        with_them, spoilt = (
            trained.predict(given, **CHANGE, cell_type="T", weighting=weighting) for given in (cells, garbage)
        )
        np.testing.assert_array_equal(with_them.X, spoilt.X)
    # and where a type is not held out, they have
    other = [trained.get_shift(given, **CHANGE, cell_type="B") for given in (cells, garbage)]
    assert np.abs(other[0] - other[1]).max() > 1e-2


def test_a_mask_of_cells_of_two_types_gives_each_its_own_shift(cells, trained):
    mask = ((cells.obs["drug"] == "no") & cells.obs["kind"].isin(["T", "NK"])).to_numpy(copy=True)
    mask[np.flatnonzero(mask)[::2]] = False
    new = trained.predict(cells, **CHANGE, mask=mask)
    assert new.obs["cell"].tolist() == cells.obs_names[mask].tolist()
    weights = new.uns["latentcell"]["weights"]
    assert set(weights["cell_type"]) == {"T", "NK"}
    assert set(weights["learned_on"]) == {"B", "Mono"}


def test_counts_are_never_negative_even_far_away(cells, of_counts):
    for output in ("mean", "sample"):
        new = of_counts.predict(**CHANGE, cell_type="T", output=output)
        x = new.X.toarray() if sparse.issparse(new.X) else new.X
        assert x.min() >= 0
        assert new.uns["latentcell"]["unit"].endswith("counts" if output == "sample" else "of the cell")
    codes = of_counts.get_latent_representation() + 1000.0
    assert of_counts.decode(codes.astype(np.float32)).X.min() >= 0


def test_drawn_counts_are_whole_and_follow_the_seed(of_counts):
    first, again, other = (
        of_counts.predict(**CHANGE, cell_type="T", output="sample", seed=seed).X.toarray()
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, np.round(first))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_expected_counts_add_up_to_the_depth_of_each_cell(cells, of_counts):
    new = of_counts.predict(**CHANGE, cell_type="T")
    depth = cells[new.obs["cell"]].layers["counts"].sum(1).A1
    np.testing.assert_allclose(new.X.sum(1), depth, rtol=1e-4)
    np.testing.assert_allclose(new.obs["library_size"], depth)


def test_cells_are_not_changed(cells, trained):
    before = cells.copy()
    trained.predict(cells, **CHANGE, cell_type="T")
    trained.batch_removal(cells, batch_key="drug")
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    np.testing.assert_array_equal(cells.X, before.X)
    assert set(cells.uns) == set(before.uns)
    assert set(cells.obsm) == set(before.obsm)


def test_a_loaded_model_predicts_the_same(cells, trained, tmp_path):
    trained.save(tmp_path / "m")
    again = lc.model.load(tmp_path / "m")
    found = again.predict(trained.adata, **CHANGE, cell_type="T")
    np.testing.assert_array_equal(found.X, trained.predict(**CHANGE, cell_type="T").X)
    found.write_h5ad(tmp_path / "new.h5ad")
    assert ad.read_h5ad(tmp_path / "new.h5ad").uns["latentcell"]["weights"].shape == (3, 4)


@pytest.mark.parametrize("keys", [{"batch_key": "drug"}, {"categorical_covariate_keys": ["drug"]}])
def test_what_the_decoder_is_told_cannot_be_a_shift(cells, keys):
    model = train(cells.copy(), epochs=1, **keys)
    told = "set up with 'drug' as batch or covariate"
    with pytest.raises(DataError, match=told):
        model.predict(**CHANGE, cell_type="T")
    with pytest.raises(DataError, match=told):
        model.get_shift(**CHANGE)
    with pytest.raises(DataError, match=told):
        model.batch_removal(batch_key="drug")


def test_a_told_batch_is_kept(cells):
    model = train(cells[~unseen(cells)].copy(), epochs=20, batch_key="donor")
    new = model.predict(**CHANGE, cell_type="T")
    assert new.obs["donor"].tolist() == cells.obs.loc[new.obs["cell"], "donor"].tolist()
    codes = new.obsm["X_scgen"]
    by_hand = model.decode(codes, batch=new.obs["donor"])
    np.testing.assert_allclose(new.X, by_hand.X, rtol=1e-4, atol=1e-4)


def test_several_types_have_no_one_shift(trained):
    with pytest.raises(DataError, match="one type here"):
        trained.get_shift(**CHANGE, cell_type=["B", "T"])
    with pytest.raises(DataError, match="weighting must be one of"):
        trained.predict(**CHANGE, cell_type="T", weighting="nearest")


@pytest.fixture(scope="module", params=[None, "counts"])
def plates(request):
    """A model of cells on two plates that differ in half of the genes, in types of unlike numbers."""
    adata = simulate(n=60)
    rng = np.random.default_rng(2)
    second = rng.random(adata.n_obs) < np.where(adata.obs["kind"] == "B", 0.2, 0.6)
    counts = adata.layers["counts"].toarray()
    factor = np.where(np.arange(adata.n_vars) % 2, 3.0, 1.0)
    counts[second] = rng.poisson(counts[second] * factor)
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.X = np.log1p(counts / counts.sum(1, keepdims=True) * 600)
    adata.obs["plate"] = np.where(second, "p2", "p1")
    return train(adata, request.param, epochs=100)


class TestBatchRemoval:
    def values(self, new, model):
        if model.spec.layer is None:
            return new.X
        return np.log1p(new.X / new.X.sum(1, keepdims=True) * 600)

    def gaps(self, values, obs):
        """Mean squared distance of the means of batches within types, and of types within batches."""
        means = {
            (kind, plate): values[((obs["kind"] == kind) & (obs["plate"] == plate)).to_numpy()].mean(0)
            for kind in TYPES
            for plate in ("p1", "p2")
        }
        batches = np.mean([np.square(means[k, "p1"] - means[k, "p2"]).mean() for k in TYPES])
        kinds = np.mean(
            [
                np.square(means[a, "p1"] - means[b, "p1"]).mean()
                for i, a in enumerate(TYPES)
                for b in TYPES[:i]
            ]
        )
        return batches, kinds

    def test_means_of_batches_come_together_and_types_stay_apart(self, plates):
        model = plates
        obs = model.adata.obs
        new = model.batch_removal(batch_key="plate")
        before = self.gaps(model.adata.X, obs)
        after = self.gaps(self.values(new, model), obs)
        assert before[0] > 0.1  # there is something to correct
        assert after[0] < 0.03 * before[0]
        assert 0.7 < after[1] / before[1] < 1.3
        # in latent space, to rounding
        codes = pd.DataFrame(new.obsm["X_scgen"]).groupby([obs["kind"].to_numpy(), obs["plate"].to_numpy()])
        means = codes.mean()
        for kind in TYPES:
            np.testing.assert_allclose(means.loc[kind, "p1"], means.loc[kind, "p2"], atol=1e-4)

    def test_cells_keep_names_order_and_the_reference_its_codes(self, plates):
        model = plates
        new = model.batch_removal(batch_key="plate", reference="p1")
        assert list(new.obs_names) == list(model.adata.obs_names)
        assert new.obs["plate"].tolist() == model.adata.obs["plate"].tolist()
        there = (new.obs["plate"] == "p1").to_numpy()
        own = model.get_latent_representation()
        np.testing.assert_allclose(new.obsm["X_scgen"][there], own[there], rtol=1e-6)
        assert np.abs(new.obsm["X_scgen"][~there] - own[~there]).max() > 0.1
        assert new.uns["latentcell"]["reference"] == "p1"
        if model.spec.layer == "counts":
            assert new.X.min() >= 0

    def test_a_type_that_the_reference_lacks_moves_as_the_others_do(self, plates):
        model = plates
        adata = model.adata
        kept = ~((adata.obs["kind"] == "T") & (adata.obs["plate"] == "p1")).to_numpy()
        new = model.batch_removal(adata[kept].copy(), batch_key="plate", reference="p1")
        whole = model.batch_removal(batch_key="plate", reference="p1")
        of_type = (new.obs["kind"] == "T").to_numpy()
        target = self.values(whole[new.obs_names[of_type]], model).mean(0)
        moved = self.values(new[of_type], model).mean(0)
        start = model.get_reconstruction(adata[new.obs_names[of_type]].copy())
        if model.spec.layer == "counts":
            start = np.log1p(start / start.sum(1, keepdims=True) * 600)
        assert np.square(moved - target).mean() < 0.2 * np.square(start.mean(0) - target).mean()

    def test_batches_without_a_common_type_are_refused(self, plates):
        model = plates
        adata = model.adata
        kept = ((adata.obs["kind"] == "T") == (adata.obs["plate"] == "p1")).to_numpy()
        with pytest.raises(DataError, match="no type in common with the reference"):
            model.batch_removal(adata[kept].copy(), batch_key="plate", reference="p1")
        with pytest.raises(DataError, match="reference='p9' is not in"):
            model.batch_removal(batch_key="plate", reference="p9")


def test_the_published_settings_are_a_preset(cells):
    adata = cells.copy()
    lc.model.ScGen.setup_anndata(adata, labels_key="kind")
    model = lc.model.ScGen.from_preset("scgen-2019", adata, hidden=(8,))
    assert (model.params["n_latent"], model.params["beta"], model.params["dropout"]) == (100, 2.5e-5, 0.2)
    assert model.train_defaults["batch_size"] == 32
