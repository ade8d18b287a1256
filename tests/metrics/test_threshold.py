import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold

import latentcell as lc
from latentcell._errors import DataError
from latentcell.metrics._threshold import best_thresholds


@pytest.fixture
def data(rng):
    """Codes with ties at zero; a rare level, a factor of two levels, and a continuous one."""
    types = rng.permutation(np.repeat(["B", "NK", "T"], [6, 24, 30]))
    factors = pd.DataFrame(
        {"type": types, "treated": rng.random(60) < 0.5, "usage": rng.random(60)},
    )
    z = (rng.normal(size=(60, 3)) * (rng.random((60, 3)) < 0.6)).round(1)
    z[types == "B", 0] += 2
    z[types == "T", 1] -= 1
    z[:, 2] += factors["treated"]
    return z, factors


def best_cut(values, member):
    """Every threshold and side, one by one: the first of those with the highest balanced accuracy."""
    distinct = np.unique(values)
    best = (0.5, np.inf, True)
    for cut in (distinct[1:] + distinct[:-1]) / 2:
        up, down = ((member == ((values > cut) == above)) for above in (True, False))
        for above, right in ((True, up), (False, down)):
            accuracy = (right[member].mean() + right[~member].mean()) / 2
            if accuracy > best[0] + 1e-12:
                best = (accuracy, cut, above)
    return best


def accuracy_by_loop(values, labels, level, seed):
    member, predicted = labels == level, np.empty(len(labels), dtype=bool)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(values, labels):
        _, cut, above = best_cut(values[train], member[train])
        predicted[test] = (values[test] > cut) == above
    return balanced_accuracy_score(member, predicted)


def test_threshold_is_the_best_of_all(data):
    z, factors = data
    members = np.stack([factors["type"] == level for level in ("B", "NK", "T")], axis=1)
    for values in z.T:
        cuts, above = best_thresholds(values, members)
        for member, cut, up in zip(members.T, cuts, above, strict=True):
            right = member == ((values > cut) == up)
            accuracy = (right[member].mean() + right[~member].mean()) / 2
            assert accuracy == pytest.approx(best_cut(values, member)[0], abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_accuracy_is_a_slow_loop(data, seed):
    z, factors = data
    table = lc.metrics.single_latent_accuracy(z, factors, seed=seed)
    assert list(table.index) == ["type", "type=B", "type=NK", "type=T", "treated"]
    labels = factors["type"].to_numpy()
    for level in ("B", "NK", "T"):
        every = [accuracy_by_loop(values, labels, level, seed) for values in z.T]
        assert table.loc[f"type={level}", "value"] == pytest.approx(max(every), abs=1e-12)
        assert table.loc[f"type={level}", "dim"] == np.argmax(every)
    assert table.loc["type", "value"] == table["value"].iloc[1:4].mean()
    assert pd.isna(table.loc["type", "dim"])
    treated = factors["treated"].to_numpy()
    every = [accuracy_by_loop(values, treated, False, seed) for values in z.T]
    assert table.loc["treated", "value"] == pytest.approx(max(every), abs=1e-12)
    assert table.loc["treated", "dim"] == 2


def test_sap_is_a_slow_loop(data):
    z, factors = data
    table = lc.metrics.separated_attribute_predictability(z, factors)
    labels = factors["type"].to_numpy()
    scores = {
        "type": [np.mean([accuracy_by_loop(x, labels, level, 0) for level in ("B", "NK", "T")]) for x in z.T],
        "treated": [accuracy_by_loop(x, factors["treated"].to_numpy(), False, 0) for x in z.T],
        "usage": [np.corrcoef(x, factors["usage"])[0, 1] ** 2 for x in z.T],
    }
    for name, every in scores.items():
        first, second = sorted(every)[:-3:-1]
        assert table.loc[name, "value"] == pytest.approx(first - second, abs=1e-12)
        assert table.loc[name, "dim"] == np.argmax(every)


def test_perfect_copied_and_constant(rng):
    factors = pd.DataFrame({"usage": rng.random(400), "type": np.repeat(["B", "T"], [360, 40])})
    perfect = np.stack([factors["usage"], factors["type"] == "T"], axis=1).astype(float)
    sap = lc.metrics.separated_attribute_predictability
    assert sap(perfect, factors).loc["type", "value"] > 0.3
    assert sap(perfect, factors).loc["usage", "value"] > 0.9
    assert sap(np.hstack([perfect, -perfect]), factors)["value"].tolist() == pytest.approx([0, 0], abs=1e-12)
    accuracy = lc.metrics.single_latent_accuracy
    assert accuracy(perfect, factors)["value"].tolist() == [1.0]
    assert accuracy(perfect, factors)["dim"].tolist() == [1]
    # a rare level is not told by calling all cells the other one
    assert accuracy(np.ones((400, 2)), factors)["value"].tolist() == [0.5]
    # of one dimension alone the score above chance
    assert sap(perfect[:, 1:], factors).loc["type", "value"] == 0.5
    assert sap(np.ones((400, 1)), factors)["value"].tolist() == [0, 0]


def test_needs_a_discrete_factor(rng):
    with pytest.raises(DataError, match="No factor is discrete"):
        lc.metrics.single_latent_accuracy(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(order=st.permutations(range(3)), powers=st.lists(st.integers(-30, 30), min_size=3, max_size=3))
def test_order_sign_and_scale_do_not_matter(order, powers):
    rng = np.random.default_rng(3)
    factors = pd.DataFrame({"type": np.repeat(["a", "b", "c"], 10), "usage": rng.random(30)})
    z = rng.normal(size=(30, 3)) + np.eye(3)[np.arange(30) // 10]
    changed = (z * 2.0 ** np.array(powers) * [1, -1, 1])[:, order]
    for metric in (lc.metrics.single_latent_accuracy, lc.metrics.separated_attribute_predictability):
        np.testing.assert_allclose(metric(changed, factors)["value"], metric(z, factors)["value"], atol=1e-12)
