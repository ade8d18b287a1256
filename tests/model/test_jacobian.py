"""What dimensions do to genes: the decoder's derivative against differences, loadings and a slow loop."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import latentcell as lc
from latentcell._errors import DataError, NotTrainedError

SMOOTH = {"n_latent": 3, "hidden": (8,), "activation": "silu", "seed": 1}
STEP = 0.02


def cells_of(kind):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 3.0, size=(3, 12))[np.arange(40) % 3]).astype(np.float32)
    counts[:, 0] += 1
    adata = ad.AnnData(counts if kind == "counts" else np.log1p(counts))
    adata.obs_names = [f"cell{i}" for i in range(40)]
    adata.var_names = [f"gene{j}" for j in range(12)]
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(40) % 2])
    adata.obs["kind"] = pd.Categorical(np.array(["x", "y", "z"])[np.arange(40) % 3])
    return adata


def fitted(model_class, kind, epochs=5, labels_key=None, **kwargs):
    adata = cells_of(kind)
    model_class.setup_anndata(adata, batch_key="batch", labels_key=labels_key)
    model = model_class(adata, **kwargs)
    model.train(max_epochs=epochs, enable_progress_bar=False)
    return model, adata


def differences(model, adata, codes, expression, **told):
    """Central differences of decoded expression, cell by cell and dimension by dimension."""
    found = np.zeros((len(codes), adata.n_vars, codes.shape[1]))
    for i, code in enumerate(codes):
        for dim in range(codes.shape[1]):
            there = np.repeat(code[None], 2, axis=0)
            there[:, dim] += [-STEP, STEP]
            here = {name: str(adata.obs[column].iloc[i]) for name, column in told.items()}
            low, high = expression(model.decode(there, **here))
            found[i, :, dim] = (high - low) / (2 * STEP)
    return found


def log1p_cp10k(new):
    return np.log1p(1e4 * new.X / new.obs["library_size"].to_numpy()[:, None]).astype(float)


def log_share(new):
    return np.log(new.X / new.obs["library_size"].to_numpy()[:, None]).astype(float)


@pytest.mark.parametrize(
    ("name", "kind", "scale", "expression", "likelihood"),
    [
        ("VAE", "counts", None, log1p_cp10k, None),
        ("VAE", "counts", "log", log_share, None),
        ("VAE", "counts", "log1p", log1p_cp10k, "zinb"),
        ("VAE", "counts", "log", log_share, "zinb"),
        ("VAE", "log", None, lambda new: new.X.astype(float), None),
        ("AE", "log", "data", lambda new: new.X.astype(float), None),
        ("CVAE", "counts", "log1p", log1p_cp10k, None),
    ],
)
def test_derivatives_are_those_of_central_differences(name, kind, scale, expression, likelihood):
    labels = {"labels_key": "kind"} if name == "CVAE" else {}
    chosen = {} if likelihood is None else {"gene_likelihood": likelihood}
    model, adata = fitted(getattr(lc.model, name), kind, **labels, **chosen, **SMOOTH)
    if likelihood == "zinb":  # zero inflation that differs between genes and depends on the code
        with torch.no_grad():
            head = model.module.decoder.heads["dropout"]
            for weight in head.parameters():
                weight.add_(0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    codes = model.get_latent_representation()
    told = {"batch": "batch"} | ({"labels": "kind"} if labels else {})
    slow = differences(model, adata, codes, expression, **told)
    found = model.get_latent_jacobian(scale=scale)
    assert found.scale == (scale or ("log1p" if kind == "counts" else "data"))
    assert np.abs(slow).mean() > 0.01
    np.testing.assert_allclose(found.mean, slow.mean(0), atol=5e-3)
    np.testing.assert_allclose(found.std, slow.std(0), atol=5e-3)
    assert found.n_cells.tolist() == [40, 40, 40]


@pytest.mark.parametrize(("kind", "scale"), [("log", None), ("counts", "log")])
def test_a_linear_decoder_has_its_loadings_in_every_cell(kind, scale):
    model, _ = fitted(lc.model.VSC, kind, n_latent=4, hidden=(8,))
    found = model.get_latent_jacobian(scale=scale)
    assert not np.allclose(model._unit, 1)
    np.testing.assert_allclose(found.mean, model.get_loadings(), rtol=1e-5)
    np.testing.assert_allclose(found.std, 0, atol=1e-6)


def test_a_sparse_dimension_is_looked_at_where_it_is_on():
    model, adata = fitted(lc.model.VSC, "counts", n_latent=4, hidden=(8,))
    probability = model.get_inclusion_probability().astype(float)
    logits = np.log(probability / (1 - probability))
    cuts = [*(np.quantile(logits[:, dim], 1 - share) for dim, share in enumerate((0.2, 0.5, 0.8))), 50.0]
    with torch.no_grad():
        model.module.latent.heads.heads["inclusion"][1].bias -= torch.tensor(cuts)
    every = model.get_inclusion_probability() > 0.5
    assert every.sum(axis=0).tolist() == [8, 20, 32, 0]
    every[:, 3] = True  # on in no cell: all of them
    found = model.get_latent_jacobian()
    assert found.n_cells.tolist() == [8, 20, 32, 40]
    alone = [model.get_latent_jacobian(indices=[i]).mean for i in range(adata.n_obs)]
    for dim in range(4):
        mean = np.mean([alone[i][:, dim] for i in np.flatnonzero(every[:, dim])], axis=0)
        np.testing.assert_allclose(found.mean[:, dim], mean, rtol=1e-5)


def test_spread_of_the_data_is_on_the_same_scale():
    model, adata = fitted(lc.model.VAE, "counts", **SMOOTH)
    normalised = np.log1p(1e4 * adata.X / adata.X.sum(1, keepdims=True))
    np.testing.assert_allclose(model.get_latent_jacobian().data_std, normalised.std(0), rtol=1e-4)
    model, adata = fitted(lc.model.VAE, "log", **SMOOTH)
    np.testing.assert_allclose(model.get_latent_jacobian().data_std, adata.X.std(0), rtol=1e-4)


def test_parts_batches_and_samples_are_of_the_whole():
    model, adata = fitted(lc.model.VAE, "counts", **SMOOTH)
    whole = model.get_latent_jacobian()
    part = model.get_latent_jacobian(genes=["gene7", "gene2"], dims=[2, 0], batch_size=7)
    np.testing.assert_allclose(part.mean, whole.mean[[7, 2]][:, [2, 0]], rtol=1e-5)
    np.testing.assert_allclose(part.std, whole.std[[7, 2]][:, [2, 0]], rtol=1e-4, atol=1e-7)
    rows = np.sort(np.random.default_rng(3).choice(40, 9, replace=False))
    sample = model.get_latent_jacobian(max_cells=9, seed=3)
    one = model.get_latent_jacobian(dims=np.int64(2))
    np.testing.assert_allclose(one.mean, whole.mean[:, [2]], rtol=1e-5)
    masked = model.get_latent_jacobian(dims=[True, False, True])
    np.testing.assert_allclose(masked.mean, whole.mean[:, [0, 2]], rtol=1e-5)
    np.testing.assert_array_equal(sample.mean, model.get_latent_jacobian(indices=rows).mean)
    assert not np.array_equal(sample.mean, whole.mean)
    shuffled = adata[:, ::-1].copy()
    np.testing.assert_allclose(model.get_latent_jacobian(shuffled).mean, whole.mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dims": [3]}, "dimensions are 0 to 2"),
        ({"dims": []}, "dimensions are 0 to 2"),
        ({"scale": "data"}, "use 'log1p' or 'log'"),
        ({"scale": "log2"}, "scale must be one of"),
        ({"max_cells": 0}, "max_cells must be at least 1"),
        ({"genes": ["none"]}, "none"),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, message):
    model, _ = fitted(lc.model.VAE, "counts", epochs=1, **SMOOTH)
    with pytest.raises(DataError, match=message):
        model.get_latent_jacobian(**kwargs)


def test_an_untrained_model_has_no_effects():
    adata = cells_of("counts")
    lc.model.VAE.setup_anndata(adata)
    with pytest.raises(NotTrainedError):
        lc.model.VAE(adata, **SMOOTH).get_latent_jacobian()
