"""The rare-population document: what its figures show, as numbers (median over seeds, average precision)."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

import latentcell as lc

SEEDS = range(3)


def rare_score(codes, adata):
    return lc.metrics.neighbor_average_precision(codes, adata.obs["group"], "rare")


@pytest.fixture(scope="module")
def simulations():
    return [lc.datasets.simulate_groups(seed=seed) for seed in SEEDS]


def test_first_two_components_miss_what_the_third_and_normalised_variance_show(simulations):
    scores = {"PC1, PC2": [], "PC2, PC3": [], "normalised": []}
    for adata in simulations:
        pcs = PCA(3, random_state=0).fit_transform(adata.X)
        scores["PC1, PC2"].append(rare_score(pcs[:, :2], adata))
        scores["PC2, PC3"].append(rare_score(pcs[:, 1:], adata))
        lc.pp.normalize_variance(adata, alpha=1.0)
        normalised = PCA(2, random_state=0).fit_transform(adata.layers["variance_normalized"])
        scores["normalised"].append(rare_score(normalised, adata))
    medians = {name: np.median(values) for name, values in scores.items()}
    assert medians["PC1, PC2"] < 0.85
    assert medians["PC2, PC3"] > 0.98
    assert medians["normalised"] > 0.98


@pytest.mark.slow
def test_code_of_the_documents_autoencoder_shows_them(simulations):
    scores = []
    for seed, adata in zip(SEEDS, simulations, strict=True):
        unit = adata.copy()
        low, high = adata.X.min(axis=0), adata.X.max(axis=0)
        unit.X = (adata.X - low) / (high - low)
        lc.tl.ae(
            unit,
            n_latent=2,
            hidden=(10,),
            activation="leaky_relu",
            norm=None,
            dropout=0.0,
            standardize_input=False,
            seed=seed,
            progress=False,
        )
        assert unit.uns["ae"]["gene_likelihood"] == "bernoulli"
        scores.append(rare_score(unit.obsm["X_ae"], adata))
    assert np.median(scores) > 0.95
