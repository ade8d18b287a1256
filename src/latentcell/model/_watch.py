"""How near the cells that a GAN draws are to real ones, watched while it is trained."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from latentcell.module.gan import GAN
from latentcell.nn.quality import covered, energy_distance
from latentcell.train.loading import Cells

WATCHED = 500
"""Training cells that are compared with as many drawn ones."""
COMPONENTS = 20
"""Principal components in which they are compared."""
KINDS, FEWEST = 8, 10
"""Clusters of the watched cells, and the cells that one needs to be judged."""
COLLAPSED, LOST = 0.6, 0.3
"""Coverage of all cells, and of one cluster, below which a run has failed; the mean cell covers half."""
LAST = 5
"""Epochs that are judged together."""


class Watch:
    """Compares drawn cells with real ones of the same depth, label and covariates.

    Parameters
    ----------
    module
        The GAN.
    cells, rows
        Cells, and those it is trained on.
    seed
        Of the choice of cells and of their clusters.
    """

    def __init__(self, module: GAN, cells: Cells, rows: np.ndarray, seed: int) -> None:
        self.module = module
        self.rows = np.sort(np.random.default_rng(seed).permutation(rows)[:WATCHED])
        self.batch = cells.batch(self.rows)
        features = module.features(self.batch[REGISTRY_KEYS.X_KEY], module.library(self.batch), self.batch)
        self.center = features.mean(0)
        _, _, axes = torch.linalg.svd(features - self.center, full_matrices=False)
        self.axes = axes[: min(COMPONENTS, len(features) - 1)].T
        self.real = (features - self.center) @ self.axes
        n_kinds = max(1, min(KINDS, len(self.real) // FEWEST))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # cells that are all alike have one cluster
            kinds = KMeans(n_kinds, n_init=3, random_state=seed).fit_predict(self.real.numpy())
        members = [np.flatnonzero(kinds == kind) for kind in range(n_kinds)]
        self.kinds = [rows for rows in members if len(rows) >= FEWEST] or [np.arange(len(self.real))]
        self._by_kind: list[np.ndarray] = []

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Coverage of all cells and of the cluster that is covered least, and the energy distance."""
        module = self.module
        batch = {name: tensor.to(module.device) for name, tensor in self.batch.items()}
        was_training = module.training
        module.eval()
        library = module.library(batch)
        z = module.latent.sample_prior(len(library)).to(library)
        drawn = module.features(module.draw(z, batch, library), library, batch).cpu()
        module.train(was_training)
        placed = (drawn - self.center) @ self.axes
        near = covered(self.real, placed).numpy()
        self._by_kind.append(np.array([near[rows].mean() for rows in self.kinds]))
        return {
            "coverage_train": float(near.mean()),
            "lowest_coverage_train": float(self._by_kind[-1].min()),
            "energy_distance_train": float(energy_distance(self.real, placed)),
        }

    def complaint(self, records: Sequence[dict[str, float]], names: Any) -> str | None:
        """What is wrong with a run that ends like this; None if nothing is.

        Parameters
        ----------
        records
            Of all epochs; the last few are judged.
        names
            Of the cells.
        """
        share = np.mean([record["coverage_train"] for record in records[-LAST:]])
        if share < COLLAPSED:
            return f"the generator draws cells near {share:.0%} of the real ones only"
        by_kind = np.mean(self._by_kind[-LAST:] or [np.ones(len(self.kinds))], axis=0)  # none if resumed late
        if by_kind.min() < LOST:
            rows = self.kinds[int(by_kind.argmin())]
            middle = self.real[rows].mean(0)
            nearest = rows[int((self.real[rows] - middle).norm(dim=1).argmin())]
            return (
                f"the generator does not draw cells such as {str(names[self.rows[nearest]])!r}: of the "
                f"{len(rows) / len(self.real):.0%} of cells that are like it, it draws near "
                f"{by_kind.min():.0%} only"
            )
        return None
