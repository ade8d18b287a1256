"""What goes in: any matrix, rows in their order, genes by name; what cannot be used is refused by name."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError


def csr_with_wide_pointers(X):
    matrix = sparse.csr_matrix(X)
    matrix.indptr = matrix.indptr.astype(np.int64)
    return matrix


FORMATS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "float64": lambda X: X.astype(np.float64),
    "int64": lambda X: X.astype(np.int64),
    "csr": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "csr int32": lambda X: sparse.csr_matrix(X.astype(np.int32)),
    "csr wide pointers": csr_with_wide_pointers,
    "csc": sparse.csc_matrix,
    "csc_array": sparse.csc_array,
}
BACKED = {"backed dense": np.asarray, "backed csr": sparse.csr_matrix, "backed csc": sparse.csc_matrix}


@pytest.fixture(params=[*FORMATS, *BACKED])
def as_format(request, tmp_path):
    """Turns an AnnData into one with the same numbers in another kind of matrix."""
    opened = []

    def convert(adata):
        dense = adata.X.toarray()
        if request.param in FORMATS:
            return ad.AnnData(FORMATS[request.param](dense), obs=adata.obs.copy(), var=adata.var.copy())
        path = tmp_path / f"cells{len(opened)}.h5ad"
        ad.AnnData(BACKED[request.param](dense), obs=adata.obs.copy(), var=adata.var.copy()).write_h5ad(path)
        opened.append(ad.read_h5ad(path, backed="r"))
        return opened[-1]

    yield convert
    for adata in opened:
        adata.file.close()


# --- matrices ---


def test_every_kind_of_matrix_gives_the_same_codes(trained, new_cells, as_format):
    expected = trained.get_latent_representation(new_cells)
    other = as_format(new_cells)
    np.testing.assert_array_equal(trained.get_latent_representation(other), expected)
    rows = [50, 7, 20, 7]
    some = trained.get_latent_representation(other, indices=rows)
    np.testing.assert_allclose(some, expected[rows], rtol=1e-5, atol=1e-6)


def test_genes_of_every_kind_of_matrix_are_matched_by_name(trained, new_cells, as_format):
    expected = trained.get_latent_representation(new_cells)
    more = new_cells.copy()
    more.var_names = [f"other{j}" for j in range(more.n_vars)]
    both = ad.concat([new_cells, more], axis=1, merge="first")
    order = np.random.default_rng(0).permutation(both.n_vars)
    shuffled = as_format(both[:, order].copy())
    np.testing.assert_array_equal(trained.get_latent_representation(shuffled), expected)


def test_training_on_every_kind_of_matrix_gives_the_same_codes(make, as_format, codes_of_vsc):
    """One model stands for all: they share the loader."""
    model = make.train(lc.model.VSC, as_format(make.cells()))
    np.testing.assert_array_equal(model.get_latent_representation(), codes_of_vsc)


@pytest.fixture(scope="module")
def codes_of_vsc(make):
    return make.train(lc.model.VSC, make.cells()).get_latent_representation()


def test_layer_is_honoured_in_training_and_after(trained, make, Model, new_cells):
    def moved(adata):
        adata.layers["counts"] = adata.X
        adata.X = np.full(adata.shape, -1.0, dtype=np.float32)
        return adata

    model = make.train(Model, moved(make.cells()), keys={"layer": "counts"})
    assert model.gene_likelihood == "nb"
    expected = trained.get_latent_representation(new_cells)
    np.testing.assert_array_equal(model.get_latent_representation(moved(new_cells.copy())), expected)
    without_x = ad.AnnData(obs=new_cells.obs, var=new_cells.var, layers={"counts": new_cells.X})
    np.testing.assert_array_equal(model.get_latent_representation(without_x), expected)


@pytest.mark.parametrize(("layer", "name"), [(None, "nb"), ("unit", "bernoulli"), ("log", "normal")])
def test_likelihood_follows_from_the_matrix_unless_told(make, Model, any_data, cells, layer, name):
    assert make.build(Model, cells, keys={"layer": layer}).gene_likelihood == name
    assert (
        make.build(Model, cells, keys={"layer": layer}, gene_likelihood="normal").gene_likelihood == "normal"
    )


# --- rows ---


@pytest.mark.parametrize(
    "indices",
    [[50, 7, 20], (0, 54), [-1, 3, -55], [5, 5, 5], np.array([9, 2]), pd.Series([4, 1]), range(10, 5, -1)],
    ids=str,
)
def test_rows_come_in_the_order_asked_for(trained, new_cells, indices):
    whole = trained.get_latent_representation(new_cells)
    some = trained.get_latent_representation(new_cells, indices=indices)
    np.testing.assert_allclose(some, whole[list(indices)], rtol=1e-5, atol=1e-6)
    whole = trained.get_reconstruction(new_cells)
    some = trained.get_reconstruction(new_cells, indices=indices)
    np.testing.assert_allclose(some, whole[list(indices)], rtol=1e-5, atol=1e-6)


def test_boolean_mask_takes_its_rows(trained, new_cells):
    mask = np.zeros(55, dtype=bool)
    mask[[3, 40, 8]] = True
    some = trained.get_latent_representation(new_cells, indices=mask)
    np.testing.assert_allclose(some, trained.get_latent_representation(new_cells)[mask], rtol=1e-5, atol=1e-6)


def test_a_view_can_be_read_but_not_set_up(trained, Model, new_cells):
    view = new_cells[[30, 2]]
    expected = trained.get_latent_representation(new_cells)[[30, 2]]
    np.testing.assert_allclose(trained.get_latent_representation(view), expected, rtol=1e-5, atol=1e-6)
    assert view.is_view
    with pytest.raises(DataError, match=r"view .*adata = adata\.copy\(\)"):
        Model.setup_anndata(view)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([3, 55], "indices reach 55, but there are only 55 cells"),
        ([-56], "indices reach -56, but there are only 55 cells"),
        ([0.5], "integers"),
        (["cell1"], "integers"),
        ([[1, 2]], "list of cell positions"),
        (np.ones(54, dtype=bool), r"one entry per cell \(55\)"),
        ([], "no cells"),
        (np.zeros(55, dtype=bool), "no cells"),
    ],
    ids=str,
)
def test_rows_that_are_not_there_are_refused(trained, new_cells, indices, message):
    with pytest.raises(DataError, match=message):
        trained.get_latent_representation(new_cells, indices=indices)


# --- genes ---


def test_missing_genes_are_named(trained, new_cells):
    fewer = new_cells[:, 2:].copy()
    with pytest.raises(
        DataError, match="2 of the model's 20 genes are not in adata.var_names: 'gene0', 'gene1'"
    ):
        trained.get_latent_representation(fewer)


def test_repeated_gene_names_are_refused(trained, Model, cells, new_cells):
    for adata, use in ((cells, Model.setup_anndata), (new_cells.copy(), trained.get_latent_representation)):
        adata.var_names = ["same", "same", *adata.var_names[2:]]
        with pytest.raises(DataError, match=r"'same'; first call adata\.var_names_make_unique\(\)"):
            use(adata)


# --- values ---

BAD = {
    "nb": [
        (2.5, "fractional values where counts are needed: cell 'cell7', gene 'gene4': 2.5"),
        (-3.0, "negative values where counts are needed: cell 'cell7', gene 'gene4': -3"),
        (np.nan, "NaN or inf: cell 'cell7', gene 'gene4': nan"),
        (np.inf, "NaN or inf: cell 'cell7', gene 'gene4': inf"),
    ],
    "bernoulli": [
        (1.5, "values above 1 where all must lie within 0 and 1: cell 'cell7', gene 'gene4': 1.5"),
        (-0.5, "negative values where all must lie within 0 and 1: cell 'cell7', gene 'gene4': -0.5"),
        (np.nan, "NaN or inf: cell 'cell7', gene 'gene4': nan"),
    ],
    "normal": [(np.nan, "NaN or inf: cell 'cell7', gene 'gene4': nan"), (-np.inf, "NaN or inf: .*: -inf")],
}
LAYER = {"nb": None, "bernoulli": "unit", "normal": "log"}


@pytest.mark.parametrize(
    ("likelihood", "value", "message"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_matrix], ids=["dense", "csr"])
def test_values_that_the_likelihood_cannot_take_are_named(
    make, Model, any_data, cells, likelihood, value, message, to_format
):
    """Both before training and in cells to be embedded, whatever the order of genes."""
    layer = LAYER[likelihood]
    good = cells.X if layer is None else cells.layers[layer]
    spoilt = good.toarray() if sparse.issparse(good) else good.copy()
    spoilt[7, 4] = value
    where = "X" if layer is None else rf"layers\['{layer}'\]"

    def with_matrix(matrix):
        adata = cells.copy()
        if layer is None:
            adata.X = to_format(matrix)
        else:
            adata.layers[layer] = to_format(matrix)
        return adata

    with pytest.raises(DataError, match=f"{where} holds {message}"):
        make.build(Model, with_matrix(spoilt), keys={"layer": layer}, gene_likelihood=likelihood)
    model = make.build(Model, cells, keys={"layer": layer}, gene_likelihood=likelihood)
    model.is_trained_ = True
    with pytest.raises(DataError, match=f"{where} holds {message}"):
        model.get_latent_representation(with_matrix(spoilt)[:, ::-1].copy())


def test_nan_is_named_also_where_the_likelihood_is_still_to_be_chosen(make, Model, any_data, cells):
    cells.X[5, 1] = np.nan
    with pytest.raises(DataError, match="cell 'cell5', gene 'gene1': nan"):
        make.build(Model, cells)


def test_cells_without_counts_are_named(trained, make, Model, cells, new_cells):
    for adata, use in (
        (cells, lambda a: make.build(Model, a)),
        (new_cells.copy(), trained.get_latent_representation),
    ):
        adata.X = adata.X.toarray()
        adata.X[[4, 9]] = 0
        with pytest.raises(DataError, match=r"2 cells without any counts: 'cell4', 'cell9'\. .*filter_cells"):
            use(adata)


def test_cells_empty_in_the_models_genes_are_named(trained, new_cells):
    """Counts in other genes do not help: the model's depth would be 0."""
    other = new_cells.copy()
    other.var_names = [f"other{j}" for j in range(other.n_vars)]
    empty = new_cells.copy()
    empty.X = empty.X.toarray()
    empty.X[11] = 0
    both = ad.concat([other, empty], axis=1, merge="first")
    with pytest.raises(DataError, match="1 cells without any counts: 'cell11'"):
        trained.get_latent_representation(both)


