"""What the equations promise, for any numbers."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch.distributions import Normal

import latentcell as lc
from latentcell._scvi import registry_from_json, registry_to_json
from latentcell.model import _files
from latentcell.nn.likelihoods import LIKELIHOODS
from latentcell.nn.priors import StandardNormal, kl_slab
from latentcell.nn.schedules import Constant, Cosine, Linear

REAL = st.floats(-20, 20)
POSITIVE = st.floats(1e-3, 20)


# --- divergences and bounds ---


def test_kl_of_a_normal_code_is_zero_only_at_its_prior(profile):
    prior = StandardNormal(1).distribution()

    @profile
    @given(REAL, POSITIVE)
    def check(loc, scale):
        at = (torch.tensor([value], dtype=torch.float64) for value in (loc, scale))
        kl = float(kl_slab(Normal(*at), prior))
        assert kl >= 0
        assert kl > 0 or (abs(loc) < 1e-6 and abs(scale - 1) < 1e-6)

    check()
    assert float(kl_slab(Normal(torch.zeros(1), torch.ones(1)), prior)) == 0


def small_model(name, layer):
    rng = np.random.default_rng(1)
    adata = AnnData(rng.poisson(3.0, size=(12, 5)).astype(np.float32) + 1)
    adata.layers["log"] = np.log1p(adata.X)
    adata.obs["label"] = pd.Categorical(np.array(["T", "B"])[np.arange(12) % 2])
    Model = getattr(lc.model, name)
    Model.setup_anndata(adata, layer=layer, labels_key="label")
    model = Model(adata, n_latent=2, hidden=(4,), gene_scale=0.5)
    model.train(3, enable_progress_bar=False)
    return model


@pytest.mark.parametrize(("name", "layer"), [("VAE", None), ("VAE", "log"), ("VSC", "log")])
def test_the_elbo_is_below_the_marginal_likelihood(name, layer):
    """Importance sampling gives log p(x) from below, nearer with every draw; the bound lies under it."""
    model = small_model(name, layer)
    bound = -model.get_elbo(n_samples=150, return_mean=False)
    marginal = model.get_marginal_ll(n_mc_samples=300, return_mean=False)
    spread = np.abs(bound - -model.get_elbo(n_samples=150, return_mean=False, seed=1))
    assert (bound <= marginal + 3 * spread + 1e-3).all()
    assert bound.mean() < marginal.mean()


# --- densities ---


def likelihood_of(name, level, dispersion, dropout):
    """A likelihood of one gene in double precision, and its raw outputs."""
    likelihood = LIKELIHOODS[name](1).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.fill_(dispersion)
    values = {"mean": level, "dropout": dropout, "log_theta": dispersion}
    return likelihood, {key: torch.tensor([[value]], dtype=torch.float64) for key, value in values.items()}


@pytest.mark.parametrize("name", ["normal", "student_t"])
def test_densities_integrate_to_one(name, profile):
    @profile
    @given(st.floats(-5, 5), st.floats(-2, 1))
    def check(level, log_scale):
        likelihood, raw = likelihood_of(name, level, log_scale, 0.0)
        one = torch.ones((1, 1), dtype=torch.float64)

        def density(x):
            at = torch.tensor([[x]], dtype=torch.float64)
            return float(likelihood.distribution(raw, one).log_prob(at).detach().exp())

        pieces = [(-np.inf, level), (level, np.inf)]
        assert sum(integrate.quad(density, *piece)[0] for piece in pieces) == pytest.approx(1, abs=1e-5)

    check()


# --- metrics: what cells and groups are called and in which order they come is no matter ---

LABELLED = {
    "clustering": lambda z, y: lc.metrics.clustering(y, (z[:, 0] > 0).astype(int)),
    **{
        name: (lambda name: lambda z, y: getattr(lc.metrics, name)(z, y))(name)
        for name in ("best_correlation", "matched_correlation", "modularity", "mutual_information_gap")
    },
    "single_latent_accuracy": None,  # its folds are drawn by position
    "separated_attribute_predictability": None,
    "dci": None,
    "disentanglement": None,  # rows are the metrics above
    "dimension_scores": lambda z, y: lc.metrics.dimension_scores(z, y)["average_precision"].to_numpy(),
    "neighbor_purity": lambda z, y: lc.metrics.neighbor_purity(z, y, y[0], n_neighbors=3),
    "neighbor_average_precision": lambda z, y: lc.metrics.neighbor_average_precision(z, y, y[0]),
    "kmeans_tsne": None,  # an embedding that is drawn
    "leiden": None,
}
SETS = {
    "total_correlation": lambda a, b: lc.metrics.total_correlation(a),
    **{
        name: (lambda name: lambda a, b: getattr(lc.metrics, name)(a, b))(name)
        for name in (
            "exact_copies",
            "energy_distance",
            "gene_marginals",
            "mmd",
            "wasserstein",
            "manifold_overlap",
        )
    },
    "neighbor_mixing": lambda a, b: lc.metrics.neighbor_mixing(a, b, n_neighbors=5),
    "perturbation_response": lambda a, b: lc.metrics.perturbation_response(
        b, a[:10], a[10:], n_top=(2,)
    ).to_numpy(),
    "rank_differential_genes": lambda a, b: lc.metrics.rank_differential_genes(a, b),
    "nearer_to_training": lambda a, b: lc.metrics.nearer_to_training(a[:10], b, a[10:]),
    "classifier_auc": None,  # trees and folds are drawn
    "fidelity": None,  # reads cells by name: tests/metrics/test_fidelity.py
}


def numbers_of(found) -> np.ndarray:
    """Scores as numbers; of a table those of its value column, in any order."""
    if isinstance(found, pd.DataFrame):
        found = found["value"].sort_index()
    if isinstance(found, dict):
        found = list(found.values())
    return np.asarray(found, dtype=float)


def test_every_metric_is_listed():
    assert sorted(LABELLED | SETS) == sorted(lc.metrics.__all__)


def codes(seed, n_cells=24):
    rng = np.random.default_rng(seed)
    labels = np.array(["B", "T", "NK"])[np.arange(n_cells) % 3]
    return rng.normal(size=(n_cells, 3)) + (labels == "T")[:, None], labels, rng


@pytest.mark.parametrize("name", [name for name, call in LABELLED.items() if call is not None])
def test_order_of_cells_and_names_of_labels_do_not_matter(name, profile):
    score = LABELLED[name]

    @profile
    @given(st.integers(0, 10**6))
    def check(seed):
        z, labels, rng = codes(seed)
        plain = numbers_of(score(z, labels))
        order = np.concatenate([[0], 1 + rng.permutation(len(z) - 1)])  # the first cell's group is asked for
        np.testing.assert_allclose(numbers_of(score(z[order], labels[order])), plain, atol=1e-9)
        renamed = np.array([{"B": "ü 1", "T": "é", "NK": "../x"}[label] for label in labels])
        np.testing.assert_allclose(
            np.sort(numbers_of(score(z, renamed)).ravel()), np.sort(plain.ravel()), atol=1e-9
        )

    check()


@pytest.mark.parametrize("name", [name for name, call in SETS.items() if call is not None])
def test_order_of_cells_in_each_set_does_not_matter(name, profile):
    score = SETS[name]

    @profile
    @given(st.integers(0, 10**6))
    def check(seed):
        a, _, rng = codes(seed)
        b = rng.normal(size=(24, 3))
        mixed = np.concatenate([rng.permutation(10), 10 + rng.permutation(len(a) - 10)])
        found = score(a[mixed], b[rng.permutation(len(b))])
        np.testing.assert_allclose(numbers_of(found), numbers_of(score(a, b)), atol=1e-9)

    check()


# --- round trips ---

NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
SCHEDULE = (
    st.builds(Constant, NUMBER)
    | st.builds(Linear, NUMBER, NUMBER, st.floats(0, 0.4), st.floats(0.5, 1))
    | st.builds(Cosine, NUMBER, NUMBER, st.floats(0, 0.4), st.floats(0.5, 1))
)
VALUE = st.none() | st.booleans() | NUMBER | st.text() | SCHEDULE
PARAMS = st.dictionaries(st.text().filter(lambda key: key != "schedule"), VALUE | st.lists(VALUE).map(tuple))
NAME = st.text() | st.integers(-(2**40), 2**40)


def test_parameters_survive_json(profile):
    @profile
    @given(PARAMS)
    def check(params):
        assert _files.decode(json.loads(json.dumps(_files.encode(params), allow_nan=False))) == params

    check()


def test_registries_survive_json(profile):
    @profile
    @given(st.dictionaries(st.text(), st.lists(NAME, min_size=1), max_size=4))
    def check(categories):
        registry = {key: {"x": as_array(values), "n": len(values)} for key, values in categories.items()}
        found = registry_from_json(json.loads(json.dumps(registry_to_json(registry))))
        assert found.keys() == registry.keys()
        for key, values in categories.items():
            assert found[key]["x"].tolist() == values
            assert found[key]["n"] == len(values)

    check()


def as_array(values: list) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def test_histories_survive_json(profile):
    @profile
    @given(st.lists(st.floats(), min_size=1, max_size=8), st.text().filter(lambda name: name != "epoch"))
    def check(values, name):
        index = pd.Index(range(len(values)), name="epoch")
        history = {name: pd.DataFrame({name: values}, index=index, dtype=float)}
        found = _files.history_from_json(
            json.loads(json.dumps(_files.history_to_json(history), allow_nan=False))
        )
        pd.testing.assert_frame_equal(found[name], history[name])

    check()
