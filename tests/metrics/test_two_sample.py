import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

import latentcell as lc
from latentcell._errors import DataError


def pot():
    """Python Optimal Transport; its import warns about the back ends that it finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ot")


def slow_mmd(x, y, bandwidth):
    """The sums of the formula, pair by pair."""

    def kernel(a, b):
        return sum(np.exp(-np.sum((a - b) ** 2) / (2.0**r * bandwidth)) for r in range(-2, 3))

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def gaussian_mmd(shift, sd, bandwidth):
    """Closed form for N(0, sd^2 I) and N(shift, sd^2 I): E exp(-|d|^2 / h) of the Gaussian difference d."""
    total = 0.0
    for r in range(-2, 3):
        h = 2.0**r * bandwidth
        within = (1 + 4 * sd**2 / h) ** (-len(shift) / 2)
        total += 2 * within * (1 - np.exp(-(shift @ shift) / (h + 4 * sd**2)))
    return total


class TestClassifierAUC:
    def test_is_the_loop_over_folds(self, rng):
        real, generated = rng.normal(size=(40, 3)), rng.normal(0.7, size=(30, 3))
        X = np.vstack([real, generated]).astype(np.float32)
        y = np.repeat([0, 1], [40, 30])
        probability = np.empty(70)
        for seen, unseen in StratifiedKFold(5, shuffle=True, random_state=3).split(X, y):
            forest = RandomForestClassifier(7, random_state=3).fit(X[seen], y[seen])
            probability[unseen] = forest.predict_proba(X[unseen])[:, 1]
        auc = lc.metrics.classifier_auc(real, generated, n_trees=7, seed=3)
        assert auc == pytest.approx(roc_auc_score(y, probability))

    def test_same_distribution_is_near_a_half_and_another_is_not(self, rng):
        real, generated = rng.normal(size=(2, 300, 4))
        assert lc.metrics.classifier_auc(real, generated, n_trees=20) == pytest.approx(0.5, abs=0.07)
        assert lc.metrics.classifier_auc(real, 2 * generated, n_trees=20) > 0.75
        assert lc.metrics.classifier_auc(real, generated + 20, n_trees=20) == 1

    def test_shared_cells_lower_it_below_a_half(self, rng):
        real = rng.normal(size=(100, 4))
        assert lc.metrics.classifier_auc(real, real, n_trees=20) < 0.3

    def test_changing_places_hardly_matters(self, rng):
        real, generated = rng.normal(size=(300, 4)), rng.normal(0.5, size=(300, 4))
        auc = lc.metrics.classifier_auc(real, generated, n_trees=20)
        assert lc.metrics.classifier_auc(generated, real, n_trees=20) == pytest.approx(auc, abs=0.05)

    def test_refuses(self, rng):
        real = rng.normal(size=(20, 4))
        with pytest.raises(DataError, match="same columns: real has 4, generated has 3"):
            lc.metrics.classifier_auc(real, real[:, :3])
        with pytest.raises(DataError, match="generated has 3 cells; at least 5"):
            lc.metrics.classifier_auc(real, real[:3])
        with pytest.raises(DataError, match="n_trees=0"):
            lc.metrics.classifier_auc(real, real, n_trees=0)


class TestMMD:
    @pytest.mark.parametrize("bandwidth", [None, 0.7])
    def test_is_the_loop_over_pairs(self, rng, bandwidth):
        real, generated = rng.normal(size=(15, 3)), rng.normal(0.4, size=(11, 3))
        pairs = cdist(real, real, "sqeuclidean")[np.triu_indices(15, k=1)]
        expected = slow_mmd(real, generated, pairs.mean() if bandwidth is None else bandwidth)
        assert lc.metrics.mmd(real, generated, bandwidth=bandwidth) == pytest.approx(expected, abs=1e-12)

    def test_is_the_closed_form_on_gaussians(self, rng):
        shift = np.array([1.0, 0.5])
        real, generated = 0.8 * rng.normal(size=(2, 2000, 2))
        expected = gaussian_mmd(shift, sd=0.8, bandwidth=2.0)
        assert lc.metrics.mmd(real, generated + shift, bandwidth=2.0) == pytest.approx(expected, abs=0.05)

    def test_is_unbiased(self):
        values = [
            lc.metrics.mmd(*np.random.default_rng(seed).normal(size=(2, 20, 3)), bandwidth=6.0)
            for seed in range(200)
        ]
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values)) < 3 * error
        assert min(values) < 0 < max(values)

    def test_is_symmetric_for_a_given_bandwidth(self, rng):
        real, generated = rng.normal(size=(15, 3)), rng.normal(0.4, 2, size=(11, 3))
        value = lc.metrics.mmd(real, generated, bandwidth=1.0)
        assert lc.metrics.mmd(generated, real, bandwidth=1.0) == pytest.approx(value)

    def test_order_of_cells_and_scale_do_not_matter(self, rng):
        real, generated = rng.normal(size=(15, 3)), rng.normal(0.4, size=(11, 3))
        value = lc.metrics.mmd(real, generated)
        assert lc.metrics.mmd(real[::-1], rng.permutation(generated)) == pytest.approx(value)
        assert lc.metrics.mmd(10 * real, 10 * generated) == pytest.approx(value)

    def test_refuses(self, rng):
        real = rng.normal(size=(20, 4))
        with pytest.raises(DataError, match="Are all real cells the same"):
            lc.metrics.mmd(np.zeros((20, 4)), real)
        with pytest.raises(DataError, match="bandwidth=-1 must be above 0"):
            lc.metrics.mmd(real, real, bandwidth=-1)
        with pytest.raises(DataError, match="generated holds NaN or infinite values in 1 cells"):
            lc.metrics.mmd(real, np.where(real == real[3, 1], np.nan, real))


class TestWasserstein:
    def test_agrees_with_pot(self, rng):
        ot = pot()
        real, generated = rng.normal(size=(60, 5)), rng.normal(0.5, 2, size=(60, 5))
        cost = ot.emd2([], [], ot.dist(real, generated))
        assert lc.metrics.wasserstein(real, generated) == pytest.approx(np.sqrt(cost))

    def test_of_shifted_and_scaled_cells_is_known(self, rng):
        real = rng.normal(size=(60, 3))
        order = rng.permutation(60)
        # a shift, and the scaling of centred cells, are optimal maps
        assert lc.metrics.wasserstein(real, real[order] + [3.0, 0.0, 4.0]) == pytest.approx(5)
        assert lc.metrics.wasserstein(real, 3 * real[order]) == pytest.approx(
            2 * np.sqrt((real**2).sum(axis=1).mean())
        )
        assert lc.metrics.wasserstein(real, real[order]) == 0

    def test_is_the_closed_form_on_gaussians(self, rng):
        real, generated = rng.normal(size=(800, 1)), rng.normal(2, 3, size=(800, 1))
        assert lc.metrics.wasserstein(real, generated) == pytest.approx(np.sqrt(4 + 4), abs=0.25)

    def test_is_symmetric(self, rng):
        real, generated = rng.normal(size=(60, 5)), rng.normal(0.5, 2, size=(60, 5))
        assert lc.metrics.wasserstein(real, generated) == pytest.approx(
            lc.metrics.wasserstein(generated, real)
        )

    def test_refuses_unlike_numbers(self, rng):
        with pytest.raises(DataError, match="real has 4 cells, generated 3"):
            lc.metrics.wasserstein(rng.normal(size=(4, 2)), rng.normal(size=(3, 2)))


class TestEnergyDistance:
    def test_is_the_sums_of_the_formula(self, rng):
        x, y = rng.normal(size=(7, 3)), rng.normal(1.0, size=(5, 3))
        between = np.mean([np.linalg.norm(a - b) for a in x for b in y])
        within = [
            np.mean([np.linalg.norm(s[i] - s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
            for s in (x, y)
        ]
        assert lc.metrics.energy_distance(x, y) == pytest.approx(2 * between - sum(within))

    def test_is_the_one_that_training_of_gans_watches(self, rng):
        torch = pytest.importorskip("torch")
        from latentcell.nn import quality

        x, y = rng.normal(size=(40, 3)), rng.normal(0.5, size=(30, 3))
        other = quality.energy_distance(torch.from_numpy(x), torch.from_numpy(y))
        assert lc.metrics.energy_distance(x, y) == pytest.approx(float(other))

    def test_has_no_bias_and_grows_with_the_shift(self):
        values = []
        for shift in (0.0, 0.0, 0.5, 2.0):
            rng = np.random.default_rng(len(values))
            pairs = [(rng.normal(size=(20, 2)), rng.normal(shift, size=(20, 2))) for _ in range(200)]
            values.append(np.mean([lc.metrics.energy_distance(a, b) for a, b in pairs]))
        assert abs(values[0]) < 0.01
        assert abs(values[1]) < 0.01
        assert 0.05 < values[2] < values[3]
