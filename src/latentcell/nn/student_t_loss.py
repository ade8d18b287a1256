"""Negative log-likelihood of data under Student's t, with what hangs on scales alone once per column."""

import math

import torch
from torch import Tensor


def student_t_nll(x: Tensor, mean: Tensor, scale: Tensor, degrees: Tensor) -> Tensor:
    r"""Negative log-likelihood under Student's t, summed over columns.

    .. math:: -\log p(x) = \sum_g \frac{\nu_g + 1}{2}
        \log\Big[1 + \frac{(x_g - \mu_g)^2}{\nu_g \sigma_g^2}\Big] + \log \sigma_g
        + \tfrac12 \log(\pi \nu_g) + \log\Gamma\big(\tfrac{\nu_g}{2}\big)
        - \log\Gamma\big(\tfrac{\nu_g + 1}{2}\big)

    The same as by :class:`torch.distributions.StudentT`, which sends numbers to the device at every step.

    Parameters
    ----------
    x
        Data (cells x columns).
    mean
        Middles (cells x columns, or samples x cells x columns).
    scale, degrees
        Scale and degrees of freedom of each column (columns).

    Returns
    -------
    Nats per cell (cells, or samples x cells), differentiable in all but `x`.

    Examples
    --------
    >>> one = torch.ones(1)
    >>> round(float(student_t_nll(torch.zeros(1, 1), torch.zeros(1, 1), one, one)), 4)  # Cauchy: log pi
    1.1447
    """
    half = 0.5 * (degrees + 1)
    tail = half * torch.log1p(((x - mean) / scale).square() / degrees)
    middle = scale.log() + 0.5 * (math.pi * degrees).log() + torch.lgamma(0.5 * degrees) - torch.lgamma(half)
    return tail.sum(-1) + middle.sum()
