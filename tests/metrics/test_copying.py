import numpy as np
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError


def slow_share(generated, training, held_out):
    """Cell by cell, for equally many training and held-out cells."""
    total = 0.0
    for cell in generated:
        seen = min(np.linalg.norm(cell - other) for other in training)
        unseen = min(np.linalg.norm(cell - other) for other in held_out)
        total += 1.0 if seen < unseen else 0.5 if seen == unseen else 0.0
    return total / len(generated)


def test_is_the_loop_over_cells(rng):
    generated, training, held_out = rng.normal(size=(3, 40, 3)).round(1)
    held_out[:5] = training[:5]
    share = lc.metrics.nearer_to_training(generated, training, held_out)
    assert share == pytest.approx(slow_share(generated, training, held_out))


def test_more_training_cells_are_the_mean_over_draws(rng):
    generated, training = rng.normal(size=(30, 2)).round(1), rng.normal(size=(25, 2)).round(1)
    held_out = rng.normal(size=(10, 2)).round(1)
    draws = [training[rng.choice(25, 10, replace=False)] for _ in range(600)]
    expected = np.mean([slow_share(generated, draw, held_out) for draw in draws[:300]])
    share = lc.metrics.nearer_to_training(generated, training, held_out)
    assert share == pytest.approx(expected, abs=0.015)


def test_unlike_numbers_leave_the_null_at_a_half():
    shares = []
    for seed in range(60):
        cells = np.random.default_rng(seed).normal(size=(180, 3))
        shares.append(lc.metrics.nearer_to_training(cells[:30], cells[30:150], cells[150:]))
    assert np.mean(shares) == pytest.approx(0.5, abs=3 * np.std(shares) / np.sqrt(60))


@pytest.mark.parametrize(("n_training", "expected"), [(50, 1.0), (150, (1 + 50 / 150) / 2)])
def test_copies_are_found(rng, n_training, expected):
    training, held_out = rng.normal(size=(n_training, 4)), rng.normal(size=(50, 4))
    share = lc.metrics.nearer_to_training(training, training, held_out)
    assert share == pytest.approx(expected, abs=0.07)


def test_changing_places_gives_the_rest(rng):
    generated, training, held_out = rng.normal(size=(3, 40, 3))
    for seen in (training, training[:25]):
        share = lc.metrics.nearer_to_training(generated, seen, held_out)
        assert lc.metrics.nearer_to_training(generated, held_out, seen) == pytest.approx(1 - share)


def test_exact_copies_need_every_gene(rng):
    training = rng.poisson(1.0, size=(50, 20))
    generated = training[:10].copy()
    generated[:4, 7] += 1
    assert lc.metrics.exact_copies(generated, training) == pytest.approx(0.6)
    assert lc.metrics.exact_copies(sparse.csr_matrix(generated), training.astype(np.float32)) == 0.6


def test_exact_copies_do_not_mind_how_zeros_are_stored():
    training = sparse.csr_matrix(np.array([[0.0, 2.0, 1.0]]))
    stored = sparse.csr_matrix(
        (np.array([1.0, 0.0, 2.0]), np.array([2, 0, 1]), np.array([0, 3])), shape=(1, 3)
    )
    assert lc.metrics.exact_copies(stored, training) == 1
    assert stored.nnz == 3  # the input stays as it is
    assert lc.metrics.exact_copies(np.array([[2.0, 0.0, 1.0]]), training) == 0


def test_refuses(rng):
    cells = rng.normal(size=(5, 3))
    with pytest.raises(DataError, match="training has 0 cells"):
        lc.metrics.nearer_to_training(cells, cells[:0], cells)
    with pytest.raises(DataError, match="generated has 3, training 2"):
        lc.metrics.exact_copies(cells, cells[:, :2])
    with pytest.raises(DataError, match="generated has no cells"):
        lc.metrics.exact_copies(cells[:0], cells)
