"""The fast negative binomial against torch's and scipy's: value, gradient, ends of its range."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nbinom, poisson
from torch.distributions import NegativeBinomial, Poisson
from torch.nn import functional as F

from latentcell import _devices
from latentcell.nn.count_loss import (
    negative_binomial_nll,
    poisson_nll,
    zero_inflated_negative_binomial_nll,
)


@pytest.fixture(autouse=True, scope="module", params=[False, True], ids=["of non-zeros", "everywhere"])
def _everywhere(request):
    """Every test is of both ways: gamma functions of counts above 0, and, as on a GPU, of all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_devices, "runs_ahead", lambda device: request.param)
        yield


def slow(x, log_mu, log_theta):
    """The plain formula, differentiated by autograd."""
    d = NegativeBinomial(log_theta.exp(), logits=log_mu - log_theta, validate_args=False)
    return -d.log_prob(x).sum(1)


def problem(seed, per_cell, dtype, n_cells=7, n_genes=11, largest=20.0):
    """Counts, half of them zeros, with dispersions from nearly 0 to `largest`."""
    rng = np.random.default_rng(seed)
    mu = rng.lognormal(0, 2, size=(n_cells, n_genes))
    theta = rng.lognormal(0, 1.5, size=(n_cells, n_genes) if per_cell else n_genes).clip(max=largest)
    x = rng.poisson(rng.gamma(theta, mu / theta, size=(n_cells, n_genes)))
    x[2] = 0
    x[:, 3] = 0
    tensors = [torch.tensor(values, dtype=dtype) for values in (x, np.log(mu), np.log(theta))]
    return tensors[0], tensors[1].requires_grad_(), tensors[2].requires_grad_()


def in_double(*tensors):
    return [t.detach().double().requires_grad_(t.requires_grad) for t in tensors]


def value_and_gradients(function, x, log_mu, log_theta):
    """Per-cell values, and gradients of their sum with a different weight for each cell."""
    nll = function(x, log_mu, log_theta)
    weights = torch.linspace(0.5, 2, len(x), dtype=x.dtype)
    return nll.detach(), *torch.autograd.grad((weights * nll).sum(), (log_mu, log_theta))


@pytest.mark.parametrize("per_cell", [False, True])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_value_and_gradients_are_torchs(per_cell, dtype, rtol, seed):
    x, log_mu, log_theta = problem(seed, per_cell, dtype)
    fast = value_and_gradients(negative_binomial_nll, x, log_mu, log_theta)
    exact = value_and_gradients(slow, *in_double(x, log_mu, log_theta))
    for ours, theirs in zip(fast, exact, strict=True):
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=rtol * theirs.abs().max().item())


@pytest.mark.parametrize("per_cell", [False, True])
def test_float32_is_as_exact_as_torchs_formula(per_cell):
    """At large theta, log-gammas of nearly the same number are subtracted: so does the plain formula."""
    ours, theirs = [], []
    for seed in range(20):
        x, log_mu, log_theta = problem(seed, per_cell, torch.float32, largest=2e4)
        exact = value_and_gradients(slow, *in_double(x, log_mu, log_theta))
        for function, errors in ((negative_binomial_nll, ours), (slow, theirs)):
            found = value_and_gradients(function, x, log_mu, log_theta)
            errors.append([(a - b).abs().max().item() for a, b in zip(found, exact, strict=True)])
    value, grad_mu, grad_theta = np.max(ours, axis=0) / np.max(theirs, axis=0)
    assert value < 5
    assert grad_mu < 1
    assert grad_theta < 5


def slow_zero_inflated(x, log_mu, log_theta, dropout):
    """The plain formula of the mixture, differentiated by autograd."""
    nb = NegativeBinomial(log_theta.exp(), logits=log_mu - log_theta, validate_args=False).log_prob(x)
    mixed = torch.logaddexp(F.logsigmoid(dropout), F.logsigmoid(-dropout) + nb)
    return -torch.where(x == 0, mixed, F.logsigmoid(-dropout) + nb).sum(1)


def dropout_like(x, seed):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(0, 3, size=x.shape), dtype=x.dtype).requires_grad_()


@pytest.mark.parametrize("per_cell", [False, True])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_zero_inflated_value_and_gradients_are_the_plain_formulas(per_cell, dtype, rtol, seed):
    x, log_mu, log_theta = problem(seed, per_cell, dtype)
    parameters = (log_mu, log_theta, dropout_like(x, seed))
    weights = torch.linspace(0.5, 2, len(x))
    found = []
    for function, values in (
        (zero_inflated_negative_binomial_nll, (x, *parameters)),
        (slow_zero_inflated, in_double(x, *parameters)),
    ):
        nll = function(*values)
        found.append([nll.detach(), *torch.autograd.grad((weights.to(nll) * nll).sum(), values[1:])])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=rtol * theirs.abs().max().item())


@pytest.mark.parametrize("per_cell", [False, True])
def test_zero_inflated_gradcheck(per_cell):
    x, log_mu, log_theta = problem(0, per_cell, torch.float64, n_cells=4, n_genes=5)
    inputs = (log_mu, log_theta, dropout_like(x, 0))
    assert torch.autograd.gradcheck(lambda *p: zero_inflated_negative_binomial_nll(x, *p), inputs)


