"""Denoising in one call: what is written and where, what is left alone, what is refused before training."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError

QUICK = {"max_epochs": 2, "progress": False, "n_latent": 3, "hidden": (8,)}
COUNTS = QUICK | {"layer": "counts"}


@pytest.fixture
def cells():
    """60 cells x 24 genes: X as log1p, counts as a layer, some genes marked as variable, two batches."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 3.0, size=(3, 24))[np.arange(60) % 3]).astype(np.float32)
    counts[:, 0] += 1
    adata = ad.AnnData(np.log1p(counts))
    adata.obs_names = [f"cell{i}" for i in range(60)]
    adata.var_names = [f"gene{j}" for j in range(24)]
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.layers["mine"] = np.log1p(counts) * 2
    adata.obsm["X_mine"] = rng.normal(size=(60, 2))
    adata.var["highly_variable"] = np.arange(24) % 12 < 5
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(60) % 2])
    adata.obs["note"] = [f"note {i}" for i in range(60)]
    adata.uns["kept"] = "as it was"
    return adata


def slots(adata):
    parts = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns")
    return {(part, key) for part in parts for key in getattr(adata, part) if key is not None}


def assert_untouched(before, after):
    """Everything that `before` holds is in `after` to the bit."""
    assert slots(before) <= slots(after)
    np.testing.assert_array_equal(after.X, before.X)
    counts = after.layers["counts"]
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(counts, part), getattr(before.layers["counts"], part))
    np.testing.assert_array_equal(after.layers["mine"], before.layers["mine"])
    np.testing.assert_array_equal(after.obsm["X_mine"], before.obsm["X_mine"])
    pd.testing.assert_frame_equal(after.obs, before.obs)
    pd.testing.assert_frame_equal(after.var[list(before.var)], before.var)
    assert after.uns["kept"] == "as it was"


# --- what is written ---


@pytest.mark.parametrize("key", ["denoised", "smooth"])
def test_a_layer_is_written_and_nothing_else_is_touched(cells, key):
    before = cells.copy()
    model = lc.tl.denoise(cells, key_added=key, **COUNTS)
    assert slots(cells) - slots(before) == {("layers", key), ("uns", key)}
    assert_untouched(before, cells)
    assert type(model) is lc.model.DCA
    # all genes, whatever is marked as variable
    assert model.spec.genes == cells.var_names.tolist()
    values = cells.layers[key]
    assert values.shape == (60, 24)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, model.get_denoised())
    np.testing.assert_array_equal(values, model.get_denoised(before))


def test_values_are_expected_counts_at_the_depth_of_the_cell(cells):
    lc.tl.denoise(cells, **(COUNTS | {"max_epochs": 100}))
    denoised, counts = cells.layers["denoised"], cells.layers["counts"].toarray()
    np.testing.assert_allclose(denoised.sum(1), counts.sum(1), rtol=1e-4)
    # cells of the same kind come closer to each other, and keep their distance to the others
    kind = np.arange(60) % 3
    shares = {"raw": counts / counts.sum(1, keepdims=True), "new": denoised / denoised.sum(1, keepdims=True)}
    within = {name: np.mean([x[kind == k].var(0).sum() for k in range(3)]) for name, x in shares.items()}
    between = {
        name: np.var([x[kind == k].mean(0) for k in range(3)], axis=0).sum() for name, x in shares.items()
    }
    assert within["new"] < 0.5 * within["raw"]
    assert between["new"] > 0.3 * between["raw"]


def test_x_is_the_default_and_stays_as_it_is(cells):
    lc.tl.denoise(cells, **COUNTS)
    other = cells.copy()
    other.X = cells.layers["counts"].copy()
    lc.tl.denoise(other, **QUICK)
    np.testing.assert_array_equal(other.layers["denoised"], cells.layers["denoised"])
    assert other.uns["denoised"]["layer"] == "X"
    assert (other.X != cells.layers["counts"]).nnz == 0


