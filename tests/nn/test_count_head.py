"""The fused loss of sparse counts against the plain formulas with autograd, which are held to torch's own."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch.nn import functional as F

from latentcell._sparse import SparseCells
from latentcell.nn import count_head
from latentcell.nn.last_layer import LastLayer
from latentcell.nn.likelihoods import LIKELIHOODS, NegativeBinomial

NAMES = ["poisson", "nb", "zinb"]


def make(name, *, link="softmax", n=9, n_genes=40, k=5, seed=0, counts=None, groups=0):
    """A likelihood, cells dense and sparse, the last layer, and all that has a gradient."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    if counts is None:
        counts = rng.poisson(rng.gamma(0.3, 5.0, (n, n_genes))).astype(np.float32)
    dense = torch.from_numpy(counts)
    by = {"dispersion": "gene-batch", "n_groups": groups} if groups else {}
    likelihood = LIKELIHOODS[name](n_genes, link=link, **by)
    if name != "poisson":
        torch.nn.init.normal_(likelihood.log_theta, 0.0, 2.0)
    h = torch.randn(n, k, requires_grad=True)
    shift = {"mean": -5.0 if link == "log" else 0.0, "dropout": -1.0}
    maps = {
        output: (
            torch.randn(n_genes, k).requires_grad_(),
            (torch.randn(n_genes) + shift[output]).requires_grad_(),
        )
        for output in likelihood.outputs
    }
    group = torch.from_numpy(rng.integers(0, groups, n)) if groups else None
    library = dense.sum(1, keepdim=True) + 1.0
    free = [h, *(one for pair in maps.values() for one in pair), *likelihood.parameters()]
    cells, last = SparseCells.from_rows(sparse.csr_matrix(counts)), LastLayer(h, maps, library, group)
    return likelihood, dense, cells, last, free


def plain(likelihood, dense, last):
    """By the likelihood's formula for dense cells."""
    raw = {name: F.linear(last.h, *pair) for name, pair in last.maps.items()}
    if last.group is not None:
        raw["group"] = last.group
    return likelihood.negative_log_likelihood(dense, raw, last.library)


def assert_same(name, weights=None, rtol=2e-4, **how):
    likelihood, dense, cells, last, free = make(name, **how)
    weights = torch.full((len(dense),), 1.0 / len(dense)) if weights is None else weights(len(dense))
    known = plain(likelihood, dense, last)
    found = likelihood.sparse_negative_log_likelihood(cells, last)
    torch.testing.assert_close(found, known, rtol=3e-5, atol=1e-3)
    ours = torch.autograd.grad((found * weights).sum(), free)
    theirs = torch.autograd.grad((known * weights).sum(), free)
    # where gradients of a few genes cancel, what is left is rounding of terms as large as a cell's counts
    terms = 0.1 * float(last.library.max() * weights.max())
    for one, other in zip(ours, theirs, strict=True):
        scale = max(float(other.abs().max()), terms)
        torch.testing.assert_close(one / scale, other / scale, rtol=0.0, atol=rtol)


@pytest.mark.parametrize("link", ["softmax", "log"])
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradients_are_those_of_the_plain_formula(name, link):
    assert_same(name, link=link)


@pytest.mark.parametrize("name", NAMES)
def test_cells_may_weigh_differently(name):
    assert_same(name, weights=lambda n: torch.linspace(0.0, 2.0, n))


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_dispersion_by_group(name):
    assert_same(name, groups=3)


