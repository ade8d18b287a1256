"""Soft clusters: assignments, targets and their divergence against slow loops."""

import math

import numpy as np
import pytest
import torch

from latentcell.nn.latents import Code
from latentcell.nn.self_training import Centroids, SelfTraining


def code_of(z):
    return Code(z=z, mean=z, mode=z)


def started(z, clusters, n_most=6, **options):
    centroids = Centroids(z.shape[1], n_most, **options).to(z.dtype)
    centroids.start(z, torch.as_tensor(clusters))
    return centroids


@pytest.fixture
def cells():
    z = torch.tensor(np.random.default_rng(0).normal(size=(9, 2)))
    return z, np.array([0, 1, 2, 0, 1, 2, 0, 1, 0])


def slow_q(z, centers, scale, nu):
    rows = []
    for cell in z:
        near = [(1 + ((cell - c) ** 2).sum() / scale**2 / nu) ** (-(nu + 1) / 2) for c in centers]
        rows.append([value / sum(near) for value in near])
    return np.array(rows)


@pytest.mark.parametrize("nu", [1.0, 3.0])
def test_assignments_are_the_slow_loop(cells, nu):
    z, clusters = cells
    centroids = started(z, clusters, degrees_of_freedom=nu)
    x = z.numpy()
    centers = np.array([x[clusters == k].mean(0) for k in range(3)])
    scale = math.sqrt(np.mean([((x[i] - centers[clusters[i]]) ** 2).sum() for i in range(9)]))
    found = centroids(z).exp().detach().numpy()
    np.testing.assert_allclose(found, slow_q(x, centers, scale, nu), rtol=1e-10)


def test_the_divergence_is_the_slow_loop(cells):
    z, clusters = cells
    centroids = started(z, clusters).eval()
    q = centroids(z).exp().detach().numpy()
    f = np.bincount(clusters) / 9
    total = 0.0
    for row in q:
        p = [value**2 / size for value, size in zip(row, f, strict=True)]
        p = [value / sum(p) for value in p]
        total += sum(a * math.log(a / b) for a, b in zip(p, row, strict=True))
    assert SelfTraining(centroids, 1.0)(code_of(z)).item() == pytest.approx(total / 9, rel=1e-10)


def test_sizes_follow_in_training_and_rest_otherwise(cells):
    z, clusters = cells
    centroids = started(z, clusters)
    before, q = centroids.sizes.clone(), centroids(z).exp().detach()
    SelfTraining(centroids, 1.0)(code_of(z))
    expected = 0.9 * before[:3] + 0.1 * q.mean(0)
    torch.testing.assert_close(centroids.sizes[:3], expected)
    assert not centroids.sizes[3:].any()
    centroids.eval()
    SelfTraining(centroids, 1.0)(code_of(z))
    torch.testing.assert_close(centroids.sizes[:3], expected)
    centroids.train().requires_grad_(False)
    SelfTraining(centroids, 1.0)(code_of(z))
    torch.testing.assert_close(centroids.sizes[:3], expected)


def test_targets_are_constant_and_cells_move_to_their_centre():
    z = torch.tensor([[0.3, 0.0], [-0.3, 0.0], [5.3, 0.0], [4.7, 0.0]], requires_grad=True)
    centroids = started(z.detach(), [0, 0, 1, 1])
    with torch.no_grad():
        centroids.scale.fill_(1.0)
    SelfTraining(centroids, 1.0)(code_of(z)).backward()
    towards = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    # the outer cells of each pair; the inner ones are also pushed off the other centre
    assert bool((-z.grad[:, :1] * towards)[[1, 2]].gt(0).all())
    assert bool(z.grad.isfinite().all())


def test_without_clusters_there_is_no_term():
    z = torch.randn(5, 2, requires_grad=True)
    centroids = Centroids(2, 4)
    value = SelfTraining(centroids, 1.0)(code_of(z))
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, z)[0].any()


def test_gradients_are_finite_on_a_centre():
    z = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]], requires_grad=True)
    centroids = started(z.detach(), [0, 0, 1])
    assert SelfTraining(centroids, 1.0)(code_of(z)).isfinite()
    SelfTraining(centroids, 1.0)(code_of(z)).backward()
    assert bool(z.grad.isfinite().all())


def test_starting_anew_forgets_what_was_there(cells):
    z, clusters = cells
    centroids = started(z, clusters)
    centroids.start(z, torch.zeros(9, dtype=torch.int64))
    assert centroids(z).shape == (9, 1)
    assert not centroids.centers[1:].any()
    assert int(centroids.n_starts) == 2


@pytest.mark.parametrize("clusters", [[0, 2, 2], [0, 1, 2]])
def test_more_clusters_than_room_and_empty_ones_are_refused(clusters):
    with pytest.raises(ValueError, match="clusters with cells are needed"):
        started(torch.randn(3, 2), clusters, n_most=2)


def test_the_number_of_clusters_is_that_of_the_state(cells):
    z, clusters = cells
    centroids, other = started(z, clusters), Centroids(2, 6).to(z.dtype)
    assert (centroids.n_clusters, other.n_clusters) == (3, 0)
    other.load_state_dict(centroids.state_dict())
    assert other.n_clusters == 3
    torch.testing.assert_close(other(z), centroids(z))
    other.load_state_dict(Centroids(2, 6).state_dict())
    assert other.n_clusters == 0