def test_genes_that_are_not_the_models_may_hold_anything(trained, new_cells):
    other = new_cells.copy()
    other.X = np.full(other.shape, np.nan, dtype=np.float32)
    other.var_names = [f"other{j}" for j in range(other.n_vars)]
    both = ad.concat([other, new_cells], axis=1, merge="first")
    expected = trained.get_latent_representation(new_cells)
    np.testing.assert_array_equal(trained.get_latent_representation(both), expected)


def test_normal_and_bernoulli_models_take_empty_cells(make, Model, any_data, cells):
    for layer in ("unit", "log"):
        cells.layers[layer][3] = 0
        model = make.train(Model, cells.copy(), keys={"layer": layer}, max_epochs=1)
        assert np.isfinite(model.get_latent_representation()).all()


def test_unknown_likelihood_is_refused(make, Model, any_data, cells):
    with pytest.raises(DataError, match="gene_likelihood must be 'auto' or one of .*, got 'poison'"):
        make.build(Model, cells, gene_likelihood="poison")


@pytest.mark.parametrize("wrong", [{"dropout": 1.0}, {"input_dropout": 1.0}, {"input_dropout": -0.1}])
def test_shares_that_cannot_be_are_refused(make, Model, cells, wrong):
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got"):
        make.build(Model, cells, **wrong)


