"""The discrepancy of batches against a slow loop, its expectation, and what its width decides."""

import math

import numpy as np
import pytest
import torch

from latentcell.metrics import mmd
from latentcell.nn.discrepancy import BatchDiscrepancy
from latentcell.nn.latents import Code


def code_of(z, batches):
    z = torch.as_tensor(z)
    return Code(z=z, mean=z, mode=z, batches=None if batches is None else torch.as_tensor(batches))


def slow(z: np.ndarray, batches: np.ndarray, bandwidth: float) -> float:
    """Batch by batch, pair by pair."""
    n = len(z)
    spread = np.mean([((z[i] - z[j]) ** 2).sum() for i in range(n) for j in range(n) if i != j])

    def k(i, j):
        return math.exp(-((z[i] - z[j]) ** 2).sum() / (bandwidth * spread))

    found = []
    for batch in np.unique(batches):
        own, rest = np.flatnonzero(batches == batch), np.flatnonzero(batches != batch)
        if len(own) < 2 or len(rest) < 2:
            continue
        within = np.mean([k(i, j) for i in own for j in own if i != j])
        others = np.mean([k(i, j) for i in rest for j in rest if i != j])
        found.append(within + others - 2 * np.mean([k(i, j) for i in own for j in rest]))
    return float(np.mean(found))


@pytest.mark.parametrize("bandwidth", [0.02, 1.0])
@pytest.mark.parametrize("batches", [[0, 1] * 7, [0, 2, 2, 5, 2, 0, 5, 5, 2, 0, 2, 7, 0, 0]])
def test_it_is_the_slow_loop(batches, bandwidth):
    """Also with batches of unlike size, one of a single cell, and codes that do not follow each other."""
    z = np.random.default_rng(0).normal(size=(14, 3))
    found = BatchDiscrepancy(1.0, bandwidth)(code_of(z, batches)).item()
    assert found == pytest.approx(slow(z, np.array(batches), bandwidth), rel=1e-9)


def test_of_two_batches_it_is_the_metric_with_that_kernel():
    """The metric sums five kernels; their mean over the same widths is this one's."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 2)), rng.normal(0.7, 1.0, size=(20, 2))
    z = np.vstack([x, y])
    spread = np.mean([((a - b) ** 2).sum() for i, a in enumerate(z) for j, b in enumerate(z) if i != j])
    batches = np.repeat([0, 1], 20)
    scales = 2.0 ** np.arange(-2, 3)
    found = sum(BatchDiscrepancy(1.0, s / spread)(code_of(z, batches)).item() for s in scales)
    assert found == pytest.approx(mmd(x, y, bandwidth=1.0), rel=1e-9)


def test_batches_of_one_distribution_have_none_on_average():
    rng = np.random.default_rng(2)
    values = [
        BatchDiscrepancy(1.0, 0.1)(code_of(rng.normal(size=(60, 2)), rng.integers(3, size=60))).item()
        for _ in range(300)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))


def two_kinds(n=200, seed=0):
    """Two kinds of cells far apart; batch 0 is mostly of one, batch 1 of the other, and shifted a little."""
    rng = np.random.default_rng(seed)
    batches = np.arange(n) % 2
    kind = np.where(rng.random(n) < 0.8, batches, 1 - batches)
    z = rng.normal(0, 0.3, size=(n, 2)) + np.outer(kind, [10.0, 0.0]) + np.outer(batches, [0.0, 0.8])
    return torch.tensor(z), batches, kind


@pytest.mark.parametrize(("bandwidth", "kinds_stay"), [(1 / 64, True), (2.0, False)])
def test_a_narrow_kernel_mixes_batches_and_leaves_kinds(bandwidth, kinds_stay):
    """Where batches hold other shares of the kinds, a wide one draws kinds together."""
    z, batches, kind = two_kinds()
    z.requires_grad_()
    gradient = torch.autograd.grad(BatchDiscrepancy(1.0, bandwidth)(code_of(z, batches)), z)[0].numpy()
    pull = [gradient[(kind == k) & (batches == b)].mean(0) for k in (0, 1) for b in (0, 1)]
    # descending moves batches of a kind towards each other along the second axis
    assert pull[0][1] < pull[1][1]
    assert pull[2][1] < pull[3][1]
    along = np.abs([p[0] for p in pull]).max() / np.abs([p[1] for p in pull]).max()
    assert (along < 0.3) == kinds_stay


def test_the_gradient_is_finite_where_codes_are_the_same():
    z = torch.zeros(6, 2, requires_grad=True)
    BatchDiscrepancy(1.0, 1.0)(code_of(z, [0, 1] * 3)).backward()
    assert bool(z.grad.isfinite().all())


def test_a_step_of_one_batch_adds_nothing():
    z = torch.randn(5, 2, requires_grad=True)
    for batches in ([0] * 5, [0, 0, 0, 0, 1]):
        value = BatchDiscrepancy(1.0, 1.0)(code_of(z, batches))
        assert value.item() == 0.0
        assert not torch.autograd.grad(value, z)[0].any()


@pytest.mark.parametrize("n_batches", [3, 4, 9])
def test_batches_that_a_step_has_no_cell_of_change_nothing(n_batches, rng):
    z, batches = torch.tensor(rng.normal(size=(20, 2)), requires_grad=True), rng.integers(3, size=20)
    known, looked_for = (BatchDiscrepancy(1.0, 0.1, n)(code_of(z, batches)) for n in (n_batches, None))
    torch.testing.assert_close(known, looked_for)
    torch.testing.assert_close(torch.autograd.grad(known, z), torch.autograd.grad(looked_for, z))


def test_cells_of_unknown_batch_are_refused():
    with pytest.raises(TypeError, match="batches are known"):
        BatchDiscrepancy(1.0, 1.0)(code_of(torch.zeros(3, 2), None))
