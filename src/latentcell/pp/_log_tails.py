"""Tails of the F and chi-squared distributions on the log scale, where probabilities themselves underflow.

Strongly variable genes over thousands of cells have p-values far below 1e-300; their order and size still
matter.
"""

from collections.abc import Callable

import numpy as np
from scipy import special, stats

_LOG_SAFE = -500.0
"""Above this log probability scipy's own functions are exact."""

_TINY = np.finfo(np.float64).tiny


def log_f_sf(x: np.ndarray, df: float) -> np.ndarray:
    """Log of the upper tail of the F distribution with `df` and `df` degrees of freedom.

    P(F > x) is the regularised incomplete beta function I_y(a, a) with a = df / 2 and y = 1 / (1 + x). Where
    it is too small for a float, log I_y(a, a) = a log(y (1 - y)) - log a - log B(a, a) + log S is used, with
    the hypergeometric series S = sum_k prod_{i<k} y (2a + i) / (a + 1 + i): all terms are positive. The lower
    tail is P(F < x) = P(F > 1 / x).

    Examples
    --------
    >>> float(log_f_sf(np.array([3.0]), 2)[0]), float(np.log(1 / 4))  # df = 2: P(F > x) = 1 / (1 + x)
    (-1.3862943611198906, -1.3862943611198906)
    """
    a = df / 2
    y = 1 / (1 + np.asarray(x, dtype=np.float64))
    with np.errstate(divide="ignore"):
        log_p = np.log(special.betainc(a, a, y))
    far = log_p < _LOG_SAFE
    if far.any():
        z = y[far]
        log_sum = _log_series(lambda i: z * (2 * a + i) / (a + 1 + i), z)
        log_p[far] = a * np.log(z * (1 - z)) - np.log(a) - special.betaln(a, a) + log_sum
    return log_p


def chi2_quantile(log_p: np.ndarray, df: float, *, upper: np.ndarray) -> np.ndarray:
    """Quantile of the chi-squared distribution, `df` degrees of freedom, for the log of a tail probability.

    `upper` says for each value whether it is the upper tail or the lower one. Where the probability
    underflows, Newton's method solves for the logarithm of the quantile: both log tails are concave in it.

    Examples
    --------
    >>> chi2_quantile(np.array([-5000.0]), 2, upper=np.array([True]))  # df = 2: P(X > x) = exp(-x / 2)
    array([10000.])
    """
    log_p = np.asarray(log_p, dtype=np.float64)
    p = np.exp(np.maximum(log_p, _LOG_SAFE))
    x = np.where(upper, stats.chi2.isf(p, df), stats.chi2.ppf(p, df))
    a = df / 2
    high, low = (log_p < _LOG_SAFE) & upper, (log_p < _LOG_SAFE) & ~upper
    if high.any():
        z = -special.ndtri_exp(log_p[high])
        wilson_hilferty = a * (1 - 2 / (9 * df) + z * np.sqrt(2 / (9 * df))) ** 3
        x[high] = 2 * _solve(log_p[high], np.log(wilson_hilferty), a, -1, _log_gammaincc)
    if low.any():
        below = (log_p[low] + special.gammaln(a + 1)) / a
        x[low] = 2 * _solve(log_p[low], below, a, 1, _log_gammainc)
    return x


def _solve(
    log_p: np.ndarray, t: np.ndarray, a: float, sign: int, log_tail: Callable[[float, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Find x = exp(t) where the log tail of the gamma distribution is `log_p`."""
    for _ in range(100):
        x = np.exp(t)
        log_q = log_tail(a, x)
        slope = sign * np.exp(a * t - x - special.gammaln(a) - log_q)
        step = (log_q - log_p) / slope
        t = t - step
        if np.all(np.abs(step) < 1e-14):
            break
    return np.exp(t)


def _log_gammainc(a: float, x: np.ndarray) -> np.ndarray:
    """Log of the regularised lower incomplete gamma function for x < a, by its power series."""
    log_sum = _log_series(lambda i: x / (a + 1 + i), x)
    return a * np.log(x) - x - special.gammaln(a + 1) + log_sum


def _log_gammaincc(a: float, x: np.ndarray) -> np.ndarray:
    """Log of the regularised upper incomplete gamma function for x > a + 1, by Lentz's continued fraction."""
    b = x + 1 - a
    c = np.full_like(x, 1 / _TINY)
    d = 1 / b
    fraction = d.copy()
    for i in range(1, 10_000):
        an = -i * (i - a)
        b = b + 2
        d = 1 / (an * d + b)
        c = b + an / c
        factor = c * d
        fraction *= factor
        if np.all(np.abs(factor - 1) < 1e-15):
            break
    return a * np.log(x) - x - special.gammaln(a) + np.log(fraction)


def _log_series(ratio: Callable[[int], np.ndarray], like: np.ndarray) -> np.ndarray:
    """Log of 1 + r0 + r0 r1 + r0 r1 r2 + ..., of positive ratios that fall below 1."""
    total, term, i = np.ones_like(like), np.ones_like(like), 0
    while np.any(term > 1e-17 * total):
        term = term * ratio(i)
        total += term
        i += 1
    return np.log(total)
