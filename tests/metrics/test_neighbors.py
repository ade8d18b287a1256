import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score

import latentcell as lc
from latentcell._errors import DataError

LABELS = np.array(["rare"] * 6 + ["T"] * 20 + ["B"] * 30)


def reference_share(z, member, k):
    """Expected share among the k nearest other cells with equal distances in random order, cell by cell."""
    share = []
    for i in range(len(z)):
        others = np.delete(np.arange(len(z)), i)
        distance = np.linalg.norm(z[others] - z[i], axis=1)
        radius = np.sort(distance)[k - 1]
        inside, edge = others[distance < radius], others[distance == radius]
        share.append((member[inside].sum() + (k - len(inside)) * member[edge].mean()) / k)
    return np.array(share)


@pytest.mark.parametrize("k", [1, 4, 5, 10, 55])
@pytest.mark.parametrize("n_dims", [1, 3, 20])
@pytest.mark.parametrize("repeat", [False, True], ids=["distinct", "repeated"])
def test_is_the_loop_over_cells(rng, k, n_dims, repeat):
    z = rng.normal(size=(56, n_dims))
    z[:6] += 1
    if repeat:  # many cells share a code, as in sparse codes
        z = z[rng.integers(15, size=56)]
    member = LABELS == "rare"
    share = reference_share(z, member, k)
    assert lc.metrics.neighbor_purity(z, LABELS, "rare", n_neighbors=k) == pytest.approx(share[member].mean())
    score = lc.metrics.neighbor_average_precision(z, LABELS, "rare", n_neighbors=k)
    assert score == pytest.approx(average_precision_score(member, share.round(12)), abs=1e-9)


def test_a_separate_group_is_perfect(rng):
    z = rng.normal(size=(56, 2))
    z[:6] += 100
    assert lc.metrics.neighbor_purity(z, LABELS, "rare") == 1
    assert lc.metrics.neighbor_average_precision(z, LABELS, "rare") == 1
    # five other cells of the group are all there is
    assert lc.metrics.neighbor_purity(z, LABELS, "rare", n_neighbors=10) == pytest.approx(0.5)


def test_intruders_lower_the_average_precision_not_the_purity(rng):
    z = rng.normal(size=(56, 2))
    z[:6] = 100 + 0.01 * rng.normal(size=(6, 2))
    z[6:12] = 101 + 0.01 * rng.normal(size=(6, 2)) @ np.diag([1, 100])
    assert lc.metrics.neighbor_purity(z, LABELS, "rare", n_neighbors=5) == 1
    assert lc.metrics.neighbor_average_precision(z, LABELS, "rare", n_neighbors=8) < 1


def test_a_collapsed_code_is_at_chance_whatever_the_order(rng):
    z = np.zeros((56, 3))
    for order in (np.arange(56), rng.permutation(56)):
        purity = lc.metrics.neighbor_purity(z, LABELS[order], "rare")
        assert purity == pytest.approx(5 / 55)


def test_random_codes_are_at_chance(rng):
    labels = np.repeat(["rare", "other"], [100, 900])
    z = rng.normal(size=(1000, 3))
    assert lc.metrics.neighbor_purity(z, labels, "rare") == pytest.approx(99 / 999, abs=0.04)
    assert lc.metrics.neighbor_average_precision(z, labels, "rare") == pytest.approx(0.1, abs=0.04)


def test_order_of_cells_does_not_matter(rng):
    z, order = rng.normal(size=(56, 3)).round(0), rng.permutation(56)
    for score in (lc.metrics.neighbor_purity, lc.metrics.neighbor_average_precision):
        assert score(z[order], LABELS[order], "rare") == pytest.approx(score(z, LABELS, "rare"))


def test_default_number_of_neighbors_is_the_group_less_one(rng):
    z = rng.normal(size=(56, 2))
    assert lc.metrics.neighbor_average_precision(z, LABELS, "rare") == (
        lc.metrics.neighbor_average_precision(z, LABELS, "rare", n_neighbors=5)
    )


def test_principal_components_two_and_three_show_the_rare_cells():
    adata = lc.datasets.simulate_groups()
    components = PCA(3, random_state=0).fit_transform(adata.X)
    labels = adata.obs["group"]
    assert lc.metrics.neighbor_purity(components[:, :2], labels, "rare") < 0.8
    assert lc.metrics.neighbor_purity(components[:, 1:], labels, "rare") == 1
    assert lc.metrics.neighbor_average_precision(components[:, 1:], labels, "rare") == 1


@pytest.mark.parametrize(
    ("labels", "group", "arguments", "message"),
    [
        (LABELS, "NK", {}, "group='NK' is not among the labels: 'B', 'T', 'rare'"),
        (["T"] * 56, "T", {}, "All cells have the label 'T'"),
        (["rare"] + ["T"] * 55, "rare", {}, "group='rare' has one cell"),
        (LABELS, "rare", {"n_neighbors": 0}, "n_neighbors=0 must be at least 1 and below the 56 cells"),
        (LABELS, "rare", {"n_neighbors": 56}, "n_neighbors=56 must be at least 1 and below the 56 cells"),
        (LABELS[1:], "rare", {}, "labels has 55 entries for 56 cells"),
    ],
)
def test_bad_input(rng, labels, group, arguments, message):
    for score in (lc.metrics.neighbor_purity, lc.metrics.neighbor_average_precision):
        with pytest.raises(DataError, match=message):
            score(rng.normal(size=(56, 2)), labels, group, **arguments)
