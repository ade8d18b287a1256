"""The fast normal likelihood against torch's, value and gradient."""

import pytest
import torch
from torch.distributions import Normal

from latentcell.nn.normal_loss import normal_nll


def problem(shape, dtype):
    x = torch.randn(shape[-2:], dtype=dtype)
    return x, torch.randn(shape, dtype=dtype).requires_grad_(), torch.linspace(-3, 2, shape[-1], dtype=dtype)


def gradients(nll, *parameters):
    weights = torch.linspace(0.5, 2, nll.numel(), dtype=nll.dtype).reshape(nll.shape)
    return torch.autograd.grad((weights * nll).sum(), parameters)


@pytest.mark.parametrize("shape", [(6, 5), (3, 6, 5)])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_value_and_gradients_are_torchs(shape, dtype, rtol):
    x, mean, log_scale = problem(shape, dtype)
    log_scale.requires_grad_()
    ours = normal_nll(x, mean, log_scale)
    theirs = -Normal(mean, log_scale.exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=0)
    pairs = zip(gradients(ours, mean, log_scale), gradients(theirs, mean, log_scale), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * b.abs().max().item())


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_gradcheck(shape):
    x, mean, log_scale = problem(shape, torch.float64)
    assert torch.autograd.gradcheck(lambda m, s: normal_nll(x, m, s), (mean, log_scale.requires_grad_()))


def test_a_fixed_scale_has_no_gradient_and_nothing_is_changed():
    x, mean, log_scale = problem((6, 5), torch.float64)
    before = x.clone(), mean.detach().clone(), log_scale.clone()
    (gradient,) = gradients(normal_nll(x, mean, log_scale), mean)
    weights = torch.linspace(0.5, 2, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(gradient, weights * (mean - x).detach() / log_scale.exp() ** 2)
    for value, old in zip((x, mean.detach(), log_scale), before, strict=True):
        torch.testing.assert_close(value, old, rtol=0, atol=0)
