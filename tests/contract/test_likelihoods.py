"""Every likelihood and dispersion in every model: trains, gives finite results, survives saving."""

import numpy as np
import pytest

import latentcell as lc
from latentcell._errors import DataError

LAYERS = {
    "normal": "log",
    "student_t": "log",
    "bernoulli": "unit",
    "poisson": None,
    "nb": None,
    "zinb": None,
}
CASES = [(likelihood, "gene") for likelihood in LAYERS] + [
    (likelihood, dispersion)
    for likelihood in ("nb", "zinb")
    for dispersion in ("gene-batch", "gene-label", "gene-cell")
]


@pytest.mark.parametrize(("likelihood", "dispersion"), CASES)
def test_trains_reconstructs_and_survives_saving(
    make, Model, any_likelihood, cells, likelihood, dispersion, tmp_path
):
    keys = {"layer": LAYERS[likelihood], "batch_key": "batch", "labels_key": "label"}
    if make.counts_only(Model) and LAYERS[likelihood] is not None:
        with pytest.raises(DataError, match=f"gene_likelihood must be one of .*'{likelihood}'.* use AE"):
            make.build(Model, cells, keys=keys, gene_likelihood=likelihood)
        return
    model = make.train(
        Model,
        cells,
        keys=keys,
        gene_likelihood=likelihood,
        dispersion=dispersion,
        max_epochs=5,
        train_arguments={"lr": 0.01},
    )
    # weights of penalties may rise in training, and the loss with them
    curve = "reconstruction_loss_train" if model.module.penalties else "train_loss"
    losses = model.history[curve].to_numpy()[:, 0]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    expected = model.get_reconstruction()
    assert np.isfinite(expected).all()
    matrix = cells.X.toarray() if LAYERS[likelihood] is None else cells.layers[LAYERS[likelihood]]
    assert expected.mean() == pytest.approx(matrix.mean(), rel=0.5)
    errors = model.get_reconstruction_error(return_mean=False)
    model.save(tmp_path / "model")
    loaded = lc.model.load(tmp_path / "model", cells)
    np.testing.assert_array_equal(loaded.get_reconstruction(), expected)
    np.testing.assert_array_equal(loaded.get_reconstruction_error(return_mean=False), errors)


def test_dispersion_by_batch_finds_the_noisier_batch(make, Model, any_likelihood):
    rng = np.random.default_rng(0)
    cells = make.cells(n_cells=400, n_genes=10)
    noisy = (cells.obs["batch"] == cells.obs["batch"].cat.categories[0]).to_numpy()
    theta = np.where(noisy, 0.5, 50.0)[:, None]
    cells.X = rng.poisson(rng.gamma(theta, 5.0 / theta, size=cells.shape)).astype(np.float32)
    cells.X[:, 0] += 1
    model = make.train(
        Model,
        cells,
        keys={"batch_key": "batch"},
        gene_likelihood="nb",
        dispersion="gene-batch",
        n_latent=1,
        max_epochs=25,
        train_arguments={"lr": 0.05},
    )
    of_noisy, of_calm = model.module.likelihood.log_theta.detach().mean(1).tolist()
    assert of_noisy < of_calm - 1.0


@pytest.mark.parametrize(
    ("likelihood", "dispersion", "message"),
    [
        ("nb", "cell", "dispersion must be one of"),
        ("nb", "gene-batch", r"needs setup_anndata\(batch_key="),
        ("zinb", "gene-label", r"needs setup_anndata\(labels_key="),
        ("poisson", "gene-cell", "is for 'nb' and 'zinb'"),
        ("normal", "gene-batch", "is for 'nb' and 'zinb'"),
    ],
)
def test_dispersions_that_do_not_fit_are_refused(
    make, Model, any_likelihood, cells, likelihood, dispersion, message
):
    if dispersion == "gene-label" and make.needs_labels(Model):
        pytest.skip("this model has labels in any case")
    if make.counts_only(Model) and likelihood not in ("nb", "zinb", "poisson"):
        pytest.skip("this model is for counts in any case")
    with pytest.raises(DataError, match=message):
        make.build(Model, cells, gene_likelihood=likelihood, dispersion=dispersion)
