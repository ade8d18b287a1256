"""What the encoder sees, against scanpy."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import torch

from latentcell.nn.inputs import EncoderInput


@pytest.fixture
def counts(rng):
    return rng.poisson(rng.gamma(0.5, 4, size=8), size=(30, 8)).astype(np.float32) + 1.0


def test_log_normalisation_is_scanpys(counts):
    adata = ad.AnnData(counts.copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    x = torch.tensor(counts)
    ours = EncoderInput(8, log_normalize=True)(x, x.sum(1, keepdim=True))
    np.testing.assert_allclose(ours, adata.X, rtol=1e-5)


def test_standardised_genes_are_clipped_and_constant_genes_survive():
    x = torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, 1.0], [4.0, 5.0, 1e6]])
    layer = EncoderInput(3, standardize=True, max_value=3.0)
    layer.start(x.mean(0), torch.tensor([2.0, 0.0, 1.0]))
    layer.center[2] = 1.0
    seen = layer(x, torch.ones(3, 1))
    torch.testing.assert_close(seen, torch.tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 3]]))
    assert set(layer.state_dict()) == {"center", "width"}


def test_data_are_passed_on_unless_asked():
    x = torch.randn(4, 3)
    layer = EncoderInput(3)
    layer.start(torch.ones(3), torch.ones(3))
    assert layer(x, torch.ones(4, 1)) is x
    assert not layer.state_dict()


def test_genes_are_hidden_in_training_only_and_the_others_raised():
    x = torch.ones(2000, 3)
    layer = EncoderInput(3, dropout=0.25)
    seen = layer.train()(x, torch.ones(2000, 1))
    assert seen.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (seen == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(layer.eval()(x, torch.ones(2000, 1)), x)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, ""),
        ({"log_normalize": True}, "log1p CP10k"),
        ({"standardize": True, "dropout": 0.25}, "standardised, dropout 0.25"),
        ({"log_normalize": True, "standardize": True}, "log1p CP10k, standardised"),
    ],
)
def test_it_says_what_it_does(asked, words):
    assert EncoderInput(3, **asked).detail == words
