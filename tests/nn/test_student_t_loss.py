"""Student's t against torch's: value and gradients, with degrees of freedom by column or one for all."""

import pytest
import torch
from torch.distributions import StudentT

from latentcell.nn.student_t_loss import student_t_nll


@pytest.mark.parametrize("shape", [(6, 4), (3, 6, 4)])
@pytest.mark.parametrize("same", [False, True])
def test_value_and_gradients_are_torchs(same, shape):
    x, mean = torch.randn(6, 4).double() * 3, torch.randn(shape).double().requires_grad_()
    scale = torch.rand(4).double().add(0.1).requires_grad_()
    degrees = (
        (torch.full((4,), 5.0) if same else torch.tensor([0.5, 2.1, 7.0, 300.0])).double().requires_grad_()
    )
    parts = mean, scale, degrees
    weight = torch.randn(shape[:-1]).double()
    ours = student_t_nll(x, *parts)
    theirs = -StudentT(degrees, mean, scale).log_prob(x.expand(shape)).sum(-1)
    torch.testing.assert_close(ours, theirs)
    found, known = (torch.autograd.grad((value * weight).sum(), parts) for value in (ours, theirs))
    torch.testing.assert_close(found, known)


def test_far_outliers_have_a_finite_gradient():
    mean = torch.zeros(1, 1, requires_grad=True)
    value = student_t_nll(torch.full((1, 1), 1e15), mean, torch.ones(1), torch.full((1,), 5.0))
    value.sum().backward()
    assert value.isfinite().all()
    assert mean.grad.isfinite().all()
