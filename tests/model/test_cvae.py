"""The conditional VAE, and labels in other models."""

import numpy as np
import pandas as pd
import pytest

import latentcell as lc
from latentcell._errors import DataError


def cells(n_cells=240, seed=0):
    """Counts of three kinds that differ in four genes each."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    rate = np.full((3, 20), 3.0)
    for k in range(3):
        rate[k, 4 * k : 4 * k + 4] = 15.0
    adata = lc.datasets.simulate_groups(n_cells=n_cells // 3, n_genes=20, n_markers=1, n_rare=0)
    adata.X = rng.poisson(rate[kind]).astype(np.float32)
    adata.obs["kind"] = pd.Categorical(np.array(["a", "b", "c"])[kind])
    return adata


def build(adata, Model=lc.model.CVAE, setup=None, **arguments):
    Model.setup_anndata(adata, labels_key="kind", **(setup or {}))
    model = Model(adata, n_latent=2, hidden=(16,), **arguments)
    model.train(60, lr=5e-3, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def trained():
    return build(cells())


@pytest.fixture(scope="module")
def with_unknown():
    adata = cells()
    adata.obs["kind"] = adata.obs["kind"].cat.add_categories("unknown")
    adata.obs.iloc[:30, adata.obs.columns.get_loc("kind")] = "unknown"
    return build(adata, setup={"unlabeled_category": "unknown"})


def markers(values):
    """Mean of the four markers of each kind (cells x 3)."""
    return values[:, :12].reshape(len(values), 3, 4).mean(2)


def test_a_model_without_labels_is_refused():
    adata = cells()
    lc.model.CVAE.setup_anndata(adata)
    with pytest.raises(DataError, match=r"conditional CVAE needs labels: .*labels_key="):
        lc.model.CVAE(adata)


@pytest.mark.parametrize("label", ["a", "b", "c"])
def test_the_label_decides_the_kind_of_cell(trained, label):
    other = cells(seed=1)
    other.obs["kind"] = pd.Categorical([label] * other.n_obs)
    decoded = trained.get_denoised(other)
    assert (markers(decoded).argmax(1) == "abc".index(label)).mean() > 0.95


def test_codes_hide_the_label_that_the_model_was_told(trained):
    """What the label says need not be in the code; a VAE of the same data finds the kinds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    adata = trained.adata
    codes = trained.get_latent_representation()
    hidden = cross_val_score(LogisticRegression(), codes, adata.obs["kind"], cv=5).mean()
    found = build(cells(), lc.model.VAE).get_latent_representation()
    shown = cross_val_score(LogisticRegression(), found, adata.obs["kind"], cv=5).mean()
    assert hidden < 0.6 < 0.9 < shown


def test_unseen_and_missing_labels_are_named(trained):
    other = cells(seed=1)
    other.obs["kind"] = pd.Categorical(["a", "z"] * 120)
    with pytest.raises(DataError, match=r"obs\['kind'\] holds 'z', unknown to the model"):
        trained.get_latent_representation(other)
    other.obs["kind"] = pd.Categorical(["a", None] * 120)
    with pytest.raises(DataError, match=r"obs\['kind'\] \(labels_key\) is missing for 120 cells"):
        trained.get_latent_representation(other)


def test_unknown_labels_are_taken_where_asked_for(with_unknown):
    assert with_unknown.spec.labels == ["a", "b", "c"]
    assert with_unknown.module.covariates.n_labels == 3
    known = cells(seed=1)
    expected = with_unknown.get_latent_representation(known)
    unknown = known.copy()
    del unknown.obs["kind"]
    bare = with_unknown.get_latent_representation(unknown)
    assert np.isfinite(bare).all()
    assert not np.allclose(bare, expected)
    for values in (["z"] * 240, [None] * 240, ["unknown"] * 240):
        unknown.obs["kind"] = pd.Categorical(values)
        np.testing.assert_array_equal(with_unknown.get_latent_representation(unknown), bare)


def test_cells_of_unknown_label_are_decoded_by_their_counts(with_unknown):
    other = cells(seed=1)
    truth = other.obs["kind"].cat.codes.to_numpy()
    del other.obs["kind"]
    assert (markers(with_unknown.get_denoised(other)).argmax(1) == truth).mean() > 0.8


def test_unknown_labels_survive_saving(with_unknown, tmp_path):
    with_unknown.save(tmp_path / "model")
    loaded = lc.model.load(tmp_path / "model")
    other = cells(seed=1)
    del other.obs["kind"]
    np.testing.assert_array_equal(
        loaded.get_latent_representation(other), with_unknown.get_latent_representation(other)
    )


def test_dispersion_by_label_has_a_row_for_the_unknown():
    adata = cells()
    model = build(
        adata, setup={"unlabeled_category": "unknown"}, dispersion="gene-label", gene_likelihood="nb"
    )
    assert model.module.likelihood.log_theta.shape == (4, 20)
    del adata.obs["kind"]
    assert np.isfinite(model.get_reconstruction_error(adata.copy()))


def test_a_conditional_sparse_coder_takes_labels():
    model = build(cells(), lc.model.VSC, conditional=True)
    other = cells(seed=1)
    other.obs["kind"] = pd.Categorical(["b"] * other.n_obs)
    assert (markers(model.get_denoised(other)).argmax(1) == 1).mean() > 0.95
    free = build(cells(), lc.model.VSC)
    assert free.module.covariates.n_labels == 0
    assert not free.module.uses_labels
