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
from latentcell.nn.quality import covered, energy_distance, mean_distance, neighbor_radius
from latentcell.train.loading import Cells

WATCHED = 500
"""Training cells that are compared with as many drawn ones."""
COMPONENTS = 20
"""Principal components in which they are compared."""
KINDS, FEWEST = 8, 10
"""Clusters of the watched cells, and the cells that one needs to be judged."""
COLLAPSED, LOST, ALIKE = 0.6, 0.3, 0.5
"""Coverage of all cells, coverage of one cluster, and spread, below which a run has failed."""
LAST = 5
"""Epochs that are judged together; a tenth of them if there are few."""


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

    Attributes
    ----------
    seen
        Coverage of each cluster, by epoch.
    """

    def __init__(self, module: GAN, cells: Cells, rows: np.ndarray, seed: int) -> None:
        self.module = module
        self.rows = np.sort(np.random.default_rng(seed).permutation(rows)[:WATCHED])
        self.batch = cells.batch(self.rows)
        with torch.no_grad():
            batch = self._on_device()
            found = module.features(batch[REGISTRY_KEYS.X_KEY], module.library(batch), batch)
        features = found.float().cpu().nan_to_num(0.0, 0.0, 0.0)  # the first step names such cells
        self.center = features.mean(0)
        _, _, axes = torch.linalg.svd(features - self.center, full_matrices=False)
        self.axes = axes[: min(COMPONENTS, len(features) - 1)].T
        self.real = (features - self.center) @ self.axes
        self.radius, self.within = neighbor_radius(self.real), mean_distance(self.real)
        self.kinds = _kinds(self.real.numpy(), seed)
        self.seen: list[list[float]] = []

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Coverage of all cells and of the cluster that is covered least, spread, and energy distance."""
        module, batch = self.module, self._on_device()
        was_training = module.training
        module.eval()
        library = module.library(batch)
        z = module.latent.sample_prior(len(library)).to(library)
        drawn = module.features(module.draw(z, batch, library), library, batch).float().cpu()
        module.train(was_training)
        placed = (drawn - self.center) @ self.axes
        near = covered(self.real, placed, self.radius).numpy()
        self.seen.append([float(near[rows].mean()) for rows in self.kinds])
        far = neighbor_radius(placed).median() / self.radius.median().clamp(min=1e-12)
        return {
            "coverage_train": float(near.mean()),
            "lowest_coverage_train": min(self.seen[-1]),
            "spread_train": float(far),
            "energy_distance_train": float(energy_distance(self.real, placed, self.within)),
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
        last = min(LAST, max(1, len(records) // 10))
        share, spread = (
            float(np.mean([record[key] for record in records[-last:]]))
            for key in ("coverage_train", "spread_train")
        )
        if share < COLLAPSED:
            return f"the generator draws cells near {share:.0%} of the real ones only"
        by_kind = np.mean(self.seen[-last:], axis=0)
        if by_kind.min() < LOST:
            rows = self.kinds[int(by_kind.argmin())]
            middle = self.real[rows].mean(0)
            nearest = rows[int((self.real[rows] - middle).norm(dim=1).argmin())]
            return (
                f"the generator does not draw cells such as {str(names[self.rows[nearest]])!r}: of the "
                f"{len(rows) / len(self.real):.0%} of cells that are like it, it draws near "
                f"{by_kind.min():.0%} only"
            )
        if spread < ALIKE:
            return f"drawn cells are too much alike: they lie {spread:.2f} times as far apart as real ones"
        return None

    def _on_device(self) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.module.device) for name, tensor in self.batch.items()}


def _kinds(real: np.ndarray, seed: int) -> list[np.ndarray]:
    """Positions of the cells of each cluster that has enough of them."""
    n_kinds = max(1, min(KINDS, len(real) // FEWEST))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # cells that are all alike have one cluster
        kinds = KMeans(n_kinds, n_init=3, random_state=seed).fit_predict(real)
    members = [np.flatnonzero(kinds == kind) for kind in range(n_kinds)]
    return [rows for rows in members if len(rows) >= FEWEST] or [np.arange(len(real))]