def test_genes_give_a_frame_with_a_column_each(cells):
    before = cells.copy()
    genes = ["gene7", "gene2", "gene11"]
    model = lc.tl.denoise(cells, genes=genes, **COUNTS)
    assert slots(cells) - slots(before) == {("obsm", "denoised"), ("uns", "denoised")}
    assert_untouched(before, cells)
    frame = cells.obsm["denoised"]
    assert frame.columns.tolist() == genes
    assert frame.index.equals(cells.obs_names)
    assert (frame.dtypes == np.float32).all()
    # trained on all genes all the same
    assert len(model.spec.genes) == 24
    lc.tl.denoise(before, **COUNTS)
    np.testing.assert_array_equal(frame, before[:, genes].layers["denoised"])


def test_scales_are_conversions_of_each_other(cells):
    found = {}
    for scale in ("counts", "cp10k", "log1p"):
        lc.tl.denoise(cells, scale=scale, **COUNTS)
        found[scale] = cells.layers["denoised"]
        assert cells.uns["denoised"]["scale"] == scale
    depth = cells.layers["counts"].toarray().sum(1, keepdims=True)
    np.testing.assert_allclose(found["cp10k"].sum(1), 1e4, rtol=1e-4)
    np.testing.assert_allclose(found["counts"] * (1e4 / depth), found["cp10k"], rtol=1e-5)
    np.testing.assert_allclose(np.log1p(found["cp10k"]), found["log1p"], rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson"])
def test_likelihood(cells, likelihood):
    model = lc.tl.denoise(cells, gene_likelihood=likelihood, **COUNTS)
    assert model.gene_likelihood == likelihood
    assert cells.uns["denoised"]["gene_likelihood"] == likelihood


def test_also_dispersion_of_genes_is_a_column_of_var(cells):
    before = cells.copy()
    model = lc.tl.denoise(cells, also=["dispersion"], **COUNTS)
    new = {("layers", "denoised"), ("uns", "denoised"), ("var", "denoised_dispersion")}
    assert slots(cells) - slots(before) == new
    assert_untouched(before, cells)
    column = cells.var["denoised_dispersion"]
    assert column.dtype == np.float32
    assert (column > 0).all()
    np.testing.assert_array_equal(np.tile(column, (60, 1)), model.get_denoised(which="dispersion"))


def test_also_dispersion_of_cells_is_a_layer(cells):
    model = lc.tl.denoise(cells, also=["dispersion"], dispersion="gene-cell", **COUNTS)
    assert "denoised_dispersion" not in cells.var
    values = cells.layers["denoised_dispersion"]
    np.testing.assert_array_equal(values, model.get_denoised(which="dispersion"))
    assert (values.std(0) > 0).all()


def test_also_dropout_is_a_layer_of_probabilities(cells):
    also = ("dispersion", "dropout")
    model = lc.tl.denoise(cells, also=also, gene_likelihood="zinb", key_added="new", **COUNTS)
    values = cells.layers["new_dropout"]
    assert values.shape == (60, 24)
    assert values.min() > 0
    assert values.max() < 1
    np.testing.assert_array_equal(values, model.get_denoised(which="dropout"))
    assert "new_dispersion" in cells.var
    # not the same as the mean
    assert not np.allclose(values, cells.layers["new"])


def test_small_values_are_zeros_of_a_sparse_matrix(cells):
    lc.tl.denoise(cells, **COUNTS)
    dense = cells.layers["denoised"].copy()
    below = float(np.median(dense))
    lc.tl.denoise(cells, sparse_below=below, **COUNTS)
    values = cells.layers["denoised"]
    assert sparse.isspmatrix_csr(values) or isinstance(values, sparse.csr_array)
    assert values.dtype == np.float32
    assert values.nnz == (dense >= below).sum()
    np.testing.assert_array_equal(values.toarray(), np.where(dense < below, 0, dense))
    genes = ["gene3", "gene1"]
    lc.tl.denoise(cells, sparse_below=below, genes=genes, key_added="few", **COUNTS)
    np.testing.assert_array_equal(cells.obsm["few"], values[:, [3, 1]].toarray())


# --- to a file ---


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize(
    "arguments", [{}, {"genes": ["gene5", "gene1"], "scale": "log1p"}], ids=["all", "few"]
)
def test_a_file_holds_the_same_values_and_adata_stays_as_it_was(cells, tmp_path, suffix, arguments):
    before = cells.copy()
    out = tmp_path / f"denoised.{suffix}"
    model = lc.tl.denoise(cells, out=out, batch_key="batch", **arguments, **COUNTS)
    assert slots(cells) == slots(before)
    assert_untouched(before, cells)
    assert list(tmp_path.iterdir()) == [out]
    written = ad.read_h5ad(out) if suffix == "h5ad" else ad.read_zarr(out)
    assert written.var_names.tolist() == arguments.get("genes", cells.var_names.tolist())
    pd.testing.assert_frame_equal(written.obs, cells.obs)
    lc.tl.denoise(cells, batch_key="batch", **arguments, **COUNTS)
    expected = cells.obsm["denoised"] if "genes" in arguments else cells.layers["denoised"]
    np.testing.assert_array_equal(written.X, expected)
    np.testing.assert_array_equal(written.X, model.get_denoised(**arguments))
    assert written.uns["latentcell"]["scale"] == arguments.get("scale", "counts")


def test_a_sparse_file(cells, tmp_path):
    lc.tl.denoise(cells, out=tmp_path / "denoised.h5ad", sparse_below=1.0, **COUNTS)
    lc.tl.denoise(cells, sparse_below=1.0, **COUNTS)
    written = ad.read_h5ad(tmp_path / "denoised.h5ad").X
    assert sparse.issparse(written)
    assert (written != cells.layers["denoised"]).nnz == 0


# --- what decides ---


def test_seed_decides(cells):
    def values(seed):
        lc.tl.denoise(cells, seed=seed, **COUNTS)
        return cells.layers["denoised"]

    np.testing.assert_array_equal(values(1), values(1))
    assert not np.array_equal(values(1), values(2))


def test_batch_reaches_the_decoder(cells):
    model = lc.tl.denoise(cells, batch_key="batch", **(COUNTS | {"max_epochs": 20}))
    assert model.spec.batch == ["a", "b"]
    assert cells.uns["denoised"]["batch_key"] == "batch"
    a, b = (model.get_denoised(transform_batch=batch) for batch in "ab")
    assert np.abs(a - b).max() > 1e-3
    own = np.where((cells.obs["batch"] == "a").to_numpy()[:, None], a, b)
    np.testing.assert_allclose(cells.layers["denoised"], own, rtol=1e-6)


def test_backed_gives_the_same(cells, tmp_path):
    lc.tl.denoise(cells, **COUNTS)
    cells.X = cells.layers["counts"].copy()
    kept = cells.layers.pop("denoised")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lc.tl.denoise(backed, **QUICK)
    np.testing.assert_array_equal(backed.layers["denoised"], kept)
    backed.file.close()


def test_uns_says_what_was_done_and_survives_a_file(cells, tmp_path):
    model = lc.tl.denoise(cells, scale="cp10k", batch_key="batch", also=["dispersion"], seed=3, **COUNTS)
    record = cells.uns["denoised"]
    assert (record["model"], record["gene_likelihood"], record["scale"]) == ("DCA", "nb", "cp10k")
    assert (record["layer"], record["batch_key"], record["n_genes"]) == ("counts", "batch", 24)
    assert (record["n_epochs"], record["latentcell"]) == (2, lc.__version__)
    assert (record["params"]["n_latent"], record["params"]["seed"]) == (3, 3)
    assert "elbo_train" in record["final"] or "reconstruction_loss_train" in record["final"]
    for term, value in record["final"].items():
        assert value == model.history[term][term].iloc[-1]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert slots(again) == slots(cells)
    np.testing.assert_array_equal(again.layers["denoised"], cells.layers["denoised"])
    np.testing.assert_array_equal(again.var["denoised_dispersion"], cells.var["denoised_dispersion"])

    def same(before, after):
        if isinstance(before, dict):
            assert set(before) == set(after)
            for key in before:
                same(before[key], after[key])
        else:
            np.testing.assert_array_equal(before, after)

    same(record, again.uns["denoised"])


def test_a_frame_of_genes_survives_a_file(cells, tmp_path):
    lc.tl.denoise(cells, genes=["gene7", "gene2"], **COUNTS)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad").obsm["denoised"]
    pd.testing.assert_frame_equal(again, cells.obsm["denoised"])


def test_nothing_is_printed_without_progress(cells, capfd):
    lc.tl.denoise(cells, **COUNTS)
    assert capfd.readouterr() == ("", "")
    lc.tl.denoise(cells, **(COUNTS | {"progress": True}))
    out, err = capfd.readouterr()
    assert out == ""
    assert "Training DCA" in err


# --- refusals: before anything is trained, and with nothing written ---


@pytest.fixture
def no_training(monkeypatch):
    def train(*args, **kwargs):
        raise AssertionError("trained before it refused")

    monkeypatch.setattr(lc.model.DCA, "train", train)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": None}, "fractional values where counts are needed: cell 'cell"),
        ({"layer": "raw"}, r"layers has no 'raw'; there are \['counts', 'mine'\]"),
        ({"batch_key": "plate"}, r"obs has no 'plate' \(batch_key\)"),
        ({"gene_likelihood": "normal"}, "gene_likelihood must be one of .*'normal'"),
        ({"scale": "cpm"}, r"scale must be one of \('counts', 'cp10k', 'log1p'\), got 'cpm'"),
        ({"genes": ["gene1", "CD3D"]}, r"not in adata\.var_names: \['CD3D'\]"),
        ({"genes": "gene1"}, r"genes must be a list of names, .*\['gene1'\]"),
        ({"genes": []}, "genes is empty"),
        ({"genes": ["gene1", "gene2", "gene1"]}, r"genes names some twice: \['gene1'\]"),
        ({"also": ["mean"]}, r"also may name \('dispersion', 'dropout'\), got 'mean'"),
        ({"also": "dispersion"}, r"also must be a list of names, .*\['dispersion'\]"),
        ({"also": ["dropout"]}, "also='dropout' needs gene_likelihood='zinb'"),
        ({"also": ["dispersion"], "gene_likelihood": "poisson"}, "also='dispersion' needs .*'nb' or 'zinb'"),
        ({"also": ["dispersion"], "genes": ["gene1"]}, "with genes= or out= use the model"),
        ({"key_added": "counts"}, "key_added='counts' would replace the counts"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(cells, arguments, message):
    before = cells.copy()
    with pytest.raises(DataError, match=message):
        lc.tl.denoise(cells, **(COUNTS | arguments))
    assert slots(cells) == slots(before)
    assert_untouched(before, cells)


@pytest.mark.usefixtures("no_training")
def test_a_view_is_refused_with_the_fix(cells):
    with pytest.raises(DataError, match=r"view.*adata = adata\.copy\(\)"):
        lc.tl.denoise(cells[:30], **COUNTS)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("arguments", [{}, {"genes": ["gene1"]}], ids=str)
def test_what_is_no_anndata_is_refused(cells, arguments):
    with pytest.raises(DataError, match="an AnnData is needed, got ndarray"):
        lc.tl.denoise(cells.X, **arguments)


@pytest.mark.usefixtures("no_training")
def test_a_file_that_exists_is_kept(cells, tmp_path):
    out = tmp_path / "mine.h5ad"
    out.write_text("precious")
    with pytest.raises(DataError, match=r"mine\.h5ad' exists"):
        lc.tl.denoise(cells, out=out, **COUNTS)
    assert out.read_text() == "precious"
    with pytest.raises(DataError, match=r"must end in \.h5ad or \.zarr"):
        lc.tl.denoise(cells, out=tmp_path / "mine.csv", **COUNTS)
    with pytest.raises(DataError, match="there is no folder"):
        lc.tl.denoise(cells, out=tmp_path / "none" / "mine.h5ad", **COUNTS)
    with pytest.raises(DataError, match="with genes= or out= use the model"):
        lc.tl.denoise(cells, out=tmp_path / "new.h5ad", also=["dispersion"], **COUNTS)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.usefixtures("no_training")
def test_empty_cells_are_named(cells):
    counts = cells.layers["counts"].toarray()
    counts[8] = 0
    cells.layers["counts"] = counts
    with pytest.raises(DataError, match="1 cells without any counts: 'cell8'"):
        lc.tl.denoise(cells, **COUNTS)
