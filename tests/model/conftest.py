from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest


def linear_cells(n_cells: int = 300, n_genes: int = 12, n_factors: int = 2, seed: int = 0) -> ad.AnnData:
    """Cells that are a linear map of a few normal factors (obsm["factors"]) plus noise."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_cells, n_factors))
    loadings = rng.normal(size=(n_factors, n_genes)) * 2
    x = (
        factors @ loadings
        + rng.normal(size=n_genes)
        + rng.normal(size=(n_cells, n_genes)) * rng.uniform(0.5, 1, n_genes)
    )
    return ad.AnnData(x.astype(np.float32), obsm={"factors": factors}, varm={"loadings": loadings.T})


def programme_cells(
    n_cells: int = 400, n_genes: int = 40, n_programmes: int = 4, seed: int = 0
) -> ad.AnnData:
    """Cells that run some of four programmes (obsm["programmes"], mostly 0) of ten genes each, plus noise."""
    rng = np.random.default_rng(seed)
    programmes = rng.gamma(4.0, 0.5, size=(n_cells, n_programmes)) * (
        rng.random((n_cells, n_programmes)) < 0.3
    )
    loadings = np.kron(np.eye(n_programmes), np.ones(n_genes // n_programmes)) * rng.uniform(
        0.7, 1.3, n_genes
    )
    x = programmes @ loadings + rng.normal(size=(n_cells, n_genes)) * 0.3
    return ad.AnnData(x.astype(np.float32), obsm={"programmes": programmes}, varm={"loadings": loadings.T})


def fit(Model, adata, *, max_epochs, lr=None, batch_size=None, seed=None, **arguments):
    """A trained model on `adata`."""
    Model.setup_anndata(adata)
    model = Model(adata, **arguments)
    fixed = {"accelerator": "cpu", "weight_decay": 0.0, "enable_progress_bar": False}
    model.train(max_epochs, lr=lr, batch_size=batch_size, seed=seed, **fixed)
    return model


@pytest.fixture(scope="session")
def make():
    """Makers of cells with known factors, and of models trained on them."""
    return SimpleNamespace(linear_cells=linear_cells, programme_cells=programme_cells, fit=fit)
