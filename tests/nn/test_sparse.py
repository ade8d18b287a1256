"""Products with sparse cells against the dense formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch.nn import functional as F

from latentcell import _devices
from latentcell._sparse import SparseCells
from latentcell.nn.inputs import EncoderInput
from latentcell.nn.mlp import MLP, LinearDecoder, MLPDecoder
from latentcell.nn.normal_loss import normal_nll
from latentcell.nn.sparse import InputLinear, linear_normal_nll


def random_rows(n_cells, n_genes, density=0.2, seed=0, counts=False):
    rng = np.random.default_rng(seed)
    rows = sparse.random(n_cells, n_genes, density, format="csr", dtype=np.float32, random_state=rng)
    if counts:
        rows.data = rng.poisson(3.0, rows.nnz).astype(np.float32) + 1
    return rows


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    """The loops are compiled at their first call, which no single example should wait for."""
    rows = random_rows(2, 3, 1.0)
    one, three = torch.ones(2, 1, requires_grad=True), torch.ones(3, 1)
    linear_normal_nll(SparseCells.from_rows(rows), one, three, three[:, 0], three[:, 0]).sum().backward()
    InputLinear(3, 1)(SparseCells.from_rows(rows)).sum().backward()
    assert SparseCells.from_rows(rows).dense.shape == (2, 3)


def gradients(value, parameters):
    """Gradients of a sum with unequal weights per cell."""
    weights = torch.linspace(0.5, 2.0, value.shape[0], dtype=value.dtype)
    return torch.autograd.grad((value.reshape(len(weights), -1).sum(1) * weights).sum(), parameters)


@given(st.integers(1, 12), st.integers(1, 30), st.floats(0.0, 1.0), st.integers(0, 100))
def test_rows_come_back_as_they_were(n_cells, n_genes, density, seed):
    rows = random_rows(n_cells, n_genes, density, seed)
    cells = SparseCells.from_rows(rows)
    assert cells.shape == rows.shape
    np.testing.assert_array_equal(cells.dense.numpy(), rows.toarray())
    np.testing.assert_allclose(cells.totals().numpy(), rows.sum(1), rtol=1e-6)
    by_gene = rows.tocsc()
    for found, known in zip(cells.by_gene, (by_gene.indptr, by_gene.indices, by_gene.data), strict=True):
        np.testing.assert_array_equal(found, known)
    factor = torch.linspace(0.5, 2.0, n_cells)[:, None]
    rows.data[:] = abs(rows.data)
    logged = SparseCells.from_rows(rows).log1p(factor)
    np.testing.assert_allclose(logged, np.log1p(rows.multiply(factor.numpy()).tocsr().data), rtol=1e-6)


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_any_row_format_is_read(index_type, kind, dtype):
    rows = kind(random_rows(5, 7, 0.5, counts=True))
    rows = kind((rows.data.astype(dtype), rows.indices.astype(index_type), rows.indptr.astype(index_type)))
    np.testing.assert_array_equal(SparseCells.from_rows(rows).dense.numpy(), rows.toarray())


def test_moving_off_the_cpu_makes_dense():
    cells = SparseCells.from_rows(random_rows(3, 4))
    assert cells.to(torch.device("cpu")) is cells
    assert isinstance(cells.to("meta"), torch.Tensor)


@pytest.mark.parametrize("n_covariates", [1, 4])
def test_first_layer_with_all_columns_of_covariates_as_on_a_gpu(n_covariates, monkeypatch):
    x, covariates = torch.randn(6, 5), torch.randn(6, n_covariates)
    covariates[:, 0] = 0.0  # a batch without a cell
    layer = InputLinear(5 + n_covariates, 3)
    parameters, found = [layer.weight, layer.bias], []
    for runs_ahead in (False, True):
        monkeypatch.setattr(_devices, "runs_ahead", lambda device, answer=runs_ahead: answer)
        out = layer(x, covariates)
        found.append((out, gradients(out, parameters)))
    torch.testing.assert_close(found[0], found[1])
    assert not found[1][1][0][5].any()


@pytest.mark.parametrize("n_covariates", [0, 3])
@pytest.mark.parametrize("with_offset", [False, True])
def test_first_layer(n_covariates, with_offset):
    torch.manual_seed(0)
    rows = random_rows(6, 40)
    offset = torch.randn(40) if with_offset else None
    cells = SparseCells.from_rows(rows)
    cells = cells.with_data(cells.data, offset)
    dense = torch.from_numpy(rows.toarray()) + (0 if offset is None else offset)
    covariates = torch.randn(6, n_covariates) if n_covariates else None
    layer = InputLinear(40 + n_covariates, 5)
    own, theirs = layer(cells, covariates), layer(dense, covariates)
    torch.testing.assert_close(own, theirs)
    parameters = [layer.weight, layer.bias]
    for a, b in zip(gradients(own, parameters), gradients(theirs, parameters), strict=True):
        torch.testing.assert_close(a, b)


def test_first_layer_starts_and_learns_as_any_linear_layer():
    torch.manual_seed(1)
    plain = torch.nn.Linear(30, 4)
    torch.manual_seed(1)
    own = InputLinear(30, 4)
    assert torch.equal(plain.weight.t(), own.weight)
    x = torch.randn(8, 30)
    for layer in (plain, own):
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.3, fused=True)
        for _ in range(3):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(own.weight, plain.weight.t())


@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 6),
    st.floats(0.0, 0.6),
    st.floats(-3.0, 1.0),
    st.integers(0, 50),
)
def test_normal_loss_of_a_linear_map(n_cells, n_genes, k, density, log_scale, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = random_rows(n_cells, n_genes, density, seed)
    h, weight = torch.randn(n_cells, k, generator=generator), torch.randn(n_genes, k, generator=generator)
    bias, scale = torch.randn(n_genes, generator=generator), torch.full((n_genes,), log_scale)
    own = [p.requires_grad_() for p in (h, weight, bias, scale)]
    slow = [p.detach().double().requires_grad_() for p in own]
    fast_value = linear_normal_nll(SparseCells.from_rows(rows), *own)
    x = torch.from_numpy(rows.toarray()).double()
    slow_value = normal_nll(x, F.linear(*slow[:3]), slow[3])
    size = float(slow_value.detach().abs().max()) + n_genes
    assert float((fast_value - slow_value).detach().abs().max()) < 1e-5 * size
    for a, b in zip(gradients(fast_value, own), gradients(slow_value, slow), strict=True):
        assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max()) + 1e-4


def test_normal_loss_does_not_lose_small_errors_of_large_values():
    """Means near 8 with a standard deviation of 0.05: squares of 26,000 that cancel to about 1."""
    generator = torch.Generator().manual_seed(0)
    n_cells, n_genes, k = 32, 400, 8
    h, weight = torch.randn(n_cells, k, generator=generator), torch.randn(n_genes, k, generator=generator)
    weight, bias = 0.3 * weight, torch.full((n_genes,), 8.0)
    x = F.linear(h, weight, bias) + 0.05 * torch.randn(n_cells, n_genes, generator=generator)
    scale = torch.full((n_genes,), 0.05).log()
    fast = linear_normal_nll(SparseCells.from_rows(sparse.csr_matrix(x.numpy())), h, weight, bias, scale)
    slow = normal_nll(x.double(), F.linear(h.double(), weight.double(), bias.double()), scale.double())
    quadratic = slow - (scale.double().sum() + n_genes * 0.5 * np.log(2 * np.pi))
    assert float(((fast - slow) / quadratic).abs().max()) < 0.01


@pytest.mark.parametrize("log_normalize", [False, True])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_encoder_input(log_normalize, standardize, dropout):
    rows = random_rows(50, 20, 0.3, counts=True)
    cells, dense = SparseCells.from_rows(rows), torch.from_numpy(rows.toarray())
    library = dense.sum(1, keepdim=True) + 1
    part = EncoderInput(
        20, log_normalize=log_normalize, standardize=standardize, max_value=1.5, dropout=dropout
    ).eval()
    part.start(torch.linspace(0.0, 3.0, 20), torch.linspace(0.1, 2.0, 20))
    out = part(cells, library)
    assert isinstance(out, SparseCells)
    torch.testing.assert_close(out.dense, part(dense, library))
    part.train()
    torch.manual_seed(0)
    own = part(cells, library)
    torch.manual_seed(0)
    theirs = part(dense, library)
    torch.testing.assert_close(own.dense if isinstance(own, SparseCells) else own, theirs)


@pytest.mark.parametrize("sizes", [(), (5,), (6, 4)])
@pytest.mark.parametrize("n_covariates", [0, 2])
def test_network(sizes, n_covariates):
    rows = random_rows(10, 12)
    network = MLP(12 + n_covariates, sizes)
    covariates = torch.ones(10, 2) if n_covariates else None
    own = network(SparseCells.from_rows(rows), covariates)
    torch.testing.assert_close(own, network(torch.from_numpy(rows.toarray()), covariates))


@pytest.mark.parametrize("n_covariates", [0, 2])
@pytest.mark.parametrize("non_negative", [None, False, True])
def test_last_map_of_a_decoder_gives_its_outputs(n_covariates, non_negative):
    torch.manual_seed(0)
    sizes = (3, n_covariates, 7, ("mean",))
    decoder = (
        MLPDecoder(*sizes, sizes=(4,))
        if non_negative is None
        else LinearDecoder(*sizes, non_negative=non_negative)
    ).eval()
    z, covariates = torch.randn(5, 3), torch.randn(5, n_covariates)
    if isinstance(decoder, LinearDecoder):
        torch.nn.init.normal_(decoder.covariate_weight["mean"])
        expected = z @ decoder.loadings().t() + decoder.bias["mean"]
        expected = expected + covariates @ decoder.covariate_weight["mean"].t()
        torch.testing.assert_close(decoder(z, covariates)["mean"], expected)
    h, maps = decoder.last(z, covariates)
    torch.testing.assert_close(F.linear(h, *maps["mean"]), decoder(z, covariates)["mean"])
