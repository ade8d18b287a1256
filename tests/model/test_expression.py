"""Normalised, denoised, sampled expression: against the parts of the model, integrals, moments, libraries."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats
from scvi import REGISTRY_KEYS
from scvi.model.base import DifferentialComputation

import latentcell as lc
from latentcell._errors import DataError
from latentcell.model import _streams
from latentcell.model._differential import _called, _compare, _mask


def cells(n_cells=120, n_genes=12, seed=0):
    rng = np.random.default_rng(seed)
    kind, batch = np.arange(n_cells) % 2, np.arange(n_cells) // 2 % 2
    rate = np.full((2, n_genes), 4.0)
    rate[0, :3], rate[1, 3:6] = 16.0, 16.0
    rate = rate[kind] * np.where(batch[:, None] & (np.arange(n_genes) == 8), 4.0, 1.0)
    adata = ad.AnnData(
        sparse.csr_matrix(rng.poisson(rate * rng.gamma(8, 1 / 8, (n_cells, 1))).astype("f4") + 1)
    )
    adata.var_names = [f"gene{j}" for j in range(n_genes)]
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.obs["kind"] = pd.Categorical(np.array(["x", "y"])[kind])
    adata.obs["plate"] = pd.Categorical(np.array(["p", "q"])[batch])
    adata.layers["log"] = np.log1p(adata.X.toarray())
    return adata


def train(Model=lc.model.VAE, epochs=40, setup=None, **arguments):
    adata = cells()
    Model.setup_anndata(adata, **({"batch_key": "plate"} | (setup or {})))
    model = Model(adata, **({"n_latent": 2, "hidden": (16,)} | arguments))
    model.train(epochs, lr=5e-3, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def vae():
    return train()


@pytest.fixture(scope="module")
def zinb():
    return train(gene_likelihood="zinb")


@pytest.fixture(scope="module")
def normal():
    return train(setup={"layer": "log"}, gene_scale="gene")


# --- denoised ---


@pytest.mark.parametrize("name", ["vae", "zinb"])
def test_denoised_counts_have_the_cells_depth_and_scales_follow(request, name):
    model = request.getfixturevalue(name)
    depth = np.asarray(model.adata.X.sum(1)).ravel()
    counts = model.get_denoised()
    assert counts.dtype == np.float32
    np.testing.assert_allclose(counts.sum(1), depth, rtol=1e-4)
    np.testing.assert_array_equal(model.get_denoised(scale="counts"), counts)
    cp10k = model.get_denoised(scale="cp10k")
    np.testing.assert_allclose(cp10k, 1e4 * counts / depth[:, None], rtol=1e-4)
    np.testing.assert_allclose(model.get_denoised(scale="log1p"), np.log1p(cp10k), rtol=1e-5)


def test_denoised_counts_are_those_before_the_loss(zinb):
    lost = zinb.get_denoised(which="dropout")
    assert ((lost > 0) & (lost < 1)).all()
    np.testing.assert_allclose((1 - lost) * zinb.get_denoised(), zinb.get_reconstruction(), rtol=1e-4)


def test_dispersion_is_the_likelihoods(vae):
    theta = vae.module.likelihood.theta().detach().numpy()
    np.testing.assert_array_equal(vae.get_denoised(which="dispersion", indices=[0, 5]), [theta, theta])


def test_genes_cells_and_chunks(vae):
    whole = vae.get_denoised()
    some = vae.get_denoised(indices=[7, 3, 7], genes=["gene5", "gene0"], chunk_size=2)
    np.testing.assert_allclose(some, whole[[7, 3, 7]][:, [5, 0]], rtol=1e-5)


def test_another_batch_is_decoded_on_the_same_code(vae):
    as_p = vae.get_denoised(transform_batch="p", scale="cp10k")
    as_q = vae.get_denoised(transform_batch="q", scale="cp10k")
    own = vae.get_denoised(scale="cp10k")
    in_p = (vae.adata.obs["plate"] == "p").to_numpy()
    np.testing.assert_allclose(own, np.where(in_p[:, None], as_p, as_q), rtol=1e-5)
    np.testing.assert_allclose(
        vae.get_denoised(transform_batch=["p", "q"], scale="cp10k"), (as_p + as_q) / 2, rtol=1e-5
    )
    assert 2.5 < (as_q / as_p)[:, 8].mean() < 5  # simulated: 4
    assert 0.6 < (as_q / as_p)[:, 0].mean() < 1.1


def test_continuous_data_are_denoised_on_their_own_scale(normal):
    np.testing.assert_allclose(normal.get_denoised(), normal.get_reconstruction(), rtol=1e-5)
    with pytest.raises(DataError, match="scale='cp10k' is for counts; 'normal' gives the data's own"):
        normal.get_denoised(scale="cp10k")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "log"}, "scale must be one of"),
        ({"which": "noise"}, "which must be one of"),
        ({"which": "dropout"}, "likelihood 'nb' has no dropout"),
        ({"which": "dispersion", "scale": "cp10k"}, "scale and several batches are for the mean"),
        ({"transform_batch": "r"}, r"'r' is not a batch; there are \['p', 'q'\]"),
        ({"transform_batch": []}, "names no batch"),
        ({"genes": ["gene0", "GENE"]}, r"does not have these genes: \['GENE'\]"),
        ({"genes": "gene0"}, r"genes must be a list of names; for one gene pass \['gene0'\]"),
        ({"out": "denoised.csv"}, r"must end in \.h5ad or \.zarr"),
        ({"out": "no/such/folder.h5ad"}, "there is no folder"),
        ({"indices": []}, "no cells"),
        ({"indices": [], "sparse_below": 0.5}, "no cells"),
        ({"chunk_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(vae, arguments, message):
    with pytest.raises(DataError, match=message):
        vae.get_denoised(**arguments)


# --- streams ---


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("below", [None, 2.0])
def test_a_streamed_file_is_an_anndata_of_the_same_values(vae, tmp_path, suffix, below):
    path = tmp_path / f"denoised{suffix}"
    rows = [9, 2, 50, 3, 4]
    assert vae.get_denoised(indices=rows, out=path, chunk_size=2, sparse_below=below) == path
    found = ad.read_h5ad(path) if suffix == ".h5ad" else ad.read_zarr(path)
    expected = vae.get_denoised(indices=rows)
    assert list(found.obs_names) == [f"cell{i}" for i in rows]
    assert list(found.obs.columns) == ["kind", "plate"]
    assert list(found.var_names) == vae.spec.genes
    assert found.uns["latentcell"]["scale"] == "counts"
    if below is None:
        np.testing.assert_allclose(found.X, expected, rtol=1e-6)
    else:
        assert sparse.issparse(found.X)
        assert (found.X.data >= 2).all()
        np.testing.assert_allclose(found.X.toarray(), np.where(expected < 2, 0, expected), rtol=1e-6)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with pytest.raises(DataError, match="exists; delete it first"):
        vae.get_denoised(out=path)


def test_sparse_rows_on_disk_have_wide_pointers(vae, tmp_path):
    import h5py

    vae.get_denoised(out=tmp_path / "d.h5ad", sparse_below=1.0, chunk_size=50)
    with h5py.File(tmp_path / "d.h5ad") as file:
        assert file["X/indptr"].dtype == np.int64


def test_sparse_in_memory(vae):
    found = vae.get_denoised(sparse_below=2.0, chunk_size=50)
    expected = vae.get_denoised()
    assert sparse.issparse(found)
    np.testing.assert_allclose(found.toarray(), np.where(expected < 2, 0, expected), rtol=1e-5)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_broken_stream_leaves_nothing(vae, tmp_path, monkeypatch, suffix):
    def stop(*args):
        raise OSError("disk full")

    monkeypatch.setattr(_streams, "_write_x", stop)
    with pytest.raises(OSError, match="disk full"):
        vae.get_denoised(out=tmp_path / f"denoised{suffix}")
    assert not list(tmp_path.iterdir())


# --- scvi-tools' methods ---


def test_normalized_expression_is_shares_times_library(vae):
    shares = vae.get_normalized_expression(return_numpy=True)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-4)
    frame = vae.get_normalized_expression(library_size=1e4, gene_list=["gene3", "gene1"], indices=[4, 0])
    np.testing.assert_allclose(frame.to_numpy().shape, (2, 2))
    assert list(frame.index) == ["cell4", "cell0"]
    assert list(frame.columns) == ["gene3", "gene1"]
    depth = np.asarray(vae.adata.X.sum(1))
    own = vae.get_normalized_expression(library_size="latent", return_numpy=True)
    np.testing.assert_allclose(own, shares * depth, rtol=1e-4)


def test_normalized_expression_averages_draws_of_the_code(vae):
    draws = vae.get_normalized_expression(n_samples=4, return_mean=False)
    assert draws.shape == (4, 120, 12)
    assert draws.std(0).min() > 0
    mean = vae.get_normalized_expression(n_samples=4)
    np.testing.assert_allclose(mean.to_numpy(), draws.mean(0), rtol=1e-4)
    overall = vae.get_normalized_expression(indices=[3, 5], n_samples_overall=30)
    assert overall.shape == (30, 12)
    assert set(overall.index) == {"cell3", "cell5"}


def test_an_autoencoders_draws_are_all_the_same():
    model = train(lc.model.AE, epochs=3)
    draws = model.get_normalized_expression(n_samples=3, return_mean=False)
    np.testing.assert_array_equal(draws[0], draws[2])
    np.testing.assert_allclose(draws[0], model.get_denoised(scale="cp10k") / 1e4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"library_size": "observed"}, "library_size must be a number or 'latent'"),
        ({"library_size": 0}, "library_size must be positive"),
        ({"n_samples": 0}, "n_samples must be at least 1"),
        ({"n_samples_overall": 0}, "n_samples_overall must be at least 1"),
        ({"n_samples": 2, "n_samples_overall": 5}, "n_samples_overall"),
        ({"n_samples": 2, "return_mean": False, "return_numpy": False}, "do not fit a frame"),
        ({"transform_batch": "r"}, "'r' is not a batch"),
    ],
)
def test_normalized_expression_names_what_does_not_fit(vae, arguments, message):
    with pytest.raises(DataError, match=message):
        vae.get_normalized_expression(**arguments)


def test_library_size_is_for_counts(normal):
    with pytest.raises(DataError, match="library_size is for counts; the likelihood is 'normal'"):
        normal.get_normalized_expression(library_size=1e4)


def test_likelihood_parameters(vae, zinb, normal):
    found = zinb.get_likelihood_parameters(indices=[1, 2, 3])
    assert set(found) == {"mean", "dispersions", "dropout"}
    assert all(values.shape == (3, 12) for values in found.values())
    np.testing.assert_allclose(found["dispersions"], zinb.get_denoised(indices=[1, 2, 3], which="dispersion"))
    draws = vae.get_likelihood_parameters(n_samples=5)
    assert set(draws) == {"mean", "dispersions"}
    assert draws["mean"].shape == (5, 120, 12)
    mean = vae.get_likelihood_parameters(n_samples=5, give_mean=True)["mean"]
    np.testing.assert_allclose(mean, draws["mean"].mean(0), rtol=1e-4)
    assert set(normal.get_likelihood_parameters()) == {"mean", "scale"}


def test_predictive_draws_have_the_models_moments(zinb):
    n = 1500
    draws = zinb.posterior_predictive_sample(indices=[0, 1], n_samples=n, gene_list=["gene0", "gene4"])
    assert draws.shape == (2, 2, n)
    drawn = draws.todense()
    assert (drawn == np.floor(drawn)).all()
    parameters = zinb.get_likelihood_parameters(indices=[0, 1], n_samples=n, seed=3)
    mean, theta, lost = (parameters[name][..., [0, 4]] for name in ("mean", "dispersions", "dropout"))
    expected = ((1 - lost) * mean).mean(0)
    np.testing.assert_allclose(drawn.mean(-1), expected, atol=5 * drawn.std(-1).max() / np.sqrt(n))
    zero = (lost + (1 - lost) * (theta / (theta + mean)) ** theta).mean(0)
    np.testing.assert_allclose((drawn == 0).mean(-1), zero, atol=5 * 0.5 / np.sqrt(n))
    once = zinb.posterior_predictive_sample()
    assert once.shape == (120, 12)


def test_predictive_checks_of_scvi_tools_run(vae):
    from scvi.criticism import PosteriorPredictiveCheck

    whole = vae.adata.copy()
    whole.X = whole.X.astype(np.int64)
    check = PosteriorPredictiveCheck(whole, {"vae": vae}, n_samples=3)
    check.coefficient_of_variation()
    check.zero_fraction()
    table = check.metrics["cv_gene"]
    assert np.corrcoef(table["vae"], table["Raw"])[0, 1] > 0.8


def log_joint(model, z, batch):
    """Log p(x | z) of a grid of one-dimensional codes (grid x cells)."""
    codes = torch.as_tensor(z, dtype=torch.float32)[:, None, None].expand(-1, len(batch["X"]), 1)
    with torch.inference_mode():
        x, library, _ = model.module.read(batch)
        raw = model.module.decode_raw(codes, batch)
        return -model.module.likelihood.negative_log_likelihood(x, raw, library).double().numpy()


def logsumexp(values):
    top = values.max(0)
    return top + np.log(np.exp(values - top).sum(0))


@pytest.mark.parametrize("Model", [lc.model.VAE, lc.model.VSC])
def test_marginal_likelihood_is_the_integral(Model):
    model = train(Model, epochs=30, n_latent=1)
    batch = model._cells(None).batch(np.arange(20))
    grid = np.linspace(-9, 9, 4001)
    inside = logsumexp(
        log_joint(model, model.module.latent.transform(torch.as_tensor(grid)).numpy(), batch)
        + stats.norm.logpdf(grid)[:, None]
        + np.log(grid[1] - grid[0])
    )
    if Model is lc.model.VSC:
        alpha = model.module.latent.prior.alpha
        outside = log_joint(model, np.zeros(1), batch)[0] + np.log(1 - alpha)
        inside = np.logaddexp(outside, inside + np.log(alpha))
    found = model.get_marginal_ll(indices=np.arange(20), n_mc_samples=3000, return_mean=False)
    np.testing.assert_allclose(found, inside, atol=0.1)
    bound = model.get_elbo(indices=np.arange(20), n_samples=200, return_mean=False)
    assert (-bound).mean() < found.mean()


def test_feature_correlations_are_those_of_the_draws(normal, vae):
    found = normal.get_feature_correlation_matrix(n_samples=6, correlation_type="pearson")
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-6)
    np.testing.assert_allclose(found, found.T, rtol=1e-6)
    of_data = np.corrcoef(normal.adata.layers["log"], rowvar=False)
    off = ~np.eye(12, dtype=bool)
    assert np.corrcoef(found.to_numpy()[off], of_data[off])[0, 1] > 0.9
    names = ["gene0", "gene1", "gene4"]
    some = vae.get_feature_correlation_matrix(n_samples=3, gene_list=names)
    assert list(some.index) == list(some.columns) == names
    assert some.loc["gene0", "gene1"] > 0.2 > some.loc["gene0", "gene4"]


# --- differential expression ---


class Draws:
    """What scvi-tools' computation asks of a model: draws of expression per group, and the counts."""

    def __init__(self, adata, draws):
        self.adata, self.draws = adata, draws

    def get_from_registry(self, key):
        assert key == REGISTRY_KEYS.X_KEY
        return self.adata.X

    def sample(self, adata, indices, transform_batch, n_samples_overall):
        return self.draws[adata.obs["kind"].iloc[indices[0]]]


