import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from latentcell._errors import DataError
from latentcell.metrics._factors import check_codes_and_factors, equal_width_bins, gaps


@pytest.fixture
def z(rng):
    return rng.normal(size=(20, 2))


def test_type_of_the_column_decides(z, rng):
    usage = rng.random(20) * (rng.random(20) < 0.2)
    usage[0] = 0.5
    factors = pd.DataFrame(
        {
            "usage": usage,
            "single": usage.astype(np.float32),
            "nullable": pd.array(usage, dtype="Float64"),
            "type": pd.Categorical(np.repeat(["T", "B"], 10), categories=["T", "B", "unused"]),
            "text": np.repeat(["x", "y"], 10),
            "coded": np.repeat([7, 3], 10),
            "cycling": np.tile([True, False], 10),
        }
    )
    read = {factor.name: factor for factor in check_codes_and_factors(z, factors)[1]}
    assert [name for name, factor in read.items() if not factor.is_discrete] == [
        "usage",
        "single",
        "nullable",
    ]
    np.testing.assert_array_equal(read["nullable"].values, usage)
    assert read["type"].levels == ("B", "T")
    np.testing.assert_array_equal(read["type"].values, np.repeat([1, 0], 10))
    np.testing.assert_array_equal(read["type"].members[:, 1], np.repeat([True, False], 10))
    assert read["coded"].levels == ("3", "7")
    assert read["cycling"].levels == ("False", "True")


def test_arrays_and_single_factors(z, rng):
    values, labels = rng.normal(size=(20, 3)), np.repeat(["a", "b"], 10)

    def names(factors):
        return [(factor.name, factor.is_discrete) for factor in check_codes_and_factors(z, factors)[1]]

    assert names(values) == [("factor_0", False), ("factor_1", False), ("factor_2", False)]
    assert names(values[:, 0]) == [("factor", False)]
    assert names(labels) == names(pd.Categorical(labels)) == names(labels.tolist()) == [("factor", True)]
    assert names(pd.Series(labels, name="type")) == [("type", True)]
    assert names(pd.Series(labels)) == [("factor", True)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[:19], "factors has 19 rows for 20 cells in z"),
        (lambda f: f[[]], "factors has no column"),
        (lambda f: f.rename(columns={"type": "usage"}), "several columns named 'usage'"),
        (lambda f: f.rename(columns={"usage": "all"}), "A factor is named 'all'"),
        (lambda f: f.assign(usage=0.25), r"factors\['usage'\] has the same value in all cells"),
        (lambda f: f.assign(type="T"), r"factors\['type'\] is 'T' in all cells"),
        (
            lambda f: f.assign(usage=[np.nan] + [1.0, 2.0] * 9 + [1.0]),
            r"factors\['usage'\] holds NaN .* rows 0",
        ),
        (lambda f: f.assign(usage=[np.inf] + [1.0, 2.0] * 9 + [1.0]), r"factors\['usage'\] holds NaN"),
        (
            lambda f: f.assign(type=[None] + ["T", "B"] * 9 + ["B"]),
            r"factors\['type'\] is missing for 1 cells",
        ),
        (lambda f: f.assign(type=["T"] * 16 + ["B"] * 4), "its level 'B' has 4 cells; at least 5"),
        (lambda f: f.assign(usage=np.arange(20)), r"'usage'\] is discrete.*factors\.astype\(float\)"),
        (lambda f: sparse.csr_matrix(np.eye(20)), "must be dense"),
        (lambda f: np.zeros((20, 2, 2)), r"its shape is \(20, 2, 2\)"),
    ],
)
def test_refuses(z, rng, change, message):
    factors = pd.DataFrame({"usage": rng.random(20), "type": np.repeat(["T", "B"], 10)})
    with pytest.raises(DataError, match=message):
        check_codes_and_factors(z, change(factors))


def test_refuses_codes_that_are_not_finite(z):
    z[3, 1] = np.nan
    with pytest.raises(DataError, match="z holds NaN or infinite values in 1 cells, first in rows 3"):
        check_codes_and_factors(z, np.arange(20.0))


def test_bins_are_those_of_numpys_histogram(rng):
    values = np.concatenate([rng.normal(size=200), np.zeros(50)])
    counts, edges = np.histogram(values, 20)
    bins = equal_width_bins(values, 20)
    np.testing.assert_array_equal(np.bincount(bins, minlength=20), counts)
    np.testing.assert_array_equal(bins, np.digitize(values, edges[:-1]) - 1)
    assert len(set(equal_width_bins(np.full(5, 0.1), 20))) == 1
    with pytest.raises(DataError, match="n_bins=1"):
        equal_width_bins(values, 1)


def test_gaps():
    values, dims = gaps(np.array([[0.2, 0.9], [0.5, 0.9], [0.4, 0.1]]))
    assert values.tolist() == pytest.approx([0.1, 0.0])
    assert dims.tolist() == [1, 0]
    assert gaps(np.array([[0.3, 0.0]]))[0].tolist() == [0.3, 0.0]
