"""New cells: drawn by label, batch and source, decoded from codes; in memory and on disk."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats

import latentcell as lc
from latentcell._errors import DataError
from latentcell.model import _generation, _sources, _streams, _templates
from latentcell.model._mixture import fit_mixtures
from latentcell.testing import make_cells

QUICK = {"lr": 5e-3, "weight_decay": 0.0, "enable_progress_bar": False}


def cells(n_cells=240, n_genes=12, seed=0):
    """Counts of two kinds of cells, x much deeper than y, on two plates; a third of them are x."""
    rng = np.random.default_rng(seed)
    kind, plate = (np.arange(n_cells) % 3 > 0).astype(int), np.arange(n_cells) // 3 % 2
    rate = np.full((2, n_genes), 4.0)
    rate[0, :3], rate[1, 3:6] = 16.0, 16.0
    rate = rate[kind] * np.where(plate[:, None] & (np.arange(n_genes) == 8), 4.0, 1.0)
    depth = rng.gamma(8, 1 / 8, (n_cells, 1)) * np.array([3.0, 1.0])[kind][:, None]
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate * depth).astype("f4") + 1))
    adata.var_names = [f"gene{j}" for j in range(n_genes)]
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var["symbol"] = adata.var_names.str.upper()
    adata.obs["kind"] = pd.Categorical(np.array(["x", "y"])[kind])
    adata.obs["plate"] = pd.Categorical(np.array(["p", "q"])[plate])
    adata.obs["age"] = rng.normal(50, 10, n_cells)
    adata.layers["log"] = np.log1p(adata.X.toarray())
    return adata


def train(Model=lc.model.VAE, epochs=40, setup=None, **arguments):
    adata = cells()
    Model.setup_anndata(adata, **({"batch_key": "plate", "labels_key": "kind"} | (setup or {})))
    model = Model(adata, **({"n_latent": 2, "hidden": (16,)} | arguments))
    model.train(epochs, **QUICK)
    return model


@pytest.fixture(scope="module")
def vae():
    return train()


@pytest.fixture(scope="module")
def cvae():
    return train(lc.model.CVAE)


@pytest.fixture(scope="module")
def ae():
    return train(lc.model.AE, setup={"layer": "log"})


def is_x(new):
    values = new.X.toarray() if sparse.issparse(new.X) else new.X
    return values[:, :3].sum(1) > values[:, 3:6].sum(1)


# --- draws ---


def test_generated_cells_say_so(vae):
    new = vae.generate(50, seed=1)
    assert new.shape == (50, 12)
    assert sparse.issparse(new.X)
    assert (new.X.data == np.floor(new.X.data)).all()
    assert new.obs["is_generated"].all()
    assert list(new.obs_names[:2]) == ["generated_0", "generated_1"]
    assert list(new.var_names) == vae.spec.genes
    assert list(new.var["symbol"]) == [name.upper() for name in vae.spec.genes]
    assert set(new.obs["plate"]) == {"p", "q"}
    assert new.obsm["X_vae"].shape == (50, 2)
    record = {"model": "VAE", "gene_likelihood": "nb", "source": "posterior", "output": "sample", "seed": 1}
    assert record.items() <= new.uns["latentcell"].items()
    assert vae.generate(50, seed=1).X.toarray().tobytes() == new.X.toarray().tobytes()
    assert vae.generate(50, seed=2).X.toarray().tobytes() != new.X.toarray().tobytes()


@pytest.mark.parametrize("source", ["posterior", "mixture"])
def test_generated_cells_have_the_moments_of_real_ones(vae, source):
    new = vae.generate(3000, source=source, seed=0)
    real = vae.adata.X.toarray()
    np.testing.assert_allclose(new.X.toarray().mean(0), real.mean(0), rtol=0.15)
    assert (new.obs["kind"] == "x").mean() == pytest.approx(1 / 3, abs=0.03)
    depth = real.sum(1)
    for kind in "xy":
        drawn = new.obs["library_size"][new.obs["kind"] == kind]
        assert drawn.mean() == pytest.approx(depth[vae.adata.obs["kind"] == kind].mean(), rel=0.06)
        assert drawn.std() == pytest.approx(depth[vae.adata.obs["kind"] == kind].std(), rel=0.25)


def test_library_sizes_may_be_read_only(vae):
    """As columns of frames are from pandas 3 on."""
    sizes = np.full(3, 500.0, dtype=np.float32)
    sizes.flags.writeable = False
    new = vae.generate(3, library_size=sizes, output="mean")
    np.testing.assert_allclose(np.asarray(new.X.sum(axis=1)).ravel(), 500.0, rtol=1e-4)


def test_library_and_batch_of_generated_cells(vae):
    new = vae.generate(400, batch="q", library_size=1000.0, source="prior", seed=0)
    assert set(new.obs["plate"]) == {"q"}
    assert new.X.toarray().sum(1).mean() == pytest.approx(1000, rel=0.1)
    other = vae.generate(400, batch="p", library_size=1000.0, source="prior", seed=0)
    assert new.X.toarray()[:, 8].mean() > 2 * other.X.toarray()[:, 8].mean()
    mean = vae.generate(5, output="mean", library_size=np.arange(1.0, 6.0))
    np.testing.assert_allclose(mean.X.sum(1), np.arange(1, 6), rtol=1e-4)


@pytest.mark.parametrize("source", ["prior", "posterior", "mixture"])
def test_labels_choose_the_kind(cvae, source):
    new = cvae.generate(labels={"y": 60, "x": 30}, source=source)
    assert new.obs["kind"].value_counts().to_dict() == {"y": 60, "x": 30}
    assert (is_x(new) == (new.obs["kind"] == "x")).mean() > 0.95
    listed = cvae.generate(labels=["x", "y", "x"], source=source)
    assert list(listed.obs["kind"]) == ["x", "y", "x"]


@pytest.mark.parametrize("model", ["vae", "ae"])
def test_labels_choose_the_kind_through_mixtures_of_models_that_are_not_told(request, model):
    new = request.getfixturevalue(model).generate(labels={"y": 200, "x": 100}, source="mixture")
    assert (is_x(new) == (new.obs["kind"] == "x")).mean() > 0.9


def test_an_autoencoder_generates_from_its_mixture_only(ae):
    new = ae.generate(500)
    assert new.uns["latentcell"]["source"] == "mixture"
    assert "library_size" not in new.obs
    real = ae.adata.layers["log"]
    np.testing.assert_allclose(new.X.mean(0), real.mean(0), atol=0.12)
    np.testing.assert_allclose(new.X.std(0), real.std(0), rtol=0.25)
    assert (new.X >= real.min(0)).all()
    with pytest.raises(DataError, match=r"source must be one of \('mixture',\), got 'posterior'"):
        ae.generate(5, source="posterior")


def test_losses_that_are_no_densities_draw_with_the_residuals():
    adata = cells()
    adata.layers["unit"] = adata.layers["log"] / adata.layers["log"].max()
    adata.layers["binary"] = (adata.layers["log"] > np.median(adata.layers["log"])).astype("f4")
    for layer, loss in (("log", "normal"), ("unit", "bernoulli")):
        lc.model.VAE.setup_anndata(adata, layer=layer)
        model = lc.model.VAE(adata, n_latent=2, hidden=(16,), gene_likelihood=loss)
        model.train(20, **QUICK)
        residual = (adata.layers[layer] - model.get_reconstruction()).std(0)
        z = np.repeat(model.get_latent_representation()[:1], 4000, axis=0)
        drawn, mean = model.decode(z, output="sample").X, model.decode(z[:1]).X
        above = np.median(drawn, axis=0)  # of the cut normal too
        np.testing.assert_allclose(above, mean[0], atol=0.1 * residual.max())
        high = np.quantile(drawn, 0.8, axis=0) - mean[0]
        free = high + mean[0] < adata.layers[layer].max()
        np.testing.assert_allclose(high[free], (stats.norm.ppf(0.8) * residual)[free], rtol=0.15)
        assert (drawn >= adata.layers[layer].min(0)).all()
        assert loss == "normal" or drawn.max() <= 1
    lc.model.VAE.setup_anndata(adata, layer="binary")
    model = lc.model.VAE(adata, n_latent=2, hidden=(16,), gene_likelihood="bernoulli")
    model.train(2, **QUICK)
    assert set(np.unique(model.generate(200).X)) == {0.0, 1.0}


@pytest.mark.parametrize("source", ["prior", "posterior", "mixture"])
def test_temperature_scales_the_noise_of_codes(cvae, source):
    wide, narrow, none = (
        cvae.generate(labels={"x": 400}, source=source, temperature=t, seed=0).obsm["X_cvae"]
        for t in (2.0, 1.0, 0.0)
    )
    # the same draws, so that only the deviations from temperature 0 differ
    if source != "mixture":
        np.testing.assert_allclose(wide - none, 2 * (narrow - none), atol=1e-4)
    else:
        assert len(np.unique(none, axis=0)) <= 8
        assert wide.std(0).sum() > narrow.std(0).sum() > none.std(0).sum()


def test_genes_are_those_of_the_whole_in_the_order_asked(vae):
    whole = vae.generate(20, seed=3, output="mean")
    part = vae.generate(20, seed=3, output="mean", genes=["gene7", "gene2"])
    assert list(part.var_names) == ["gene7", "gene2"]
    np.testing.assert_array_equal(part.X, whole[:, ["gene7", "gene2"]].X)


def test_output_counts_is_for_counts(vae, ae):
    np.testing.assert_array_equal(
        vae.generate(9, output="counts").X.toarray(), vae.generate(9, output="sample").X.toarray()
    )
    with pytest.raises(DataError, match="output='counts' needs a model of counts"):
        ae.generate(3, output="counts")


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_cells_on_disk_are_those_in_memory(vae, tmp_path, suffix):
    path = vae.generate(50, seed=1, chunk_size=16, out=tmp_path / f"new.{suffix}")
    read = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    new = vae.generate(50, seed=1, chunk_size=16)
    np.testing.assert_array_equal(read.X.toarray(), new.X.toarray())
    np.testing.assert_array_equal(read.obsm["X_vae"], new.obsm["X_vae"])
    pd.testing.assert_frame_equal(read.obs, new.obs, check_dtype=False)
    assert read.uns["latentcell"] == new.uns["latentcell"]
    with pytest.raises(DataError, match="exists; delete it first"):
        vae.generate(5, out=path)
    if suffix == "h5ad":
        backed = ad.read_h5ad(path, backed="r")
        assert backed.X[:].sum() == new.X.sum()
        backed.file.close()


def test_a_broken_draw_leaves_no_file(vae, tmp_path, monkeypatch):
    def write(group, blocks, shape):
        next(blocks)
        raise OSError("disk full")

    monkeypatch.setattr(_streams, "_write_x", write)
    with pytest.raises(OSError, match="disk full"):
        vae.generate(50, chunk_size=10, out=tmp_path / "new.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_the_callers_random_state_is_left_alone(vae):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    vae.generate(5, source="mixture")
    vae.decode(np.zeros((2, 2)), batch="p", output="sample")
    assert torch.equal(torch.rand(1), expected)


def test_cells_of_unknown_label_are_templates_like_others():
    adata = cells()
    adata.obs["kind"] = adata.obs["kind"].cat.add_categories("?")
    adata.obs.loc[adata.obs_names[:120], "kind"] = "?"
    lc.model.VAE.setup_anndata(adata, labels_key="kind", unlabeled_category="?")
    model = lc.model.VAE(adata, n_latent=2, hidden=(8,))
    model.train(2, **QUICK)
    for source in ("posterior", "mixture"):
        new = model.generate(1000, source=source)
        assert new.obs["kind"].isna().mean() == pytest.approx(0.5, abs=0.06)
        assert set(new.obs["kind"].dropna()) == {"x", "y"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 0}, "n_cells must be at least 1"),
        ({"source": "mean"}, "source must be one of"),
        ({"output": "median"}, "output must be one of"),
        ({"batch": "r"}, "'r' is not a batch"),
        ({"library_size": "own"}, "library_size must be 'sample'"),
        ({"n_cells": 3, "library_size": np.ones(2)}, r"one per new cell \(3\)"),
        ({"library_size": -1.0}, "library_size must be positive"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ({"genes": ["gene1", "geneX"]}, r"does not have these genes: \['geneX'\]"),
        ({"out": "new.csv"}, r"must end in \.h5ad or \.zarr"),
        ({"labels": {"z": 3}}, r"labels: 'z' unknown to the model; it knows \['x', 'y'\]"),
        ({"labels": {"x": 1.5}}, "the number of 'x' must be a whole number"),
        ({"n_cells": 5, "labels": {"x": 3}}, "n_cells=5, but labels name 3 cells"),
        ({"labels": {"x": 3}, "source": "prior"}, "do not steer codes from the prior in this VAE; use CVAE"),
    ],
)
def test_generation_names_what_does_not_fit(vae, arguments, message):
    with pytest.raises(DataError, match=message):
        vae.generate(**arguments)


def test_what_steers_nothing_is_left_out_or_refused(vae):
    assert list(vae.generate(2, labels="y").obs["kind"]) == ["y", "y"]
    assert "kind" not in vae.generate(2, source="prior").obs
    plain = train(setup={"batch_key": None, "labels_key": None}, epochs=1)
    with pytest.raises(DataError, match=r"labels need a model with setup_anndata\(labels_key="):
        plain.generate(labels={"x": 3})
    with pytest.raises(DataError, match=r"batch needs a model with setup_anndata\(batch_key="):
        plain.generate(3, batch="p")


# --- codes given by hand ---


def test_decoded_codes_are_the_models_reconstruction(vae):
    z, adata = vae.get_latent_representation(), vae.adata
    depth = np.asarray(adata.X.sum(1)).ravel()
    new = vae.decode(z, batch=adata.obs["plate"], labels=adata.obs["kind"], library_size=depth)
    np.testing.assert_allclose(new.X, vae.get_denoised(), rtol=1e-4)
    assert list(new.obs["plate"]) == list(adata.obs["plate"])
    assert list(new.obs["kind"]) == list(adata.obs["kind"])
    np.testing.assert_array_equal(new.obsm["X_vae"], z)
    median = vae.decode(z[:3], batch="p")
    np.testing.assert_allclose(median.X.sum(1), np.median(depth), rtol=1e-4)
    drawn = vae.decode(np.repeat(z[:1], 4000, axis=0), batch="p", output="counts", seed=2)
    np.testing.assert_allclose(
        np.asarray(drawn.X.mean(0)).ravel(), vae.decode(z[:1], batch="p").X[0], rtol=0.08
    )


def test_decode_needs_what_the_model_is_told(cvae):
    z = np.zeros((2, 2))
    with pytest.raises(DataError, match=r"told 'plate': pass batch=, one of \['p', 'q'\]"):
        cvae.decode(z, labels="x")
    with pytest.raises(DataError, match=r"told 'kind': pass labels=, one of \['x', 'y'\]"):
        cvae.decode(z, batch="p")
    with pytest.raises(DataError, match="batch: 'r' is unknown to the model"):
        cvae.decode(z, labels="x", batch=["p", "r"])
    with pytest.raises(DataError, match="labels has 3 entries for 2 cells"):
        cvae.decode(z, labels=["x", "y", "x"], batch="p")
    with pytest.raises(DataError, match=r"z must be cells x 2 \(n_latent\), its shape is \(2, 3\)"):
        cvae.decode(np.zeros((2, 3)), labels="x", batch="p")
    with pytest.raises(DataError, match="not finite, first in row 1"):
        cvae.decode(np.array([[0, 0], [np.nan, 0]]), labels="x", batch="p")
    with pytest.raises(DataError, match=r"covariates must give a value for each of \[\], got \['age'\]"):
        cvae.decode(z, labels="x", batch="p", covariates={"age": 1.0})


def test_decode_is_told_further_covariates():
    setup = {"categorical_covariate_keys": ["kind"], "continuous_covariate_keys": ["age"], "labels_key": None}
    model = train(setup=setup)
    z = model.get_latent_representation()[:4]
    rest = {"batch": "p", "library_size": 100.0}
    x = model.decode(z, covariates={"kind": "x", "age": 40.0}, **rest)
    y = model.decode(z, covariates={"kind": list("yyyy"), "age": np.full(4, 40.0)}, **rest)
    assert is_x(x).sum() > is_x(y).sum()
    assert list(y.obs["kind"]) == list("yyyy")
    assert list(y.obs["age"]) == [40.0] * 4
    with pytest.raises(DataError, match=r"value for each of \['kind', 'age'\], got \['kind'\]"):
        model.decode(z, covariates={"kind": "x"}, **rest)
    with pytest.raises(DataError, match="'age' must be a finite number"):
        model.decode(z, covariates={"kind": "x", "age": np.nan}, **rest)


def test_interpolation_goes_straight_between_labels_cells_and_codes(vae):
    z, kind = vae.get_latent_representation(), vae.adata.obs["kind"]
    path = vae.interpolate("x", "y", steps=5, batch="p")
    mean = {name: z[kind == name].mean(0) for name in "xy"}
    expected = mean["x"] + np.linspace(0, 1, 5)[:, None] * (mean["y"] - mean["x"])
    np.testing.assert_allclose(path.obsm["X_vae"], expected, atol=1e-5)
    assert list(path.obs["step"]) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert list(is_x(path)[[0, -1]]) == [True, False]
    between = vae.interpolate("cell3", z[7], steps=2, batch="p")
    np.testing.assert_allclose(between.obsm["X_vae"], z[[3, 7]], atol=1e-5)
    with pytest.raises(DataError, match="start='z' is neither a label of the model"):
        vae.interpolate("z", "y", batch="p")
    with pytest.raises(DataError, match="steps must be at least 2"):
        vae.interpolate("x", "y", steps=1, batch="p")


def test_traversal_moves_one_dimension(vae):
    z = vae.get_latent_representation()
    new = vae.traverse(1, batch="p")
    moved = new.obsm["X_vae"]
    np.testing.assert_allclose(moved[:, 0], z[:, 0].mean(), atol=1e-5)
    np.testing.assert_allclose(moved[[0, -1], 1], np.percentile(z[:, 1], [1, 99]), atol=1e-5)
    np.testing.assert_allclose(new.obs["value"], moved[:, 1])
    at = vae.traverse(0, [-1.0, 1.0], at="cell5", batch="q")
    np.testing.assert_allclose(at.obsm["X_vae"], [[-1, z[5, 1]], [1, z[5, 1]]], atol=1e-5)
    with pytest.raises(DataError, match="dim=2: the model's dimensions are 0 to 1"):
        vae.traverse(2, batch="p")


# --- what is remembered of training cells ---


def test_a_sample_of_many_cells_keeps_shares_and_rare_labels(monkeypatch):
    monkeypatch.setattr(_templates, "MOST_TEMPLATES", 100)
    monkeypatch.setattr(_templates, "FEWEST_PER_STRATUM", 10)
    labels = np.repeat([0, 1, 2], [900, 95, 5])[:, None]
    rows = np.arange(1000)
    chosen, weight = _templates.sample_rows({"labels": labels}, rows, np.random.default_rng(0))
    assert len(chosen) < 120
    assert len(np.unique(chosen)) == len(chosen)
    for code, n in enumerate([900, 95, 5]):
        mine = labels[chosen, 0] == code
        assert weight[mine].sum() == pytest.approx(n)
        assert mine.sum() >= min(n, 9)


def test_draws_follow_the_weights_of_templates(monkeypatch):
    monkeypatch.setattr(_templates, "MOST_TEMPLATES", 60)
    model = train(epochs=2)
    assert len(model.templates_) < 240
    for source in ("posterior", "mixture"):
        new = model.generate(3000, source=source)
        assert (new.obs["kind"] == "x").mean() == pytest.approx(1 / 3, abs=0.03)
    assert model.generate().n_obs == 240


def test_no_template_serves_twice_before_all_did_once():
    rows, rng = np.arange(5, 12), np.random.default_rng(0)
    counts = np.bincount(_generation._draw(rows, np.ones(20), 17, rng), minlength=20)[5:12]
    assert counts.sum() == 17
    assert set(counts) == {2, 3}
    weight = np.ones(20)
    weight[5] = 3.0
    drawn = np.concatenate([_generation._draw(rows, weight, 6, rng) for _ in range(3000)])
    np.testing.assert_allclose(np.bincount(drawn)[5:12] / len(drawn), weight[5:12] / 9, atol=0.01)


def test_mixtures_keep_the_distribution_of_library_sizes_and_their_tie_to_the_code(vae):
    depth = np.asarray(vae.adata.X.sum(1)).ravel()
    new = vae.generate(4000, source="mixture", seed=0)
    for kind in "xy":
        drawn = new.obs["library_size"][new.obs["kind"] == kind]
        assert stats.ks_2samp(drawn, depth[vae.adata.obs["kind"] == kind]).statistic < 0.05
    scores = _sources._normal_scores(np.array([5.0, 1.0, 3.0, 7.0]), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(scores, stats.norm.ppf([5 / 6, 1 / 6, 0.5, 0.5]))


def test_only_training_cells_are_templates():
    adata = cells()
    lc.model.VAE.setup_anndata(adata)
    model = lc.model.VAE(adata, n_latent=2, hidden=(8,))
    model.train(1, train_size=0.5, shuffle_set_split=False, **QUICK)
    assert len(model.templates_) == 120
    depth = np.asarray(adata.X.sum(1)).ravel()
    assert set(model.templates_.library) == set(depth[:120])


# --- mixtures ---


def test_mixtures_recover_normal_components():
    rng = np.random.default_rng(0)
    roots = np.array([[[1.0, 0.0], [0.9, 0.3]], [[0.5, 0.0], [-0.4, 0.5]]])
    centres = np.array([[-5.0, 0.0], [5.0, 3.0]])
    x = np.concatenate(
        [c + rng.standard_normal((n, 2)) @ r.T for c, r, n in zip(centres, roots, (600, 300), strict=True)]
    )
    mixture = fit_mixtures(x, np.zeros(900, dtype=int), 0)[0]
    assert len(mixture.weights) == 2
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(mixture.weights[order], [2 / 3, 1 / 3], atol=0.01)
    np.testing.assert_allclose(mixture.means[order], centres, atol=0.15)
    found = mixture.roots[order] @ mixture.roots[order].transpose(0, 2, 1)
    np.testing.assert_allclose(found, roots @ roots.transpose(0, 2, 1), atol=0.12)
    drawn = mixture.sample(20_000, 1.0, rng)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), rtol=0.05)
    assert stats.ks_2samp(drawn[:, 0], x[:, 0]).statistic < 0.05
    still = mixture.sample(100, 0.0, rng)
    assert {tuple(row) for row in still} == {tuple(row) for row in mixture.means}


def test_labels_of_few_cells_borrow_the_common_spread():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 2, (500, 3)), [[9.0, 9.0, 9.0]]])
    mixture = fit_mixtures(x, np.repeat([0, 1], [500, 1]), 0)[1]
    np.testing.assert_array_equal(mixture.means, [[9.0, 9.0, 9.0]])
    variance = np.diag(mixture.roots[0]) ** 2
    np.testing.assert_allclose(variance, 5 / 6 * (x.var(0) + 1e-6), rtol=1e-6)


def test_labels_that_are_numbers_are_names_too_and_come_before_cells_of_their_name():
    adata = make_cells()
    adata.obs["kind"] = pd.Categorical(np.arange(adata.n_obs) % 3)
    adata.obs_names = [str(i) for i in range(adata.n_obs)]
    lc.model.CVAE.setup_anndata(adata, labels_key="kind")
    model = lc.model.CVAE(adata, n_latent=2, hidden=(8,))
    model.train(1, enable_progress_bar=False, accelerator="cpu")
    assert list(model.generate(3, labels=1).obs["kind"]) == [1, 1, 1]
    assert model.interpolate(0, 2, steps=3, labels=1).n_obs == 3
    assert model.traverse(0, [0.0, 1.0], at=1, labels=1).n_obs == 2
    adata.obs["text"] = adata.obs["kind"].astype(str)
    lc.model.VAE.setup_anndata(adata, labels_key="text")
    named = lc.model.VAE(adata, n_latent=2, hidden=(8,))
    named.train(1, enable_progress_bar=False, accelerator="cpu")
    groups = lc.tl.interpolate(adata, named, "0", "1", 3, groupby="text")
    codes = named.get_latent_representation()
    means = [codes[(adata.obs["text"] == name).to_numpy()].mean(axis=0) for name in "01"]
    np.testing.assert_allclose(
        groups.X, lc.tl.interpolate(adata, named, *means, 3, groupby="text").X, rtol=1e-4, atol=1e-5
    )
    assert named.interpolate("0", "1", steps=3).n_obs == 3
