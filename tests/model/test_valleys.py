"""Clusters with no valley of density between them are joined, others are not."""

import numpy as np
import pytest

from latentcell.model._valleys import merges


def blobs(distance, n=1500, seed=0):
    """Two normal clouds of variance 1, `distance` apart; the cloud of each cell."""
    rng = np.random.default_rng(seed)
    cloud = rng.integers(2, size=n)
    z = rng.normal(size=(n, 2))
    z[:, 0] += distance * cloud
    return z, cloud


@pytest.mark.parametrize("seed", range(5))
def test_a_cloud_cut_in_two_is_joined_and_two_clouds_are_not(seed):
    z, cloud = blobs(6.0, seed=seed)
    cut = 2 * cloud + (z[:, 1] > 0.3)
    pairs, heights = merges(z, cut)
    assert {frozenset(pair) for pair in pairs[:2].tolist()} == {frozenset((0, 1)), frozenset((2, 3))}
    assert (heights[:2] > 0.8).all()
    assert (heights[2:] < 0.4).all()
    sizes = np.bincount(cut)
    assert all(sizes[small] <= sizes[large] for small, large in pairs[:2])


def test_the_pass_is_the_density_between_two_clouds_over_that_of_their_summits():
    # in the middle of two equal clouds the density is 2 exp(-d^2 / 8) of a cloud's own
    for distance, seed in ((3.0, 1), (3.5, 2), (4.0, 3)):
        z, cloud = blobs(distance, n=20_000, seed=seed)
        _, heights = merges(z, (z[:, 0] > distance / 2).astype(int))
        expected = 2 * np.exp(-(distance**2) / 8) / (1 + np.exp(-(distance**2) / 2))
        assert heights[0] == pytest.approx(expected, rel=0.25)


def test_what_is_measured_in_other_units_or_turned_around_is_the_same():
    z, cloud = blobs(3.0, n=600)
    pairs, heights = merges(z, cloud)
    again, same = merges(z[::-1] * [100.0, 0.01] + 5, cloud[::-1])
    assert np.array_equal(pairs, again)
    np.testing.assert_allclose(heights, same, rtol=1e-4)


def test_far_clusters_rare_clusters_and_one_cluster_are_left_alone():
    z, cloud = blobs(60.0)
    assert merges(z, cloud)[0].shape == (0, 2)
    z, cloud = blobs(0.0)
    rare = np.where(np.arange(len(z)) < 4, 9, cloud)
    assert 9 not in merges(z, rare, min_cells=5)[0]
    assert len(merges(z, rare, min_cells=5)[0]) == 1
    assert merges(z, np.zeros(len(z), int))[1].shape == (0,)
    assert merges(np.zeros((40, 2)), np.arange(40) % 2)[1][0] == pytest.approx(1.0)  # all at one place
    assert merges(np.zeros((1, 2)), np.zeros(1, int))[1].shape == (0,)
