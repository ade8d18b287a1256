"""The model that docs/contributing.md adds is a whole one: it keeps the contract, and does what it says."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import latentcell as lc
from latentcell.nn.latents import Code

from .conftest import ROOT

FILE = ROOT / "docs" / "examples" / "dip_vae.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("dip_vae", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_file_that_is_tested():
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    included = re.findall(r"^```\{literalinclude\} (\S+)$", page, flags=re.MULTILINE)
    assert [(ROOT / "docs" / path).resolve() for path in included] == [FILE]
    code = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) <= 62


def test_it_keeps_the_contract(example):
    arguments = {"n_latent": 3, "hidden": (8,)}
    table = lc.testing.check_model(example.DIPVAE, arguments=arguments)
    assert set(table["outcome"]) == {"passed"}


def test_the_penalty_is_the_slow_loop(example):
    loc = torch.as_tensor(np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 2.0, 0.5])
    code = Code(loc, loc, loc, qz=Normal(loc, torch.ones_like(loc)))
    slow = 0.0
    for j in range(3):
        for k in range(3):
            mean_j, mean_k = loc[:, j].mean(), loc[:, k].mean()
            covariance = sum(float((z[j] - mean_j) * (z[k] - mean_k)) for z in loc) / len(loc)
            slow += (covariance - (j == k)) ** 2
    assert float(example.Decorrelation(1.0)(code)) == pytest.approx(slow)


def test_dimensions_are_less_correlated_than_without(example):
    adata = lc.datasets.simulate_factors(300, 100, seed=0)

    def correlation(weight):
        example.DIPVAE.setup_anndata(adata)
        model = example.DIPVAE(adata, n_latent=4, hidden=(32,), decorrelation=weight)
        model.train(max_epochs=60, seed=0, enable_progress_bar=False)
        found = np.corrcoef(model.get_latent_representation(), rowvar=False)
        return np.abs(found[np.triu_indices(4, 1)]).mean()

    assert correlation(30.0) < 0.7 * correlation(0.0)
