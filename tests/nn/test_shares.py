"""Shares of kinds of cells: memberships, multipliers, and a generator that they set right."""

import numpy as np
import pytest
import torch

from latentcell.nn.shares import DAMPING, MEMORY, RATE, SHARPNESS, Shares

CENTERS = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def make_shares(**values) -> Shares:
    """Three kinds in the first and third of four features, 4 apart."""
    axes = torch.zeros(4, 2)
    axes[0, 0] = axes[2, 1] = 1.0
    shares = Shares(torch.tensor([1.0, 2.0, 3.0, 4.0]), axes, CENTERS, scale=5.0)
    for name, value in values.items():
        setattr(shares, name, value)
    return shares


def test_memberships_are_their_formula():
    shares = make_shares()
    cells = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)) * 3  # two columns beside the genes
    found = shares.membership(cells)
    width = 4.0**2 / (2 * SHARPNESS)
    for cell, of_cell in zip(cells.double().numpy(), found.double().numpy(), strict=True):
        place = np.array([cell[0] - 1, cell[2] - 3])
        odds = np.array([np.exp(-np.square(place - c).sum() / (2 * width)) for c in CENTERS.numpy()])
        np.testing.assert_allclose(of_cell, odds / odds.sum(), rtol=1e-4, atol=1e-6)


def test_at_a_centre_the_odds_are_as_said():
    cells = torch.tensor([[1.0, 0.0, 3.0, 0.0]])
    own, right, above = make_shares().membership(cells)[0]
    assert float((own / right).log()) == pytest.approx(SHARPNESS, rel=1e-4)
    assert float((own / above).log()) == pytest.approx(SHARPNESS, rel=1e-4)


def test_the_reward_is_at_the_prices_before_the_step_and_the_step_is_what_is_lacking():
    price, target = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.5, 0.3, 0.2])
    recent = torch.tensor([0.1, 0.2, -0.1])
    shares = make_shares(price=price, target=target, pace=0.5, lacking=recent)
    cells = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)) * 3
    found = shares.membership(cells).mean(0)
    earned = 5.0 * ((price + RATE * DAMPING * recent) * found).sum()
    lacking = (target - found) / target.sqrt()
    torch.testing.assert_close(shares.reward(cells), earned)
    torch.testing.assert_close(shares.price, price + 0.5 * RATE * lacking)
    torch.testing.assert_close(shares.lacking, recent * (1 - 1 / MEMORY) + lacking / MEMORY)


def test_no_price_moves_where_all_shares_are_right():
    shares = make_shares()
    cells = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)) * 3
    shares.target = shares.membership(cells).mean(0)
    assert shares.reward(cells) == 0
    torch.testing.assert_close(shares.price, torch.zeros(3))


def test_a_generator_that_only_the_shares_steer_draws_kinds_as_often_as_they_come():
    """A threshold of uniform noise between two kinds: its place is the share, and nothing else says it."""
    torch.manual_seed(0)
    shares = Shares(torch.zeros(1), torch.ones(1, 1), torch.tensor([[0.0], [4.0]]), scale=1.0)
    shares.target = torch.tensor([0.95, 0.05])
    threshold = torch.nn.Parameter(torch.tensor(0.5))
    optimizer, late = torch.optim.SGD([threshold], lr=0.05), []
    for step in range(3000):
        noise = torch.rand(256, 1)
        cells = 4 * torch.sigmoid((noise - threshold) / 0.02)
        optimizer.zero_grad()
        (-shares.reward(cells)).backward()
        optimizer.step()
        with torch.no_grad():
            threshold.clamp_(0.0, 1.0)
        if step >= 1500:
            late.append(float(threshold.detach()))
    assert np.mean(late) == pytest.approx(0.95, abs=0.01)
