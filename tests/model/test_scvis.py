"""SCVIS: places new cells beside their kind, knows outliers, keeps its principal axes."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import latentcell as lc
from latentcell._errors import DataError
from latentcell.nn.schedules import Linear
from latentcell.testing import make_cells

FIXED = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def model():
    cells = make_cells(n_cells=300)
    lc.model.SCVIS.setup_anndata(cells)
    model = lc.model.SCVIS(cells, hidden=(32,), n_components=10)
    model.train(60, batch_size=100, lr=0.01, **FIXED)
    return model


@pytest.fixture(scope="module")
def new(model):
    """Cells of the same three kinds, which the model has not seen; and their kinds."""
    cells = make_cells(n_cells=360)[300:].copy()
    rng = np.random.default_rng(5)
    seen = model.adata.X.toarray()
    kinds = cells.obs["label"].to_numpy()
    means = {kind: seen[(model.adata.obs["label"] == kind).to_numpy()].mean(0) for kind in np.unique(kinds)}
    cells.X = rng.poisson([means[kind] for kind in kinds]).astype(np.float32)
    return cells, kinds


def test_new_cells_are_placed_beside_their_kind(model, new, tmp_path):
    """Also by a model that was saved: it has its principal axes with it."""
    cells, kinds = new
    known = model.adata.obs["label"].to_numpy()
    places = model.get_latent_representation()
    of_trained = cross_val_score(KNeighborsClassifier(10), places, known, cv=10).mean()
    of_new = KNeighborsClassifier(10).fit(places, known).score(model.get_latent_representation(cells), kinds)
    assert of_trained > 0.9
    assert of_new > of_trained - 0.05
    model.save(tmp_path / "map")
    loaded = lc.model.SCVIS.load(tmp_path / "map")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(cells), model.get_latent_representation(cells)
    )
    np.testing.assert_array_equal(loaded.get_log_likelihood(cells), model.get_log_likelihood(cells))


def test_cells_unlike_all_others_have_low_log_likelihoods(model, new):
    cells = new[0].copy()
    rng = np.random.default_rng(0)
    cells.X[:5] = rng.permuted(cells.X[:5], axis=1)  # the same counts, in other genes
    found = model.get_log_likelihood(cells)
    assert roc_auc_score(np.arange(60) >= 5, found) > 0.9
    np.testing.assert_array_equal(found, -model.get_reconstruction_error(cells, return_mean=False))


def test_the_neighbours_term_falls(model):
    curve = model.history["neighbors_train"]["neighbors_train"].to_numpy()
    assert curve[-5:].mean() < 0.9 * curve[0]


def test_without_the_term_it_is_a_vae_of_principal_components():
    cells = make_cells()
    lc.model.SCVIS.setup_anndata(cells, layer="log")
    model = lc.model.SCVIS(cells, hidden=(8,), neighbors=0.0)
    assert model.module.penalties == ()
    assert model.params["n_components"] == 20  # no more than there are genes
    model.train(2, **FIXED)
    found = model.get_architecture()
    assert found[0]["detail"] == "20 principal components"
    assert "Student's t of 20 principal components" in found[-1]["detail"]


def test_the_weight_follows_its_schedule():
    cells = make_cells()
    lc.model.SCVIS.setup_anndata(cells)
    model = lc.model.SCVIS(cells, hidden=(8,), neighbors=Linear(0.0, 30.0))
    model.train(4, batch_size=20, **FIXED)
    assert model.history["neighbors_weight"]["neighbors_weight"].iloc[-1] == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": 0}, "n_components must be at least 1, got 0"),
        ({"perplexity": 0.5}, "perplexity must be at least 1, got 0.5"),
        ({"neighbors": -1.0}, "neighbors must be 0 or more throughout training, got -1"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    cells = make_cells()
    lc.model.SCVIS.setup_anndata(cells)
    with pytest.raises(DataError, match=message):
        lc.model.SCVIS(cells, **arguments)
