"""A linear VAE is factor analysis: its bound, its likelihood, its posterior; beta trades them."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn.decomposition import FactorAnalysis

import latentcell as lc


@pytest.fixture(scope="module")
def linear(make):
    """A VAE whose decoder is one linear map, so that its marginal likelihood is known."""
    return make.fit(
        lc.model.VAE,
        make.linear_cells(),
        max_epochs=100,
        lr=0.02,
        batch_size=50,
        n_latent=2,
        hidden=(),
        norm=None,
        dropout=0.0,
        beta=1.0,
        gene_scale="gene",
    )


def parameters(model):
    """Loadings (genes x 2), intercept and noise variance of a linear VAE."""
    head = model.module.decoder.heads["mean"]
    weight, bias = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
    return weight, bias, model.module.likelihood.scale().detach().double().numpy() ** 2


def log_marginal(model, x):
    weight, bias, noise = parameters(model)
    return multivariate_normal(bias, weight @ weight.T + np.diag(noise)).logpdf(x)


def test_negative_elbo_bounds_the_negative_log_likelihood(linear):
    x = linear.adata.X
    exact = -log_marginal(linear, x)
    elbo = linear.get_elbo(n_samples=200, return_mean=False)
    assert (elbo > exact - 0.5).all()  # Monte Carlo, cell by cell
    assert elbo.mean() > exact.mean()
    # without noise in it, the bound is the KL of the posterior in use to the true one away
    weight, bias, noise = parameters(linear)
    precision = np.eye(2) + weight.T @ (weight / noise[:, None])
    true_mean = np.linalg.solve(precision, weight.T @ ((x - bias) / noise).T).T
    mean, variance = linear.get_latent_representation(return_dist=True)
    delta = mean - true_mean
    gap = 0.5 * (
        (variance @ np.diag(precision))
        + np.einsum("ni,ij,nj->n", delta, precision, delta)
        - 2
        - np.linalg.slogdet(precision)[1]
        - np.log(variance).sum(1)
    )
    np.testing.assert_allclose(elbo.mean() - exact.mean(), gap.mean(), atol=0.05)


def test_it_is_factor_analysis(linear):
    x = linear.adata.X
    best = FactorAnalysis(2, tol=1e-6, max_iter=5000).fit(x).score(x)
    ours = log_marginal(linear, x).mean()
    assert ours < best + 1e-6
    assert ours == pytest.approx(best, abs=0.25)


def test_factors_are_recovered_up_to_a_rotation(linear):
    codes = linear.get_latent_representation()
    codes = np.linalg.qr(codes - codes.mean(0))[0]
    truth = linear.adata.obsm["factors"]
    truth = np.linalg.qr(truth - truth.mean(0))[0]
    assert np.linalg.svd(codes.T @ truth)[1].min() > 0.97


def test_variances_of_the_posterior_are_those_of_the_draws(linear):
    mean, variance = linear.get_latent_representation(return_dist=True)
    np.testing.assert_array_equal(mean, linear.get_latent_representation())
    draws = np.stack([linear.get_latent_representation(give_mean=False, seed=seed) for seed in range(300)])
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * np.sqrt(variance.max() / 300))
    np.testing.assert_allclose(draws.var(0).mean(), variance.mean(), rtol=0.03)


def test_negative_elbo_bounds_the_likelihood_of_counts_by_importance_sampling(make):
    rng = np.random.default_rng(0)
    adata = make.linear_cells(60, n_genes=8)
    adata.X = rng.poisson(np.exp(0.3 * adata.X - 0.3 * adata.X.mean() + 0.5)).astype(np.float32) + 1
    model = make.fit(lc.model.VAE, adata, max_epochs=20, lr=0.01, n_latent=2, hidden=(6,))
    elbo = model.get_elbo(n_samples=100, return_mean=False)
    module, n = model.module, 2000
    batch = {"X": torch.as_tensor(adata.X)}
    with torch.inference_mode():
        code = module.encode(batch, n_samples=n)
        px = module.generative(code.z, module.read(batch)[1], module.read(batch)[2])["px"]
        log_weight = px.log_prob(batch["X"]).sum(-1).double().numpy()
    z, q = code.z.double().numpy(), code.qz
    log_weight += (norm.logpdf(z) - norm.logpdf(z, q.mean.double().numpy(), q.stddev.double().numpy())).sum(
        -1
    )
    log_likelihood = logsumexp(log_weight, axis=0) - np.log(n)
    assert (elbo > -log_likelihood - 0.3).all()
    assert elbo.mean() > -log_likelihood.mean()
    assert elbo.mean() == pytest.approx(-log_likelihood.mean(), rel=0.1)


def test_a_larger_beta_keeps_less_of_the_cell(make):
    kl, error = [], []
    for beta in (0.1, 1.0, 10.0):
        model = make.fit(
            lc.model.VAE, make.linear_cells(), max_epochs=25, lr=0.02, n_latent=2, hidden=(8,), beta=beta
        )
        kl.append(model.history["kl_local_train"]["kl_local_train"].iloc[-1])
        error.append(model.get_reconstruction_error())
        assert model.history["beta"]["beta"].iloc[-1] == beta
    assert kl[0] > kl[1] > kl[2]
    assert error[0] < error[2]


@pytest.mark.parametrize(("likelihood", "lr", "decay"), [("nb", 3e-3, 0.5), ("normal", 1e-3, 0.0)])
def test_counts_have_a_rate_and_a_decay_of_their_own(likelihood, lr, decay):
    adata = lc.datasets.simulate_groups(seed=0)
    adata.X = np.abs(adata.X).round()
    lc.model.VAE.setup_anndata(adata)
    defaults = lc.model.VAE(adata, gene_likelihood=likelihood).train_defaults
    assert (defaults["lr"], defaults["weight_decay"]) == (lr, decay)
    assert lc.model.VAE.TRAIN_DEFAULTS["lr"] == 1e-3