@given(
    st.sampled_from(NAMES),
    st.sampled_from(["softmax", "log"]),
    st.integers(1, 5),
    st.sampled_from([1, 2, 63, 64, 65, 200]),
    st.integers(0, 100),
)
def test_any_shape(name, link, n, n_genes, seed):
    assert_same(name, link=link, n=n, n_genes=n_genes, k=2, seed=seed, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("largest", [1, 16, 17, 64, 65, 3000])
def test_counts_of_any_size(name, largest):
    counts = np.zeros((4, 30), np.float32)
    counts[:, ::3] = np.linspace(1, largest, 10).round()
    assert_same(name, n=4, n_genes=30, counts=counts, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_without_counts(name):
    counts = np.zeros((3, 20), np.float32)
    counts[1, 4] = 2.0
    assert_same(name, n=3, n_genes=20, counts=counts)


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_zero_is_a_zero(name):
    likelihood, dense, cells, last, _ = make(name)
    whole = sparse.csr_matrix(np.ones_like(dense.numpy()))
    whole.data[:] = dense.numpy().ravel()
    stored = SparseCells.from_rows(whole)
    assert len(stored.data) > len(cells.data)
    torch.testing.assert_close(
        likelihood.sparse_negative_log_likelihood(stored, last),
        likelihood.sparse_negative_log_likelihood(cells, last),
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shift", [-60.0, 60.0])
def test_extreme_outputs_stay_finite(name, shift):
    likelihood, dense, cells, last, free = make(name)
    with torch.no_grad():
        for _, bias in last.maps.values():
            bias[::2] += shift
    found = likelihood.sparse_negative_log_likelihood(cells, last)
    assert bool(found.isfinite().all())
    for gradient in torch.autograd.grad(found.mean(), free):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name):
    likelihood, _, cells, last, _ = make(name)

    def loss():
        return likelihood.sparse_negative_log_likelihood(cells, last).double().sum()

    (gradient,) = torch.autograd.grad(loss(), [last.h])
    with torch.no_grad():
        step, start = 1e-2, last.h.clone()
        direction = torch.randn_like(last.h)
        last.h.copy_(start + step * direction)
        above = loss()
        last.h.copy_(start - step * direction)
        slope = (above - loss()) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_threads_change_nothing_but_the_order_of_sums(name, monkeypatch):
    likelihood, _, cells, last, free = make(name)
    alone = likelihood.sparse_negative_log_likelihood(cells, last)
    monkeypatch.setattr(count_head, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    together = likelihood.sparse_negative_log_likelihood(cells, last)
    assert torch.equal(alone, together)
    for one, other in zip(
        torch.autograd.grad(alone.sum(), free), torch.autograd.grad(together.sum(), free), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_products_are_near(name):
    likelihood, _, cells, last, free = make(name, n=64, n_genes=300, k=count_head.WORTH_HALF)
    with torch.no_grad():
        for weight, _ in last.maps.values():
            weight *= 0.1
    exact = likelihood.sparse_negative_log_likelihood(cells, last)
    near = likelihood.sparse_negative_log_likelihood(cells, replace(last, half=True))
    assert not torch.equal(exact, near)  # they were taken
    torch.testing.assert_close(near.mean(), exact.mean(), rtol=2e-3, atol=0.0)
    for one, other in zip(
        torch.autograd.grad(exact.mean(), free), torch.autograd.grad(near.mean(), free), strict=True
    ):
        assert one.dtype == other.dtype == torch.float32
        assert float((one - other).norm() / one.norm()) < 0.02


def test_small_products_stay_in_single_precision():
    likelihood, _, cells, last, _ = make("nb")
    exact = likelihood.sparse_negative_log_likelihood(cells, last)
    assert torch.equal(exact, likelihood.sparse_negative_log_likelihood(cells, replace(last, half=True)))


def test_a_dispersion_of_each_cell_has_no_sparse_way():
    assert NegativeBinomial(3, dispersion="gene-cell").sparse_when == "never"
    assert NegativeBinomial(3).sparse_when == "always"


def bits(n_cells, n_genes, n_outputs):
    """Hex digest of the value and all slopes of the same cells."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (n_cells, n_genes)).astype(np.float32)
    x = SparseCells.from_rows(sparse.csr_matrix(counts))
    raw = [torch.from_numpy(rng.normal(size=counts.shape).astype(np.float32))] * n_outputs
    bias, log_theta = torch.from_numpy(rng.normal(size=(2, n_genes)).astype(np.float32))
    size, weights = torch.full((n_cells, 1), 20.0), torch.full((n_cells,), 0.1)
    nll, slopes, d_bias, d_log_theta = count_head._one_pass(
        x, True, size, None, raw, (bias,) * n_outputs, log_theta, weights
    )
    parts = [nll, *slopes, *d_bias, d_log_theta]
    return hashlib.md5(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("n_genes", [3, 12, 20, 63])
def test_bits_do_not_hang_on_where_memory_lies(n_genes, n_outputs):
    # loops over arrays that begin shortly behind one another go one by one, with sums in another order
    rng = np.random.default_rng(n_genes)
    held, found = [], set()
    for _ in range(300):
        held.append(np.empty(rng.integers(1, 3000), np.uint8))
        del held[: -rng.integers(1, 40)]
        found.add(bits(16, n_genes, n_outputs))
    assert len(found) == 1


def test_the_process_that_compiles_gets_the_bits_of_those_that_find_the_code_on_disk(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_count_head as t; "
    code += "print([t.bits(16, 420, n) for n in (1, 2)])"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    how = {"env": environment, "capture_output": True, "text": True, "check": True}
    first, second = (subprocess.run([sys.executable, "-c", code], **how) for _ in range(2))
    assert any(tmp_path.rglob("*.nbc"))
    assert first.stdout == second.stdout != ""
