"""VASC's zero-inflation layer against a slow loop, Monte Carlo and its own distribution."""

import math

import numpy as np
import pytest
import torch

from latentcell.nn.lossy import Lossy, relaxed_gate

N_CELLS, N_GENES = 7, 4


@pytest.fixture
def raw():
    return {"mean": torch.linspace(-4, 4, N_CELLS * N_GENES, dtype=torch.float64).reshape(N_CELLS, N_GENES)}


@pytest.fixture
def y():
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(N_CELLS, N_GENES, generator=generator, dtype=torch.float64)
    y[y < 0.4] = 0.0
    y[0, 0] = 1.0
    return y


def slow_gate(logit: float, u: float, temperature: float) -> float:
    """Softmax of (log p + Gumbel) over open and closed; the two Gumbels' difference is logistic in u."""
    p = 1 / (1 + math.exp(-logit))
    first = -math.log(-math.log(0.3))  # any Gumbel; the other one is what makes the difference logistic(u)
    second = first - math.log(u / (1 - u))
    is_open = math.exp((math.log(p) + first) / temperature)
    return is_open / (is_open + math.exp((math.log(1 - p) + second) / temperature))


def test_a_gate_is_the_gumbel_softmax_of_two_outcomes():
    logits, temperature = torch.linspace(-3, 3, 11, dtype=torch.float64), 0.7
    torch.manual_seed(0)
    found = relaxed_gate(logits, temperature).exp()
    torch.manual_seed(0)
    u = torch.rand_like(logits)
    expected = [slow_gate(float(a), float(b), temperature) for a, b in zip(logits, u, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_gates_are_open_with_their_probability(temperature):
    torch.manual_seed(0)
    logits = torch.tensor([-2.0, 0.0, 1.5]).expand(100_000, 3)
    opened = (relaxed_gate(logits, temperature).exp() > 0.5).double().mean(0)
    np.testing.assert_allclose(opened, torch.sigmoid(logits[0]), atol=0.006)


def test_colder_gates_gather_at_0_and_1():
    torch.manual_seed(0)
    logits = torch.zeros(20_000)
    away = [float((relaxed_gate(logits, t).exp() - 0.5).abs().mean()) for t in (2.0, 1.0, 0.5, 0.01)]
    assert away == sorted(away)
    assert away[-1] == pytest.approx(0.5, abs=0.01)


def slow_relaxed(y, x, masks) -> list[float]:
    """Cross-entropy of values to masked outputs, value by value."""
    total = []
    for i in range(len(y)):
        cell = 0.0
        for g in range(len(y[i])):
            kept = x[i][g] * masks[i][g]
            cell -= y[i][g] * math.log(kept) + (1 - y[i][g]) * math.log(1 - kept)
        total.append(cell)
    return total


def test_the_loss_in_training_is_the_slow_loop(raw, y):
    likelihood = Lossy(N_GENES, steepness=1.0).double()
    likelihood.start_at(5.0)
    temperature = torch.tensor(0.8)
    torch.manual_seed(1)
    found = likelihood.negative_log_likelihood(5 * y, raw | {"temperature": temperature}, None)
    torch.manual_seed(1)
    u = torch.rand_like(raw["mean"]).numpy()
    x = 1 / (1 + np.exp(-raw["mean"].numpy()))
    lost = np.exp(-(x**2))  # the paper's
    logit = np.log((1 - lost) / lost)
    masks = [[slow_gate(logit[i, g], u[i, g], 0.8) for g in range(N_GENES)] for i in range(N_CELLS)]
    np.testing.assert_allclose(found, slow_relaxed(y.numpy(), x, masks), rtol=1e-6)


def slow_exact(y, x, steepness) -> list[float]:
    """The draw of what is lost summed over, value by value."""
    total = []
    for i in range(len(y)):
        cell = 0.0
        for g in range(len(y[i])):
            lost = math.exp(-steepness * x[i][g] ** 2)
            if y[i][g] == 0:
                cell -= math.log(lost + (1 - lost) * (1 - x[i][g]))
            else:
                cell -= math.log(1 - lost)
                cell -= y[i][g] * math.log(x[i][g]) + (1 - y[i][g]) * math.log(1 - x[i][g])
        total.append(cell)
    return total


@pytest.mark.parametrize("steepness", [0.5, 1.0, 6.0])
def test_the_loss_else_is_the_slow_loop(raw, y, steepness):
    likelihood = Lossy(N_GENES, steepness=steepness).double()
    likelihood.start_at(3.0)
    found = likelihood.negative_log_likelihood(3 * y, raw, None)
    x = (1 / (1 + np.exp(-raw["mean"].numpy()))).tolist()
    np.testing.assert_allclose(found, slow_exact(y.tolist(), x, steepness), rtol=1e-7)


def test_on_zeros_and_ones_the_loss_is_minus_the_log_probability(raw, y):
    likelihood, binary = Lossy(N_GENES).double(), (y > 0).double()
    expected = -likelihood.distribution(raw, None).log_prob(binary).sum(-1)
    torch.testing.assert_close(likelihood.negative_log_likelihood(binary, raw, None), expected)


def test_draws_over_gates_give_no_less_than_the_sum_over_them(raw):
    """Jensen's inequality; with the coldest gates on data that are all 0, where no draw is impossible."""
    likelihood, zeros = Lossy(N_GENES).double(), torch.zeros(N_CELLS, N_GENES, dtype=torch.float64)
    torch.manual_seed(0)
    cold = raw | {"temperature": torch.tensor(1e-3)}
    drawn = torch.stack([likelihood.negative_log_likelihood(zeros, cold, None) for _ in range(3000)]).mean(0)
    exact = likelihood.negative_log_likelihood(zeros, raw, None)
    assert (drawn > exact - 0.02).all()
    # -log E and E -log of a gate that is nearly always closed, or of outputs near 0, are the same
    torch.testing.assert_close(drawn[0], exact[0], rtol=0.05, atol=1e-3)


def test_the_mean_is_that_of_the_distribution_in_the_datas_unit(raw):
    likelihood = Lossy(N_GENES).double()
    likelihood.start_at(7.0)
    torch.testing.assert_close(
        likelihood.mean(raw, None), 7 * likelihood.distribution(raw, None).mean, rtol=1e-6, atol=1e-9
    )
    torch.manual_seed(0)
    keep = torch.rand(200_000, *raw["mean"].shape) > likelihood.lost(raw)
    drawn = 7 * (keep * torch.sigmoid(raw["mean"])).mean(0)
    torch.testing.assert_close(drawn, likelihood.mean(raw, None), rtol=0.0, atol=0.02)


def test_the_bias_starts_at_the_datas_means_as_far_as_they_can_be_had():
    likelihood = Lossy(5)
    likelihood.start_at(2.0)
    mean = torch.tensor([0.0, 0.02, 0.4, 1.0, 1.9])
    bias = likelihood.start(mean, torch.ones(5))
    found = likelihood.mean({"mean": bias[None]}, None)[0]
    torch.testing.assert_close(found[1:4], mean[1:4], rtol=0.03, atol=0.0)
    assert found[0] < 1e-6
    # what is lost even at the top: no more than 1 - 1/e of the largest can be expected
    assert float(found[4]) == pytest.approx(2 * (1 - math.exp(-1)), rel=1e-2)


def test_gradients_are_finite_at_the_ends():
    raw = {"mean": torch.tensor([[-60.0, 60.0, 0.0, -12.0]], requires_grad=True)}
    y = torch.tensor([[0.0, 1.0, 0.5, 1.0]])
    for extra in ({}, {"temperature": torch.tensor(0.5)}):
        loss = Lossy(4).negative_log_likelihood(y, raw | extra, None).sum()
        (gradient,) = torch.autograd.grad(loss, raw["mean"])
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_values_beyond_the_largest_count_as_it():
    likelihood, raw = Lossy(2), {"mean": torch.zeros(1, 2)}
    likelihood.start_at(4.0)
    more, top = torch.tensor([[9.0, 4.0]]), torch.tensor([[4.0, 4.0]])
    found = [likelihood.negative_log_likelihood(x, raw, None) for x in (more, top)]
    torch.testing.assert_close(*found)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="steepness must be positive, got 0"):
        Lossy(3, steepness=0)
