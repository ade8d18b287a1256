"""The loss of counts in one pass over each cell: value and gradients, machine code for the CPU.

What :mod:`latentcell.nn.count_loss` writes with tensors, fused: an output of the decoder is read once, and
its gradient written once. Row by row, so that a cell's intermediate results stay in the processor's cache.
Raw outputs and their gradients may be in bfloat16 (as uint16, its bits); everything in between is in single
precision, what depends on large counts in double.
"""

import math

import numpy as np

from latentcell._compiled import bits_of, compiled, exp32, inlined, log1p32, number_of

_F, _I = np.float32, np.int32
_ZERO, _ONE, _TWO = _F(0.0), _F(1.0), _F(2.0)
_A3, _A5, _A7, _A9, _A11, _A13 = (_F(1 / n) for n in (3, 5, 7, 9, 11, 13))
_LANES = 64
APART = 2 * _LANES  # numbers; a pass of a loop takes at most _LANES
_MAX_LOG_SHARE = _F(2.0)  # of the log link, see CountLikelihood.log_mean
PRODUCT = 64
"""Counts up to this have their gamma functions as products; theta <= e^10 keeps these within double range."""


@compiled
def nb_rows(
    start, stop, row_ptr, genes, counts, library, weights, softmax, half, raw32, raw16, bias,
    log_theta, theta, group, nll, grad32, grad16, d_bias, d_log_theta,
):  # fmt: skip  # pragma: no cover - compiled
    """Negative binomial: cells `start` to `stop`; see :func:`latentcell.nn.count_head.count_nll`."""
    n_genes = len(bias)
    out, e, slope = _scratch(n_genes), _scratch(n_genes), _scratch(n_genes)
    inverse = _scratch(theta.size).reshape(theta.shape)
    inverse[:] = _ONE / theta
    for cell in range(start, stop):
        w, by = weights[cell], group[cell]
        _read(half, raw32[cell], raw16[cell], bias, out)
        k, log_k = _means(softmax, out, e, library[cell])
        total, slopes = _nb_zeros(e, k, theta[by], inverse[by], w, slope, d_log_theta[by])
        value = np.float64(total)
        for entry in range(row_ptr[cell], row_ptr[cell + 1]):
            gene, count = genes[entry], counts[entry]
            if count == _ZERO:
                continue
            ratio = e[gene] * k * inverse[by, gene]
            log_p, psi = _gamma_terms(np.float64(count), np.float64(theta[by, gene]))
            log_mean = np.float64(out[gene]) + log_k
            excess = _excess(ratio, count)
            value -= log_p + np.float64(count) * (log_mean - np.float64(log_theta[by, gene]) - excess)
            pull = count / (_ONE + ratio)
            slope[gene] -= pull
            slopes -= pull
            d_log_theta[by, gene] += w * (pull - _F(psi))
        nll[cell] = value
        _to_raw(softmax, out, e, k, slope, slopes / library[cell], w)
        _write(half, slope, grad32[cell], grad16[cell], d_bias)


@compiled
def zinb_rows(
    start, stop, row_ptr, genes, counts, library, weights, softmax, half, raw32, raw16, bias, lost32, lost16,
    lost_bias, log_theta, theta, group, nll, grad32, grad16, d_bias, d_lost32, d_lost16, d_lost_bias,
    d_log_theta,
):  # fmt: skip  # pragma: no cover - compiled
    """Zero-inflated negative binomial: cells `start` to `stop`; `lost` are logits of a count's loss."""
    n_genes = len(bias)
    out, e, slope = _scratch(n_genes), _scratch(n_genes), _scratch(n_genes)
    logit, d_logit, at_zero, kept = (
        _scratch(n_genes), _scratch(n_genes), _scratch(n_genes), _scratch(n_genes)
    )  # fmt: skip
    inverse = _scratch(theta.size).reshape(theta.shape)
    inverse[:] = _ONE / theta
    for cell in range(start, stop):
        w, by = weights[cell], group[cell]
        _read(half, raw32[cell], raw16[cell], bias, out)
        _read(half, lost32[cell], lost16[cell], lost_bias, logit)
        k, log_k = _means(softmax, out, e, library[cell])
        total, slopes = _zinb_zeros(
            e, k, theta[by], inverse[by], logit, w, at_zero, kept, slope, d_logit, d_log_theta[by]
        )
        value = np.float64(total)
        for entry in range(row_ptr[cell], row_ptr[cell + 1]):
            gene, count = genes[entry], counts[entry]
            if count == _ZERO:
                continue
            mean = e[gene] * k
            ratio = mean * inverse[by, gene]
            as_zero, _, missed, lost = _zero(at_zero[gene], logit[gene])
            log_p, psi = _gamma_terms(np.float64(count), np.float64(theta[by, gene]))
            log_mean = np.float64(out[gene]) + log_k
            excess = _excess(ratio, count)
            value -= log_p + np.float64(count) * (log_mean - np.float64(log_theta[by, gene]) - excess)
            value += np.float64(theta[by, gene]) * excess - as_zero
            # -log(1 - pi), the probability that the count is kept
            value += max(logit[gene], _ZERO) + log1p32(exp32(-abs(logit[gene])))
            here, pull = mean / (_ONE + ratio), count / (_ONE + ratio)
            change = lost * here - pull
            slope[gene] += change
            slopes += change
            d_log_theta[by, gene] += w * (lost * (at_zero[gene] - here) + pull - _F(psi))
            d_logit[gene] = w * missed
        nll[cell] = value
        _to_raw(softmax, out, e, k, slope, slopes / library[cell], w)
        _write(half, slope, grad32[cell], grad16[cell], d_bias)
        _write(half, d_logit, d_lost32[cell], d_lost16[cell], d_lost_bias)