@pytest.mark.parametrize("mode", ["change", "vanilla"])
def test_comparison_is_that_of_scvi_tools(mode):
    rng = np.random.default_rng(0)
    adata = cells()
    counts = adata.X.toarray()
    counts[:, 10] = 0
    adata.X = sparse.csr_matrix(counts)
    draws = {
        name: rng.dirichlet(rate, 200).astype("f4")
        for name, rate in (("x", np.arange(1, 13)), ("y", np.ones(12)))
    }
    shim = Draws(adata, draws)
    is_x = (adata.obs["kind"] == "x").to_numpy()
    theirs = DifferentialComputation(shim.sample, None, shim).get_bayes_factors(
        is_x, ~is_x, mode=mode, delta=0.3, use_observed_batches=True, n_samples_overall=200
    )
    means = [{"mean": np.asarray(adata.X[mask].mean(0)).ravel()} for mask in (is_x, ~is_x)]
    ours = _compare(draws["x"], draws["y"], means, mode, 0.3)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=2e-3, atol=1e-6, err_msg=name)
    assert set(ours) >= {"bayes_factor", "scale1", "scale2"}


def test_called_genes_keep_the_expected_false_discovery_rate():
    certain = np.array([0.99, 0.97, 0.9, 0.5, 0.1])
    np.testing.assert_array_equal(_called(certain, 0.05), [True, True, True, False, False])
    np.testing.assert_array_equal(_called(certain, 0.005), [False] * 5)