@pytest.mark.parametrize("wrong", [{"n_latent": 0}, {"hidden": (8, 0)}, {"n_latent": -1}])
def test_sizes_that_cannot_be_are_refused(make, Model, cells, wrong):
    with pytest.raises(DataError, match="n_latent and hidden must be positive"):
        make.build(Model, cells, **wrong)


# --- keys ---


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layer": "counts"}, r"layers has no 'counts'; there are \['log', 'unit'\]"),
        ({"batch_key": "plate"}, "obs has no 'plate' .*batch_key.*'batch'"),
        ({"labels_key": "kind"}, "obs has no 'kind' .*labels_key"),
        ({"size_factor_key": "depth"}, "obs has no 'depth' .*size_factor_key"),
        ({"size_factor_key": "label"}, "must hold numbers"),
        ({"categorical_covariate_keys": ["donor", "sex"]}, "obs has no 'sex' .*categorical_covariate_keys"),
        ({"continuous_covariate_keys": ["mood"]}, "obs has no 'mood' .*continuous_covariate_keys"),
        ({"continuous_covariate_keys": ["batch"]}, "must hold numbers"),
    ],
    ids=str,
)
def test_missing_keys_are_named_at_set_up(Model, cells, keys, message):
    with pytest.raises(DataError, match=message):
        Model.setup_anndata(cells, **keys)
    assert not [key for key in (*cells.obs, *cells.uns, *cells.obsm) if key.startswith("_scvi")]


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_size_factors_must_be_positive(Model, cells, value):
    cells.obs.loc["cell5", "size"] = value
    with pytest.raises(
        DataError, match="'size'.*size_factor_key.*(cell 'cell5'|missing for 1 cells, e.g. 'cell5')"
    ):
        Model.setup_anndata(cells, size_factor_key="size")


