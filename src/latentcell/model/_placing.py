"""Where cells lie among the codes of a GAN: a first place by the inverse, then gradient steps."""

import math

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell.module.autoencoder import Batch
from latentcell.module.gan import GAN, Values
from latentcell.train.loading import CellLoader
from latentcell.train.run import local_random_state

INVERSE_STEPS = 400
"""Steps that fit the inverse after training."""
PLACING_STEPS, PLACING_RATE = 100, 0.05
"""Gradient steps that place a cell among the codes, and the rate of the first."""
SURE = 0.05
"""Least error, in the unit of the data, that a placed cell is given: no gene is known better."""


def fit_inverse(module: GAN, loader: CellLoader, seed: int) -> None:
    """Teach the inverse to find the noise behind drawn cells, at the depths and labels of the loader's."""
    module.inverse.requires_grad_(True)
    optimizer = torch.optim.Adam(module.inverse.parameters(), lr=1e-3)
    with local_random_state(seed):
        for epoch in range(math.ceil(INVERSE_STEPS / len(loader))):
            loader.set_epoch(epoch)
            for batch in loader:
                module.inverse.train()
                loss = module.inverse_loss({name: t.to(module.device) for name, t in batch.items()})
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    module.inverse.requires_grad_(False)
    module.eval()


def place(module: GAN, batch: Batch, residual: np.ndarray | None, n_steps: int, lr: float) -> Tensor:
    """Codes (cells x n_latent, on the CPU) of a batch.

    Parameters
    ----------
    module
        A trained GAN.
    batch
        Cells, on its device.
    residual
        Of values, what counts as an error of 1 (genes); counts have their likelihood.
    n_steps, lr
        Gradient steps, and the rate of the first; it falls to 0.
    """
    x, library = batch[REGISTRY_KEYS.X_KEY], module.library(batch)
    with torch.no_grad():
        start = module.place(x, library, batch)
    z = start.clone().requires_grad_(True)
    least = SURE * module.unit
    scale = least if residual is None else torch.from_numpy(residual).to(x).clamp(min=float(least))
    optimizer = torch.optim.Adam([z], lr=lr)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / n_steps)
        raw, likelihood = module.decode_raw(z, batch, library), module.likelihood
        if isinstance(likelihood, Values):
            misfit = 0.5 * ((x - likelihood.mean(raw, library)) / scale).square().sum(1)
        else:
            misfit = likelihood.negative_log_likelihood(x, raw, library)
        optimizer.zero_grad()
        (misfit.sum() + 0.5 * z.square().sum()).backward()
        optimizer.step()
    return z.detach().cpu()