@pytest.mark.parametrize("dropout", [-80.0, 0.0, 80.0])
@pytest.mark.parametrize("log_theta", [-10.0, 10.0])
@pytest.mark.parametrize("log_mu", [-40.0, 0.0, 12.0])
@pytest.mark.parametrize("count", [0.0, 1.0, 1e5])
def test_zero_inflated_extremes_are_finite(count, log_mu, log_theta, dropout):
    x = torch.full((2, 1), count)
    parameters = [torch.full((2, 1), v, requires_grad=True) for v in (log_mu, log_theta, dropout)]
    nll = zero_inflated_negative_binomial_nll(x, *parameters)
    exact = slow_zero_inflated(*in_double(x, *parameters))
    noise = 1e-6 if count == 0 else 2e-6 * (1 + count + np.exp(log_theta))
    torch.testing.assert_close(nll.double(), exact, rtol=1e-5, atol=noise)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(nll.sum(), parameters))


def test_no_dropout_is_the_plain_negative_binomial():
    x, log_mu, log_theta = problem(1, False, torch.float64)
    ours = zero_inflated_negative_binomial_nll(x, log_mu, log_theta, torch.full_like(x, -60.0))
    torch.testing.assert_close(ours, negative_binomial_nll(x, log_mu, log_theta))


def test_poisson_is_torchs_and_scipys(rng):
    log_mu = torch.tensor(rng.normal(0, 2, size=(5, 6))).requires_grad_()
    x = torch.tensor(rng.poisson(log_mu.detach().exp())).double()
    ours = poisson_nll(x, log_mu)
    np.testing.assert_allclose(ours.detach(), -poisson.logpmf(x, log_mu.detach().exp()).sum(1), rtol=1e-10)
    theirs = -Poisson(log_mu.exp()).log_prob(x).sum(1)
    for a, b in zip(
        torch.autograd.grad(ours.sum(), log_mu), torch.autograd.grad(theirs.sum(), log_mu), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("per_cell", [False, True])
def test_several_draws_at_once_are_one_after_the_other(per_cell):
    x, log_mu, log_theta = problem(2, per_cell, torch.float64)
    draws = torch.stack([log_mu, log_mu + 1]).detach()
    dropout = torch.stack([dropout_like(x, 0), dropout_like(x, 1)]).detach()
    nb, zinb = (
        negative_binomial_nll(x, draws, log_theta),
        zero_inflated_negative_binomial_nll(x, draws, log_theta, dropout),
    )
    for i in range(2):
        torch.testing.assert_close(nb[i], negative_binomial_nll(x, draws[i], log_theta))
        alone = zero_inflated_negative_binomial_nll(x, draws[i], log_theta, dropout[i])
        torch.testing.assert_close(zinb[i], alone)


@pytest.mark.parametrize("per_cell", [False, True])
def test_gradcheck(per_cell):
    x, log_mu, log_theta = problem(0, per_cell, torch.float64, n_cells=4, n_genes=5)
    assert torch.autograd.gradcheck(lambda m, t: negative_binomial_nll(x, m, t), (log_mu, log_theta))


def test_value_is_scipys(rng):
    mu, theta = rng.lognormal(1, 1, size=(5, 6)), rng.lognormal(0, 1, size=6)
    x = rng.poisson(mu)
    ours = negative_binomial_nll(torch.tensor(x).double(), torch.tensor(mu).log(), torch.tensor(theta).log())
    theirs = -nbinom.logpmf(x, theta, theta / (theta + mu)).sum(1)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-10)


def test_large_theta_is_poisson(rng):
    mu = rng.lognormal(1, 1, size=(5, 6))
    x = rng.poisson(mu)
    ours = negative_binomial_nll(
        torch.tensor(x).double(), torch.tensor(mu).log(), torch.full((6,), 18.0).double()
    )
    np.testing.assert_allclose(ours.numpy(), -poisson.logpmf(x, mu).sum(1), rtol=1e-5)


@pytest.mark.parametrize("log_theta", [-10.0, 0.0, 10.0])
@pytest.mark.parametrize("log_mu", [-40.0, -5.0, 0.0, 12.0])
@pytest.mark.parametrize("count", [0.0, 1.0, 1e5])
def test_extremes_are_finite_and_right_in_float32(count, log_mu, log_theta):
    x = torch.full((2, 1), count)
    m = torch.full((2, 1), log_mu, requires_grad=True)
    t = torch.full((1,), log_theta, requires_grad=True)
    fast = value_and_gradients(negative_binomial_nll, x, m, t)
    exact = value_and_gradients(slow, *in_double(x, m, t))
    assert all(torch.isfinite(values).all() for values in fast)
    # zeros cancel exactly; elsewhere float32 rounds numbers as large as log-gamma of count + theta
    noise = 1e-6 if count == 0 else 2e-6 * (1 + count + np.exp(log_theta))
    for ours, theirs in zip(fast, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=noise)


def test_a_device_without_double_precision_loses_digits_only(monkeypatch):
    monkeypatch.setattr(_devices, "finest", lambda device: torch.float32)
    x, log_mu, log_theta = problem(0, False, torch.float32)
    found = value_and_gradients(negative_binomial_nll, x, log_mu, log_theta)
    exact = value_and_gradients(slow, *in_double(x, log_mu, log_theta))
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())


def test_probabilities_sum_to_one():
    x = torch.arange(4000.0, dtype=torch.float64)[:, None]
    nll = negative_binomial_nll(x, torch.full_like(x, np.log(20.0)), torch.tensor([0.3], dtype=torch.float64))
    assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert (x[:, 0] * (-nll).exp()).sum().item() == pytest.approx(20, rel=1e-6)


def test_the_data_are_not_changed(rng):
    x = torch.tensor(rng.poisson(1.0, size=(3, 4))).float()
    before = x.clone()
    negative_binomial_nll(
        x, torch.zeros(3, 4, requires_grad=True), torch.zeros(4, requires_grad=True)
    ).sum().backward()
    torch.testing.assert_close(x, before, rtol=0, atol=0)
