"""A decoder's last linear maps and the likelihood of counts in one step, for sparse cells on the CPU.

The gradient in the raw outputs is known as soon as these are: it is computed with the value, in one pass
(:mod:`latentcell.nn.count_kernels`), and only its products with the maps are left to the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from latentcell._sparse import SparseCells

from .count_kernels import apart, nb_rows, poisson_rows, zinb_rows
from .last_layer import Map

WORTH_A_THREAD = 200_000  # values (cells x genes) below which a further thread costs more than it saves
WORTH_HALF = 64  # columns of h below which the products are too small to gain from bfloat16


@dataclass(frozen=True)
class Settings:
    """How counts depend on raw outputs, and how to compute.

    Attributes
    ----------
    softmax
        Shares are the softmax of raw outputs; False: their exponential.
    half
        Take products with the maps in bfloat16; sums in them, and all else, stay in single precision.
    """

    softmax: bool = True
    half: bool = False


class _CountNLL(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: SparseCells,
        settings: Settings,
        library: Tensor,
        group: Tensor | None,
        h: Tensor,
        log_theta: Tensor | None,
        *maps: Tensor,
    ) -> Tensor:
        kind = torch.bfloat16 if settings.half and h.shape[1] >= WORTH_HALF else torch.float32
        h, weights = h.to(kind), [weight.to(kind) for weight in maps[::2]]
        biases = maps[1::2]
        raw = [h @ weight.t() for weight in weights]
        # a mean over cells is what nearly every objective takes; another weighting is computed when it comes
        expected = h.new_full((len(h),), 1.0 / len(h), dtype=torch.float32)

        def passes(each: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
            return _one_pass(x, settings.softmax, library, group, raw, biases, log_theta, each)

        found = passes(expected)
        ctx.held = h, weights, passes, expected, found[1:]  # type: ignore[attr-defined]
        return found[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        h, weights, passes, expected, (slopes, d_bias, d_log_theta) = ctx.held  # type: ignore[attr-defined]
        if not torch.equal(grad, expected):
            _, slopes, d_bias, d_log_theta = passes(grad)
        d_maps: list[Tensor] = []
        d_h = torch.zeros(h.shape)
        for slope, weight, total in zip(slopes, weights, d_bias, strict=True):
            d_h += slope @ weight
            d_maps += [(slope.t() @ h).float(), total]
        return None, None, None, None, d_h, d_log_theta, *d_maps


def count_nll(
    x: SparseCells,
    library: Tensor,
    h: Tensor,
    maps: list[Map],
    log_theta: Tensor | None,
    group: Tensor | None = None,
    settings: Settings = Settings(),
) -> Tensor:
    """Negative log-likelihood of sparse counts whose raw outputs are linear in `h`.

    The same as :func:`latentcell.nn.count_loss.negative_binomial_nll` and its siblings of the raw outputs, to
    rounding.

    Parameters
    ----------
    x
        Counts (cells x genes).
    library
        Size factor of each cell (cells x 1).
    h
        What raw outputs are linear in (cells x k).
    maps
        Weight (genes x k) and bias (genes) of the mean; a second pair are the logits of a count's loss.
    log_theta
        Log of the inverse dispersion (genes, or groups x genes); None: Poisson counts.
    group
        The group of each cell (cells, integers) where dispersion is by group.
    settings
        See :class:`Settings`.

    Returns
    -------
    Nats per cell (cells), differentiable once in `h`, `maps` and `log_theta`.

    Examples
    --------
    >>> from scipy import sparse
    >>> cells = SparseCells.from_rows(sparse.csr_matrix([[0.0, 3.0]]))
    >>> h, zero = torch.zeros(1, 1), torch.zeros(2)
    >>> library = torch.full((1, 1), 2.0)  # two genes of equal share: means of 1
    >>> round(float(count_nll(cells, library, h, [(torch.zeros(2, 1), zero)], zero)), 4)
    3.4657
    """
    flat = [tensor for pair in maps for tensor in pair]
    return _CountNLL.apply(x, settings, library, group, h, log_theta, *flat)


def _one_pass(
    x: SparseCells,
    softmax: bool,
    library: Tensor,
    group: Tensor | None,
    raw: list[Tensor],
    biases: tuple[Tensor, ...],
    log_theta: Tensor | None,
    weights: Tensor,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
    """Value (cells); slopes: of raw outputs (cells x genes), their biases (genes), log theta."""
    half = raw[0].dtype == torch.bfloat16
    n_cells, n_genes = raw[0].shape
    nll = torch.empty(n_cells)
    slopes = [torch.empty_like(one) for one in raw]
    table = None if log_theta is None else _array(log_theta).reshape(-1, n_genes)
    of_cell = np.zeros(n_cells, np.int64) if group is None else _array(group).astype(np.int64)
    theta = None if table is None else apart(np.exp(table))
    rows = kernel_of(log_theta, len(raw))

    def part(start: int, stop: int) -> list[np.ndarray]:
        """Do some of the cells; what is summed over them."""
        sums = [np.zeros(n_genes, np.float32) for _ in raw]
        sums += [] if table is None else [apart(np.zeros_like(table))]
        arguments: list[Any] = [
            start,
            stop,
            x.indptr,
            x.indices,
            x.data,
            _array(library).reshape(-1),
            _array(weights),
            softmax,
            half,
        ]
        for one, bias in zip(raw, biases, strict=True):
            arguments += [*_both(one, half), _array(bias)]
        if table is not None:
            arguments += [table, theta, of_cell]
        arguments.append(nll.numpy())
        for slope, total in zip(slopes, sums, strict=False):
            arguments += [*_both(slope, half), total]
        rows(*arguments, *sums[len(raw) :])
        return sums

    totals = [torch.from_numpy(total) for total in _in_threads(part, n_cells, n_genes)]
    d_log_theta = None if log_theta is None else totals[-1].reshape(log_theta.shape)
    return nll, slopes, totals[: len(raw)], d_log_theta


def kernel_of(log_theta: Tensor | None, n_outputs: int) -> Callable:
    """The compiled loop for these parameters."""
    if log_theta is None:
        return poisson_rows
    return nb_rows if n_outputs == 1 else zinb_rows


def _in_threads(part: Callable[[int, int], list[np.ndarray]], n_cells: int, n_genes: int) -> list[np.ndarray]:
    """Sums over all cells, done in as many threads as torch may use and pay."""
    n = max(1, min(torch.get_num_threads(), n_cells, n_cells * n_genes // WORTH_A_THREAD))
    if n == 1:
        return part(0, n_cells)
    edges = np.linspace(0, n_cells, n + 1).astype(int)
    found = list(_threads(n).map(part, edges[:-1], edges[1:]))
    return [np.asarray(sum(totals)) for totals in zip(*found, strict=True)]


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _threads(n: int) -> ThreadPoolExecutor:
    """Threads that wait for work; those of a parent process do not exist in its fork."""
    key = os.getpid(), n
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(n, thread_name_prefix="latentcell")
    return _pools[key]


def _array(values: Tensor) -> np.ndarray:
    return values.detach().contiguous().numpy()


def _both(values: Tensor, half: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values in single precision and as the bits of bfloat16, of which the other has no columns."""
    if half:
        return np.empty((len(values), 0), np.float32), values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy(), np.empty((len(values), 0), np.uint16)
