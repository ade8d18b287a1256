"""Training that breaks: the first loss that is not finite names step, cells, genes and cause."""

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

import latentcell as lc
from latentcell._errors import TrainingDivergedError
from latentcell.nn.schedules import Constant

LAYERS = {
    "normal": "log",
    "student_t": "log",
    "bernoulli": "unit",
    "poisson": None,
    "nb": None,
    "zinb": None,
}


def make_cells(mostly_zeros=False):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.1 if mostly_zeros else 2.0, (40, 12)).astype(np.float32)
    counts[:, 0] += 1
    kind = sparse.csr_matrix if mostly_zeros else np.asarray
    adata = ad.AnnData(kind(counts))
    adata.layers["log"], adata.layers["unit"] = kind(np.log1p(counts)), kind(counts / counts.max())
    adata.obs_names = [f"cell{i}" for i in range(40)]
    adata.var_names = [f"gene{j}" for j in range(12)]
    return adata


def build(likelihood, adata):
    lc.model.VAE.setup_anndata(adata, layer=LAYERS[likelihood])
    return lc.model.VAE(adata, n_latent=2, hidden=(4,), gene_likelihood=likelihood)


def poison(model, layer, value):
    """Change the value of gene 5 of cell 17, after it was checked, where no mark is looked at."""
    adata, model._mark = model.adata, None
    matrix = adata.X if layer is None else adata.layers[layer]
    if sparse.issparse(matrix):
        matrix = matrix.tolil()
    matrix[17, 5] = value
    matrix = matrix.tocsr() if sparse.issparse(matrix) else matrix
    if layer is None:
        adata.X = matrix
    else:
        adata.layers[layer] = matrix


@pytest.mark.parametrize("mostly_zeros", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("likelihood", LAYERS)
def test_data_that_are_not_finite_are_named(likelihood, mostly_zeros):
    adata = make_cells(mostly_zeros)
    model = build(likelihood, adata)
    poison(model, LAYERS[likelihood], np.nan)
    with pytest.raises(TrainingDivergedError) as error:
        model.train(2, accelerator="cpu", enable_progress_bar=False)
    message = str(error.value)
    assert "loss became nan at step" in message
    assert "'cell17'" in message
    assert "the data changed after they were checked; gene 'gene5' of cell 'cell17' is nan" in message
    assert "train(lr=...)" in message
    assert all(bool(torch.isfinite(value).all()) for value in model.module.state_dict().values())
    assert not model.is_trained


@pytest.mark.parametrize("likelihood", ["normal", "student_t", "poisson"])
def test_a_value_far_beyond_the_others_is_named_and_the_weights_before_are_put_back(likelihood):
    """Negative binomials bear such a value: their loss grows with its logarithm."""
    adata = make_cells()
    model = build(likelihood, adata)
    model.train(1, accelerator="cpu", enable_progress_bar=False)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    poison(model, LAYERS[likelihood], 1e38)
    with pytest.raises(TrainingDivergedError) as error:
        model.train(1, accelerator="cpu", enable_progress_bar=False)
    message = str(error.value)
    assert "far beyond the others; gene 'gene5' of cell 'cell17' is 1e+38" in message
    assert "'cell17'" in message
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("likelihood", LAYERS)
def test_a_learning_rate_too_high_is_called_the_cause(likelihood):
    model = build(likelihood, make_cells())
    with pytest.raises(
        TrainingDivergedError, match=r"(learning rate too high|weights became).*train\(lr=\.\.\.\)"
    ):
        model.train(20, accelerator="cpu", lr=1e25, lr_schedule=Constant(1.0), enable_progress_bar=False)
    assert all(bool(torch.isfinite(value).all()) for value in model.module.state_dict().values())
