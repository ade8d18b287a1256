import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError


@pytest.fixture
def adata():
    return ad.AnnData(sparse.csr_matrix(np.array([[1.0, 0.0], [0.0, 3.0]])))


def test_counts_pass_in_X_and_in_a_layer(adata):
    lc.pp.check_counts(adata)
    adata.layers["raw"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    lc.pp.check_counts(adata, layer="raw")


def test_message_names_the_layer_the_cell_and_the_gene(adata):
    adata.layers["lognorm"] = np.log1p(adata.X)
    with pytest.raises(
        DataError, match=r"layers\['lognorm'\] holds fractional values.*cell '0', gene '0': 0.693147"
    ):
        lc.pp.check_counts(adata, layer="lognorm")


def test_unknown_layer_lists_the_layers(adata):
    with pytest.raises(DataError, match="layer='count' is not in adata.layers .there: none."):
        lc.pp.check_counts(adata, layer="count")
    adata.layers["counts"] = adata.X
    with pytest.raises(DataError, match="there: 'counts'"):
        lc.pp.check_counts(adata, layer="count")


def test_no_X():
    with pytest.raises(DataError, match="adata.X is None; name the layer"):
        lc.pp.check_counts(ad.AnnData(shape=(3, 2)))


def test_view_passes(adata):
    lc.pp.check_counts(adata[:1])
