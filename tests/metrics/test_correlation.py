from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latentcell as lc


@pytest.fixture
def data(rng):
    """Codes that follow two continuous and two discrete factors somewhat."""
    factors = pd.DataFrame(
        {
            "a": rng.normal(size=90),
            "b": rng.random(90) * (rng.random(90) < 0.4),
            "condition": rng.permutation(np.repeat(["control", "treated"], 45)),
            "type": rng.permutation(np.repeat(["B", "NK", "T"], [10, 30, 50])),
        }
    )
    numbers = factors.apply(
        lambda column: column if pd.api.types.is_numeric_dtype(column) else pd.factorize(column)[0]
    )
    return numbers.to_numpy(float) @ rng.normal(size=(4, 5)) + rng.normal(size=(90, 5)), factors


def correlation(x, factor):
    """|r|, or the square root of the variance of level means over the variance."""
    if factor.dtype == float:
        return abs(np.corrcoef(x, factor)[0, 1])
    between = sum(
        (factor == level).mean() * (x[factor == level].mean() - x.mean()) ** 2 for level in set(factor)
    )
    return np.sqrt(between / x.var())


def test_best_is_a_loop_over_numpy(data):
    z, factors = data
    table = lc.metrics.best_correlation(z, factors)
    assert list(table.index) == list(factors)
    assert table.index.name == "factor"
    for name, factor in factors.items():
        r = [correlation(x, factor) for x in z.T]
        assert table.loc[name, "value"] == pytest.approx(max(r), abs=1e-12)
        assert table.loc[name, "dim"] == np.argmax(r)


def test_two_levels_are_pearsons_r(data):
    z, factors = data
    treated = factors["condition"] == "treated"
    r = [abs(np.corrcoef(x, treated)[0, 1]) for x in z.T]
    assert lc.metrics.best_correlation(z, treated).loc["condition", "value"] == pytest.approx(
        max(r), abs=1e-12
    )


@pytest.mark.parametrize("n_dims", [3, 4, 5])
def test_matching_is_the_best_of_all(data, n_dims):
    z, factors = data[0][:, :n_dims], data[1]
    r = np.array([[correlation(x, factor) for _, factor in factors.items()] for x in z.T])
    padded = np.vstack([r, np.zeros((max(0, 4 - n_dims), 4))])
    best = max(
        sum(padded[dim, k] for k, dim in enumerate(dims)) for dims in permutations(range(len(padded)), 4)
    )
    table = lc.metrics.matched_correlation(z, factors)
    assert table["value"].sum() == pytest.approx(best, abs=1e-12)
    matched = table.dropna()
    assert matched["dim"].is_unique
    assert len(matched) == min(n_dims, 4)
    for name, row in matched.iterrows():
        assert row["value"] == pytest.approx(r[row["dim"], list(factors).index(name)], abs=1e-12)
    assert (table.loc[table["dim"].isna(), "value"] == 0).all()


def test_two_factors_in_one_dimension(rng):
    factors = rng.normal(size=(5000, 2))
    z = np.stack([factors.sum(axis=1), rng.normal(size=5000)], axis=1)
    assert lc.metrics.best_correlation(z, factors)["value"].tolist() == pytest.approx(
        [0.5**0.5] * 2, abs=0.03
    )
    assert lc.metrics.best_correlation(z, factors)["dim"].tolist() == [0, 0]
    assert lc.metrics.matched_correlation(z, factors)["value"].min() < 0.05


def test_constant_dimensions_have_none(data):
    z, factors = data
    with_constant = np.column_stack([np.full(90, 0.1), z, np.zeros(90)])
    for metric in (lc.metrics.best_correlation, lc.metrics.matched_correlation):
        a, b = metric(z, factors), metric(with_constant, factors)
        np.testing.assert_array_equal(a["value"], b["value"])
        np.testing.assert_array_equal(a["dim"] + 1, b["dim"])
    assert (lc.metrics.best_correlation(np.full((90, 2), 0.1), factors)["value"] == 0).all()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(order=st.permutations(range(4)), scale=st.lists(st.floats(1e-200, 1e200), min_size=4, max_size=4))
def test_order_sign_and_scale_do_not_matter(order, scale):
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(40, 3))
    z = rng.normal(size=(40, 4)) + factors @ rng.normal(size=(3, 4))
    changed = (z * np.array(scale) * [1, -1, 1, -1])[:, order]
    for metric in (lc.metrics.best_correlation, lc.metrics.matched_correlation):
        before, after = metric(z, factors), metric(changed, factors)
        np.testing.assert_allclose(after["value"], before["value"], rtol=1e-9)
        assert [order[dim] for dim in after["dim"]] == before["dim"].tolist()
