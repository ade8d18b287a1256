import warnings

import numpy as np
import pytest
from scipy.optimize import brentq

import latentcell as lc
from latentcell._errors import DataError


def slow_mixing(real, generated, k):
    """LISI cell by cell, the width of each kernel found by a root search."""
    X, is_real = np.vstack([real, generated]), np.arange(len(real) + len(generated)) < len(real)
    index = []
    for i in range(len(X)):
        distance = np.linalg.norm(X - X[i], axis=1)
        distance[i] = np.inf
        near = np.argsort(distance)[:k]

        def weights(log_beta, d=distance[near]):
            w = np.exp(-np.exp(log_beta) * (d - d.min()))
            return w / w.sum()

        def excess(log_beta, weights=weights):
            w = weights(log_beta)
            return -np.sum(w[w > 0] * np.log(w[w > 0])) - np.log(k / 3)

        w = weights(brentq(excess, -10, 10))
        p = w[is_real[near]].sum()
        index.append(1 / (p**2 + (1 - p) ** 2))
    return np.median(index) - 1


class TestNeighborMixing:
    @pytest.mark.parametrize("k", [6, 15])
    def test_is_the_loop_over_cells(self, rng, k):
        real, generated = rng.normal(size=(30, 3)), rng.normal(0.5, size=(25, 3))
        score = lc.metrics.neighbor_mixing(real, generated, n_neighbors=k)
        assert score == pytest.approx(slow_mixing(real, generated, k), abs=1e-6)

    def test_is_1_at_most_and_0_where_sets_lie_apart(self, rng):
        real, generated = rng.normal(size=(2, 400, 3))
        assert 0.85 < lc.metrics.neighbor_mixing(real, generated) < 1
        assert lc.metrics.neighbor_mixing(real, generated + 1) < 0.8
        assert lc.metrics.neighbor_mixing(real, generated + 100) == 0

    def test_order_and_places_do_not_matter(self, rng):
        real, generated = rng.normal(size=(60, 3)), rng.normal(0.5, size=(60, 3))
        score = lc.metrics.neighbor_mixing(real, generated, n_neighbors=20)
        assert lc.metrics.neighbor_mixing(generated[::-1], real, n_neighbors=20) == pytest.approx(score)

    def test_cells_at_one_point_are_mixed(self):
        assert lc.metrics.neighbor_mixing(np.zeros((10, 2)), np.zeros((10, 2))) == pytest.approx(1, abs=0.02)

    def test_of_three_neighbors_the_nearest_weighs_all(self, rng):
        """A perplexity of 1: every cell is among its own or among the others, and the index is 1."""
        real, generated = rng.normal(size=(2, 30, 3))
        assert lc.metrics.neighbor_mixing(real, generated, n_neighbors=3) == pytest.approx(0, abs=0.01)

    def test_refuses_few_neighbors(self, rng):
        with pytest.raises(DataError, match="n_neighbors=2 must be at least 3"):
            lc.metrics.neighbor_mixing(*rng.normal(size=(2, 10, 2)), n_neighbors=2)


class TestManifoldOverlap:
    @pytest.mark.parametrize("k", [1, 5])
    def test_agrees_with_prdc(self, rng, k, capsys):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prdc = pytest.importorskip("prdc")
        real, generated = rng.normal(size=(60, 4)), rng.normal(0.3, 0.7, size=(50, 4))
        expected = prdc.compute_prdc(real, generated, nearest_k=k)
        assert lc.metrics.manifold_overlap(real, generated, n_neighbors=k) == pytest.approx(expected)

    @pytest.mark.parametrize("k", [1, 3])
    def test_is_the_loop_over_balls(self, rng, k):
        real, generated = rng.normal(size=(30, 2)), rng.normal(0.5, size=(20, 2))
        radius = [np.sort(np.linalg.norm(real - x, axis=1))[k] for x in real]
        inside = np.array(
            [[np.linalg.norm(x - y) < r for y in generated] for x, r in zip(real, radius, strict=True)]
        )
        scores = lc.metrics.manifold_overlap(real, generated, n_neighbors=k)
        assert scores["precision"] == pytest.approx(inside.any(axis=0).mean())
        assert scores["density"] == pytest.approx(inside.sum() / 20 / k)
        assert scores["coverage"] == pytest.approx(inside.any(axis=1).mean())

    def test_precision_and_recall_change_places(self, rng):
        real, generated = rng.normal(size=(60, 4)), rng.normal(0.3, 0.5, size=(60, 4))
        one = lc.metrics.manifold_overlap(real, generated)
        other = lc.metrics.manifold_overlap(generated, real)
        assert (one["precision"], one["recall"]) == (other["recall"], other["precision"])
        assert one["precision"] > one["recall"]

    def test_identical_sets_are_ideal_and_far_ones_are_0(self, rng):
        real = rng.normal(size=(60, 4))
        assert set(lc.metrics.manifold_overlap(real, rng.permutation(real)).values()) == {1.0}
        assert set(lc.metrics.manifold_overlap(real, real + 100).values()) == {0.0}

    def test_missing_variety_costs_recall_and_coverage_only(self, rng):
        real = np.vstack([rng.normal(size=(50, 2)), rng.normal(100, size=(50, 2))])
        scores = lc.metrics.manifold_overlap(real, rng.normal(size=(100, 2)))
        assert scores["precision"] > 0.9
        assert scores["recall"] <= 0.5
        assert scores["coverage"] <= 0.5

    def test_refuses(self, rng):
        with pytest.raises(DataError, match="generated has 5 cells; at least 6"):
            lc.metrics.manifold_overlap(rng.normal(size=(9, 2)), rng.normal(size=(5, 2)))
        with pytest.raises(DataError, match="n_neighbors=0"):
            lc.metrics.manifold_overlap(*rng.normal(size=(2, 9, 2)), n_neighbors=0)
