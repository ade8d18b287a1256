"""A matrix that was changed under a model is noticed, one that only looks different is not."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError
from latentcell.model._mark import mark_of
from latentcell.testing import make_cells

FIXED = {"accelerator": "cpu", "enable_progress_bar": False}


def counts():
    rng = np.random.default_rng(0)
    return rng.poisson(2.0, size=(90, 20)).astype(np.float32)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asfortranarray])
@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_the_mark_is_that_of_the_values(kind, dtype):
    assert mark_of(kind(counts().astype(dtype))) == mark_of(counts())


def test_the_order_in_which_a_row_is_kept_and_explicit_zeros_do_not_count():
    found = sparse.csr_matrix(counts())
    shuffled = found.copy()
    for start, stop in zip(found.indptr[:-1], found.indptr[1:], strict=True):
        shuffled.data[start:stop] = found.data[start:stop][::-1]
        shuffled.indices[start:stop] = found.indices[start:stop][::-1]
    ends = np.append(found.indptr[:-1], found.indptr[-1] + 1)
    zeros = sparse.csr_matrix((np.append(found.data, 0), np.append(found.indices, 3), ends), found.shape)
    assert mark_of(shuffled) == mark_of(found) == mark_of(zeros)


@pytest.mark.parametrize("change", [np.log1p, lambda x: 2 * x, lambda x: x - x.mean(axis=0)])
def test_changed_values_change_the_mark(change):
    assert mark_of(change(counts())) != mark_of(counts())


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, bool, np.uint8])
def test_values_of_any_type_have_one(dtype):
    assert mark_of((counts() > 1).astype(dtype)) == mark_of((counts() > 1).astype(np.float32))
    assert mark_of(np.full((3, 2), 1e300)) is not None


def test_the_mark_of_no_cells_is_one():
    assert mark_of(np.zeros((0, 3))) == mark_of(sparse.csr_matrix((0, 3)))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_normalising_under_a_model_of_lc_tl_is_noticed(make):
    adata = ad.AnnData(make(counts()))
    model = lc.tl.vae(adata, max_epochs=1, n_latent=2, progress=False)
    codes = adata.obsm["X_vae"].copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    for use in (model.get_latent_representation, model.get_elbo, lambda: model.train(1, **FIXED)):
        with pytest.raises(DataError, match="X of the cells that this VAE was built with was changed since"):
            use()
    # cells as they were are read as ever
    np.testing.assert_allclose(
        model.get_latent_representation(ad.AnnData(make(counts()))), codes, rtol=1e-5, atol=1e-6
    )


def test_normalising_under_a_model_class_is_noticed_and_a_layer_stays():
    for layer in (None, "counts"):
        adata = make_cells()
        adata.layers["counts"] = adata.X.copy()
        lc.model.AE.setup_anndata(adata, layer=layer)
        model = lc.model.AE(adata, n_latent=2)
        model.train(1, **FIXED)
        codes = model.get_latent_representation()
        sc.pp.log1p(adata)
        if layer is None:
            with pytest.raises(DataError, match="changed since"):
                model.get_latent_representation(adata)
            model.attach(make_cells())
        np.testing.assert_array_equal(model.get_latent_representation(), codes)


def test_cells_that_are_filtered_in_place_can_still_be_read():
    adata = make_cells()
    lc.model.AE.setup_anndata(adata)
    model = lc.model.AE(adata, n_latent=2)
    model.train(1, **FIXED)
    codes = model.get_latent_representation()
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    keep = depth >= np.median(depth)
    sc.pp.filter_cells(adata, min_counts=np.median(depth))
    assert 0 < adata.n_obs < len(keep)
    np.testing.assert_array_equal(model.get_latent_representation(), codes[keep])
