"""A linear autoencoder is PCA; the document's preset is the document's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

import latentcell as lc
from latentcell.nn.schedules import Constant


def test_a_linear_autoencoder_reaches_the_error_of_pca_and_not_less(make):
    adata = make.linear_cells()
    model = make.fit(
        lc.model.AE,
        adata,
        max_epochs=60,
        lr=0.02,
        batch_size=50,
        n_latent=2,
        hidden=(),
        norm=None,
        dropout=0.0,
        gene_scale=0.5**0.5,
    )
    pca = PCA(2).fit(adata.X)
    best = np.square(adata.X - pca.inverse_transform(pca.transform(adata.X))).sum(1).mean()
    error = np.square(adata.X - model.get_reconstruction()).sum(1).mean()
    assert best * (1 - 1e-4) < error < 1.05 * best
    constant = adata.n_vars / 2 * np.log(np.pi)
    assert model.get_reconstruction_error() == pytest.approx(error + constant, rel=1e-4)
    # the code spans the plane of the first two components
    codes = model.get_latent_representation()
    codes = np.linalg.qr(codes - codes.mean(0))[0]
    scores = np.linalg.qr(pca.transform(adata.X))[0]
    assert np.linalg.svd(codes.T @ scores)[1].min() > 0.99


def sizes(model, part):
    return [layer["size"] for layer in model.get_architecture() if layer["part"] == part]


@pytest.mark.parametrize("Model", [lc.model.AE, lc.model.VAE, lc.model.VSC])
def test_preset_of_the_pbmc3k_document(make, Model):
    """d-128-32-16-6 and back, first linear, ReLU, squared error, Adam 1e-3, batch 256, 200 epochs, beta 2."""
    adata = make.linear_cells(n_cells=20)
    Model.setup_anndata(adata)
    model = Model.from_preset("pbmc3k-2020", adata)
    n_heads = len(model.module.latent.names)
    assert sizes(model, "encoder") == [128, 32] + [16] * n_heads
    assert sizes(model, "decoder") == [16, 32, 128]
    assert sizes(model, "latent")[-1] == 6
    layers = [type(layer).__name__ for layer in model.module.encoder.layers]
    assert layers == ["InputLinear", "Linear", "ReLU"]
    assert model.gene_likelihood == "normal"
    np.testing.assert_allclose(model.module.likelihood.scale().detach(), 0.5**0.5, rtol=1e-6)
    assert model.train_defaults["lr"] == 1e-3
    assert model.train_defaults["lr_schedule"] == Constant(1.0)
    assert model.train_defaults["batch_size"] == 256
    assert model.train_defaults["max_epochs"] == 200
    if Model is lc.model.AE:
        assert type(model.module.latent.activation).__name__ == "ReLU"
    else:
        weights = {v for name, v in model.module.schedule_values(0.5).items() if name.startswith("beta")}
        assert weights == {2.0}
    if Model is lc.model.VSC:  # the paper's slope, from 50 to 200
        assert model.module.latent.gate == "sigmoid"
        slopes = [model.module.schedule_values(progress)["temperature"] for progress in (0.0, 0.5, 1.0)]
        assert slopes == [50.0, 125.0, 200.0]


def test_code_activation_shapes_the_code(make):
    model = make.fit(
        lc.model.AE, make.linear_cells(50), max_epochs=1, n_latent=4, hidden=(8,), code_activation="relu"
    )
    codes = model.get_latent_representation()
    assert (codes >= 0).all()
    assert (codes == 0).any()
