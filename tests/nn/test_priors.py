"""The spike and slab: closed forms against Monte Carlo, numerical integrals and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, rel_entr
from torch.distributions import Normal, kl_divergence

from latentcell.nn.priors import SpikeAndSlab, SpikeAndSlabPrior, StandardNormal, kl_slab, kl_spike

quick = settings(max_examples=60, deadline=None, derandomize=True)
locs = st.floats(-4, 4)
scales = st.floats(0.05, 5)
log_odds = st.floats(-5, 5)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def spike_and_slab(loc, scale, gamma):
    return SpikeAndSlab(tensor(*loc), tensor(*scale), torch.logit(tensor(*gamma)))


# one column per setting: gamma small, middle, large; slabs near and far, narrow and wide; a prior that is not
# N(0, 1)
Q = {"loc": (0.5, -2.0, 1.0, 3.0, 0.2, -1.0), "scale": (0.3, 1.5, 0.8, 0.1, 1.0, 0.4)}
Q["gamma"] = (0.9, 0.5, 0.05, 0.99, 0.02, 0.3)
P = {"loc": (0.0, 0.0, 0.0, 0.0, 0.0, 1.5), "scale": (1.0, 1.0, 1.0, 1.0, 1.0, 2.0)}
P["gamma"] = (0.2, 0.3, 0.4, 0.3, 0.9, 0.6)


def test_kl_is_what_monte_carlo_says():
    q, p = spike_and_slab(**Q), spike_and_slab(**P)
    z = q.sample((1_000_000,))
    draws = q.log_prob(z) - p.log_prob(z)
    closed = kl_divergence(q, p)
    assert closed.min() > 0.05
    torch.testing.assert_close(draws.mean(0), closed, rtol=0.01, atol=0)
    # the printed equation (9) of the paper, with sigma for sigma^2, is not that
    sigma = tensor(*Q["scale"])
    wrong = q.probs * 0.5 * (q.loc**2 + sigma - 1 - sigma.log()) + kl_spike(q.logits, p.logits)
    assert (wrong - closed).abs()[:5].max() > 0.2


def test_kl_is_the_formula_of_the_documentation():
    mu, sigma, gamma, alpha = 1.7, 0.4, 0.35, 0.2
    q, p = spike_and_slab([mu], [sigma], [gamma]), spike_and_slab([0], [1], [alpha])
    slab = gamma * 0.5 * (mu**2 + sigma**2 - 1 - np.log(sigma**2))
    spike = gamma * np.log(gamma / alpha) + (1 - gamma) * np.log((1 - gamma) / (1 - alpha))
    assert kl_divergence(q, p).item() == pytest.approx(slab + spike, rel=1e-12)


@quick
@given(locs, scales, log_odds, locs, scales, log_odds)
def test_kl_is_positive_and_zero_only_at_equality(loc, scale, logits, loc_p, scale_p, logits_p):
    q = SpikeAndSlab(tensor(loc), tensor(scale), tensor(logits))
    p = SpikeAndSlab(tensor(loc_p), tensor(scale_p), tensor(logits_p))
    kl = kl_divergence(q, p).item()
    assert abs(kl_divergence(q, q).item()) < 1e-12
    assert kl > -1e-12
    if max(abs(loc - loc_p) / 10, abs(scale - scale_p) / 10, abs(logits - logits_p)) > 0.02:
        assert kl > 0


@quick
@given(log_odds, log_odds)
def test_spike_kl_is_scipys_relative_entropy(logits, logits_p):
    gamma, alpha = expit(logits), expit(logits_p)
    expected = rel_entr(gamma, alpha) + rel_entr(1 - gamma, 1 - alpha)
    assert kl_spike(tensor(logits), tensor(logits_p)).item() == pytest.approx(expected, rel=1e-8, abs=1e-12)


@quick
@given(st.floats(-15, 15), st.floats(0.05, 0.95))
def test_spike_kl_has_the_gradient_of_its_formula(logits, alpha):
    x = tensor(logits).requires_grad_()
    (gradient,) = torch.autograd.grad(kl_spike(x, torch.logit(tensor(alpha))).sum(), x)
    gamma = expit(logits)
    assert gradient.item() == pytest.approx(
        gamma * expit(-logits) * (logits - logit(alpha)), rel=1e-5, abs=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spike_kl_is_exact_and_has_a_gradient_at_both_ends(dtype):
    """In float32 sigmoid(30) is 1: log(1 - gamma) taken from gamma would be -inf and its gradient NaN."""
    logits = torch.tensor([-30.0, 30.0, -80.0, 80.0], dtype=dtype, requires_grad=True)
    kl = kl_spike(logits, torch.logit(torch.tensor(0.3, dtype=dtype)))
    ends = torch.tensor([-np.log(0.7), -np.log(0.3)] * 2, dtype=dtype)
    torch.testing.assert_close(kl.detach(), ends, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(kl.sum(), logits)
    assert torch.isfinite(gradient).all()
    assert gradient[0] < 0 < gradient[1]  # both pull back towards alpha
    expected = np.exp(-30) * (30 - np.array([-1, 1]) * logit(0.3)) * np.array([-1, 1])
    np.testing.assert_allclose(gradient[:2].numpy(), expected, rtol=0.06)


def test_slab_kl_is_torchs():
    q, p = Normal(tensor(0.3, -2), tensor(0.5, 2)), Normal(tensor(0, 1), tensor(1, 3))
    closed = kl_slab(
        SpikeAndSlab(q.loc, q.scale, tensor(0, 0)), SpikeAndSlab(p.loc, p.scale, tensor(9, -9))
    )  # without weight
    torch.testing.assert_close(closed, kl_divergence(q, p))


@pytest.mark.parametrize(("loc", "scale", "gamma"), [(3.0, 1.0, 0.5), (-0.5, 2.0, 0.1), (0.0, 0.3, 0.95)])
def test_density_and_point_mass_sum_to_one(loc, scale, gamma):
    d = spike_and_slab([loc], [scale], [gamma])
    grid = torch.linspace(-25, 25, 20_000, dtype=torch.float64)  # even: 0 is not on it
    assert torch.trapezoid(d.log_prob(grid[:, None]).exp()[:, 0], grid).item() == pytest.approx(
        gamma, rel=1e-6
    )
    assert d.log_prob(tensor(0)).exp().item() == pytest.approx(1 - gamma)


def test_moments_and_zeros_of_draws():
    d = spike_and_slab(**Q)
    z = d.sample((400_000,))
    n_on = (z != 0).double().sum(0)
    torch.testing.assert_close(n_on / len(z), d.probs, rtol=0, atol=0.004)
    torch.testing.assert_close(z.mean(0), d.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(z.var(0), d.variance, rtol=0.02, atol=0)
    slab_mean = z.sum(0) / n_on
    torch.testing.assert_close(slab_mean, d.loc, rtol=0, atol=0.05)


def test_draws_have_the_shape_asked_for_and_no_gradient():
    d = SpikeAndSlab(torch.zeros(4, 1, requires_grad=True), torch.ones(3), torch.zeros(()))
    assert d.batch_shape == (4, 3)
    assert d.sample().shape == (4, 3)
    assert d.sample((2, 5)).shape == (2, 5, 4, 3)
    assert not d.sample().requires_grad
    assert d.log_prob(d.sample((2,))).shape == (2, 4, 3)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="scale"):
        SpikeAndSlab(torch.zeros(1), -torch.ones(1), torch.zeros(1), validate_args=True)


def test_priors_are_what_they_say():
    prior = SpikeAndSlabPrior(3, 0.2).distribution()
    torch.testing.assert_close(prior.probs, torch.full((3,), 0.2))
    torch.testing.assert_close(prior.loc, torch.zeros(3))
    torch.testing.assert_close(prior.scale, torch.ones(3))
    normal = StandardNormal(2).distribution()
    torch.testing.assert_close(
        normal.log_prob(torch.tensor([0.0, 1.0])), Normal(0.0, 1.0).log_prob(torch.arange(2.0))
    )
    assert not StandardNormal(2).state_dict()
    assert not SpikeAndSlabPrior(3, 0.2).state_dict()  # nothing to save: alpha is an argument of the model


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5])
def test_alpha_is_a_probability(alpha):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        SpikeAndSlabPrior(2, alpha)
