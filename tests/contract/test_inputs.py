"""Arguments of the networks that say what goes in: the likelihood, shares and sizes."""

import numpy as np
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError
from latentcell.testing._inputs import FORMATS, in_format

# --- matrices ---


@pytest.fixture(scope="module")
def codes_of_vsc(make):
    return make.train(lc.model.VSC, make.cells()).get_latent_representation()


@pytest.mark.parametrize("name", FORMATS)
def test_training_on_every_kind_of_matrix_gives_the_same_codes(make, name, codes_of_vsc):
    """One model stands for all: they share the loader. The contract trains each on some of the kinds."""
    with in_format(make.cells(), name) as cells:
        model = make.train(lc.model.VSC, cells)
        np.testing.assert_array_equal(model.get_latent_representation(), codes_of_vsc)


@pytest.mark.parametrize(("layer", "name"), [(None, "nb"), ("unit", "bernoulli"), ("log", "normal")])
def test_likelihood_follows_from_the_matrix_unless_told(
    make, Model, any_data, any_likelihood, cells, layer, name
):
    assert make.build(Model, cells, keys={"layer": layer}).gene_likelihood == name
    assert (
        make.build(Model, cells, keys={"layer": layer}, gene_likelihood="normal").gene_likelihood == "normal"
    )


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
    make, Model, any_data, any_likelihood, cells, likelihood, value, message, to_format
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


def test_unknown_likelihood_is_refused(make, Model, any_data, any_likelihood, cells):
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