@pytest.mark.parametrize("key", ["batch", "donor", "age"])
def test_missing_values_are_named(Model, cells, make, with_covariates, new_cells, key):
    for adata, use in (
        (cells, lambda adata: Model.setup_anndata(adata, **make.KEYS)),
        (new_cells.copy(), with_covariates.get_latent_representation),
    ):
        adata.obs[key] = adata.obs[key].astype(object).where(np.arange(adata.n_obs) != 6, None)
        if key == "age":
            adata.obs[key] = adata.obs[key].astype(float)
        with pytest.raises(DataError, match=rf"obs\['{key}'\] .*missing for 1 cells, e.g. 'cell6'"):
            use(adata)


def test_unknown_categories_are_named_with_those_known(with_covariates, new_cells):
    stranger = new_cells.copy()
    stranger.obs["batch"] = stranger.obs["batch"].astype(str).replace("北京", "Bern")
    with pytest.raises(
        DataError, match=r"obs\['batch'\] holds 'Bern', unknown .*batch_key.*'Zürich', '北京'"
    ):
        with_covariates.get_latent_representation(stranger)
    stranger = new_cells.copy()
    stranger.obs["donor"] += 1
    with pytest.raises(DataError, match=r"obs\['donor'\] holds 1, 11, 21, 31, unknown .*0, 10, 20, 30"):
        with_covariates.get_latent_representation(stranger)
    without = new_cells.copy()
    del without.obs["batch"]
    with pytest.raises(DataError, match="obs has no 'batch'"):
        with_covariates.get_latent_representation(without)


def test_some_of_the_categories_in_another_order_are_understood(with_covariates, new_cells):
    expected = with_covariates.get_reconstruction(new_cells)
    one = new_cells[new_cells.obs["batch"] == "北京"].copy()
    one.obs["batch"] = pd.Categorical(one.obs["batch"].astype(str), categories=["北京", "neu", "Zürich"])
    at = np.flatnonzero(new_cells.obs["batch"] == "北京")
    np.testing.assert_allclose(with_covariates.get_reconstruction(one), expected[at], rtol=1e-5, atol=1e-6)
    one.obs["batch"] = one.obs["batch"].astype(str)  # text instead of categories
    np.testing.assert_allclose(with_covariates.get_reconstruction(one), expected[at], rtol=1e-5, atol=1e-6)


def test_two_models_live_on_one_anndata(make, Model, any_data, cells):
    """The second set-up overwrites scvi-tools' slots; the first model goes by its own keys."""
    first = make.train(Model, cells, keys={"batch_key": "batch"})
    before = first.get_reconstruction()
    make.train(lc.model.AE, cells, keys={"batch_key": "donor"})
    make.train(Model, cells, keys={"batch_key": "label", "layer": "log"})
    np.testing.assert_array_equal(first.get_reconstruction(), before)
    first.train(1, enable_progress_bar=False)
    assert np.isfinite(first.get_reconstruction()).all()


