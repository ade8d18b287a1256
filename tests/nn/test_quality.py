"""Figures watched in training, against slow readable loops and what they must be."""

import pytest
import torch

from latentcell.nn.quality import NEIGHBORS, covered, energy_distance, mean_distance, neighbor_radius


def samples(n: int, m: int, shift: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), torch.randn(m, 3, generator=generator) + shift


@pytest.mark.parametrize("k", [1, 3, 5])
def test_coverage_is_its_definition(k):
    real, generated = samples(20, 15, 1.0)
    expected = []
    for i in range(20):
        to_others = sorted(float((real[i] - real[j]).norm()) for j in range(20) if j != i)
        nearest = min(float((real[i] - cell).norm()) for cell in generated)
        expected.append(nearest <= to_others[k - 1])
    assert covered(real, generated, neighbor_radius(real, k)).tolist() == expected


def test_coverage_of_one_distribution_is_one_less_two_to_minus_k():
    for k in (2, NEIGHBORS):
        real, generated = samples(1500, 1500)
        share = covered(real, generated, neighbor_radius(real, k)).float().mean()
        assert float(share) == pytest.approx(1 - 2.0**-k, abs=0.03)


def test_coverage_is_the_share_of_modes_drawn():
    """Ten far groups, of which the generator draws the first n."""
    centres = torch.eye(10) * 100
    generator = torch.Generator().manual_seed(0)
    real = centres.repeat_interleave(50, 0) + torch.randn(500, 10, generator=generator)
    for n in (1, 5, 9):
        of = torch.randint(n, (500,), generator=generator)
        drawn = centres[of] + torch.randn(500, 10, generator=generator)
        share = covered(real, drawn, neighbor_radius(real)).float().mean()
        assert float(share) == pytest.approx(n / 10, abs=0.04)


def test_energy_distance_is_its_definition():
    x, y = samples(8, 6, 0.5)

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return sum(float((a[i] - b[j]).norm()) for i, j in pairs) / len(pairs)

    expected = 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)
    assert float(energy_distance(x, y)) == pytest.approx(expected, abs=1e-5)
    assert energy_distance(x, y, mean_distance(x)) == energy_distance(x, y)


def test_energy_distance_of_one_distribution_is_0_on_average():
    found = torch.stack([energy_distance(*samples(100, 100, seed=seed)) for seed in range(40)])
    assert abs(float(found.mean())) < 3 * float(found.std()) / 40**0.5
    assert float(energy_distance(*samples(100, 100, 3.0))) > 20 * float(found.std())
