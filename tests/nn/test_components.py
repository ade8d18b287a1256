"""Principal components: against scikit-learn, and Student's t on them against scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA

from latentcell.nn.components import ComponentInput, Components, ComponentStudentT, principal_axes


@pytest.fixture(scope="module")
def cells():
    """500 cells x 60 genes whose variances fall along hidden axes."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(500, 60)) * 3 * 0.9 ** np.arange(60)
    return (hidden @ np.linalg.qr(rng.normal(size=(60, 60)))[0] + rng.normal(size=60)).astype(np.float32)


def batches(x, size):
    return lambda: [torch.from_numpy(x[start : start + size]) for start in range(0, len(x), size)]


def start(likelihood, found):
    likelihood.components.start(found)
    likelihood.start_scales(found)


@pytest.mark.parametrize("n", [1, 8, 60])
@pytest.mark.parametrize("size", [64, 500])
def test_axes_are_those_of_pca(cells, n, size):
    center, axes, std = principal_axes(batches(cells, size), n)
    expected = PCA(n, svd_solver="full").fit(cells.astype(np.float64))
    np.testing.assert_allclose(center, expected.mean_, atol=1e-5)
    np.testing.assert_allclose(std**2, expected.explained_variance_ * 499 / 500, rtol=1e-4)
    leading = slice(min(n, 20))  # the last of 60 have no variance to speak of
    likeness = np.abs((axes.numpy().T @ expected.components_.T).diagonal())
    np.testing.assert_allclose(likeness[leading], 1.0, atol=1e-4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(n), atol=1e-5)
    assert (axes.numpy()[np.abs(axes.numpy()).argmax(0), np.arange(n)] > 0).all()


def test_scores_and_values_are_each_others_inverse_on_the_axes(cells):
    components = Components(60, 8)
    components.start(principal_axes(batches(cells, 100), 8))
    x = torch.from_numpy(cells)
    scores = components.scores(x)
    torch.testing.assert_close(components.scores(components.values(scores)), scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores[:, 0].std(correction=0), torch.tensor(1.0), rtol=1e-4, atol=0)
    expected = PCA(8).fit(cells).inverse_transform(PCA(8).fit_transform(cells))
    np.testing.assert_allclose(components.values(scores), expected, atol=2e-3)


def test_the_encoder_sees_scores_of_log_counts():
    counts = torch.poisson(torch.full((40, 6), 3.0)) + 1
    library = counts.sum(1, keepdim=True)
    seen = ComponentInput(6, 2, log_normalize=True)
    values = torch.log1p(1e4 * counts / library)
    seen.components.start(principal_axes(lambda: [values], 2))
    torch.testing.assert_close(seen(counts, library), seen.components.scores(values))
    torch.testing.assert_close(seen(3 * counts, 3 * library), seen(counts, library), rtol=1e-4, atol=1e-4)


def test_the_loss_is_students_t_of_the_scores(cells):
    likelihood = ComponentStudentT(60, 5)
    start(likelihood, principal_axes(batches(cells, 100), 5))
    with torch.no_grad():
        likelihood.raw_degrees.copy_(torch.linspace(-2, 2, 5))
    x, decoded = torch.from_numpy(cells[:9]), torch.from_numpy(cells[9:18] * 0.5)
    found = likelihood.negative_log_likelihood(x, {"mean": decoded}, None)
    scores, mean = (likelihood.components.scores(values).numpy() for values in (x, decoded))
    degrees, scale = (v.detach().numpy() for v in (likelihood.degrees(), likelihood.scale()))
    expected = np.zeros(9)
    for i in range(9):
        for k in range(5):
            expected[i] -= stats.t.logpdf(scores[i, k], degrees[k], loc=mean[i, k], scale=scale[k])
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-4)
    assert (degrees > 2).all()


def test_what_is_expected_lies_on_the_axes_and_draws_about_it(cells):
    likelihood = ComponentStudentT(60, 5)
    found = principal_axes(batches(cells, 100), 5)
    start(likelihood, found)
    with torch.no_grad():
        likelihood.raw_degrees.fill_(5.0)
    raw = {"mean": torch.from_numpy(cells[:3])}
    mean = likelihood.mean(raw, None)
    off = (mean - found.center) - (mean - found.center) @ found.axes @ found.axes.T
    assert off.abs().max() < 1e-4
    distribution = likelihood.distribution(raw, None)
    torch.testing.assert_close(distribution.mean, mean)
    torch.manual_seed(0)
    draws = distribution.sample((20_000,))
    assert draws.shape == (20_000, 3, 60)
    torch.testing.assert_close(draws.mean(0), mean, rtol=0.0, atol=0.15)
    spread = likelihood.components.scores(draws).std(0)[0]
    degrees = likelihood.degrees().detach()
    expected = likelihood.scale().detach() * torch.sqrt(degrees / (degrees - 2))
    torch.testing.assert_close(spread, expected, rtol=0.03, atol=0.0)