def test_simulated_markers_are_found(vae):
    table = vae.differential_expression(groupby="kind", n_samples_overall=500)
    assert list(table["comparison"].unique()) == ["x vs Rest", "y vs Rest"]
    first = table[table["group1"] == "x"]
    assert set(first.index[first["is_de_fdr_0.05"]]) >= {f"gene{j}" for j in range(6)}
    assert "gene9" not in set(first.index[first["is_de_fdr_0.05"]])
    assert first.loc["gene0", "lfc_mean"] > 1 > -1 > first.loc["gene4", "lfc_mean"]
    in_x = (vae.adata.obs["kind"] == "x").to_numpy()
    assert first.loc["gene0", "raw_mean1"] == pytest.approx(vae.adata.X[in_x, 0].mean(), rel=1e-5)
    assert (first["proba_de"].diff().dropna() <= 0).all()


def test_groups_sets_and_queries_agree(vae):
    in_x = (vae.adata.obs["kind"] == "x").to_numpy()
    named = vae.differential_expression(groupby="kind", group1="x", group2="y", n_samples_overall=100)
    for idx in (in_x, np.flatnonzero(in_x), "kind == 'x'"):
        table = vae.differential_expression(idx1=idx, n_samples_overall=100)
        np.testing.assert_array_equal(table["proba_de"], named["proba_de"])


