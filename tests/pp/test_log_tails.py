import numpy as np
import pytest
from scipy import stats

from latentcell.pp import _log_tails
from latentcell.pp._log_tails import chi2_quantile, log_f_sf

SIZES = [3, 89, 90, 2638, 100_000]


def upper(log_p, df):
    return chi2_quantile(log_p, df, upper=np.ones(log_p.shape, dtype=bool))


def lower(log_p, df):
    return chi2_quantile(log_p, df, upper=np.zeros(log_p.shape, dtype=bool))


@pytest.mark.parametrize("df", SIZES)
def test_agrees_with_scipy_where_nothing_underflows(df):
    x = np.exp(np.linspace(0, 30, 41) / np.sqrt(df))
    log_p = log_f_sf(x, df)
    np.testing.assert_allclose(log_p, stats.f.logsf(x, df, df), rtol=1e-9)
    np.testing.assert_allclose(log_p, stats.f.logcdf(1 / x, df, df), rtol=1e-9)
    np.testing.assert_allclose(upper(log_p, df), stats.chi2.isf(np.exp(log_p), df), rtol=1e-9)
    np.testing.assert_allclose(lower(log_p, df), stats.chi2.ppf(np.exp(log_p), df), rtol=1e-9)


@pytest.mark.parametrize("df", SIZES[1:])
def test_the_formulas_for_far_tails_agree_with_scipy_near_the_threshold(df, monkeypatch):
    x = np.exp(np.linspace(5, 40, 30) / np.sqrt(df))
    reference = stats.f.logsf(x, df, df)
    x, reference = x[reference > -650], reference[reference > -650]
    monkeypatch.setattr(_log_tails, "_LOG_SAFE", 0.0)
    np.testing.assert_allclose(log_f_sf(x, df), reference, rtol=1e-9)
    np.testing.assert_allclose(upper(reference, df), stats.chi2.isf(np.exp(reference), df), rtol=1e-9)
    np.testing.assert_allclose(lower(reference, df), stats.chi2.ppf(np.exp(reference), df), rtol=1e-9)


def test_closed_forms_far_below_the_smallest_float():
    x = np.array([1e220, 1e250, 1e300])
    np.testing.assert_allclose(log_f_sf(x, 2), -np.log1p(x), rtol=1e-14)
    log_p = np.array([-600.0, -1e4, -1e6])
    np.testing.assert_allclose(upper(log_p, 2), -2 * log_p, rtol=1e-12)
    # df = 4: P(X > x) = exp(-x / 2) (1 + x / 2); P(X < x) = x^2 / 8 for small x; P(F > x) = 3 y^2 - 2 y^3
    quantile = upper(log_p, 4)
    np.testing.assert_allclose(np.log1p(quantile / 2) - quantile / 2, log_p, rtol=1e-12)
    np.testing.assert_allclose(
        lower(np.array([-600.0, -700.0]), 4), np.sqrt(8 * np.exp([-600.0, -700.0])), rtol=1e-12
    )
    x = np.array([1e120, 1e150])
    np.testing.assert_allclose(log_f_sf(x, 4), np.log(3) - 2 * np.log1p(x), rtol=1e-12)


def test_order_is_kept_over_the_whole_range():
    x = np.exp(np.linspace(0.01, 8, 500))
    log_p = log_f_sf(x, 2638)
    assert log_p[-1] < -5000
    assert (np.diff(log_p) < 0).all()
    assert (np.diff(upper(log_p, 2637)) > 0).all()
    assert (np.diff(lower(log_p, 2637)) < 0).all()
