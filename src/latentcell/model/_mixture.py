"""A density of codes fitted after training: normal mixtures, one per label, as VAExprs does."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

_MOST_COMPONENTS = 8
"""Components tried per label; a label is one kind of cell, or a few."""

_MOST_UNLABELLED = 24
"""Components tried where cells have no labels: then they are to find the kinds of cells as well."""

_CELLS_PER_COMPONENT = 20
"""A component needs as many cells, for means and covariances that mean something."""

_PRIOR_CELLS = 5.0
"""Weight, in cells, of the common variances in those of a label too small for a mixture."""


@dataclass(frozen=True)
class Mixture:
    """A normal mixture of the codes (and log library size) of one label's cells.

    Attributes
    ----------
    weights
        Shares of the components (components).
    means
        Their means (components x columns).
    roots
        Square roots of their covariances: lower triangles (components x columns x columns).
    """

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    def sample(self, n: int, temperature: float, rng: np.random.Generator) -> np.ndarray:
        """Draws (n x columns), deviations from the components' means times `temperature`."""
        component = rng.choice(len(self.weights), n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        return self.means[component] + temperature * np.einsum("nij,nj->ni", self.roots[component], noise)


def fit_mixtures(x: np.ndarray, labels: np.ndarray | None, seed: int) -> dict[int, Mixture]:
    """Fit a mixture per label, its number of components by the Bayesian information criterion.

    Parameters
    ----------
    x
        Codes, and whatever else is to be drawn together with them (cells x columns).
    labels
        Codes of labels (cells); None fits one mixture, under the code 0.
    seed
        Of the mixtures' starts.
    """
    common = x.var(axis=0) + 1e-6
    if labels is None:
        return {0: _fit(x, common, _MOST_UNLABELLED, seed)}
    return {int(code): _fit(x[labels == code], common, _MOST_COMPONENTS, seed) for code in np.unique(labels)}


def _fit(x: np.ndarray, common: np.ndarray, most: int, seed: int) -> Mixture:
    n, n_columns = x.shape
    if n < max(_CELLS_PER_COMPONENT, 2 * n_columns):
        variance = (n * x.var(axis=0) + _PRIOR_CELLS * common) / (n + _PRIOR_CELLS)
        return Mixture(np.ones(1), x.mean(axis=0)[None], np.diag(np.sqrt(variance))[None])
    scale = np.sqrt(common)
    best, best_bic, n_worse = None, np.inf, 0
    for k in range(1, min(most, n // max(_CELLS_PER_COMPONENT, n_columns)) + 1):
        with warnings.catch_warnings():  # one that has not converged competes with its bound all the same
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = GaussianMixture(k, reg_covar=1e-4, random_state=seed, max_iter=200).fit(x / scale)
        bic = found.bic(x / scale)
        n_worse = 0 if bic < best_bic else n_worse + 1
        if bic < best_bic:
            best, best_bic = found, bic
        if n_worse == 2:
            break
    if best is None:
        raise ValueError(f"no mixture can be fitted to {n} codes of {n_columns} dimensions")
    roots = np.linalg.cholesky(best.covariances_) * scale[:, None]
    return Mixture(best.weights_ / best.weights_.sum(), best.means_ * scale, roots)
