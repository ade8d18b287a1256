"""Shifts of codes: weights, the choice of their rule, and what must have no part in them."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from latentcell._errors import DataError
from latentcell.model._arithmetic import (
    POWERS,
    changed_obs,
    chosen_power,
    contrast_of,
    learn_shift,
    weights_of,
)


def slow_weights(centers, at, sizes, power):
    raw = []
    for center, size in zip(centers, sizes, strict=True):
        distance = sum((a - b) ** 2 for a, b in zip(center, at, strict=True)) ** 0.5
        raw.append(size * distance**-power if power else 1.0)
    return np.array(raw) / sum(raw)


def cells_of(centers, deltas, n_first, n_second, noise, rng):
    """Codes of types in two conditions, with the type and whether a cell is of the second condition."""
    codes, kinds, second = [], [], []
    for i, (center, delta) in enumerate(zip(centers, deltas, strict=True)):
        for is_second, n in enumerate((n_first[i], n_second[i])):
            codes.append(center + is_second * delta + noise * rng.normal(size=(n, len(center))))
            kinds += [f"t{i}"] * n
            second += [bool(is_second)] * n
    return np.concatenate(codes), np.array(kinds), np.array(second)


@pytest.mark.parametrize("power", POWERS)
def test_weights_are_those_of_the_formula(power, rng):
    centers, at, sizes = rng.normal(size=(5, 3)), rng.normal(size=3), rng.uniform(5, 50, size=5)
    found = weights_of(centers, at, sizes, power)
    np.testing.assert_allclose(found, slow_weights(centers, at, sizes, power), rtol=1e-10)
    assert found.sum() == pytest.approx(1.0)


def test_a_type_at_the_very_place_takes_all_the_weight(rng):
    centers = rng.normal(size=(4, 3))
    weights = weights_of(centers, centers[2].copy(), np.ones(4), 2)
    np.testing.assert_array_equal(weights, [0, 0, 1, 0])


def test_weights_do_not_overflow_far_away_or_near():
    for scale in (1e-30, 1e30):
        weights = weights_of(scale * np.array([[1.0], [2.0]]), np.zeros(1), np.ones(2), 8)
        np.testing.assert_allclose(weights, np.array([256, 1]) / 257)


def test_the_balanced_shift_is_the_mean_of_the_differences_of_means(rng):
    sizes = [5, 90, 30]
    codes, kinds, second = cells_of(
        rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), sizes, [7, 8, 60], 1.0, rng
    )
    shift = learn_shift(codes, kinds, ~second, second, None, "balanced")
    by_hand = [
        codes[second & (kinds == f"t{i}")].mean(0) - codes[~second & (kinds == f"t{i}")].mean(0)
        for i in range(3)
    ]
    np.testing.assert_allclose(shift.vector, np.mean(by_hand, axis=0), rtol=1e-12)
    assert shift.weights == pytest.approx(dict.fromkeys(["t0", "t1", "t2"], 1 / 3))


def test_types_of_one_condition_are_left_out(rng):
    codes = rng.normal(size=(6, 2))
    kinds = np.array(["a", "a", "b", "b", "c", "c"])
    second = np.array([False, True, False, True, False, False])
    shift = learn_shift(codes, kinds, ~second, second, None, "balanced")
    assert set(shift.weights) == {"a", "b"}
    with pytest.raises(DataError, match="nothing to learn the change from"):
        learn_shift(codes[4:], kinds[4:], ~second[4:], second[4:], None, "balanced")


class TestTheRuleIsChosenByLeavingOutTypes:
    def test_where_near_types_respond_alike_the_near_ones_count(self, rng):
        # two lineages far apart, with opposite responses
        centers = np.concatenate([rng.normal(0, 1, size=(4, 5)), rng.normal(20, 1, size=(4, 5))])
        deltas = np.repeat([[3.0, 0, 0, 0, 0], [-3.0, 0, 0, 0, 0]], 4, axis=0) + 0.1 * rng.normal(size=(8, 5))
        power = chosen_power(centers, deltas, np.full(8, 50.0))
        assert power >= 2
        weights = weights_of(centers, np.zeros(5), np.full(8, 50.0), power)
        np.testing.assert_allclose(weights @ deltas, [3, 0, 0, 0, 0], atol=0.3)

    def test_where_the_response_has_nothing_to_do_with_the_type_little_is_lost(self):
        """The mean of all is best then; the rule is mostly that, and its error is hardly larger."""
        errors, powers = np.zeros(2), []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            centers, deltas, sizes = rng.normal(size=(11, 20)), rng.normal(size=(11, 20)), np.full(10, 50.0)
            powers.append(chosen_power(centers[:10], deltas[:10], sizes))
            weights = weights_of(centers[:10], centers[10], sizes, powers[-1])
            for i, foretold in enumerate((weights @ deltas[:10], deltas[:10].mean(axis=0))):
                errors[i] += np.square(foretold - deltas[10]).sum()
        assert errors[0] < 1.02 * errors[1]
        assert np.mean(np.array(powers) == 0) > 0.5

    def test_it_is_the_least_squared_error_of_the_slow_loop(self, rng):
        centers, deltas, sizes = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.uniform(5, 90, size=6)
        errors = {}
        for power in POWERS:
            errors[power] = 0.0
            for i in range(6):
                rest = [j for j in range(6) if j != i]
                weights = slow_weights(centers[rest], centers[i], sizes[rest], power)
                errors[power] += sum((weights @ deltas[rest] - deltas[i]) ** 2)
        assert chosen_power(centers, deltas, sizes) == min(errors, key=errors.get)

    def test_fewer_than_three_types_are_balanced(self, rng):
        for n in (1, 2):
            found = chosen_power(rng.normal(size=(n, 3)), rng.normal(size=(n, 3)), np.arange(n) + 5.0)
            assert found == 0


@pytest.fixture
def cells():
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(["a", "a", "b", "b", "c", "c"]),
            "drug": pd.Categorical(["no", "yes"] * 3),
            "_scvi_batch": 0,
        },
        index=[f"cell{i}" for i in range(6)],
    )
    return AnnData(np.ones((6, 2), dtype=np.float32), obs=obs)


def ask(cells, **given):
    told = {"stimulated": "yes", "control": "no", "cell_type": None, "mask": None} | given
    return contrast_of(cells, "drug", told.pop("labels_key", "kind"), **told)


def test_types_that_are_predicted_show_nothing(cells):
    found = ask(cells, cell_type=["a", "c"])
    assert found.rows.tolist() == [0, 4]
    assert np.flatnonzero(found.first).tolist() == [2]
    assert np.flatnonzero(found.second).tolist() == [3]
    assert np.flatnonzero(found.open).tolist() == [0, 2, 3, 4]
    by_mask = ask(cells, mask=np.array([True, False, False, False, True, False]))
    for name in ("rows", "first", "second", "open"):
        np.testing.assert_array_equal(getattr(by_mask, name), getattr(found, name))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "by cell_type or by mask"),
        ({"cell_type": "a", "mask": np.ones(6, dtype=bool)}, "by cell_type or by mask"),
        ({"cell_type": "z"}, r"\['z'\] not in obs\['kind'\]; it has 'a', 'b', 'c'"),
        ({"cell_type": "a", "stimulated": "maybe"}, r"stimulated='maybe' is not in obs\['drug'\]"),
        ({"cell_type": "a", "control": "maybe"}, r"control='maybe' is not in obs\['drug'\]"),
        ({"cell_type": "a", "stimulated": "no"}, "are both 'no'"),
        ({"mask": np.ones(5, dtype=bool)}, r"one boolean per cell \(6\)"),
        ({"mask": np.zeros(6, dtype=bool)}, "some of them True"),
        ({"mask": np.arange(6) < 2}, "cell 'cell1' is not of the condition 'no'"),
        ({"cell_type": "a", "labels_key": None}, "labels_key is needed"),
        ({"cell_type": "a", "labels_key": "type"}, "obs has no 'type'"),
    ],
)
def test_what_makes_no_sense_is_refused(cells, given, message):
    with pytest.raises(DataError, match=message):
        ask(cells, **given)


def test_changed_cells_say_what_they_were(cells):
    found = changed_obs(cells.obs.iloc[[4, 0]], {"drug": "yes"})
    assert found["cell"].tolist() == ["cell4", "cell0"]
    assert found["drug"].tolist() == ["yes", "yes"]
    assert list(found["drug"].cat.categories) == ["no", "yes"]
    assert found["kind"].tolist() == ["c", "a"]
    assert found["is_generated"].all()
    assert set(found) == {"kind", "drug", "cell", "is_generated"}
    assert not set(found.index) & set(cells.obs_names)