def test_a_query_means_cells_and_not_their_names():
    obs = pd.DataFrame({"t": ["A", "B", "B", "A"]}, index=["c0", "c1", "c0", "c1"])  # as after concat
    np.testing.assert_array_equal(_mask(obs, "t == 'A'", "idx1"), [True, False, False, True])


def test_one_group_may_be_a_number_and_models_of_verbs_are_told_apart_by_passing_cells(vae):
    cells = vae.adata.copy()
    cells.obs["number"] = (cells.obs["kind"] == "x").astype(int)
    named = vae.differential_expression(cells, groupby="kind", group1="x", n_samples_overall=50)
    numbered = vae.differential_expression(cells, groupby="number", group1=1, n_samples_overall=50)
    np.testing.assert_array_equal(numbered["proba_de"], named["proba_de"])
    model = lc.tl.vae(vae.adata.copy(), max_epochs=1, n_latent=2, progress=False)
    with pytest.raises(DataError, match=r"its columns are \[\]\..* pass the cells as adata=\."):
        model.differential_expression(groupby="kind")


def test_batch_correction_takes_the_batch_away(vae):
    by_plate = vae.differential_expression(groupby="plate", group1="q", n_samples_overall=400)
    assert by_plate.index[0] == "gene8"
    assert by_plate.loc["gene8", "lfc_mean"] > 1
    corrected = vae.differential_expression(
        groupby="plate", group1="q", batch_correction=True, n_samples_overall=400
    )
    assert abs(corrected.loc["gene8", "lfc_median"]) < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name the groups with groupby="),
        ({"groupby": "type"}, "obs has no 'type' .*groupby"),
        ({"groupby": "kind", "group1": "z"}, "has no group 'z'"),
        ({"groupby": "kind", "mode": "both"}, "mode must be one of"),
        ({"groupby": "kind", "delta": -1}, "delta must not be negative"),
        ({"groupby": "kind", "fdr_target": 1.5}, "fdr_target must lie between"),
        ({"groupby": "kind", "idx1": [0]}, "not both"),
        ({"idx1": np.zeros(120, dtype=bool)}, "no cells in"),
        ({"groupby": "kind", "batchid1": ["p"]}, "are for batch_correction=True"),
    ],
)
def test_comparisons_that_cannot_be_are_named(vae, arguments, message):
    with pytest.raises(DataError, match=message):
        vae.differential_expression(**arguments)


def test_comparisons_need_counts(normal):
    with pytest.raises(DataError, match="needs a count likelihood, not 'normal'"):
        normal.differential_expression(groupby="kind")
