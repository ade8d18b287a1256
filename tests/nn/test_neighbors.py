"""The t-SNE term against a slow loop and scikit-learn; what it does to codes."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import squareform
from sklearn.manifold import _t_sne

from latentcell.nn.latents import Code
from latentcell.nn.neighbors import StochasticNeighbors, neighbor_probabilities


def code_of(z, seen):
    return Code(z=z, mean=z, mode=z, seen=seen)


def slow_divergence(p, z) -> float:
    """Sum of p log(p / q) over pairs, pair by pair."""
    n = len(z)
    affinity = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            if i != j:
                affinity[i][j] = 1 / (1 + sum((a - b) ** 2 for a, b in zip(z[i], z[j], strict=True)))
    total = sum(sum(row) for row in affinity)
    return sum(
        p[i][j] * math.log(p[i][j] / (affinity[i][j] / total))
        for i in range(n)
        for j in range(n)
        if i != j and p[i][j] > 0
    )


@pytest.fixture
def x():
    return torch.tensor(np.random.default_rng(0).normal(size=(40, 6)))


@pytest.mark.parametrize("perplexity", [3.0, 10.0])
def test_probabilities_are_scikit_learns(x, perplexity):
    found = neighbor_probabilities(x, perplexity).numpy()
    square = ((x[:, None] - x[None]) ** 2).sum(-1).numpy().astype(np.float32)
    expected = squareform(_t_sne._joint_probabilities(square, perplexity, 0))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-7)
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found, found.T)
    assert (found.diagonal() == 0).all()


def test_every_cell_has_as_many_neighbours_as_asked(x):
    """Before symmetrising: the entropy of row i of 2 n p_ij - p_ji; seen where cells lie on a ring."""
    angle = torch.linspace(0, 2 * math.pi, 41, dtype=torch.float64)[:-1]
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    row = neighbor_probabilities(ring, 8.0)[0] * 40  # by symmetry p_{j|i} itself
    entropy = -(row[1:] * row[1:].log()).sum()
    assert float(entropy.exp()) == pytest.approx(8.0, rel=1e-3)


def test_scale_and_place_do_not_matter(x):
    found = neighbor_probabilities(x, 5.0)
    torch.testing.assert_close(neighbor_probabilities(1e-4 * x + 7, 5.0), found, rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(neighbor_probabilities(1e4 * x, 5.0), found, rtol=1e-3, atol=1e-8)


def test_the_term_is_the_slow_loop(x):
    z = torch.tensor(np.random.default_rng(1).normal(size=(40, 2)))
    p = neighbor_probabilities(x, 5.0)
    found = StochasticNeighbors(1.0, perplexity=5.0)(code_of(z, x))
    assert float(found) == pytest.approx(slow_divergence(p.tolist(), z.tolist()), rel=1e-9)


def test_it_is_least_where_neighbours_are_neighbours(x):
    plane = torch.tensor(np.random.default_rng(2).normal(size=(40, 2)))
    term = StochasticNeighbors(1.0, perplexity=5.0)
    own = float(term(code_of(3 * plane, plane)))
    others = [float(term(code_of(3 * plane[torch.randperm(40)], plane))) for _ in range(5)]
    assert own < 0.6 * min(others)


def test_gradients_bring_neighbours_together_and_are_finite_where_codes_meet():
    seen = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    z = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 30.0], [1.0, 30.0]]).requires_grad_()
    loss = StochasticNeighbors(1.0, perplexity=1.0)(code_of(z, seen))
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] < 0 < gradient[1, 0]  # downhill is towards each other


def test_cells_that_are_all_the_same_and_batches_of_one_have_no_neighbours():
    same = torch.ones(5, 3)
    p = neighbor_probabilities(same, 2.0)
    torch.testing.assert_close(p, (1 - torch.eye(5)) / 20)
    one = code_of(torch.zeros(1, 2), torch.zeros(1, 3))
    assert float(StochasticNeighbors(1.0)(one)) == 0.0
