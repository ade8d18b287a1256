"""Counts on a log scale: the loss is that of the values, what is expected are counts."""

import torch
from scipy import sparse
from torch.nn import functional as F

from latentcell._sparse import SparseCells
from latentcell.nn.last_layer import LastLayer
from latentcell.nn.likelihoods import Gaussian, StudentT
from latentcell.nn.log_scale import OnLogScale


def test_the_loss_is_that_of_log_counts_per_10000():
    counts = torch.tensor([[3.0, 0.0, 7.0], [1.0, 1.0, 0.0]])
    library = counts.sum(1, keepdim=True)
    raw = {"mean": torch.tensor([[7.0, 1.0, 8.0], [8.0, 8.5, 0.5]])}
    values = torch.log1p(counts / library * 1e4)
    expected = (0.5 * (values - raw["mean"]) ** 2).sum(1)
    gaussian = Gaussian(3, scale=1.0)
    found = OnLogScale(3, gaussian).negative_log_likelihood(counts, raw, library)
    constant = gaussian.negative_log_likelihood(torch.zeros(1, 3), {"mean": torch.zeros(1, 3)}, library)
    torch.testing.assert_close(found, expected + constant)


def test_sparse_cells_have_the_loss_of_dense_ones_where_the_values_have_a_way_for_them():
    counts = torch.tensor([[3.0, 0.0, 7.0], [1.0, 1.0, 0.0]])
    library = counts.sum(1, keepdim=True)
    h, weight, bias = torch.tensor([[1.0, 2.0], [-1.0, 0.5]]), torch.ones(3, 2), torch.tensor([1.0, 2.0, 3.0])
    likelihood = OnLogScale(3, Gaussian(3, scale=1.0))
    found = likelihood.sparse_negative_log_likelihood(
        SparseCells.from_rows(sparse.csr_matrix(counts.numpy())),
        LastLayer(h, {"mean": (weight, bias)}, library),
    )
    raw = {"mean": F.linear(h, weight, bias)}
    torch.testing.assert_close(found, likelihood.negative_log_likelihood(counts, raw, library))
    assert likelihood.sparse_when == "mostly zeros"
    assert OnLogScale(3, StudentT(3)).sparse_when == "never"


def test_expected_counts_are_shares_of_the_depth():
    shares = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    library = torch.tensor([[100.0], [20.0]])
    likelihood = OnLogScale(3, Gaussian(3, scale=1.0))
    raw = {"mean": torch.log1p(shares * 1e4)}
    torch.testing.assert_close(likelihood.mean(raw, library), shares * library)
    torch.testing.assert_close(likelihood.share(raw), shares)
    torch.testing.assert_close(likelihood.distribution(raw, library).mean, shares * library)


def test_values_below_0_are_expected_next_to_never():
    likelihood = OnLogScale(2, Gaussian(2, scale=1.0))
    found = likelihood.mean({"mean": torch.tensor([[-3.0, 5.0]])}, torch.tensor([[50.0]]))
    assert 0 < found[0, 0] < 1e-3
    torch.testing.assert_close(found.sum(), torch.tensor(50.0))


def test_smearing_gives_genes_their_means():
    """Log-normal values: the exponential of the mean logarithm is too low by e^(s^2 / 2)."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.2, 1.0, 0.6])
    counts = torch.exp(5 + spread * torch.randn(4000, 3, generator=generator))
    library = counts.sum(1, keepdim=True)
    likelihood = OnLogScale(3, Gaussian(3, scale=1.0))
    raw = {"mean": likelihood.logged(counts, library).mean(0).expand(4000, 3)}
    before = likelihood.mean(raw, library).sum(0)
    assert (before / counts.sum(0) - 1).abs().max() > 0.1
    for _ in range(3):  # shares of a cell sum to 1, so that the factors of genes meet
        likelihood.smear(counts.sum(0), likelihood.mean(raw, library).sum(0))
    torch.testing.assert_close(likelihood.mean(raw, library).sum(0), counts.sum(0), rtol=1e-3, atol=0.0)
