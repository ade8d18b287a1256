"""Where codes of new cells come from: the prior, training cells' posteriors, mixtures fitted to codes."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import norm, rankdata
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell.nn.latents import Deterministic, Latent
from latentcell.train.run import local_random_state

from ._generation import Source
from ._mixture import Mixture, fit_mixtures
from ._templates import Templates

Draw = Callable[[np.ndarray, np.random.Generator], tuple[Tensor, Tensor]]
"""Codes (cells x n_latent) and library sizes (cells x 1) for templates given by row."""


def codes_from(
    source: Source, latent: Latent, templates: Templates, temperature: float, *, counts: bool, seed: int
) -> Draw:
    """What draws codes and library sizes of new cells.

    Parameters
    ----------
    source
        Where codes come from.
    latent
        The model's.
    templates
        Training cells; those without labels have one mixture.
    temperature
        Factor on the noise of the codes.
    counts
        Whether there are library sizes.
    seed
        Of the mixtures.
    """

    def of_templates(rows: np.ndarray) -> Tensor:
        return torch.from_numpy(templates.library[rows])[:, None]

    if source == "prior" and not isinstance(latent, Deterministic):
        return lambda rows, rng: (latent.sample_prior(len(rows), temperature).cpu(), of_templates(rows))
    if source == "posterior":
        return lambda rows, rng: (
            latent.draw(templates.posterior_of(rows), temperature),
            of_templates(rows),
        )
    return _codes_from_mixture(latent, templates, temperature, counts=counts, seed=seed)


def _codes_from_mixture(
    latent: Latent, templates: Templates, temperature: float, *, counts: bool, seed: int
) -> Draw:
    """Draws of codes, and of library sizes jointly with them, from a mixture for each label.

    Library sizes enter as normal scores of their ranks within the label and come back as its quantiles, so
    that their distribution is kept, whatever it is.
    """
    labels = _labels(templates)
    mixtures = _fitted(latent, templates, counts=counts, seed=seed)
    sizes = {int(code): np.sort(templates.library[labels == code]) for code in np.unique(labels)}

    def draw(rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        of_row = labels[rows]
        found = np.empty((len(rows), next(iter(mixtures.values())).means.shape[1]))
        size = np.ones((len(rows), 1), dtype=np.float32)
        for code in np.unique(of_row).tolist():
            at = np.flatnonzero(of_row == code)
            found[at] = mixtures[code].sample(len(at), temperature, rng)
            if counts:
                size[at, 0] = np.quantile(sizes[code], norm.cdf(found[at, -1]))
        codes = found[:, :-1] if counts else found
        return latent.within_range(torch.from_numpy(codes.astype(np.float32))), torch.from_numpy(size)

    return draw


def _fitted(latent: Latent, templates: Templates, *, counts: bool, seed: int) -> dict[int, Mixture]:
    """A mixture for each label, of a draw of each training cell's code."""
    with local_random_state(seed), torch.inference_mode():
        x = latent.draw(templates.posterior_of(np.arange(len(templates)))).numpy().astype(float)
    labels = _labels(templates)
    if counts:
        x = np.concatenate([x, _normal_scores(templates.library, labels)[:, None]], axis=1)
    # rare labels and batches are remembered with more than their share; mixtures see each with its own
    share = templates.weight / templates.weight.sum()
    even = (templates.weight == templates.weight[0]).all()
    rows = np.arange(len(x)) if even else np.random.default_rng(seed).choice(len(x), len(x), p=share)
    lost = np.setdiff1d(labels, labels[rows])
    rows = np.concatenate([rows, np.flatnonzero(np.isin(labels, lost))])
    return fit_mixtures(x[rows], labels[rows], seed)


def _normal_scores(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of the ranks that values have within their label (cells)."""
    scores = np.empty(len(values))
    for code in np.unique(labels):
        at = np.flatnonzero(labels == code)
        scores[at] = norm.ppf((rankdata(values[at]) - 0.5) / len(at))
    return scores


def _labels(templates: Templates) -> np.ndarray:
    """Codes of labels (cells); 0 where cells have none."""
    if REGISTRY_KEYS.LABELS_KEY not in templates.covariates:
        return np.zeros(len(templates), dtype=np.int64)
    return templates.codes_of(REGISTRY_KEYS.LABELS_KEY)