@pytest.mark.parametrize(
    "change", [lambda adata: adata.copy(), lambda adata: adata[:30]], ids=["copy", "view"]
)
def test_a_model_is_built_on_the_very_object_that_was_set_up(Model, cells, change):
    Model.setup_anndata(cells)
    with pytest.raises(ValueError, match="copy"):
        Model(change(cells))


def test_cells_that_are_not_set_up_are_refused(Model, cells):
    with pytest.raises(DataError, match=rf"not set up; first call {Model.__name__}\.setup_anndata"):
        Model(cells)
    with pytest.raises(DataError, match="needs an AnnData"):
        Model()
    with pytest.raises(DataError, match="an AnnData is needed, got ndarray"):
        Model.setup_anndata(cells.X.toarray())


# --- sizes ---

few_cells = pytest.mark.filterwarnings(
    "ignore:Category 0 .* has fewer than 3 cells:UserWarning"
)  # scvi-tools'


def test_no_cells_and_no_genes_are_refused(Model, cells, trained, new_cells):
    with pytest.raises(DataError, match="adata has no cells"):
        Model.setup_anndata(cells[:0].copy())
    with pytest.raises(DataError, match="adata has no genes"):
        Model.setup_anndata(cells[:, :0].copy())
    with pytest.raises(DataError, match="no cells to look at"):
        trained.get_latent_representation(new_cells[:0].copy())


@few_cells
def test_one_cell_is_refused_at_training_and_can_be_embedded(trained, make, Model, new_cells):
    alone = new_cells[:1].copy()
    with pytest.raises(DataError, match="training needs at least 2 cells, there are 1"):
        make.train(Model, alone)
    expected = trained.get_latent_representation(new_cells)[:1]
    np.testing.assert_allclose(trained.get_latent_representation(alone), expected, rtol=1e-5, atol=1e-6)


@few_cells
@pytest.mark.parametrize(("n_cells", "batch_size"), [(2, None), (3, 2), (17, 8), (9, 4)])
def test_a_last_batch_of_one_cell_works(make, Model, n_cells, batch_size):
    model = make.train(Model, make.cells(n_cells), train_arguments={"batch_size": batch_size})
    codes = model.get_latent_representation(batch_size=batch_size)
    assert codes.shape == (n_cells, 3)
    assert np.isfinite(codes).all()


@pytest.mark.parametrize("layer", [None, "unit", "log"])
def test_one_gene_works(make, Model, any_data, layer):
    model = make.train(Model, make.cells(n_genes=1), keys={"layer": layer})
    assert np.isfinite(model.get_latent_representation()).all()
    assert model.get_reconstruction().shape == (60, 1)


@pytest.mark.parametrize("layer", [None, "unit", "log"])
def test_genes_that_are_zero_everywhere_work(make, Model, any_data, cells, layer):
    for values in (cells.layers["unit"], cells.layers["log"]):
        values[:, 5:8] = 0
    cells.X = cells.X.toarray()
    cells.X[:, 5:8] = 0
    model = make.train(Model, cells, keys={"layer": layer}, max_epochs=20)
    assert np.isfinite(model.get_latent_representation()).all()
    reconstruction = model.get_reconstruction()
    assert np.isfinite(reconstruction).all()
    assert (
        np.abs(reconstruction[:, 5:8]).mean()
        < 0.25 * np.abs(np.delete(reconstruction, slice(5, 8), 1)).mean()
    )
    assert all(np.isfinite(frame.to_numpy()).all() for frame in model.history.values())


@pytest.mark.parametrize("batch_size", [0, -4])
def test_batches_must_hold_cells(trained, batch_size):
    with pytest.raises(DataError, match=f"batch_size must be at least 1, got {batch_size}"):
        trained.get_latent_representation(batch_size=batch_size)


def test_batch_size_below_two_is_refused_in_training(make, Model, cells):
    with pytest.raises(DataError, match="batch_size must be at least 2"):
        make.train(Model, cells, train_arguments={"batch_size": 1})
