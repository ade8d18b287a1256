"""Parts of GANs against closed forms and slow readable loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from latentcell.nn.critics import (
    SLOPE,
    ConditionalBatchNorm,
    Critic,
    GeneratorBody,
    gradient_penalty,
    straight_through_counts,
)


class Linear(nn.Module):
    """Score w x, whose slope is w everywhere."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def no_labels(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.long)


# --- gradient penalty and what the critic estimates ---


@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=5), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_penalty_of_a_linear_critic_is_its_closed_form(weight, n):
    w = torch.tensor(weight, dtype=torch.float64) + 0.01
    critic = Linear(w)
    real, generated = torch.randn(2, n, len(w), dtype=torch.float64)
    penalty, norms = gradient_penalty(
        critic, real, generated, no_labels(n), torch.rand(n, 1, dtype=torch.float64)
    )
    torch.testing.assert_close(penalty.detach(), (w.norm() - 1).square())
    torch.testing.assert_close(norms, w.norm().expand(n))
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, 2 * (w.norm() - 1) * w / w.norm())


def test_penalty_is_taken_between_each_pair_of_cells():
    class Square(nn.Module):
        def forward(self, x, labels):
            return 0.5 * x.square().sum(1) * (labels + 1)  # slope x, times the label

    real, generated = torch.randn(2, 4, 3)
    labels, share = torch.tensor([0, 1, 0, 2]), torch.tensor([[0.0], [1.0], [0.5], [0.25]])
    penalty, norms = gradient_penalty(Square(), real, generated, labels, share)
    expected = []
    for i in range(4):
        between = share[i, 0] * real[i] + (1 - share[i, 0]) * generated[i]
        expected.append(float(between.norm()) * (int(labels[i]) + 1))
    torch.testing.assert_close(norms, torch.tensor(expected))
    torch.testing.assert_close(penalty, (torch.tensor(expected) - 1).square().mean())


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_gap_of_two_gaussians_is_their_distance(kind):
    """Means m apart and equal spread: Wasserstein-1 distance m; the penalty lets the slope be 1 + m / 2λ.

    A linear critic of slope s has gap s m and penalty λ (s - 1)^2, whose difference is largest there.
    """
    m, weight, n = 2.0, 10.0, 512
    shift = torch.tensor([m, 0.0, 0.0])
    critic = Linear(torch.zeros(3) + 0.1) if kind == "linear" else Critic(3, (32, 32))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01, betas=(0.0, 0.9))
    for step in range(400):
        real, generated = torch.randn(n, 3) + shift, torch.randn(n, 3)
        penalty, _ = gradient_penalty(critic, real, generated, no_labels(n), torch.rand(n, 1))
        gap = critic(real, no_labels(n)).mean() - critic(generated, no_labels(n)).mean()
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 400)
        optimizer.zero_grad()
        (weight * penalty - gap).backward()
        optimizer.step()
    with torch.no_grad():
        real, generated = torch.randn(50_000, 3) + shift, torch.randn(50_000, 3)
        gap = critic(real, no_labels(50_000)).mean() - critic(generated, no_labels(50_000)).mean()
    assert float(gap) == pytest.approx(m * (1 + m / (2 * weight)), rel=0.02 if kind == "linear" else 0.05)


# --- networks ---


def test_conditional_batch_norm_is_batch_norm_with_a_scale_and_shift_per_label():
    norm = ConditionalBatchNorm(3, 2)
    with torch.no_grad():
        norm.scale.copy_(torch.randn(2, 3))
        norm.shift.copy_(torch.randn(2, 3))
    h, labels = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    out = norm(h, labels)
    for gene in range(3):
        column = h[:, gene]
        whitened = (column - column.mean()) / (column.var(correction=0) + norm.norm.eps).sqrt()
        for cell in range(6):
            label = labels[cell]
            expected = whitened[cell] * norm.scale[label, gene] + norm.shift[label, gene]
            torch.testing.assert_close(out[cell, gene], expected)


def test_without_labels_it_is_batch_norm():
    own, known = ConditionalBatchNorm(4, 0), nn.BatchNorm1d(4, eps=0.001)
    h = torch.randn(7, 4)
    torch.testing.assert_close(own(h, no_labels(7)), known(h))
    own.eval()
    known.eval()
    torch.testing.assert_close(own(h, no_labels(7)), known(h))


