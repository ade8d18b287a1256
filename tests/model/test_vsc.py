"""The sparse coder finds programmes and who runs them; its codes, loadings and bound fit together."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

import latentcell as lc
from latentcell._errors import DataError, NotTrainedError
from latentcell.nn.schedules import Linear


@pytest.fixture(scope="module")
def found(make):
    """A sparse coder with more dimensions than there are programmes."""
    return make.fit(
        lc.model.VSC,
        make.programme_cells(300),
        max_epochs=80,
        lr=5e-3,
        batch_size=32,
        n_latent=6,
        hidden=(32,),
        alpha=0.3,
        beta=0.25,
        beta_information=Linear(0.25, 0.0, begin=0.5),
        beta_usage=5.0,
        transform="softplus",
        decoder="linear",
        non_negative=True,
        gene_scale="gene",
    )


def matched(found, truth):
    """Dimension that stands for each programme: the pairs of highest correlation."""
    correlation = np.corrcoef(found.T, truth.T)[: found.shape[1], found.shape[1] :]
    dims, programmes = linear_sum_assignment(-np.nan_to_num(correlation))
    return dims[np.argsort(programmes)], correlation


def test_programmes_are_recovered_with_their_genes_and_cells(found):
    truth, loadings = found.adata.obsm["programmes"], found.adata.varm["loadings"]
    codes = found.get_latent_representation(hard=False)
    dims, correlation = matched(codes, truth)
    assert (correlation[dims, np.arange(4)] > 0.9).all()
    inclusion = found.get_inclusion_probability()
    for programme, dim in enumerate(dims):
        on = truth[:, programme] > 0
        assert roc_auc_score(on, inclusion[:, dim]) > 0.95
        weights = found.get_loadings()[:, dim]
        own = loadings[:, programme] > 0
        assert weights[own].min() > weights[~own].max()


def test_hard_codes_are_the_levels_of_the_dimensions_that_are_on(found):
    hard, mean = found.get_latent_representation(hard=True), found.get_latent_representation(hard=False)
    gamma = found.get_inclusion_probability()
    assert ((gamma >= 0) & (gamma <= 1)).all()
    np.testing.assert_array_equal(hard == 0, gamma <= 0.5)
    np.testing.assert_allclose((hard * gamma)[gamma > 0.5], mean[gamma > 0.5], rtol=1e-5)
    assert (mean > 0).all()
    assert 0.3 < (hard == 0).mean() < 0.95


def test_code_times_loadings_is_the_reconstruction(found):
    """In whatever unit dimensions are reported: codes and loadings are in the same one."""
    bias = found.module.decoder.bias["mean"].detach().numpy()
    by_hand = found.get_latent_representation(hard=False) @ found.get_loadings().T + bias
    np.testing.assert_allclose(found.get_reconstruction(), by_hand, rtol=1e-4, atol=1e-4)
    assert (found.get_loadings() > 0).all()
    assert found.get_loadings().dtype == np.float32


def test_draws_have_exact_zeros_as_often_as_the_gates_say(found):
    draws = np.stack([found.get_latent_representation(give_mean=False, seed=seed) for seed in range(40)])
    gamma = found.get_inclusion_probability()
    np.testing.assert_allclose((draws != 0).mean((0, 1)), gamma.mean(0), atol=0.03)
    assert (draws >= 0).all()
    mean, variance = found.get_latent_representation(return_dist=True)
    q = found.module.encode({"X": torch.as_tensor(found.adata.X)}).qz
    np.testing.assert_allclose(mean, q.mean.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, q.variance.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("transform", "decoder"), [("identity", "mlp"), ("softplus", "linear")])
def test_negative_elbo_bounds_the_likelihood_by_importance_sampling(make, transform, decoder):
    adata = make.linear_cells(50, n_genes=6)
    arguments = {"n_latent": 2, "hidden": (8,), "alpha": 0.5, "beta": 1.0, "beta_information": None}
    arguments |= {"beta_usage": None, "transform": transform, "decoder": decoder, "non_negative": False}
    model = make.fit(lc.model.VSC, adata, max_epochs=40, lr=0.01, **arguments)
    elbo = model.get_elbo(n_samples=200, return_mean=False)
    module, n = model.module, 4000
    batch = {"X": torch.as_tensor(adata.X)}
    with torch.inference_mode():
        q, p = module.encode(batch).qz, module.latent.prior.distribution()
        before = q.sample((n,))
        z = torch.where(before == 0, 0.0, module.latent.transform(before))
        _, library, covariates = module.read(batch)
        px = module.generative(z, library, covariates)["px"]
        log_weight = px.log_prob(batch["X"]).sum(-1) + (p.log_prob(before) - q.log_prob(before)).sum(-1)
    log_likelihood = logsumexp(log_weight.double().numpy(), axis=0) - np.log(n)
    assert elbo.mean() > -log_likelihood.mean()
    assert (elbo > -log_likelihood - 0.5).mean() > 0.97
    assert elbo.mean() == pytest.approx(-log_likelihood.mean(), rel=0.25)


@pytest.mark.parametrize("alpha", [0.15, 0.6])
def test_usage_holds_every_dimension_near_alpha(make, alpha):
    adata = make.programme_cells(200)
    arguments = {"n_latent": 4, "hidden": (16,), "beta_usage": 50.0, "alpha": alpha}
    model = make.fit(lc.model.VSC, adata, max_epochs=30, lr=5e-3, batch_size=50, **arguments)
    np.testing.assert_allclose(model.get_inclusion_probability().mean(0), alpha, atol=0.12)


def test_a_sparse_coder_may_be_signed_and_deep(make):
    adata = make.linear_cells(60)
    arguments = {"n_latent": 3, "hidden": (8,), "transform": "identity"}
    signed = make.fit(lc.model.VSC, adata, max_epochs=5, non_negative=False, **arguments)
    assert (signed.get_latent_representation(hard=False) < 0).any()
    assert (signed.get_loadings() < 0).any()
    deep = make.fit(lc.model.VSC, adata, max_epochs=1, decoder="mlp", **arguments)
    with pytest.raises(DataError, match="only a linear decoder has loadings; .*decoder='linear'"):
        deep.get_loadings()


def test_loadings_of_an_untrained_model_are_refused(make):
    adata = make.linear_cells(20)
    lc.model.VSC.setup_anndata(adata)
    with pytest.raises(NotTrainedError):
        lc.model.VSC(adata, decoder="linear").get_loadings()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder": "tree"}, "decoder must be 'linear' or 'mlp', got 'tree'"),
        ({"gate": "open"}, "gate must be 'concrete' or 'sigmoid', got 'open'"),
        ({"alpha": 1.0}, "alpha is a prior probability strictly between 0 and 1"),
        ({"transform": "cube"}, "unknown activation 'cube'"),
    ],
    ids=str,
)
def test_choices_that_there_are_not_are_refused(make, arguments, message):
    adata = make.linear_cells(20)
    lc.model.VSC.setup_anndata(adata)
    with pytest.raises(ValueError, match=message):
        lc.model.VSC(adata, **arguments)


def test_temperature_is_recorded_and_reaches_its_end(make):
    model = make.fit(
        lc.model.VSC,
        make.linear_cells(40),
        max_epochs=3,
        n_latent=2,
        gate="sigmoid",
        temperature=Linear(50, 200),
    )
    assert model.history["temperature"]["temperature"].iloc[-1] == 200
