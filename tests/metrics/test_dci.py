import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.model_selection import train_test_split

import latentcell as lc
from latentcell._errors import DataError
from latentcell.metrics._dci import concentration, importances, row_concentration


def both(importance):
    """Disentanglement and completeness as disentanglement_lib defines them, by scipy's entropy."""
    per_dim = 1 - entropy(importance.T + 1e-11, base=importance.shape[1])
    per_factor = 1 - entropy(importance + 1e-11, base=importance.shape[0])
    total = importance.sum()
    return (per_dim * importance.sum(axis=1)).sum() / total, (
        per_factor * importance.sum(axis=0)
    ).sum() / total


def test_closed_forms():
    permutation = np.eye(4)[[2, 0, 3, 1]]
    assert concentration(permutation) == concentration(permutation.T) == 1
    uniform = np.full((5, 3), 0.2)
    assert concentration(uniform) == pytest.approx(0, abs=1e-12)
    assert concentration(uniform.T) == pytest.approx(0, abs=1e-12)
    # one dimension serves both of two factors: neither disentangled, but complete
    shared = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert concentration(shared) == pytest.approx(0, abs=1e-12)
    assert concentration(shared.T) == 1
    # each factor split evenly among two of four dimensions: disentangled, half complete
    split = np.array([[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]])
    assert concentration(split) == 1
    assert concentration(split.T) == pytest.approx(0.5, abs=1e-12)
    assert row_concentration(np.array([[0.0, 0.0], [0.0, 2.0]])).tolist() == pytest.approx([0, 1])


def test_concentration_is_the_reference(rng):
    importance = rng.random((6, 4)) ** 3
    importance[2] = 0
    disentanglement, completeness = both(importance)
    assert concentration(importance) == pytest.approx(disentanglement, abs=1e-8)
    assert concentration(importance.T) == pytest.approx(completeness, abs=1e-8)


def test_nothing_to_divide():
    assert np.isnan(concentration(np.ones((3, 1))))
    assert concentration(np.zeros((3, 2))) == 0


def test_is_gradient_boosting_in_a_loop(rng):
    factors = pd.DataFrame({"usage": rng.random(90), "type": rng.permutation(np.repeat(["B", "T"], 45))})
    z = np.stack(
        [factors["usage"] + 0.2 * rng.normal(size=90), factors["type"] == "B", rng.random(90)], axis=1
    )
    importance, scores = np.empty((3, 2)), []
    for k, (model, y) in enumerate(
        [
            (GradientBoostingRegressor(random_state=5), factors["usage"].to_numpy()),
            (GradientBoostingClassifier(random_state=5), (factors["type"] == "T").to_numpy()),
        ]
    ):
        train, test = train_test_split(
            np.arange(90), train_size=60, test_size=30, random_state=5, stratify=y if k else None
        )
        model.fit(z[train], y[train])
        importance[:, k] = model.feature_importances_
        scores.append(model.score(z[test], y[test]))
    disentanglement, completeness = both(importance)
    scored = lc.metrics.dci(z, factors, seed=5)
    assert list(scored) == ["disentanglement", "completeness", "informativeness"]
    # standardised codes are rounded otherwise, which may decide between equally good cuts
    assert scored["disentanglement"] == pytest.approx(disentanglement, abs=0.02)
    assert scored["completeness"] == pytest.approx(completeness, abs=0.02)
    assert scored["informativeness"] == pytest.approx(np.mean(scores), abs=0.02)
    assert scored == lc.metrics.dci(z, factors, seed=5)
    moved = lc.metrics.dci((z * [1e3, -1, 1e-3])[:, [2, 0, 1]], factors, seed=5)
    assert moved == pytest.approx(scored, abs=0.05)


def test_constant_dimensions_have_no_importance(rng):
    factors = rng.random((40, 1))
    z = np.column_stack([np.full(40, 0.1), factors, rng.random(40)])
    importance, predicted = importances(z, lc.metrics._factors.check_codes_and_factors(z, factors)[1], 40, 0)
    assert importance[0, 0] == 0
    assert importance[1, 0] > 0.95
    assert predicted[0] > 0.9
    assert np.isnan(lc.metrics.dci(z, factors)["disentanglement"])
    assert np.isnan(lc.metrics.dci(z[:, 1:2], factors)["completeness"])


def test_all_levels_are_seen_in_few_of_many_cells(rng):
    """Cells are drawn with levels in proportion, those of a level of one in ten among them."""
    types = rng.permutation(np.repeat(["rare", "common"], [20, 180]))
    z = np.stack([types == "rare", rng.random(200)], axis=1)
    assert lc.metrics.dci(z, types, max_cells=30)["informativeness"] == 1


def test_refuses_few_cells(rng):
    z = rng.random((12, 2))
    with pytest.raises(DataError, match="max_cells=9"):
        lc.metrics.dci(z, z, max_cells=9)
    with pytest.raises(DataError, match="z has 8 cells"):
        lc.metrics.dci(z[:8], z[:8])
    assert lc.metrics.dci(z[:10], z[:10])["informativeness"] <= 1  # so few do


def test_a_rare_level_is_not_lost_among_many_cells():
    rng = np.random.default_rng(0)
    rare = np.arange(30_000) < 5
    z = np.stack([np.where(rare, 9.0, rng.normal(size=len(rare))), rng.normal(size=len(rare))], axis=1)
    found = lc.metrics.dci(z, pd.Series(np.where(rare, "rare", "other")), max_cells=600)
    assert found["informativeness"] == 1.0
    assert found["completeness"] > 0.9
