"""VASC: which values are lost, what is decoded, what cannot be."""

import numpy as np
import pytest

import latentcell as lc
from latentcell._errors import DataError, LatentCollapseWarning
from latentcell.nn.schedules import Linear
from latentcell.testing import make_cells

FIXED = {"accelerator": "cpu", "enable_progress_bar": False, "lr": 0.01}


def build(layer="log", **arguments):
    cells = make_cells(n_cells=90)
    lc.model.VASC.setup_anndata(cells, layer=layer)
    return lc.model.VASC(cells, hidden=(16,), **arguments)


def test_the_loss_of_held_out_cells_is_the_exact_one():
    """Value by value from what the model says of itself: decoded share, probability of loss."""
    model = build(steepness=2.0)
    model.train(5, **FIXED)
    y = model.adata.layers["log"] / model.module.likelihood.largest.item()
    lost = model.get_dropout_probability().astype(float)
    x = np.sqrt(-np.log(lost) / 2.0)
    np.testing.assert_allclose(
        model.get_reconstruction() / model.module.likelihood.largest.item(), (1 - lost) * x, rtol=1e-3
    )
    kept = (1 - lost) * np.exp(y * np.log(x) + (1 - y) * np.log1p(-x))
    expected = -np.log(np.where(y == 0, lost + (1 - lost) * (1 - x), kept)).sum(1)
    np.testing.assert_allclose(model.get_reconstruction_error(return_mean=False), expected, rtol=1e-3)


def test_the_largest_training_value_is_1_also_of_log_counts():
    model = build()
    assert model.module.likelihood.largest.item() == pytest.approx(model.adata.layers["log"].max())
    of_counts = build(layer=None)
    counts = of_counts.adata.X.toarray()
    largest = np.log1p(1e4 * counts / counts.sum(1, keepdims=True)).max()
    assert of_counts.module.likelihood.values.largest.item() == pytest.approx(largest)
    assert (model.params["data"], of_counts.params["data"]) == ("values", "counts")


def test_genes_that_are_lost_more_often_are_said_to_be():
    """Half of the genes have their values set to 0 in 6 of 10 cells, whatever the cell."""
    rng = np.random.default_rng(0)
    cells = make_cells(n_cells=300)
    values = cells.layers["log"] + 1.0
    values[:, ::2] *= rng.random((300, 10)) > 0.6
    cells.layers["log"] = values
    lc.model.VASC.setup_anndata(cells, layer="log")
    model = lc.model.VASC(cells, hidden=(16,), steepness=8.0)
    model.train(200, **FIXED)
    lost = model.get_dropout_probability().mean(0)
    assert lost[::2].mean() > 2 * lost[1::2].mean()


def test_the_temperature_follows_its_schedule():
    model = build(temperature=Linear(2.0, 0.5))
    model.train(3, **FIXED)
    found = model.history["temperature"]["temperature"].to_numpy()
    assert (np.diff(found) < 0).all()
    assert found[-1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": Linear(1.0, 0.0)}, "temperature must be above 0"),
        ({"steepness": 0}, "steepness must be above 0, got 0"),
        ({"data": "logs"}, r"data must be one of \('auto', 'counts', 'values'\), got 'logs'"),
        ({"data": "counts"}, "fractional values where counts are needed"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        build(**arguments)


def test_negative_values_are_named():
    cells = make_cells()
    cells.layers["log"][3, 4] = -0.5
    lc.model.VASC.setup_anndata(cells, layer="log")
    with pytest.raises(
        DataError, match=r"holds negative values where none may be: cell 'cell3', gene 'gene4'"
    ):
        lc.model.VASC(cells)


def test_cells_drawn_anew_are_values_like_the_data():
    """The cross-entropy is a loss: its zero-inflated Bernoulli draws would be 0 or the largest value."""
    model = build()
    model.train(40, **FIXED)
    drawn, values = model.posterior_predictive_sample().todense(), model.adata.layers["log"]
    assert drawn.shape == values.shape
    assert len(np.unique(drawn)) > 100
    np.testing.assert_allclose(drawn.mean(), model.get_reconstruction().mean(), rtol=0.1)
    np.testing.assert_allclose(drawn.std(axis=0).mean(), values.std(axis=0).mean(), rtol=0.25)


def test_where_the_probability_of_loss_is_found():
    model = build()
    model.train(1, **FIXED)
    with pytest.raises(DataError, match=r"has no dropout; see get_dropout_probability\(\)"):
        model.get_denoised(which="dropout")


def test_a_code_that_is_the_same_for_all_cells_is_told():
    model = build(beta=100.0)
    with pytest.warns(LatentCollapseWarning, match="all cells have the same code: this VASC learned nothing"):
        model.train(200, **FIXED)
    assert np.ptp(model.get_latent_representation(), axis=0).max() < 0.01