@compiled
def poisson_rows(
    start, stop, row_ptr, genes, counts, library, weights, softmax, half, raw32, raw16, bias, nll,
    grad32, grad16, d_bias,
):  # fmt: skip  # pragma: no cover - compiled
    """Poisson: cells `start` to `stop`."""
    n_genes = len(bias)
    out, e, slope = _scratch(n_genes), _scratch(n_genes), _scratch(n_genes)
    for cell in range(start, stop):
        _read(half, raw32[cell], raw16[cell], bias, out)
        k, log_k = _means(softmax, out, e, library[cell])
        slopes = _ZERO
        for gene in range(n_genes):
            slope[gene] = e[gene] * k
            slopes += slope[gene]
        value = np.float64(slopes)
        for entry in range(row_ptr[cell], row_ptr[cell + 1]):
            gene, count = genes[entry], counts[entry]
            if count == _ZERO:
                continue
            value -= np.float64(count) * (np.float64(out[gene]) + log_k) - math.lgamma(
                np.float64(count) + 1.0
            )
            slope[gene] -= count
            slopes -= count
        nll[cell] = value
        _to_raw(softmax, out, e, k, slope, slopes / library[cell], weights[cell])
        _write(half, slope, grad32[cell], grad16[cell], d_bias)


@inlined
def _scratch(n):  # pragma: no cover - compiled
    """An array of `n` numbers with as much free space behind it as :func:`apart` leaves."""
    return np.empty(n + APART, _F)[:n]


def apart(values: np.ndarray) -> np.ndarray:
    """A copy with free space behind it.

    A loop that reads one array and writes another takes vectors only if the second does not begin shortly
    behind the first. Small arrays may; the loop then goes one by one, its sums are taken in another order,
    and the same numbers give other bits, by where their memory happens to lie.
    """
    room = np.empty(values.size + APART, values.dtype)
    copy = room[: values.size].reshape(values.shape)
    copy[...] = values
    return copy


@inlined
def _read(half, row32, row16, bias, out):  # pragma: no cover - compiled
    """A cell's raw outputs with their bias, in single precision."""
    if half:
        for gene in range(len(out)):
            out[gene] = number_of(_I(_I(row16[gene]) << _I(16))) + bias[gene]
    else:
        for gene in range(len(out)):
            out[gene] = row32[gene] + bias[gene]


@inlined
def _write(half, values, row32, row16, total):  # pragma: no cover - compiled
    """A cell's gradients, rounded to bfloat16 if `half`, and their sum over cells."""
    if half:
        for gene in range(len(values)):
            total[gene] += values[gene]
            bits: int = bits_of(values[gene])
            to_even = _I(_I(bits >> _I(16)) & _I(1))
            row16[gene] = np.uint16(_I(_I(bits + _I(0x7FFF)) + to_even) >> _I(16))
    else:
        for gene in range(len(values)):
            total[gene] += values[gene]
            row32[gene] = values[gene]


@inlined
def _means(softmax, out, e, library):  # pragma: no cover - compiled
    """Fill `e`, which times k is a cell's means; k, and the log of what `out` lacks to a log mean."""
    if not softmax:
        for gene in range(len(out)):
            out[gene] = _MAX_LOG_SHARE if out[gene] > _MAX_LOG_SHARE else out[gene]
            e[gene] = exp32(out[gene])
        return library, math.log(np.float64(library))
    largest = _largest(out, e)
    total = _ZERO
    for gene in range(len(out)):
        e[gene] = exp32(out[gene] - largest)
        total += e[gene]
    return library / total, math.log(np.float64(library) / np.float64(total)) - np.float64(largest)


@inlined
def _largest(values, lanes):  # pragma: no cover - compiled
    """The largest value; `lanes` is overwritten. Lane by lane, as one running maximum takes no vectors."""
    n, whole = len(values), len(values) // _LANES * _LANES
    largest = values[0]
    if whole:
        for j in range(_LANES):
            lanes[j] = values[j]
        for first in range(_LANES, whole, _LANES):
            for j in range(_LANES):
                value = values[first + j]
                lanes[j] = value if value > lanes[j] else lanes[j]
        for j in range(_LANES):
            largest = lanes[j] if lanes[j] > largest else largest
    for gene in range(whole, n):
        largest = values[gene] if values[gene] > largest else largest
    return largest


