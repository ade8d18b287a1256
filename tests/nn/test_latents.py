"""Latents: what is drawn, what its KL is, and that gates learn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, rel_entr
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from latentcell.nn.latents import Deterministic, Gaussian, Heads, SpikeAndSlabLatent
from latentcell.nn.priors import SpikeAndSlab


def transparent(latent):
    """The latent with heads that pass its features through: loc, log-scale, (logits), side by side."""
    k = latent.n_latent
    for i, head in enumerate(latent.heads.heads.values()):
        with torch.no_grad():
            head[-1].weight.zero_()
            head[-1].bias.zero_()
            head[-1].weight[:, i * k : (i + 1) * k] = torch.eye(k)
    return latent.to(torch.float64)


def sparse_latent(n_latent, **kwargs):
    return transparent(SpikeAndSlabLatent(3 * n_latent, n_latent, **({"alpha": 0.3} | kwargs)))


def features(loc, scale, gamma, n_cells=1):
    """Features of cells whose posterior has these parameters (one number per dimension)."""
    loc, scale, gamma = (torch.tensor(v, dtype=torch.float64) for v in (loc, scale, gamma))
    return torch.cat([loc, scale.log(), torch.logit(gamma)]).expand(n_cells, -1)


LOC, SCALE, GAMMA = [2.0, -1.0, 0.5, 3.0], [0.5, 1.0, 0.2, 1.5], [0.1, 0.5, 0.9, 0.02]


# --- deterministic and Gaussian ---


def test_deterministic_code_is_a_function_of_the_cell():
    latent = transparent(Deterministic(3, 3, code_activation="relu"))
    h = torch.tensor([[1.0, -2.0, 0.5]]).double()
    code = latent(h)
    for value in (code.z, code.mean, code.mode):
        torch.testing.assert_close(value, torch.tensor([[1.0, 0.0, 0.5]]).double())
    assert code.qz is None
    assert code.kl == {}
    draws = latent(h, n_samples=4).z
    torch.testing.assert_close(draws, code.z.expand(4, 1, 3))


@pytest.mark.parametrize("transform", ["identity", "softplus"])
def test_gaussian_code_has_its_moments_and_kl(transform):
    latent = transparent(Gaussian(4, 2, transform=transform))
    h = torch.tensor([[0.7, -1.0, *torch.tensor([0.5, 1.3]).log().tolist()]]).double()
    code = latent(h, n_samples=200_000)
    q = Normal(torch.tensor([0.7, -1.0]).double(), torch.tensor([0.5, 1.3]).double())
    closed = kl_divergence(q, Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(code.kl["kl"], closed[None], rtol=1e-6, atol=0)
    z = q.sample((200_000,))
    monte_carlo = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1).mean()
    torch.testing.assert_close(monte_carlo, closed, rtol=0.01, atol=0)
    expected = F.softplus(z) if transform == "softplus" else z
    torch.testing.assert_close(code.z.mean(0)[0], expected.mean(0), rtol=0, atol=0.015)
    torch.testing.assert_close(code.z.std(0)[0], expected.std(0), rtol=0.01, atol=0)
    torch.testing.assert_close(code.mode, F.softplus(q.loc)[None] if transform == "softplus" else q.loc[None])


def test_gaussian_draw_is_differentiable_and_prior_draws_are_standard():
    latent = transparent(Gaussian(2, 1))
    h = torch.tensor([[0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(latent(h).z.sum(), h)
    assert gradient[0, 0] == 1
    assert gradient[0, 1] != 0
    z = latent.sample_prior(50_000)
    assert z.shape == (50_000, 1)
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02
    assert (Gaussian(2, 1, transform="softplus").sample_prior(100) > 0).all()


# --- spike and slab: codes ---


@pytest.mark.parametrize("transform", ["identity", "softplus"])
def test_codes_that_users_receive_have_exact_zeros(transform):
    latent = sparse_latent(4, transform=transform).eval()
    n = 100_000
    code = latent(features(LOC, SCALE, GAMMA, n), temperature=0.5)
    gamma, loc = torch.tensor(GAMMA).double(), torch.tensor(LOC).double()
    torch.testing.assert_close((code.z != 0).double().mean(0), gamma, rtol=0, atol=0.006)
    change = F.softplus if transform == "softplus" else torch.nn.Identity()
    slab = change(Normal(loc, torch.tensor(SCALE).double()).sample((n,)))
    slab_mean = code.z.sum(0) / (code.z != 0).sum(0)
    torch.testing.assert_close(slab_mean, slab.mean(0), rtol=0, atol=0.12)
    assert (code.z >= 0).all() == (transform == "softplus")
    torch.testing.assert_close(code.mean[0], gamma * change(loc))
    torch.testing.assert_close(code.qz.probs[0], gamma)


@pytest.mark.parametrize("training", [False, True])
def test_mode_is_the_level_where_the_dimension_is_more_likely_on(training):
    latent = sparse_latent(5, transform="softplus").train(training)
    gamma = [0.499, 0.501, 0.01, 0.99, 0.3]
    loc = [1.0, 1.0, 2.0, -3.0, 0.0]
    mode = latent(features(loc, [1.0] * 5, gamma), temperature=0.5).mode[0]
    level = F.softplus(torch.tensor(loc).double())
    assert mode.tolist() == [0, level[1], 0, level[3], 0]


def test_draws_per_cell_and_from_the_prior():
    latent = sparse_latent(4, alpha=0.2, transform="softplus")
    for training in (True, False):
        latent.train(training)
        code = latent(features(LOC, SCALE, GAMMA, 6), temperature=0.5, n_samples=3)
        assert code.z.shape == (3, 6, 4)
        assert code.mean.shape == code.mode.shape == (6, 4)
        assert not torch.equal(code.z[0], code.z[1])
    z = latent.sample_prior(50_000)
    assert z.shape == (50_000, 4)
    torch.testing.assert_close((z != 0).double().mean(0), torch.full((4,), 0.2).double(), rtol=0, atol=0.01)
    on = z[z != 0]
    expected = F.softplus(torch.randn(200_000).double())
    assert abs(on.mean() - expected.mean()) < 0.02


# --- spike and slab: KL ---


def test_terms_sum_to_the_kl_and_the_slab_is_weighted_by_inclusion():
    latent = sparse_latent(4)
    h = torch.randn(50, 12, dtype=torch.float64)
    code = latent(h, temperature=0.5)
    whole = kl_divergence(code.qz, latent.prior.distribution()).sum(-1)
    torch.testing.assert_close(sum(term.mean() for term in code.kl.values()), whole.mean(), rtol=1e-6, atol=0)
    by_hand = torch.zeros(50).double()
    for cell in range(50):
        for j in range(4):
            mu, sigma, logits = h[cell, j], h[cell, 4 + j].exp(), h[cell, 8 + j]
            by_hand[cell] += torch.sigmoid(logits) * 0.5 * (mu**2 + sigma**2 - 1 - (sigma**2).log())
    torch.testing.assert_close(code.kl["kl_slab"], by_hand, rtol=1e-6, atol=0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.floats(-12, 12), min_size=2, max_size=2), min_size=1, max_size=9),
    st.floats(0.05, 0.95),
)
def test_information_and_usage_average_to_the_spikes_kl(logits, alpha):
    latent = sparse_latent(2, alpha=alpha)
    logits = torch.tensor(logits).double()
    h = torch.cat([torch.zeros(len(logits), 4).double(), logits], dim=1)
    kl = {name: term.detach() for name, term in latent(h, temperature=0.5).kl.items()}
    gamma, mean = expit(logits.numpy()), expit(logits.numpy()).mean(0)
    information = (rel_entr(gamma, mean) + rel_entr(1 - gamma, 1 - mean)).sum(1)
    usage = (rel_entr(mean, alpha) + rel_entr(1 - mean, 1 - alpha)).sum()
    spike = (rel_entr(gamma, alpha) + rel_entr(1 - gamma, 1 - alpha)).sum(1).mean()
    approx = {"rel": 1e-5, "abs": 1e-7}
    assert kl["kl_information"].numpy() == pytest.approx(information, **approx)
    assert kl["kl_usage"].numpy() == pytest.approx([usage] * len(logits), **approx)
    assert (kl["kl_information"] + kl["kl_usage"]).mean().item() == pytest.approx(spike, **approx)


def test_usage_is_exact_where_a_dimension_is_on_or_off_in_all_cells():
    latent = sparse_latent(2, alpha=0.25).float()
    h = torch.zeros(8, 6)
    h[:, 4], h[:, 5] = 60.0, -60.0
    h.requires_grad_()
    kl = latent(h, temperature=0.5).kl
    assert kl["kl_usage"][0].item() == pytest.approx(-torch.tensor(0.25 * 0.75).log().item(), rel=1e-5)
    assert kl["kl_information"].abs().max() < 1e-6
    (gradient,) = torch.autograd.grad(sum(term.sum() for term in kl.values()), h)
    assert torch.isfinite(gradient).all()


# --- spike and slab: training gates ---


@pytest.mark.parametrize(("gate", "temperature"), [("concrete", 0.5), ("concrete", 0.1), ("sigmoid", 50.0)])
@pytest.mark.parametrize("gamma", [0.03, 0.5, 0.8])
def test_training_gate_has_its_distribution(gate, temperature, gamma):
    """Both gates rise with their noise, so their quantiles are their formula at the noise's quantiles."""
    latent = sparse_latent(1, gate=gate)
    n = 100_000
    # a slab of 1 without noise leaves the gate itself
    z = latent(features([1.0], [1e-9], [gamma], n), temperature=temperature).z[:, 0].sort().values
    slab_noise = 4.5 * torch.exp(torch.tensor(-6.0))  # the smallest scale a slab may have
    u = (torch.arange(n).double() + 0.5) / n
    if gate == "sigmoid":
        formula = torch.sigmoid(temperature * (u - 1 + gamma))
    else:
        formula = torch.sigmoid((logit(gamma) + torch.logit(u)) / temperature)
    assert (z - formula).abs().mean() < 0.01
    assert (z[:: n // 20] - formula[:: n // 20]).abs().max() < slab_noise + 0.06
    assert (z > 0.5).double().mean().item() == pytest.approx(gamma, abs=0.006)


@pytest.mark.parametrize("logits", [-30.0, -8.0, 8.0, 30.0])
def test_gates_keep_a_gradient_near_both_ends(logits):
    """In float32: the paper's exp(-relu(-v)) is exactly 1 with no gradient; ours never is."""
    latent = sparse_latent(1).float().train()
    h = torch.tensor([[1.0, 0.0, logits]]).repeat(4096, 1).requires_grad_()
    code = latent(h, temperature=0.5)
    loss = (code.z - 0.5).square().sum() + sum(term.sum() for term in code.kl.values())
    (gradient,) = torch.autograd.grad(loss, h)
    assert torch.isfinite(gradient).all()
    assert gradient[:, 2].abs().max() > 0
    kl = sum(term.mean() for term in latent(h, temperature=0.5).kl.values())
    (pull,) = torch.autograd.grad(kl, h)
    assert (pull[:, 2].sum() > 0) == (logits > 0)  # the KL leads back towards alpha


@pytest.mark.parametrize(("start", "wanted"), [(-5.0, 1.0), (5.0, 0.0)])
def test_inclusion_can_reach_each_end_from_the_other(start, wanted):
    latent = sparse_latent(1).float().train()
    logits = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        h = torch.stack([torch.tensor(1.0), torch.tensor(-9.0), logits]).expand(128, 3)
        loss = (latent(h, temperature=0.5).z - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(torch.sigmoid(logits).item() - wanted) < 0.01


def test_gradient_reaches_every_parameter_of_the_code():
    latent = sparse_latent(2, transform="softplus").train()
    h = torch.randn(64, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(latent(h, temperature=0.5).z.sum(), h)
    assert (gradient.abs().sum(0) > 0).all()


def test_unknown_gate_is_refused():
    with pytest.raises(ValueError, match="gate must be 'concrete' or 'sigmoid', got 'hard'"):
        SpikeAndSlabLatent(4, 2, alpha=0.3, gate="hard")


# --- heads ---


@pytest.mark.parametrize("sizes", [(), (16,), (5, 4)])
def test_heads_have_hidden_layers_of_their_own(sizes):
    heads = Heads(7, 3, ("a", "b"), sizes)
    x = torch.randn(10, 7)
    first, second = heads(x)
    assert first.shape == second.shape == (10, 3)
    widths = [7, *sizes, 3]
    per_head = sum((n_in + 1) * n_out for n_in, n_out in zip(widths[:-1], widths[1:], strict=True))
    assert sum(p.numel() for p in heads.parameters()) == 2 * per_head
    with torch.no_grad():
        for p in heads.heads["a"].parameters():
            p.add_(1.0)
    changed, same = heads(x)
    assert not torch.allclose(changed, first)
    torch.testing.assert_close(same, second, rtol=0, atol=0)


def test_a_new_sparse_coder_starts_with_the_priors_use_of_its_dimensions():
    latent = SpikeAndSlabLatent(5, 3, alpha=0.2)
    code = latent(torch.zeros(4, 5), temperature=0.5)
    torch.testing.assert_close(code.qz.probs, torch.full((4, 3), 0.2))
    assert code.kl["kl_usage"].abs().max() < 1e-6
    assert code.kl["kl_information"].abs().max() < 1e-6


def test_posterior_is_a_spike_and_slab_with_bounded_scales():
    latent = sparse_latent(1)
    for raw, scale in ((100.0, 3.0), (-100.0, -6.0), (1.0, 1.0)):
        q = latent(torch.tensor([[0.0, raw, 0.0]]).double(), temperature=1.0).qz
        assert isinstance(q, SpikeAndSlab)
        assert q.scale.log().item() == pytest.approx(scale)


# --- codes drawn anew ---


@pytest.mark.parametrize("transform", ["identity", "softplus"])
def test_codes_are_drawn_anew_from_what_describes_a_posterior(transform):
    latent = sparse_latent(2, transform=transform).eval()
    code = latent(features([0.4, -0.3], [0.5, 0.2], [0.7, 0.2], 100_000), temperature=0.5)
    posterior = latent.posterior(code)
    z = latent.draw(posterior)
    torch.testing.assert_close((z != 0).double().mean(0), (code.z != 0).double().mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(z.mean(0), code.z.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(z.std(0), code.z.std(0), rtol=0, atol=0.01)
    torch.testing.assert_close(latent.mean(posterior), code.mean)
    still = latent.draw(posterior, temperature=0.0)
    on = still != 0
    torch.testing.assert_close(still[on], latent.transform(posterior["loc"])[on])


def test_gaussian_and_deterministic_codes_are_drawn_anew():
    gaussian = transparent(Gaussian(4, 2, transform="softplus"))
    code = gaussian(torch.randn(3, 4, dtype=torch.float64))
    posterior = gaussian.posterior(code)
    torch.testing.assert_close(gaussian.draw(posterior, temperature=0.0), code.mean)
    torch.testing.assert_close(gaussian.mean(posterior), code.mean)
    loc, scale = torch.tensor([[0.3], [-2.0]]), torch.tensor([[0.5], [1.5]])
    many = {"loc": loc.expand(2, 50_000), "scale": scale.expand(2, 50_000)}
    drawn = Gaussian(4, 50_000).draw(many, temperature=3.0)
    torch.testing.assert_close(drawn.mean(1), loc[:, 0], rtol=0, atol=0.07)
    torch.testing.assert_close(drawn.std(1), 3.0 * scale[:, 0], rtol=0.02, atol=0)
    fixed = Deterministic(4, 2)
    code = fixed(torch.randn(3, 4))
    assert torch.equal(fixed.draw(fixed.posterior(code), temperature=2.0), code.z)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("identity", [-2.0, 0.5, 3.0]),
        ("relu", [0.0, 0.5, 3.0]),
        ("softplus", [0.0, 0.5, 3.0]),
        ("sigmoid", [0.0, 0.5, 1.0]),
        ("tanh", [-1.0, 0.5, 1.0]),
    ],
)
def test_codes_are_kept_within_the_range_of_the_activation(activation, expected):
    latent = Deterministic(2, 3, code_activation=activation)
    assert latent.within_range(torch.tensor([[-2.0, 0.5, 3.0]])).tolist() == [expected]
