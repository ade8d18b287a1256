r"""Products with sparse cells: a network's first layer, and a linear decoder's squared errors.

Expression is mostly zeros. A first layer then needs only the genes a cell expresses; and the squared error of
a linear map needs its outputs only where the data are not zero, the rest being a Gram matrix:

.. math::
    \sum_g a_g (w_g^T h + b_g - x_g)^2 = h^T (W^T A W) h + 2 h^T W^T A b + b^T A b
        - 2 \sum_{x_g \neq 0} a_g x_g (w_g^T h + b_g) + \sum_{x_g \neq 0} a_g x_g^2

Both give the values and gradients of the dense formulas to rounding, without an array of cells x genes.
These are for the CPU; a GPU takes the dense way.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from latentcell import _devices
from latentcell._compiled import compiled, inlined
from latentcell._sparse import SparseCells

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class InputLinear(nn.Module):
    """A linear layer that takes dense or sparse cells.

    Its `weight` is genes x units, the transpose of :class:`torch.nn.Linear`'s: a gene's weights then lie side
    by side in memory.

    Parameters
    ----------
    n_in
        Genes, and columns of covariates.
    n_out
        Units.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        start = nn.Linear(n_in, n_out)
        self.weight = nn.Parameter(start.weight.detach().t().contiguous())
        self.bias = start.bias

    @property
    def out_features(self) -> int:
        """Units."""
        return self.weight.shape[1]

    def forward(self, x: Tensor | SparseCells, covariates: Tensor | None = None) -> Tensor:
        """Cells (cells x genes), with covariates (cells x columns) if given, to units (cells x n_out)."""
        weight = self.weight if covariates is None else self.weight[: x.shape[1]]
        if isinstance(x, Tensor):
            out = F.linear(x, weight.t(), self.bias)
        else:
            bias = self.bias if x.offset is None else self.bias + x.offset @ weight
            out = _SparseLinear.apply(x, weight, bias)
        if covariates is None or not covariates.shape[1]:
            return out
        # a product apart, without the columns that are 0 in all these cells: a model that knows more batches
        # then gives cells of the old ones the same bits
        beside = self.weight[x.shape[1] :]
        if torch.is_grad_enabled() and _devices.runs_ahead(out.device):
            return out + covariates.to(out.dtype) @ beside  # which columns are 0 is known to the device only
        used = covariates.any(0)
        return out + covariates[:, used].to(out.dtype) @ beside[used]