@inlined
def _nb_zeros(e, k, theta, inverse, w, slope, d_log_theta):  # pragma: no cover - compiled
    """As if all counts were 0: -log p(0) of a cell, slope in log means, sum of slopes."""
    total, slopes = _ZERO, _ZERO
    for gene in range(len(e)):
        mean = e[gene] * k
        ratio = mean * inverse[gene]
        at_zero = theta[gene] * log1p32(ratio)
        here = mean / (_ONE + ratio)
        total += at_zero
        slopes += here
        slope[gene] = here
        d_log_theta[gene] += w * (at_zero - here)
    return total, slopes


@inlined
def _zinb_zeros(
    e, k, theta, inverse, logit, w, at_zero, kept, slope, d_logit, d_log_theta
):  # pragma: no cover - compiled
    # three loops of few arrays each: with more, telling that none overlap costs the vector instructions
    for gene in range(len(e)):
        ratio = e[gene] * k * inverse[gene]
        at_zero[gene] = theta[gene] * log1p32(ratio)
        slope[gene] = e[gene] * k / (_ONE + ratio)
    total, slopes = _ZERO, _ZERO
    for gene in range(len(e)):
        value, kept[gene], missed, lost = _zero(at_zero[gene], logit[gene])
        d_logit[gene] = w * (missed - lost)
        total += value
    for gene in range(len(e)):
        here = slope[gene]
        slopes += kept[gene] * here
        slope[gene] = kept[gene] * here
        d_log_theta[gene] += w * kept[gene] * (at_zero[gene] - here)
    return total, slopes


@inlined
def _excess(ratio, count):  # pragma: no cover - compiled
    """log(1 + ratio), in double precision where it is multiplied by a large count."""
    return math.log1p(np.float64(ratio)) if count > _F(16.0) else np.float64(log1p32(ratio))


@inlined
def _zero(at_zero, logit):  # pragma: no cover - compiled
    """A 0 that may be a lost count: -log p, odds that it was not lost, pi, odds that it was lost.

    -log[pi + (1 - pi) e^-a] = max(d, 0) - max(d, -a) + log[(1 + e^-|d|) / (1 + e^-|d + a|)], d the logit of
    pi, without overflow; the last log by the series of artanh, its argument being at most 1/3.
    """
    shifted = logit + at_zero
    near, far = exp32(-abs(logit)), exp32(-abs(shifted))
    s = (near - far) / (_TWO + near + far)
    z = s * s
    p = _A13 * z + _A11
    p = p * z + _A9
    p = p * z + _A7
    p = p * z + _A5
    p = p * z + _A3
    p = p * z + _ONE
    value = (logit if logit > _ZERO else _ZERO) - (logit if shifted > _ZERO else -at_zero) + _TWO * s * p
    missed = (_ONE if logit > _ZERO else near) / (_ONE + near)
    kept = (far if shifted > _ZERO else _ONE) / (_ONE + far)
    lost = (_ONE if shifted > _ZERO else far) / (_ONE + far)
    return value, kept, missed, lost


@inlined
def _to_raw(softmax, out, e, k, slope, share_slope, w):  # pragma: no cover - compiled
    """From slopes in log means to weighted slopes in raw outputs, in place."""
    if softmax:
        for gene in range(len(slope)):
            slope[gene] = w * (slope[gene] - e[gene] * k * share_slope)
    else:
        for gene in range(len(slope)):
            slope[gene] = w * slope[gene] if out[gene] < _MAX_LOG_SHARE else _ZERO


@inlined
def _gamma_terms(count, theta):  # pragma: no cover - compiled
    """Log of [Gamma(count + theta) / (Gamma(theta) count!)], and its slope in log theta."""
    if count == 1.0:
        return math.log(theta), 1.0
    if count <= PRODUCT and count == math.floor(count):
        product, factorial, slope = 1.0, 1.0, 0.0
        for j in range(int(count)):
            product *= theta + j
            factorial *= j + 1.0
            slope += theta / (theta + j)
        return math.log(product / factorial), slope
    value = math.lgamma(count + theta) - math.lgamma(theta) - math.lgamma(count + 1.0)
    return value, theta * (_digamma(count + theta) - _digamma(theta))


@inlined
def _digamma(x):  # pragma: no cover - compiled
    """Slope of the log of the gamma function at x > 0: upwards to 10, then the asymptotic series."""
    shift = 0.0
    while x < 10.0:
        shift -= 1.0 / x
        x += 1.0
    z = 1.0 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132)))))
    return shift + math.log(x) - 0.5 / x - series
