"""Penalties against closed forms, Monte Carlo and slow loops."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from latentcell.nn.latents import Code, Deterministic, Gaussian
from latentcell.nn.penalties import TotalCorrelation


def gaussian_code(loc: torch.Tensor, scale: torch.Tensor, seed: int = 0) -> Code:
    noise = torch.randn(loc.shape, generator=torch.Generator().manual_seed(seed), dtype=loc.dtype)
    draw = loc + scale * noise
    return Code(z=draw, mean=loc, mode=loc, qz=Normal(loc, scale), draw=draw)


def slow_total_correlation(loc, scale, draw) -> float:
    """Log q(z) - sum of log q(z_j), q the mean of the posteriors, cell by cell."""
    n, d = loc.shape

    def density(value, k, j):
        return math.exp(-0.5 * ((value - loc[k, j]) / scale[k, j]) ** 2) / (
            scale[k, j] * math.sqrt(2 * math.pi)
        )

    total = 0.0
    for i in range(n):
        joint = np.mean([math.prod(density(draw[i, j], k, j) for j in range(d)) for k in range(n)])
        margins = [np.mean([density(draw[i, j], k, j) for k in range(n)]) for j in range(d)]
        total += math.log(joint) - sum(math.log(m) for m in margins)
    return total / n


def test_total_correlation_is_the_slow_loop():
    rng = np.random.default_rng(0)
    loc, scale = torch.tensor(rng.normal(size=(7, 3))), torch.tensor(rng.uniform(0.3, 1.0, size=(7, 3)))
    code = gaussian_code(loc, scale)
    expected = slow_total_correlation(loc.numpy(), scale.numpy(), code.draw.numpy())
    assert TotalCorrelation(1.0)(code).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("r", [0.0, 0.6, 0.9])
def test_total_correlation_of_a_gaussian_is_its_closed_form(r):
    """Codes of variance 1 and correlation r: TC = -log(1 - r^2) / 2."""
    n, noise = 3000, 0.25
    rng = np.random.default_rng(1)
    # the posteriors' own variance is part of the codes' unit variance
    cov = np.array([[1.0, r], [r, 1.0]]) - noise**2 * np.eye(2)
    loc = torch.tensor(rng.multivariate_normal([0, 0], cov, size=n))
    code = gaussian_code(loc, torch.full_like(loc, noise))
    assert TotalCorrelation(1.0)(code).item() == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.06)


def test_total_correlation_presses_correlated_codes_apart():
    loc = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[1.0, 1.0]])
    mix = torch.eye(2).requires_grad_()
    code = gaussian_code(loc @ mix, torch.full((200, 2), 0.3))
    code.draw = loc @ mix + (code.draw - loc @ mix).detach()
    TotalCorrelation(1.0)(code).backward()
    with torch.no_grad():
        stepped = gaussian_code(loc @ (mix - 0.05 * mix.grad), torch.full((200, 2), 0.3))
        assert TotalCorrelation(1.0)(stepped) < TotalCorrelation(1.0)(code)


def test_codes_without_a_gaussian_posterior_are_refused():
    code = Deterministic(4, 2)(torch.randn(3, 4))
    with pytest.raises(TypeError, match="Gaussian posterior"):
        TotalCorrelation(1.0)(code)


def test_softplus_codes_are_judged_before_the_transform():
    torch.manual_seed(0)
    code = Gaussian(4, 2, transform="softplus")(torch.randn(6, 4))
    bare = Code(z=code.draw, mean=code.qz.loc, mode=code.qz.loc, qz=code.qz, draw=code.draw)
    assert TotalCorrelation(1.0)(code).item() == TotalCorrelation(1.0)(bare).item()
