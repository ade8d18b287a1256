"""Negative log-likelihood of counts at the price of their non-zeros.

The gamma functions of the negative binomial cost most where they are not needed: at zeros, which are 90 % and
more of single-cell counts, they cancel. Here they are evaluated at the non-zeros only, and the gradients are
written in closed form, so that autograd never differentiates through them. The plain formula is in
:class:`torch.distributions.NegativeBinomial`; the tests hold this one to it.

On a GPU, where to look is known only when the device is done: the host would wait for it at every step. In
training the gamma functions are evaluated at all counts there; at zeros they give 0.
"""

from types import EllipsisType

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from latentcell import _devices


class _NonZeros:
    """What only counts above 0 add to a negative binomial's log-likelihood, as precisely as the device can.

    log-gammas of nearly the same number are subtracted there; in single precision that costs four digits
    where theta or the count is large. They are few.

    With `everywhere` zeros are not left out: they add 0.
    """

    def __init__(self, x: Tensor, theta: Tensor, logits: Tensor, *, everywhere: bool) -> None:
        self.index: EllipsisType | tuple[Tensor, ...] = ... if everywhere else x.nonzero(as_tuple=True)
        self.k = x[self.index]
        precise = _devices.finest(x.device)
        k, self.theta = self.k.to(precise), theta.expand_as(x)[self.index].to(precise)
        rising = torch.lgamma(k + self.theta) - torch.lgamma(self.theta)
        # log(mu / (theta + mu)), whose product with a large count nearly cancels the coefficient
        log_ratio = F.logsigmoid(logits[self.index].to(precise))
        self.log_p = (rising - torch.lgamma(k + 1) + k * log_ratio).to(x.dtype)
        # d rising / d log theta
        self.slope = (self.theta * (torch.digamma(k + self.theta) - torch.digamma(self.theta))).to(x.dtype)


class _NegativeBinomialNLL(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        log_mu: Tensor,
        log_theta: Tensor,
        dropout: Tensor | None,
        everywhere: bool,
    ) -> Tensor:
        mu, theta = log_mu.exp(), log_theta.exp()
        # log(theta + mu) - log(theta), exact also where mu/theta overflows or vanishes
        excess = F.softplus(log_mu - log_theta)
        shrink = torch.sigmoid(log_theta - log_mu)  # theta / (theta + mu)
        at_zero = theta * excess  # -log p(0)
        counts = _NonZeros(x, theta, log_mu - log_theta, everywhere=everywhere)
        where, k = counts.index, counts.k
        log_p = counts.log_p - at_zero[where]

        grad_mu = shrink * (mu - x)
        grad_theta = at_zero - mu * shrink
        if dropout is None:
            nll, grad_dropout = at_zero, at_zero.new_empty(0)
        else:
            # p(0) = pi + (1 - pi) p_nb(0), pi = sigmoid(dropout); lost: posterior probability of loss at a 0
            lost = torch.sigmoid(dropout + at_zero).masked_fill_(x > 0, 0.0)
            kept = F.softplus(dropout)  # -log(1 - pi)
            nll = kept - torch.logaddexp(dropout, -at_zero)
            log_p = log_p - kept[where]
            grad_dropout = torch.sigmoid(dropout) - lost
            grad_mu, grad_theta = (1 - lost) * grad_mu, (1 - lost) * grad_theta
        slope = k * shrink[where] - counts.slope
        if isinstance(where, EllipsisType):
            grad_theta += slope
            total = torch.where(x > 0, -log_p, nll).sum(1)
        else:
            grad_theta[where] += slope
            total = nll.sum(1).index_add(0, where[0], -log_p - nll[where])
        ctx.save_for_backward(grad_mu, grad_theta, grad_dropout)
        ctx.theta_shape = log_theta.shape  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_mu, grad_theta, grad_dropout = ctx.saved_tensors  # type: ignore[attr-defined]
        weight = grad.unsqueeze(1)
        per_gene = len(ctx.theta_shape) == 1  # type: ignore[attr-defined]
        return (
            None,
            weight * grad_mu,
            grad @ grad_theta if per_gene else weight * grad_theta,
            weight * grad_dropout if grad_dropout.numel() else None,
            None,
        )


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
        Log of the mean (cells x genes, or samples x cells x genes).
    log_theta
        Log of the inverse dispersion, per gene (genes) or in the shape of `x` or `log_mu`; the variance is
        mu + mu^2 / theta.

    Returns
    -------
    Nats per cell (cells, or samples x cells), differentiable once in `log_mu` and `log_theta`.

    Examples
    --------
    >>> nll = negative_binomial_nll(torch.tensor([[0.0, 3.0]]), torch.zeros(1, 2), torch.zeros(2))
    >>> round(float(nll), 4)  # theta = mu = 1 is geometric: log 2 for 0, 4 log 2 for 3
    3.4657
    """
    return _by_draw(x, log_mu, log_theta, None)


def zero_inflated_negative_binomial_nll(
    x: Tensor, log_mu: Tensor, log_theta: Tensor, dropout: Tensor
) -> Tensor:
    r"""Negative log-likelihood of negative binomial counts that are lost with probability pi.

    .. math::

        -\log p(0) = -\log\big[\pi + (1 - \pi) p_{NB}(0)\big], \qquad
        -\log p(x) = -\log(1 - \pi) - \log p_{NB}(x) \quad (x > 0)

    Parameters
    ----------
    x, log_mu, log_theta
        See :func:`negative_binomial_nll`.
    dropout
        Logit of pi, in the shape of `log_mu`.

    Returns
    -------
    Nats per cell, differentiable once in `log_mu`, `log_theta` and `dropout`.

    Examples
    --------
    >>> half = torch.zeros(1, 1)
    >>> nll = zero_inflated_negative_binomial_nll(half, half, half, half)
    >>> round(float(nll), 4)  # -log(1/2 + 1/2 x 1/2)
    0.2877
    """
    return _by_draw(x, log_mu, log_theta, dropout)


def poisson_nll(x: Tensor, log_mu: Tensor) -> Tensor:
    r"""Negative log-likelihood of Poisson counts, summed over genes.

    .. math:: -\log p(x) = \sum_g \mu_g - x_g \log \mu_g + \log x_g!

    Parameters
    ----------
    x, log_mu
        See :func:`negative_binomial_nll`.

    Returns
    -------
    Nats per cell (cells, or samples x cells), differentiable in `log_mu`.

    Examples
    --------
    >>> round(float(poisson_nll(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))), 4)  # 2 + log 2
    2.6931
    """
    if _everywhere(x):
        factorials = torch.lgamma(x + 1).sum(1)
    else:
        where = x.nonzero(as_tuple=True)
        factorials = torch.zeros_like(x[:, 0]).index_add(0, where[0], torch.lgamma(x[where] + 1))
    return (log_mu.exp() - x * log_mu).sum(-1) + factorials


def _everywhere(x: Tensor) -> bool:
    """Whether to go through all counts rather than to wait for where they are not 0; that takes memory."""
    return _devices.runs_ahead(x.device) and torch.is_grad_enabled()


def _by_draw(x: Tensor, log_mu: Tensor, log_theta: Tensor, dropout: Tensor | None) -> Tensor:
    if log_mu.dim() == 2:
        return _NegativeBinomialNLL.apply(x, log_mu, log_theta, dropout, _everywhere(x))
    return torch.stack(
        [
            _by_draw(
                x,
                log_mu[i],
                log_theta[i] if log_theta.dim() == log_mu.dim() else log_theta,
                None if dropout is None else dropout[i],
            )
            for i in range(len(log_mu))
        ]
    )
