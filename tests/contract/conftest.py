"""The models that keep the contract, and the small cells they keep it on.

A new model joins by one line in MODELS; the tests of this folder then hold for it. A test runs for every
model if it asks for `Model` or `trained`; for those with a posterior if it asks for `variational`; for those
that model any kind of data, not only counts, if it asks for `any_data`; and for every pair of a model and a
method that looks at cells if it asks for `method`.
"""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc

MODELS = {
    "AE": {},
    "VAE": {},
    "VSC": {},
    "CVAE": {"labels_key": "label"},
    "DCA": {},
    "DisentangledVAE": {},
}
"""Every model, with the keys that it cannot do without."""

COUNTS_ONLY = {"DCA"}

RESULTS = (
    "get_latent_representation",
    "get_reconstruction",
    "get_reconstruction_error",
    "get_elbo",
    "get_inclusion_probability",
    "get_marginal_ll",
    "get_denoised",
    "get_normalized_expression",
)
"""Every method that looks at cells; which of them a model has is decided by its class."""

SMALL = {"n_latent": 3, "hidden": (8,)}
KEYS = {
    "batch_key": "batch",
    "labels_key": "label",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["age"],
}


def make_cells(n_cells: int = 60, n_genes: int = 20, seed: int = 0) -> ad.AnnData:
    """Counts (X, csr) of three kinds of cells in two batches, with the same on other scales as layers."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    rate = rng.gamma(1.0, 3.0, size=(3, n_genes)) + 0.2
    counts = rng.poisson(rate[kind]).astype(np.float32)
    counts[:, 0] += 1  # no empty cells
    adata = ad.AnnData(sparse.csr_matrix(counts))
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var_names = [f"gene{j}" for j in range(n_genes)]
    adata.layers["log"] = np.log1p(counts)
    adata.layers["unit"] = counts / counts.max()
    adata.obs["batch"] = pd.Categorical(np.array(["Zürich", "北京"])[np.arange(n_cells) % 2])
    adata.obs["label"] = pd.Categorical(np.array(["3", "1", "2"])[kind])  # text that looks like numbers
    adata.obs["donor"] = np.arange(n_cells) % 4 * 10  # numbers that are categories
    adata.obs["age"] = rng.normal(50, 10, size=n_cells)
    adata.obs["size"] = rng.uniform(20, 80, size=n_cells)
    return adata


def build(Model, adata, *, keys=None, **arguments):
    """An untrained model on `adata` itself."""
    Model.setup_anndata(adata, **(MODELS[Model.__name__] | (keys or {})))
    return Model(adata, **(SMALL | arguments))


def train(Model, adata, *, keys=None, max_epochs=2, train_arguments=None, **arguments):
    """A model trained on `adata` itself, at rates that do not hang on the model's defaults."""
    model = build(Model, adata, keys=keys, **arguments)
    fixed = {"accelerator": "cpu", "enable_progress_bar": False, "lr": 1e-3, "weight_decay": 0.0}
    model.train(max_epochs, **(fixed | (train_arguments or {})))
    return model


def pytest_generate_tests(metafunc):
    names = [name for name in MODELS if "variational" not in metafunc.fixturenames or _has(name, "get_elbo")]
    if "any_data" in metafunc.fixturenames:
        names = [name for name in names if name not in COUNTS_ONLY]
    if "method" in metafunc.fixturenames:
        pairs = [(name, method) for name in names for method in RESULTS if _has(name, method)]
        metafunc.parametrize(("Model", "method"), pairs, indirect=["Model"], scope="session")
    elif "Model" in metafunc.fixturenames:
        metafunc.parametrize("Model", names, indirect=True, scope="session")


def _has(name: str, method: str) -> bool:
    return hasattr(getattr(lc.model, name), method)


@pytest.fixture(scope="session")
def Model(request):
    return getattr(lc.model, request.param)


@pytest.fixture
def any_data(Model):
    """Marks a test that is for models of any kind of data."""


@pytest.fixture
def cells() -> ad.AnnData:
    return make_cells()


@pytest.fixture(scope="session")
def new_cells() -> ad.AnnData:
    """Other cells, never trained on. Not to be changed: take a copy."""
    return make_cells(n_cells=55, seed=1)


@pytest.fixture(scope="session")
def make():
    """The functions above, for tests that need cells and models of their own."""
    return SimpleNamespace(
        cells=make_cells, build=build, train=train, KEYS=KEYS, MODELS=MODELS, COUNTS_ONLY=COUNTS_ONLY
    )


@pytest.fixture(scope="session")
def trained(Model):
    """A model of counts without covariates. Not to be changed."""
    return train(Model, make_cells())


@pytest.fixture(scope="session")
def variational(trained):
    """The same, for models whose code has a posterior."""
    return trained


@pytest.fixture(scope="session")
def with_covariates(Model):
    """A model of counts that knows batch, label, donor and age. Not to be changed."""
    return train(Model, make_cells(), keys=KEYS, max_epochs=20, train_arguments={"lr": 0.02})