def test_labels_steer_the_generator_through_its_norms_only():
    body = GeneratorBody(3, (8, 5), n_labels=2).eval()
    h, first, second = torch.randn(6, 3), no_labels(6), torch.ones(6, dtype=torch.long)
    assert body.n_out == 5
    torch.testing.assert_close(body(h, first), body(h, second))  # norms start equal
    with torch.no_grad():
        body.norms[1].shift[1] += 1.0
    assert not torch.allclose(body(h, first), body(h, second))
    assert (body(h, second) >= 0).all()


def test_critic_projects_on_the_direction_of_the_label():
    critic = Critic(4, (6, 5), n_labels=3)
    x, labels = torch.randn(7, 4), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    scores = critic(x, labels)
    for i in range(7):
        h = x[i]
        for layer in critic.layers:
            h = layer.weight @ h + layer.bias
            h = torch.where(h > 0, h, SLOPE * h)
        score = critic.head.weight[0] @ h + critic.head.bias[0] + critic.of_label[labels[i]] @ h
        torch.testing.assert_close(scores[i], score)


def test_the_critic_lets_a_fifth_through_below_0():
    critic = Critic(1, (1,))
    for layer in (critic.layers[0], critic.head):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    scores = critic(torch.tensor([[-3.0], [0.0], [2.0]]), no_labels(3))
    torch.testing.assert_close(scores, torch.tensor([-0.6, 0.0, 2.0]))


def test_a_cells_score_does_not_hang_on_the_other_cells():
    critic = Critic(4, (6,), n_labels=2)
    x, labels = torch.randn(5, 4), torch.tensor([0, 1, 0, 1, 1])
    torch.testing.assert_close(critic(x, labels)[2:3], critic(x[2:3], labels[2:3]))


# --- counts ---


@pytest.mark.parametrize("theta", [None, 0.7, 5.0])
def test_straight_through_counts_have_the_moments_of_their_distribution(theta):
    mean = torch.tensor([0.1, 1.0, 20.0])
    dispersion = None if theta is None else torch.full((3,), theta)
    counts = straight_through_counts(mean.expand(200_000, 3), dispersion)
    variance = mean if theta is None else mean + mean.square() / theta
    assert (counts >= 0).all()
    assert torch.equal(counts, counts.round())
    assert torch.allclose(counts.mean(0), mean, atol=5 * float((variance.max() / 200_000).sqrt()))
    torch.testing.assert_close(counts.var(0), variance, rtol=0.05, atol=0)


def test_the_gradient_of_counts_is_that_of_an_expectation():
    """For f linear in counts, E f(k) has derivative f(1) by each rate; for k^2 it is 2 mean + 1."""
    mean = torch.full((400_000,), 3.0, requires_grad=True)
    straight_through_counts(mean).mul(2.0).mean().backward()
    torch.testing.assert_close(mean.grad.sum(), torch.tensor(2.0))
    mean.grad = None
    straight_through_counts(mean).square().mean().backward()
    # E[(k+1)^2 - k^2] = 2 mean + 1 = 7; straight through it is E[2 k] = 6: the step of one count is missed
    assert float(mean.grad.sum()) == pytest.approx(6.0, rel=0.01)


def test_dispersion_of_counts_can_be_learned():
    """The variance of counts grows as theta falls: d E[k^2] / d theta = - mean^2 / theta^2."""
    theta = torch.tensor([2.0], requires_grad=True)
    mean = torch.full((400_000, 1), 3.0)
    straight_through_counts(mean, theta).square().mean().backward()
    assert float(theta.grad) == pytest.approx(-9.0 / 4.0, rel=0.1)


@pytest.mark.parametrize("theta", [None, torch.tensor(2.0)])
def test_counts_of_rates_that_are_none_are_not_finite_and_no_error(theta):
    """A GPU would stop for good; a loss that is not finite is noticed."""
    rates = torch.tensor([1.0, torch.nan, torch.inf])
    counts = straight_through_counts(rates, theta)
    assert counts.isfinite().tolist() == [True, False, False]
