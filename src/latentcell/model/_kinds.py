"""Kinds of the cells that a GAN is trained on, to be drawn as often as they come."""

import warnings

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from latentcell.module.gan import GAN
from latentcell.nn.shares import Shares
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.run import local_random_state

from ._base import INFERENCE_BATCH

CLUSTERED, COUNTED = 2_000, 20_000
"""Cells at most from which kinds are made, and from which their shares are taken."""
COMPONENTS, FEWEST = 20, 10
"""Principal components in which they are clusters, and cells that there are for each."""


@torch.no_grad()
def shares_of(module: GAN, cells: Cells, rows: np.ndarray, n_kinds: int, seed: int) -> Shares | None:
    """Clusters of real cells, by k-means in principal components of their expression, and their shares.

    Parameters
    ----------
    module
        The GAN, which says what its critic sees of a cell.
    cells, rows
        Cells, and those it is trained on.
    n_kinds
        Clusters; fewer on small data.
    seed
        Of the choice of cells and of their clusters.

    Returns
    -------
    None if there are not two kinds of cells.
    """
    chosen = np.random.default_rng(seed).permutation(rows)
    n_kinds = min(n_kinds, len(rows) // FEWEST)
    if n_kinds < 2:
        return None
    features = _features(module, cells, chosen[:CLUSTERED]).nan_to_num(0.0, 0.0, 0.0)
    center = features.mean(0)
    n_axes = min(COMPONENTS, *features.shape)
    with local_random_state(seed):
        axes = torch.svd_lowrank(features - center, n_axes, niter=4)[2]
    placed = (features - center) @ axes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # cells that are all alike have one cluster
        found = KMeans(n_kinds, n_init=3, random_state=seed).fit(placed.numpy())
    centers = torch.from_numpy(found.cluster_centers_).float()
    shares = Shares(center, axes, centers, float(placed.norm(dim=1).mean()))
    if not shares.width > 0:
        return None
    total = torch.zeros(n_kinds)
    counted = np.sort(chosen[:COUNTED])
    for start in range(0, len(counted), INFERENCE_BATCH):
        some = _features(module, cells, counted[start : start + INFERENCE_BATCH]).nan_to_num(0.0, 0.0, 0.0)
        total += shares.membership(some).sum(0)
    shares.target = total / len(counted)
    return shares


def _features(module: GAN, cells: Cells, rows: np.ndarray) -> torch.Tensor:
    """Expression of cells as the critic sees it (cells x genes)."""
    parts = []
    for batch in CellLoader(cells, rows, INFERENCE_BATCH):
        there = {name: tensor.to(module.device) for name, tensor in batch.items()}
        x = there[REGISTRY_KEYS.X_KEY]
        parts.append(module.features(x, module.library(there), there)[:, : x.shape[1]].float().cpu())
    return torch.cat(parts)
