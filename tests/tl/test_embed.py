"""One call: what is written, what is not, and that it goes through scanpy and a file."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError

TOOLS = {
    "ae": lc.tl.ae,
    "vae": lc.tl.vae,
    "vsc": lc.tl.vsc,
    "cvae": partial(lc.tl.cvae, labels_key="label"),
    "disentangledvae": lc.tl.disentangled_vae,
    "scvis": lc.tl.scvis,
    "vasc": lc.tl.vasc,
}
MODELS = {
    "ae": lc.model.AE,
    "vae": lc.model.VAE,
    "vsc": lc.model.VSC,
    "cvae": lc.model.CVAE,
    "disentangledvae": lc.model.DisentangledVAE,
    "scvis": lc.model.SCVIS,
    "vasc": lc.model.VASC,
}
OWN = {"scvis": "student_t", "vasc": "lossy"}
"""Models with a likelihood of their own, told what the cells are by ``data=``."""
QUICK = {"max_epochs": 2, "progress": False, "n_latent": 3, "hidden": (8,)}


@pytest.fixture
def cells():
    """60 cells x 24 genes: X as log1p, counts and 0-1 values as layers, 10 variable genes.

    Two batches, three labels.
    """
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 3.0, size=(3, 24))[np.arange(60) % 3]).astype(np.float32)
    counts[:, 0] += 1
    adata = ad.AnnData(np.log1p(counts))
    adata.obs_names = [f"cell{i}" for i in range(60)]
    adata.var_names = [f"gene{j}" for j in range(24)]
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.layers["unit"] = counts / counts.max()
    adata.var["highly_variable"] = np.arange(24) % 12 < 5
    adata.var["mine"] = np.arange(24) >= 20
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(60) % 2])
    adata.obs["label"] = pd.Categorical(np.array(["T", "B", "NK"])[np.arange(60) % 3])
    adata.uns["kept"] = "as it was"
    return adata


@pytest.fixture(params=TOOLS)
def name(request):
    return request.param


def slots(adata):
    parts = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns")
    return {(part, key) for part in parts for key in getattr(adata, part) if key is not None}


EXTRA = {
    "ae": set(),
    "vae": set(),
    "vsc": {("obsm", "hard"), ("obsm", "inclusion"), ("varm", "loadings")},
    "cvae": set(),
    "disentangledvae": set(),
    "scvis": {("obs", "log_likelihood")},
    "vasc": {("var", "dropout")},
}


def expected_slots(name, base):
    """What a call writes for ``key_added="X_<base>"`` (or "<base>")."""
    return {("uns", base)} | {(part, f"{base}_{what}") for part, what in EXTRA[name]}


# --- what is written ---


@pytest.mark.parametrize(("key_added", "base"), [(None, None), ("X_mine", "mine"), ("codes", "codes")])
def test_just_the_declared_slots_are_written(cells, name, key_added, base):
    before, known = cells.copy(), slots(cells)
    key = {} if key_added is None else {"key_added": key_added}
    TOOLS[name](cells, **key, **QUICK)
    key_added, base = key_added or f"X_{name}", base or name
    assert slots(cells) - known == {("obsm", key_added)} | expected_slots(name, base)
    assert known <= slots(cells)
    np.testing.assert_array_equal(cells.X, before.X)
    for layer in ("counts", "unit"):
        assert (cells.layers[layer] != before.layers[layer]).sum() == 0
    pd.testing.assert_frame_equal(cells.obs[before.obs.columns], before.obs)
    pd.testing.assert_frame_equal(cells.var[before.var.columns], before.var)
    assert cells.uns["kept"] == "as it was"


def test_what_is_written_is_what_the_returned_model_says(cells, name):
    model = TOOLS[name](cells, layer="counts", **QUICK)
    assert type(model) is MODELS[name]
    codes = cells.obsm[f"X_{name}"]
    assert codes.shape == (60, 3)
    assert codes.dtype == np.float32
    np.testing.assert_array_equal(codes, model.get_latent_representation())
    np.testing.assert_array_equal(codes, model.get_latent_representation(cells))
    if name == "vsc":
        np.testing.assert_array_equal(cells.obsm["vsc_inclusion"], model.get_inclusion_probability())
        np.testing.assert_array_equal(cells.obsm["vsc_hard"], model.get_latent_representation(hard=True))
        assert cells.obsm["vsc_inclusion"].dtype == cells.obsm["vsc_hard"].dtype == np.float32


def test_uns_says_what_was_done(cells, name):
    model = TOOLS[name](cells, layer="counts", batch_key="batch", seed=3, dropout=0.25, **QUICK)
    record = cells.uns[name]
    assert record["model"] == MODELS[name].__name__
    assert record["gene_likelihood"] == OWN.get(name, "nb")
    assert record["layer"] == "counts"
    assert record["n_genes"] == 10
    assert record["n_epochs"] == 2
    assert record["batch_key"] == "batch"
    assert record["latentcell"] == lc.__version__
    assert record["params"]["n_latent"] == 3
    assert record["params"]["dropout"] == 0.25
    assert record["params"]["seed"] == 3
    for term, value in record["final"].items():
        assert value == model.history[term][term].iloc[-1]
    assert "elbo_train" in record["final"]
    assert "batch_key" not in TOOLS[name](cells, **QUICK).adata.uns
    assert "batch_key" not in cells.uns[name]


def test_a_second_call_replaces_the_first(cells, name):
    TOOLS[name](cells, **QUICK)
    TOOLS[name](cells, layer="counts", **(QUICK | {"n_latent": 2}))
    assert cells.obsm[f"X_{name}"].shape == (60, 2)
    assert cells.uns[name]["gene_likelihood"] == OWN.get(name, "nb")


def test_loadings_are_zero_for_genes_that_were_not_used(cells):
    model = lc.tl.vsc(cells, decoder="linear", **QUICK)
    loadings = cells.varm["vsc_loadings"]
    used = cells.var["highly_variable"].to_numpy()
    assert loadings.shape == (24, 3)
    assert loadings.dtype == np.float32
    np.testing.assert_array_equal(loadings[used], model.get_loadings())
    assert (loadings[used] != 0).all()
    assert (loadings[~used] == 0).all()


def test_an_mlp_decoder_has_no_loadings_to_write(cells):
    lc.tl.vsc(cells, decoder="mlp", **QUICK)
    assert "vsc_loadings" not in cells.varm
    assert "vsc_hard" in cells.obsm


# --- what is used ---


@pytest.mark.parametrize(("layer", "likelihood"), [(None, "normal"), ("counts", "nb"), ("unit", "bernoulli")])
def test_likelihood_follows_from_the_matrix_and_an_argument_wins(cells, name, layer, likelihood):
    TOOLS[name](cells, layer=layer, **QUICK)
    assert cells.uns[name]["layer"] == (layer or "X")
    if name in OWN:
        assert cells.uns[name]["params"]["data"] == ("counts" if layer == "counts" else "values")
        assert cells.uns[name]["gene_likelihood"] == OWN[name]
        return
    assert cells.uns[name]["gene_likelihood"] == likelihood
    TOOLS[name](cells, layer=layer, gene_likelihood="normal", **QUICK)
    assert cells.uns[name]["gene_likelihood"] == "normal"


def test_new_cells_have_the_columns_of_var(cells, tmp_path):
    cells.var["symbol"] = [f"S{i}" if i % 3 else np.nan for i in range(24)]
    cells.var["biotype"] = pd.Categorical(["a", "b"] * 12)
    cells.var["means"] = np.arange(24.0)
    model = lc.tl.vae(cells, layer="counts", **QUICK)
    used = cells.var_names[cells.var["highly_variable"]]
    new = model.generate(7)
    pd.testing.assert_frame_equal(new.var, cells.var.loc[used])
    new.var["means"] = 0.0  # a copy: neither the model's nor the user's
    pd.testing.assert_frame_equal(model.generate(3, genes=used[:2]).var, cells.var.loc[used[:2]])
    assert cells.var["means"].tolist() == list(range(24))
    cells.var["later"] = 1  # the model has what there was when it was trained
    assert "later" not in model.generate(1).var

    new.write_h5ad(tmp_path / "new.h5ad")
    model.generate(7, out=tmp_path / "streamed.h5ad")
    for name in ("new", "streamed"):
        var = sc.read_h5ad(tmp_path / f"{name}.h5ad").var
        assert (
            var["symbol"].astype(object).fillna("").tolist()
            == cells.var.loc[used, "symbol"].fillna("").tolist()
        )
        assert list(var.columns) == [column for column in cells.var if column != "later"]

    model.save(tmp_path / "model", save_anndata=True)
    loaded = lc.model.VAE.load(tmp_path / "model")
    assert list(loaded.generate(2).var_names) == list(used)
    assert loaded.generate(2).var.shape == (10, 0)  # no cells, no columns
    loaded.attach(cells)
    pd.testing.assert_frame_equal(loaded.generate(2).var, cells.var.loc[used])


def test_columns_of_var_that_no_file_holds_are_not_in_new_cells(cells, tmp_path):
    held = ["highly_variable", "mine", "id", "n_cells", "known", "kind"]
    cells.var["id"] = [f"ENSG{i}" for i in range(24)]
    cells.var["n_cells"] = pd.array([1, None] * 12, dtype="Int64")
    cells.var["known"] = pd.array([True, None] * 12, dtype="boolean")
    cells.var["kind"] = pd.Categorical([1, 2] * 12)
    cells.var["a/b"] = 1
    cells.var[7] = 1
    cells.var["lists"] = [[1]] * 24
    cells.var["mixed"] = ["a", 1] * 12
    cells.var["date"] = pd.date_range("2020", periods=24)
    cells.var["range"] = pd.cut(np.arange(24), 3)
    cells.var["float"] = pd.array([0.5, None] * 12, dtype="Float64")
    cells.var["nothing"] = None
    cells.var["sparse"] = pd.arrays.SparseArray([0, 1] * 12)
    model = lc.tl.vae(cells, layer="counts", **QUICK)
    new = model.generate(3)
    assert list(new.var.columns) == held
    for suffix in ("h5ad", "zarr"):
        model.generate(3, out=tmp_path / f"new.{suffix}")
    new.write_h5ad(tmp_path / "again.h5ad")
    assert list(sc.read_h5ad(tmp_path / "new.h5ad").var.columns) == held
    model.save(tmp_path / "model", save_anndata=True)
    others = ["a/b", 7, "lists", "mixed", "date", "range", "float", "nothing", "sparse"]
    assert list(cells.var.columns[-9:]) == others


def test_columns_of_var_that_only_memory_holds_do_not_stop_training(cells, tmp_path):
    cells.var.index.name = "gene"
    cells.var["gene"] = [f"S{i}" for i in range(24)]  # a file has room for one of that name
    cells.var["_index"] = 1
    cells.var["n"] = 1
    cells.var.insert(0, "n", 2, allow_duplicates=True)
    model = lc.tl.vae(cells, layer="counts", mask_var=None, **QUICK)
    assert list(model.generate(3).var.columns) == ["highly_variable", "mine"]
    model.generate(3, out=tmp_path / "new.h5ad")
    assert list(sc.read_h5ad(tmp_path / "new.h5ad").var_names) == list(cells.var_names)


@pytest.mark.parametrize("kind", ["string", "arrow"])
def test_nullable_text_of_var_is_written_as_text(cells, kind, tmp_path):
    if kind == "arrow":
        kind = pd.ArrowDtype(pytest.importorskip("pyarrow").string())
    cells.var["id"] = pd.array([f"ENSG{i}" for i in range(24)], dtype=kind)
    model = lc.tl.vae(cells, layer="counts", mask_var=None, **QUICK)
    model.generate(3, out=tmp_path / "new.h5ad")
    assert list(sc.read_h5ad(tmp_path / "new.h5ad").var["id"]) == list(cells.var["id"])
    assert cells.var["id"].dtype == kind


@pytest.mark.parametrize(
    ("mask", "genes"),
    [
        ("auto", "highly_variable"),
        ("highly_variable", "highly_variable"),
        ("mine", "mine"),
        (None, None),
        (np.arange(24) >= 20, "mine"),
    ],
    ids=["auto", "named", "another", "none", "array"],
)
def test_genes_are_those_of_the_mask(cells, mask, genes):
    model = lc.tl.vae(cells, mask_var=mask, **QUICK)
    wanted = cells.var_names if genes is None else cells.var_names[cells.var[genes]]
    assert model.spec.genes == wanted.tolist()
    # and training on just those genes gives the same codes
    alone = cells[:, wanted].copy()
    lc.tl.vae(alone, mask_var=None, **QUICK)
    np.testing.assert_array_equal(alone.obsm["X_vae"], cells.obsm["X_vae"])


def test_auto_takes_all_genes_where_none_are_marked(cells):
    del cells.var["highly_variable"]
    assert len(lc.tl.vae(cells, **QUICK).spec.genes) == 24


def test_layer_is_the_matrix_used(cells, name):
    TOOLS[name](cells, layer="counts", **QUICK)
    other = cells.copy()
    other.X = other.layers.pop("counts")
    TOOLS[name](other, **QUICK)
    np.testing.assert_array_equal(other.obsm[f"X_{name}"], cells.obsm[f"X_{name}"])


def test_batch_reaches_the_decoder(cells):
    model = lc.tl.vae(cells, batch_key="batch", **(QUICK | {"max_epochs": 20}))
    assert model.spec.batch == ["a", "b"]
    swapped = cells.copy()
    swapped.obs["batch"] = swapped.obs["batch"].cat.rename_categories({"a": "b", "b": "a"})
    assert np.abs(model.get_reconstruction(swapped) - model.get_reconstruction(cells)).max() > 1e-3


def test_seed_decides(cells, name):
    def codes(seed):
        TOOLS[name](cells, seed=seed, **QUICK)
        return cells.obsm[f"X_{name}"]

    np.testing.assert_array_equal(codes(1), codes(1))
    assert not np.array_equal(codes(1), codes(2))


def test_dense_sparse_and_backed_give_the_same(cells, name, tmp_path):
    TOOLS[name](cells, **QUICK)
    expected = cells.obsm[f"X_{name}"].copy()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    cells.X = sparse.csc_matrix(cells.X)
    TOOLS[name](cells, **QUICK)
    np.testing.assert_array_equal(cells.obsm[f"X_{name}"], expected)
    for mask in ("auto", None):
        backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        in_memory = ad.read_h5ad(tmp_path / "cells.h5ad")
        for adata in (backed, in_memory):
            TOOLS[name](adata, mask_var=mask, key_added="X_again", **QUICK)
        np.testing.assert_array_equal(backed.obsm["X_again"], in_memory.obsm["X_again"])
        backed.file.close()


def test_nothing_is_printed_without_progress(cells, name, capfd):
    TOOLS[name](cells, **QUICK)
    assert capfd.readouterr() == ("", "")
    TOOLS[name](cells, **(QUICK | {"progress": True}))
    out, err = capfd.readouterr()
    assert out == ""
    assert f"Training {MODELS[name].__name__}" in err


# --- labels ---


def test_labels_are_told_to_encoder_and_decoder(cells):
    model = lc.tl.cvae(cells, "label", **(QUICK | {"max_epochs": 20}))
    assert model.spec.labels == ["B", "NK", "T"]
    assert cells.uns["cvae"]["labels_key"] == "label"
    assert "unlabeled_category" not in cells.uns["cvae"]
    other = cells.copy()
    other.obs["label"] = other.obs["label"].cat.rename_categories({"T": "B", "B": "T"})
    changed = (other.obs["label"] != cells.obs["label"]).to_numpy()
    codes = model.get_latent_representation(other)
    assert (np.abs(codes - cells.obsm["X_cvae"]).max(1) > 1e-3)[changed].all()
    np.testing.assert_allclose(codes[~changed], cells.obsm["X_cvae"][~changed], rtol=1e-5, atol=1e-6)
    change = np.abs(model.get_reconstruction(other) - model.get_reconstruction(cells)).max(1)
    assert (change[changed] > 1e-3).all()


def test_missing_column_of_labels_lists_the_columns(cells):
    before = slots(cells)
    with pytest.raises(
        DataError, match=r"obs has no 'kind' \(labels_key\); its columns are \['batch', 'label'\]"
    ):
        lc.tl.cvae(cells, "kind", **QUICK)
    with pytest.raises(DataError, match="CVAE needs labels"):
        lc.tl.cvae(cells, None, **QUICK)
    assert slots(cells) == before


def test_cells_without_a_label_are_named(cells):
    cells.obs["label"] = cells.obs["label"].astype(object)
    cells.obs.loc[["cell4", "cell7"], "label"] = np.nan
    before = slots(cells)
    with pytest.raises(DataError, match=r"'label'.*'cell4', 'cell7'"):
        lc.tl.cvae(cells, "label", **QUICK)
    assert slots(cells) == before


def test_cells_of_unknown_label_are_embedded_too(cells):
    cells.obs["label"] = cells.obs["label"].cat.add_categories("unknown")
    cells.obs.loc[["cell4", "cell7", "cell8"], "label"] = "unknown"
    before = cells.obs.copy()
    model = lc.tl.cvae(cells, "label", unlabeled_category="unknown", key_added="X_mine", **QUICK)
    assert model.spec.unlabeled_category == "unknown"
    record = cells.uns["mine"]
    assert (record["labels_key"], record["unlabeled_category"]) == ("label", "unknown")
    codes = cells.obsm["X_mine"]
    assert np.isfinite(codes).all()
    np.testing.assert_array_equal(codes, model.get_latent_representation())
    pd.testing.assert_frame_equal(cells.obs, before)


# --- what comes after ---


@pytest.mark.filterwarnings("ignore")  # scanpy's and its dependencies'
def test_scanpy_takes_over_and_everything_survives_a_file(cells, name, tmp_path):
    TOOLS[name](cells, layer="counts", batch_key="batch", **QUICK)
    sc.pp.neighbors(cells, use_rep=f"X_{name}", n_neighbors=10)
    sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert slots(again) == slots(cells)
    assert again.uns["neighbors"]["params"]["use_rep"] == f"X_{name}"
    for part in ("obsm", "varm"):
        for key, values in getattr(cells, part).items():
            np.testing.assert_array_equal(getattr(again, part)[key], values)

    def same(before, after):
        if isinstance(before, dict):
            assert set(before) == set(after)
            for key in before:
                same(before[key], after[key])
        else:
            np.testing.assert_array_equal(before, after)

    same(cells.uns[name], again.uns[name])


def test_schedules_and_presets_survive_a_file(cells, tmp_path):
    from latentcell.nn.schedules import Linear

    lc.tl.vae(cells, beta=Linear(0.0, 2.0), **QUICK)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    stored = ad.read_h5ad(tmp_path / "cells.h5ad").uns["vae"]["params"]["beta"]
    assert "Linear" in stored
    assert "2.0" in stored


# --- refusals ---


def test_a_view_is_refused_with_the_fix(cells, name):
    with pytest.raises(DataError, match=r"view.*adata = adata\.copy\(\)"):
        TOOLS[name](cells[:30], **QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "raw"}, r"layers has no 'raw'; there are \['counts', 'unit'\]"),
        ({"batch_key": "plate"}, r"obs has no 'plate' \(batch_key\)"),
        ({"mask_var": "hvg"}, r"var has no 'hvg' \(mask_var\)"),
        ({"mask_var": np.ones(5, dtype=bool)}, r"one boolean per gene \(24\)"),
        ({"mask_var": np.arange(24)}, r"one boolean per gene \(24\)"),
        ({"mask_var": np.zeros(24, dtype=bool)}, "mask_var selects no gene; mask_var=None takes all"),
        ({"mask_var": ["gene0", "gene3"]}, r"of names of genes, pass adata\.var_names\.isin\(names\)"),
        ({"gene_likelihood": "nb"}, "fractional values where counts are needed: cell 'cell"),
    ],
    ids=str,
)
def test_what_is_not_there_is_named_and_nothing_is_written(cells, name, arguments, message):
    before = slots(cells)
    if name in OWN and "gene_likelihood" in arguments:
        arguments = {"data": "counts"}
    with pytest.raises(DataError, match=message):
        TOOLS[name](cells, **(QUICK | arguments))
    assert slots(cells) == before


def test_what_is_no_anndata_is_refused(cells, name):
    with pytest.raises(DataError, match="an AnnData is needed, got ndarray"):
        TOOLS[name](cells.X)
    cells.var_names = ["same"] * 24
    with pytest.raises(DataError, match=r"not unique; first call adata\.var_names_make_unique"):
        TOOLS[name](cells)


def test_empty_cells_of_the_chosen_genes_are_named(cells, name):
    counts = cells.layers["counts"].toarray()
    counts[8, cells.var["highly_variable"]] = 0
    cells.layers["counts"] = counts
    with pytest.raises(DataError, match="1 cells without any counts: 'cell8'"):
        TOOLS[name](cells, layer="counts", **QUICK)


def test_the_column_that_marks_no_gene_is_named(cells):
    cells.var["highly_variable"] = False
    with pytest.raises(DataError, match=r"var\['highly_variable'\] \(mask_var\) selects no gene"):
        lc.tl.ae(cells, **QUICK)
