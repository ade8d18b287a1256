"""Binary clusters: the two penalties against slow loops, their bounds, and codes as clusters."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from latentcell.nn.binary_clusters import BinaryLayer, InformationDimension, WithinClusterDistance
from latentcell.nn.latents import Code


class Fixed(BinaryLayer):
    """A layer whose logits are given."""

    def __init__(self, logits):
        super().__init__(2, logits.shape[1])
        self.logits = logits

    def forward(self, z):
        return self.logits


def code_of(z):
    return Code(z=z, mean=z, mode=z)


def test_information_dimension_is_the_slow_loop():
    logits = torch.tensor(np.random.default_rng(0).normal(0, 2, size=(6, 3)))
    total = 0.0
    for row in logits.tolist():
        for value in row:
            b = 1 / (1 + math.exp(-value))
            total -= b * math.log(b) + (1 - b) * math.log(1 - b)
    found = InformationDimension(Fixed(logits), 1.0)(code_of(torch.zeros(6, 2))).item()
    assert found == pytest.approx(total / 6, rel=1e-12)


def test_information_dimension_is_that_of_coins_and_of_certainty():
    z = torch.zeros(4, 2)
    assert InformationDimension(Fixed(torch.zeros(4, 5)), 1.0)(code_of(z)).item() == pytest.approx(
        5 * math.log(2)
    )
    sure = torch.tensor([[200.0, -200.0]] * 4, requires_grad=True)
    value = InformationDimension(Fixed(sure), 1.0)(code_of(z))
    value.backward()
    assert value.item() == 0.0
    assert bool(sure.grad.isfinite().all())


def slow_distance(z: np.ndarray, logits: np.ndarray) -> float:
    """The probability that two cells draw the same code: summed over all codes."""
    on = 1 / (1 + np.exp(-logits))
    n, n_units = logits.shape
    same, total = 0.0, 0.0
    for i in range(n):
        for j in range(n):
            square = ((z[i] - z[j]) ** 2).sum()
            total += square
            for bits in product([0, 1], repeat=n_units):
                p_i = math.prod(on[i, u] if bit else 1 - on[i, u] for u, bit in enumerate(bits))
                p_j = math.prod(on[j, u] if bit else 1 - on[j, u] for u, bit in enumerate(bits))
                same += square * p_i * p_j
    return same / total


def test_within_cluster_distance_is_the_slow_loop():
    rng = np.random.default_rng(1)
    z, logits = rng.normal(size=(7, 2)), rng.normal(0, 1.5, size=(7, 3))
    found = WithinClusterDistance(Fixed(torch.tensor(logits)), 1.0)(code_of(torch.tensor(z))).item()
    assert found == pytest.approx(slow_distance(z, logits), rel=1e-9)


def test_within_cluster_distance_is_1_of_one_cluster_and_0_of_tight_ones():
    z = torch.tensor([[0.0, 0.0]] * 3 + [[5.0, 5.0]] * 4)
    one = torch.full((7, 2), 60.0)
    assert WithinClusterDistance(Fixed(one), 1.0)(code_of(z)).item() == pytest.approx(1.0)
    two = one.clone()
    two[3:, 1] = -60.0
    assert WithinClusterDistance(Fixed(two), 1.0)(code_of(z)).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("Penalty", [InformationDimension, WithinClusterDistance])
def test_the_layer_is_trained_and_not_the_code(Penalty):
    z = torch.randn(5, 2, requires_grad=True)
    layer = BinaryLayer(2, 3)
    Penalty(layer, 1.0)(code_of(z)).backward()
    assert z.grad is None
    gradients = [parameter.grad for parameter in layer.parameters()]
    assert all(bool(one.isfinite().all()) for one in gradients)
    assert any(bool(one.any()) for one in gradients)


def test_gradients_are_finite_where_codes_are_the_same():
    layer = BinaryLayer(2, 3)
    code = code_of(torch.zeros(4, 2))
    (WithinClusterDistance(layer, 1.0)(code) + InformationDimension(layer, 1.0)(code)).backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in layer.parameters())


def test_together_they_find_blobs_without_their_number():
    """Four blobs, eight units: the units end at four codes, one for each blob."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    kind = torch.arange(240) % 4
    z = centers[kind] + 0.4 * torch.randn(240, 2, generator=generator)
    layer = BinaryLayer(2, 8)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.01)
    for step in range(400):
        weight = 0.1 * min(1.0, step / 200)
        loss = WithinClusterDistance(layer, 1.0)(code_of(z))
        loss = loss + weight * InformationDimension(layer, 1.0)(code_of(z))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    codes = layer.eval().codes(z)
    pairs = {(int(k), int(c)) for k, c in zip(kind, codes, strict=True)}
    assert len(pairs) == len(set(codes.tolist())) == 4


def test_codes_are_the_rounded_units_as_numbers():
    logits = torch.tensor([[3.0, -1.0, 0.5], [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    assert Fixed(logits).codes(torch.zeros(3, 2)).tolist() == [0b101, 0, 0b111]


def test_clusters_are_numbered_by_size_and_rare_codes_unassigned():
    layer = BinaryLayer(2, 2)
    layer.remember(torch.tensor([3] * 5 + [0] * 7 + [2]))
    assert layer.clusters(1).tolist() == [0, -1, 2, 1]
    assert layer.clusters(2).tolist() == [0, -1, -1, 1]
    assert layer.clusters(0).tolist() == [0, -1, 2, 1]


def test_codes_that_are_joined_are_one_cluster_down_to_the_pass_asked_for():
    layer = BinaryLayer(2, 2)
    codes = torch.tensor([0] * 5 + [1] * 4 + [2] * 6 + [3])
    layer.remember(codes, np.array([[1, 0], [0, 2]]), np.array([0.95, 0.3]))
    assert layer.clusters(1).tolist() == [1, 2, 0, 3]
    assert layer.clusters(1, 0.5).tolist() == [0, 0, 1, 2]
    assert layer.clusters(2, 0.3).tolist() == [0, 0, 0, -1]
    assert layer.clusters(1, 0.96).tolist() == layer.clusters(1).tolist()
    # 0 and 1 are unassigned, and no cluster's cells
    assert layer.clusters(6, 0.5).tolist() == [-1, -1, 0, -1]
    layer.remember(codes)  # another training forgets
    assert layer.clusters(1, 0.5).tolist() == [1, 2, 0, 3]
