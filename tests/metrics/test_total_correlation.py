import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latentcell as lc
from latentcell._errors import DataError


def with_covariance(covariance, rng, n_cells=50):
    """Codes whose sample covariance is exactly the one asked for."""
    x = rng.normal(size=(n_cells, len(covariance)))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / n_cells)).T @ np.linalg.cholesky(covariance).T


def test_two_dimensions_have_a_closed_form(rng):
    r = 0.8
    z = with_covariance(np.array([[4.0, 2 * 3 * r], [2 * 3 * r, 9.0]]), rng)
    assert lc.metrics.total_correlation(z) == pytest.approx(-0.5 * np.log(1 - r**2), abs=1e-10)


def test_is_the_formula_of_covariances(rng):
    z = rng.normal(size=(40, 4)) @ rng.normal(size=(4, 4))
    covariance = np.cov(z.T)
    formula = 0.5 * (np.log(np.diag(covariance)).sum() - np.log(np.linalg.det(covariance)))
    assert lc.metrics.total_correlation(z) == pytest.approx(formula, abs=1e-10)


def test_uncorrelated_copied_and_constant(rng):
    z = with_covariance(np.diag([1.0, 2.0, 3.0]), rng)
    assert lc.metrics.total_correlation(z) == pytest.approx(0, abs=1e-10)
    assert lc.metrics.total_correlation(np.hstack([z, z[:, :1] * -3])) == np.inf
    assert lc.metrics.total_correlation(np.column_stack([z, z.sum(axis=1)])) == np.inf
    mixed = z + z[:, [1, 2, 0]]
    assert lc.metrics.total_correlation(np.column_stack([mixed, np.full(50, 0.1)])) == pytest.approx(
        lc.metrics.total_correlation(mixed)
    )
    assert lc.metrics.total_correlation(z[:, :1]) == 0
    assert lc.metrics.total_correlation(np.ones((5, 2))) == 0


def test_fewer_cells_than_dimensions_depend_on_each_other(rng):
    assert lc.metrics.total_correlation(rng.normal(size=(4, 6))) == np.inf
    with pytest.raises(DataError, match="z has 1 cells"):
        lc.metrics.total_correlation(np.ones((1, 2)))


def test_by_chance(rng):
    mean = np.mean([lc.metrics.total_correlation(rng.normal(size=(500, 10))) for _ in range(20)])
    assert mean == pytest.approx(10 * 9 / (4 * 500), rel=0.15)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(order=st.permutations(range(4)), scale=st.lists(st.floats(1e-200, 1e200), min_size=4, max_size=4))
def test_order_and_scale_do_not_matter(order, scale):
    rng = np.random.default_rng(4)
    z = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4))
    changed = (z * np.array(scale))[:, order]
    assert lc.metrics.total_correlation(changed) == pytest.approx(lc.metrics.total_correlation(z), rel=1e-8)
