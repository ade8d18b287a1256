"""Codes of cells as dimensions: which are active, where each is on, and how they are named in arguments."""

import numpy as np
import pytest
from anndata import AnnData

from latentcell._codes import active_dims, checked_dims, where_on
from latentcell._errors import DataError


@pytest.fixture
def normal():
    """200 cells x 10 dimensions of variance 1."""
    codes = np.random.default_rng(0).normal(size=(200, 10))
    return (codes - codes.mean(0)) / codes.std(0)


def cells(**uns):
    return AnnData(np.zeros((200, 1)), uns=uns)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e-4])
def test_a_dimension_of_a_hundredth_of_the_variance_is_the_limit_at_any_scale(normal, scale):
    """Of the largest dimension below 1, of the prior's above: principal components differ more than that."""
    spread = np.ones(10)
    spread[2:4] = 0.09, 0.11
    expected = np.ones(10, dtype=bool)
    expected[2] = scale > 1
    np.testing.assert_array_equal(active_dims(cells(), "X_mine", scale * spread * normal), expected)


def test_under_a_unit_prior_all_dimensions_can_be_dead(normal):
    """Collapsed under a large weight of the KL: none is large, so that the largest is no yardstick."""
    codes = normal * np.linspace(0.02, 0.11, 10)
    known = cells(vae={"unit_prior": True})
    assert active_dims(known, "X_vae", codes).tolist() == [False] * 9 + [True]
    assert not active_dims(known, "X_vae", codes[:, :9]).any()
    assert not where_on(known, "X_vae", codes[:, :9]).any()
    for unknown in (cells(), cells(vae={"unit_prior": False}), cells(vae="a note")):
        assert active_dims(unknown, "X_vae", codes[:, 2:]).all()


def test_what_does_not_vary_or_is_switched_off_is_not_active(normal):
    normal[:, 1] = 0.1  # sums to a variance that is not quite 0
    adata = cells()
    assert np.flatnonzero(~active_dims(adata, "X_vsc", normal)).tolist() == [1]
    assert not active_dims(adata, "X_vsc", np.full((200, 2), 0.1)).any()
    adata.obsm["vsc_hard"] = np.where(normal > 1, normal, 0.0)
    adata.obsm["vsc_hard"][:, 4] = 0.0
    assert np.flatnonzero(~active_dims(adata, "X_vsc", normal)).tolist() == [1, 4]
    on = where_on(adata, "X_vsc", normal)
    np.testing.assert_array_equal(on, adata.obsm["vsc_hard"] != 0)


def test_dead_dimensions_do_not_make_others_sparse_and_are_on_nowhere(normal):
    expected = np.abs(normal - np.median(normal, axis=0)) > 1
    for dead in (np.zeros(200), 0.05 * normal[:, 3]):
        normal[:, 3] = dead
        expected[:, 3] = False
        np.testing.assert_array_equal(where_on(cells(), "X_mine", normal), expected)
    sparse = np.where(normal > 1, normal, 0.0)
    sparse[:, 3] = dead
    np.testing.assert_array_equal(where_on(cells(), "X_mine", sparse), (sparse != 0) & (np.arange(10) != 3))


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        (None, [0, 1, 2]),
        (1, [1]),
        (np.int64(2), [2]),
        (range(2), [0, 1]),
        (np.array([2, 0], dtype=np.int32), [2, 0]),
        ([np.int64(1)], [1]),
        ([False, True, True], [1, 2]),
        (np.array([True, False, True]), [0, 2]),
    ],
)
def test_dimensions_are_named_by_numbers_or_a_mask(dims, expected):
    found = checked_dims(dims, 3)
    assert found == expected
    assert all(type(dim) is int for dim in found)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([1.9], "by whole numbers"),
        (1.0, "by whole numbers"),
        ("1", "by whole numbers"),
        ([[0, 1]], "by whole numbers"),
        ([[0], [1, 2]], "by whole numbers"),
        ([True, 2], "by whole numbers"),
        ([0, 2, 0], "name each dimension once"),
        ([False, True], "the mask has 2 values, there are 3 dimensions"),
        (True, "the mask has 1 values"),
        ([False, False, False], "the dimensions are 0 to 2"),
        ([], "the dimensions are 0 to 2"),
        (3, "the dimensions are 0 to 2"),
        ([-1], "the dimensions are 0 to 2"),
    ],
)
def test_what_names_no_dimension_is_refused(dims, message):
    with pytest.raises(DataError, match=message):
        checked_dims(dims, 3)
