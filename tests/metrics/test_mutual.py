import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

import latentcell as lc
from latentcell._errors import DataError
from latentcell.metrics._mutual import information_of


@pytest.fixture
def data(rng):
    factors = pd.DataFrame(
        {"a": rng.random(300), "type": rng.integers(0, 4, 300), "b": rng.exponential(size=300).round(1)}
    )
    return factors.to_numpy(float) @ rng.normal(size=(3, 5)) + rng.normal(size=(300, 5)), factors


def reference(z, factors, n_bins):
    """Information (dimensions x factors) and entropies, from numpy's histogram and scikit-learn."""

    def binned(values):
        return np.digitize(values, np.histogram(values, n_bins)[1][:-1])

    columns = [binned(f) if f.dtype == float else f.to_numpy() for _, f in factors.items()]
    information = [[mutual_info_score(binned(x), f) for f in columns] for x in z.T]
    return np.array(information), np.array([mutual_info_score(f, f) for f in columns])


def test_information_by_hand():
    # P(a=0, b=0) = 1/2, P(a=1, b=0) = P(a=1, b=1) = 1/4: marginals 1/2, 1/2 and 3/4, 1/4
    a, b = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    by_hand = 0.5 * np.log(0.5 / 0.375) + 0.25 * np.log(0.25 / 0.375) + 0.25 * np.log(0.25 / 0.125)
    assert information_of(a, b) == pytest.approx(by_hand, abs=1e-15)
    assert information_of(a, a) == pytest.approx(np.log(2), abs=1e-15)
    assert information_of(a, np.array([0, 1, 0, 1])) == 0
    assert information_of(a, np.full(4, 3)) == 0


@pytest.mark.parametrize("n_bins", [2, 20])
def test_gap_is_the_formula(data, n_bins):
    z, factors = data
    information, entropy = reference(z, factors, n_bins)
    table = lc.metrics.mutual_information_gap(z, factors, n_bins=n_bins)
    for k, name in enumerate(factors):
        first, second = sorted(information[:, k])[:-3:-1]
        assert table.loc[name, "value"] == pytest.approx((first - second) / entropy[k], abs=1e-12)
        assert table.loc[name, "dim"] == information[:, k].argmax()


def test_modularity_is_the_formula(data):
    z, factors = data
    information, _ = reference(z, factors, 20)
    expected = []
    for m in information:
        k = m.argmax()
        expected.append(1 - sum(m[j] ** 2 for j in range(3) if j != k) / (m[k] ** 2 * 2))
    assert lc.metrics.modularity(z, factors) == pytest.approx(np.mean(expected), abs=1e-12)


def test_a_constant_dimension_tells_nothing(data):
    z, factors = data
    longer = np.column_stack([z, np.full(300, 0.1)])
    pd.testing.assert_frame_equal(
        lc.metrics.mutual_information_gap(longer, factors), lc.metrics.mutual_information_gap(z, factors)
    )
    assert lc.metrics.modularity(longer, factors) == pytest.approx(lc.metrics.modularity(z, factors) * 5 / 6)


def test_copies_have_no_gap_and_are_modular():
    factors = pd.DataFrame({"a": np.repeat([0, 1], 50), "b": np.tile([0, 1], 50)})
    perfect = factors.to_numpy(float)
    twice = np.hstack([perfect, -perfect])
    assert lc.metrics.mutual_information_gap(perfect, factors)["value"].tolist() == pytest.approx([1, 1])
    assert lc.metrics.mutual_information_gap(twice, factors)["value"].tolist() == [0, 0]
    assert lc.metrics.modularity(perfect, factors) == lc.metrics.modularity(twice, factors) == 1
    # one dimension only: the second information is 0
    assert lc.metrics.mutual_information_gap(perfect[:, :1], factors)["value"].tolist() == pytest.approx(
        [1, 0]
    )


def test_one_factor_has_no_modularity(data):
    assert np.isnan(lc.metrics.modularity(data[0], data[1][["a"]]))


@pytest.mark.parametrize("metric", [lc.metrics.mutual_information_gap, lc.metrics.modularity])
def test_refuses_one_bin(data, metric):
    with pytest.raises(DataError, match="n_bins=1 must be at least 2"):
        metric(*data, n_bins=1)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(order=st.permutations(range(4)), powers=st.lists(st.integers(-30, 30), min_size=4, max_size=4))
def test_order_and_scale_do_not_matter(order, powers):
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(60, 3))
    z = rng.normal(size=(60, 4)) + factors @ rng.normal(size=(3, 4))
    changed = (z * 2.0 ** np.array(powers))[:, order]
    before, after = (lc.metrics.mutual_information_gap(codes, factors) for codes in (z, changed))
    np.testing.assert_allclose(after["value"], before["value"], atol=1e-12)
    assert lc.metrics.modularity(changed, factors) == pytest.approx(
        lc.metrics.modularity(z, factors), abs=1e-12
    )
