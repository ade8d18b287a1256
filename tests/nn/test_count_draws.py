"""Fast draws of negative binomial counts against the distribution itself and against torch's draws."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import NegativeBinomial

from latentcell.nn.count_draws import CountNegativeBinomial, _positive

N = 200_000


@pytest.mark.parametrize("mean", [1e-3, 0.05, 0.7, 4.9, 5.1, 80.0])
@pytest.mark.parametrize("theta", [0.05, 1.0, 30.0, 2e4])
def test_draws_have_the_distribution(mean, theta):
    torch.manual_seed(0)
    logits = torch.tensor(mean / theta).log()
    counts = CountNegativeBinomial(torch.tensor(theta), logits=logits).sample((N,)).numpy()
    assert (counts == np.round(counts)).all()
    variance = mean + mean**2 / theta
    assert counts.mean() == pytest.approx(mean, abs=4.5 * np.sqrt(variance / N))
    expected = stats.nbinom(theta, theta / (theta + mean))
    for k in (0, 1, 2, 5, 20):
        p = expected.cdf(k)
        assert (counts <= k).mean() == pytest.approx(p, abs=4.5 * np.sqrt(p * (1 - p) / N) + 1e-5)


def test_draws_of_a_grid_agree_with_torchs_entry_by_entry():
    torch.manual_seed(1)
    theta = torch.tensor([0.2, 3.0, 50.0])
    logits = torch.tensor([[-6.0], [-1.0], [0.5], [2.0]])
    ours = CountNegativeBinomial(theta, logits=logits).sample((60_000,))
    theirs = NegativeBinomial(theta, logits=logits)
    assert ours.shape == (60_000, 4, 3)
    error = (theirs.variance / 60_000).sqrt()
    assert ((ours.mean(0) - theirs.mean).abs() < 4.5 * error).all()
    assert torch.allclose(ours.var(0), theirs.variance, rtol=0.08)


def test_counts_above_nothing_are_at_least_one_even_where_they_are_rare():
    torch.manual_seed(2)
    theta = torch.full((50_000,), 2.0, dtype=torch.float64)
    for mean in (1e-9, 1e-3):
        counts = _positive(theta, torch.full_like(theta, mean / 2).log())
        assert counts.min() == 1
        assert counts.mean().item() == pytest.approx(1 + mean * 0.75, abs=2e-4)  # (theta+1)/(2 theta) mean
