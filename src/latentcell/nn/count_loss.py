"""Negative log-likelihood of counts at the price of their non-zeros.

The gamma functions of the negative binomial cost most where they are not needed: at zeros, which are 90 % and
more of single-cell counts, they cancel. Here they are evaluated at the non-zeros only, and the gradients are
written in closed form, so that autograd never differentiates through them. The plain formula is in
:class:`torch.distributions.NegativeBinomial`; the tests hold this one to it.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable


class _NegativeBinomialNLL(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
        mu, theta = log_mu.exp(), log_theta.exp()
        # log(theta + mu) - log(theta), exact also where mu/theta overflows or vanishes
        excess = torch.nn.functional.softplus(log_mu - log_theta)
        shrink = torch.sigmoid(log_theta - log_mu)  # theta / (theta + mu)
        nll = theta * excess
        cell, gene = x.nonzero(as_tuple=True)
        k = x[cell, gene]
        theta_k = theta.expand_as(x)[cell, gene]
        rising = torch.lgamma(k + theta_k) - torch.lgamma(theta_k) - torch.lgamma(k + 1)
        # log(mu / (theta + mu)) = log_mu - log_theta - excess
        log_ratio = (log_mu - log_theta)[cell, gene] - excess[cell, gene]
        at_counts = rising + k * log_ratio
        total = nll.sum(1).index_add(0, cell, at_counts, alpha=-1)

        grad_mu = shrink * (mu - x)
        grad_theta = nll - mu * shrink
        digammas = torch.digamma(k + theta_k) - torch.digamma(theta_k)
        grad_theta[cell, gene] += k * shrink[cell, gene] - theta_k * digammas
        ctx.save_for_backward(grad_mu, grad_theta)
        ctx.theta_shape = log_theta.shape  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        grad_mu, grad_theta = ctx.saved_tensors  # type: ignore[attr-defined]
        weight = grad.unsqueeze(1)
        if len(ctx.theta_shape) == 1:  # type: ignore[attr-defined]
            return None, weight * grad_mu, grad @ grad_theta
        return None, weight * grad_mu, weight * grad_theta


def negative_binomial_nll(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    r"""Negative log-likelihood of counts under a negative binomial, summed over genes.

    .. math::

        -\log p(x) = \sum_g \theta_g \log\frac{\theta_g + \mu_g}{\theta_g}
            - \sum_{x_g > 0} \Big[ x_g \log\frac{\mu_g}{\theta_g + \mu_g}
            + \log\Gamma(x_g + \theta_g) - \log\Gamma(\theta_g) - \log\Gamma(x_g + 1) \Big]

    Parameters
    ----------
    x
        Counts (cells x genes), non-negative integers of any float dtype.
    log_mu
        Log of the mean (cells x genes).
    log_theta
        Log of the inverse dispersion, per gene (genes) or per cell and gene (cells x genes); the variance is
        mu + mu^2 / theta.

    Returns
    -------
    Nats per cell (cells), differentiable once in `log_mu` and `log_theta`.

    Examples
    --------
    >>> nll = negative_binomial_nll(torch.tensor([[0.0, 3.0]]), torch.zeros(1, 2), torch.zeros(2))
    >>> round(float(nll), 4)  # theta = mu = 1 is geometric: log 2 for 0, 4 log 2 for 3
    3.4657
    """
    return _NegativeBinomialNLL.apply(x, log_mu, log_theta)