class _SparseLinear(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: SparseCells, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.x = x  # type: ignore[attr-defined]
        out = bias.repeat(len(x), 1)
        _times(x.indptr, x.indices, x.data, _numpy(weight), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        x: SparseCells = ctx.x  # type: ignore[attr-defined]
        d_weight = torch.empty(x.shape[1], grad.shape[1])
        _transposed_times(*x.by_gene, _numpy(grad), d_weight.numpy())
        return None, d_weight, grad.sum(0)


class _LinearNormalNLL(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: SparseCells, h: Tensor, weight: Tensor, bias: Tensor, log_scale: Tensor
    ) -> Tensor:
        precision = torch.exp(-2 * log_scale)
        # one precision for all genes need not be multiplied into every weight
        common = precision[0] if bool((precision == precision[0]).all()) else None
        weighted = weight if common is not None else weight * precision.unsqueeze(1)
        outside = 1.0 if common is None else common.double()
        x_weighted, entries = torch.zeros_like(h), np.zeros(len(x))
        _times(x.indptr, x.indices, x.data, _numpy(weighted), x_weighted.numpy())
        _entry_sums(*x.by_gene, _numpy(bias), _numpy(precision), entries)
        # sums of large terms that nearly cancel, in double precision: they are few
        half = outside * ((weighted.t() @ bias).double() - x_weighted)
        whole = outside * (h @ (weight.t() @ weighted)) + half
        value = ((whole + half) * h).sum(1) + torch.from_numpy(entries)
        value += (precision.double() * bias.double() ** 2).sum()
        ctx.x = x  # type: ignore[attr-defined]
        ctx.save_for_backward(h, weight, bias, precision, whole.to(h.dtype))
        return (0.5 * value).to(h.dtype) + (log_scale.sum() + log_scale.numel() * _HALF_LOG_2PI)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, weight, bias, precision, slope_of_h = ctx.saved_tensors  # type: ignore[attr-defined]
        x: SparseCells = ctx.x  # type: ignore[attr-defined]
        gh = grad.unsqueeze(1) * h
        d_weight = weight @ (h.t() @ gh)
        d_bias, d_log_scale = torch.empty_like(bias), torch.empty_like(bias)
        _linear_normal_gradients(
            *x.by_gene, _numpy(weight), _numpy(bias), _numpy(precision), _numpy(grad),
            _numpy(gh), _numpy(gh.sum(0)), float(grad.sum()),
            d_weight.numpy(), d_bias.numpy(), d_log_scale.numpy(),
        )  # fmt: skip
        return None, grad.unsqueeze(1) * slope_of_h, d_weight, d_bias, d_log_scale


def linear_normal_nll(x: SparseCells, h: Tensor, weight: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of sparse cells under a normal distribution whose mean is linear in `h`.

    The same as ``normal_nll(x.dense, F.linear(h, weight, bias), log_scale)``, to rounding.

    Parameters
    ----------
    x
        Cells x genes, without offset.
    h
        What the mean is linear in (cells x k).
    weight, bias
        Mean (cells x genes) is ``h @ weight.T + bias``; genes x k, and genes.
    log_scale
        Log of the standard deviation of each gene (genes).

    Returns
    -------
    Nats per cell (cells), differentiable once in all but `x`.
    """
    return _LinearNormalNLL.apply(x, h, weight, bias, log_scale)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().contiguous().numpy()


@inlined
def _add_rows(row, start, end, indices, data, values):  # pragma: no cover - compiled
    """Add the rows of `values` that entries name, each times its entry, to `row`; eight at a time."""
    entry = start
    while entry + 8 <= end:
        a, b, c, d = indices[entry], indices[entry + 1], indices[entry + 2], indices[entry + 3]
        e, f, g, h = indices[entry + 4], indices[entry + 5], indices[entry + 6], indices[entry + 7]
        va, vb, vc, vd = data[entry], data[entry + 1], data[entry + 2], data[entry + 3]
        ve, vf, vg, vh = data[entry + 4], data[entry + 5], data[entry + 6], data[entry + 7]
        for j in range(len(row)):
            first = va * values[a, j] + vb * values[b, j] + vc * values[c, j] + vd * values[d, j]
            second = ve * values[e, j] + vf * values[f, j] + vg * values[g, j] + vh * values[h, j]
            row[j] += first + second
        entry += 8
    while entry < end:
        cell, value = indices[entry], data[entry]
        for j in range(len(row)):
            row[j] += value * values[cell, j]
        entry += 1


@compiled
def _times(indptr, indices, data, weight, out):  # pragma: no cover - compiled
    for cell in range(len(indptr) - 1):
        _add_rows(out[cell], indptr[cell], indptr[cell + 1], indices, data, weight)


@compiled
def _transposed_times(indptr, indices, data, values, out):  # pragma: no cover - compiled
    for gene in range(len(indptr) - 1):
        row = out[gene]
        row[:] = 0.0
        _add_rows(row, indptr[gene], indptr[gene + 1], indices, data, values)


@compiled
def _entry_sums(indptr, indices, data, bias, precision, out):  # pragma: no cover - compiled
    """What the entries add to each cell's weighted sum of squares, beside their product with the weights."""
    for gene in range(len(indptr) - 1):
        twice = 2.0 * np.float64(bias[gene])
        for entry in range(indptr[gene], indptr[gene + 1]):
            value = data[entry]
            out[indices[entry]] += precision[gene] * value * (value - twice)


@compiled
def _linear_normal_gradients(
    indptr, indices, data, weight, bias, precision, grad, gh, gh_sum, grad_sum, d_weight, d_bias, d_log_scale
):  # pragma: no cover - compiled
    # d_weight comes in as weight @ (h.T @ gh), the Gram part
    k = len(gh_sum)
    x_gh = np.empty(k, dtype=np.float32)
    for gene in range(len(indptr) - 1):
        x_gh[:] = 0.0
        x_grad, squares = 0.0, 0.0
        for entry in range(indptr[gene], indptr[gene + 1]):
            cell, value = indices[entry], data[entry]
            gx = np.float64(value) * grad[cell]
            x_grad += gx
            squares += gx * value
        _add_rows(x_gh, indptr[gene], indptr[gene + 1], indices, data, gh)
        a, b, row, w = precision[gene], bias[gene], d_weight[gene], weight[gene]
        w_gh, cross = np.float32(0.0), np.float32(0.0)
        for j in range(k):
            w_gh += w[j] * gh_sum[j]
            with_bias = row[j] + b * gh_sum[j]
            cross += w[j] * (with_bias - x_gh[j] - x_gh[j])
            row[j] = a * (with_bias - x_gh[j])
        squares += np.float64(cross)
        mean_sum = w_gh + b * grad_sum
        squares += b * (mean_sum - 2.0 * x_grad)
        d_bias[gene] = a * (mean_sum - x_grad)
        d_log_scale[gene] = grad_sum - a * squares
