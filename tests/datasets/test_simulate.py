import numpy as np
import pytest

import latentcell as lc
from latentcell._errors import DataError


def test_defaults_are_the_tutorials_sizes():
    adata = lc.datasets.simulate_groups()
    assert adata.shape == (90, 1000)
    assert adata.X.dtype == np.float32
    assert (adata.X >= 0).all()
    assert list(adata.obs["group"][:6]) == ["rare"] * 5 + ["group1"]
    assert list(adata.obs["parent_group"]) == ["group1"] * 30 + ["group2"] * 30 + ["group3"] * 30
    assert list(adata.var["marker_of"][:300:100]) == ["group1", "group2", "group3"]
    # R's genes 900:1000, counted from 1
    assert list(np.flatnonzero(adata.var["marker_of"] == "rare")) == list(range(899, 1000))
    assert adata.var["marker_of"].isna().sum() == 599


def test_background_is_the_clipped_normal():
    adata = lc.datasets.simulate_groups(n_cells=300)
    background = adata.X[:, (adata.var["marker_of"].isna()).to_numpy()]
    assert (background == 0).mean() == pytest.approx(0.1587, abs=0.003)  # P(N(5, 5) < 0)
    assert background.mean() == pytest.approx(5.4166, abs=0.03)  # 5 Phi(1) + 5 phi(1)


def test_a_marker_is_shifted_by_one_number_in_all_cells_of_its_group():
    adata = lc.datasets.simulate_groups(mean=100, sd=0, seed=3)
    X, var, obs = adata.X, adata.var, adata.obs
    for group in ("group1", "group2", "group3"):
        markers = (var["marker_of"] == group).to_numpy()
        cells = (obs["parent_group"] == group).to_numpy()
        expected = np.broadcast_to(100 + var["shift"].to_numpy()[markers], (30, 100))
        np.testing.assert_allclose(X[np.ix_(cells, markers)], expected, rtol=1e-6)
        np.testing.assert_array_equal(X[np.ix_(~cells, markers)], 100)
    shift = var["shift"][var["marker_of"].isin(["group1", "group2", "group3"])]
    assert shift.mean() == pytest.approx(10, abs=1)
    assert shift.std() == pytest.approx(5, abs=0.6)
    assert (var["shift"][var["marker_of"].isna()] == 0).all()


def test_rare_cells_are_raised_after_clipping():
    adata = lc.datasets.simulate_groups(mean=-3, sd=0, shift_mean=0, shift_sd=0)
    assert (adata.X[:5, 899:] == 10).all()
    assert (adata.X[5:] == 0).all()
    assert (adata.X[:, :899] == 0).all()


def test_rare_cells_differ_from_their_parent_in_their_markers_only():
    with_rare, without = (lc.datasets.simulate_groups(n_rare=n, seed=1) for n in (5, 0))
    difference = with_rare.X - without.X
    np.testing.assert_allclose(difference[:5, 899:], 10, rtol=1e-5)
    difference[:5, 899:] = 0
    assert not difference.any()
    assert "rare" not in without.obs["group"].cat.categories
    assert without.var["marker_of"].isna().sum() == 700


def test_markers_on_the_first_genes_as_in_VAExprs():
    adata = lc.datasets.simulate_groups(
        n_cells=100, n_rare=0, mean=1000, shift_mean=6, shift_sd=10, marker_base="first"
    )
    assert adata.shape == (300, 1000)
    shift = adata.var["shift"].to_numpy()
    for g in (1, 2):
        cells, markers = slice(g * 100, (g + 1) * 100), slice(g * 100, (g + 1) * 100)
        base = adata.X[cells, :100].astype(float)
        np.testing.assert_allclose(
            adata.X[cells, markers] - base, np.tile(shift[markers], (100, 1)), atol=1e-3
        )
    assert shift[:300].mean() == pytest.approx(6, abs=2)
    assert shift[:300].std() == pytest.approx(10, abs=1.5)


def test_seed_decides_and_no_global_state_is_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (lc.datasets.simulate_groups(seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(a.X, b.X)
    assert (a.X != c.X).mean() > 0.5
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_number_of_rare_markers():
    adata = lc.datasets.simulate_groups(n_rare_markers=7)
    assert (adata.var["marker_of"] == "rare").sum() == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_groups": 0}, "n_groups=0 must be at least 1"),
        ({"sd": -1}, "sd=-1 must be at least 0"),
        ({"n_rare": 30}, "n_rare=30 must be below n_cells=30"),
        ({"n_genes": 400}, "3 x 100 markers and 101 of the rare cells do not fit into n_genes=400"),
        ({"marker_base": "other"}, "marker_base='other' must be 'own' or 'first'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        lc.datasets.simulate_groups(**arguments)
