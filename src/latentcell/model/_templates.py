"""What generation needs of the training cells, kept with the model: new cells need no data at hand."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell.module.autoencoder import Autoencoder, Batch
from latentcell.module.gan import GAN
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.run import local_random_state

from ._noise import Noise, NoiseMeter

if TYPE_CHECKING:
    from ._cells import DataSpec

MOST_TEMPLATES = 20_000
"""Training cells that are remembered at most: draws of new cells need no more, and they take about 2 MB."""

FEWEST_PER_STRATUM = 50
"""Cells remembered of each label in each batch, however rare, if there are as many."""

_PREFIX = "templates."
_KEYS = (
    REGISTRY_KEYS.BATCH_KEY,
    REGISTRY_KEYS.LABELS_KEY,
    REGISTRY_KEYS.CAT_COVS_KEY,
    REGISTRY_KEYS.CONT_COVS_KEY,
)


@dataclass(frozen=True)
class Templates:
    """Training cells without expression: what each is besides its code, and what its code is drawn from.

    Attributes
    ----------
    covariates
        Codes of batch, label and further categories (integers) and continuous covariates, by scvi-tools'
        names (each cells x k). The label of code ``len(spec.labels)`` is unknown.
    library
        Size factor of each cell (cells), counts; 1 where data are not counts.
    weight
        How many training cells each stands for (cells).
    posterior
        Parameters of the code's posterior by name (each cells x n_latent); see ``posterior`` of the latents.
    noise
        How expression varies about its mean.
    """

    covariates: dict[str, np.ndarray]
    library: np.ndarray
    weight: np.ndarray
    posterior: dict[str, np.ndarray]
    noise: Noise

    def __len__(self) -> int:
        return len(self.library)

    def codes_of(self, key: str) -> np.ndarray:
        """Codes of the category `key` (cells)."""
        return self.covariates[key][:, 0]

    def take(self, rows: np.ndarray) -> Batch:
        """Cells `rows` as a batch without expression: ``"X"`` has no columns."""
        batch = {name: torch.from_numpy(values[rows]) for name, values in self.covariates.items()}
        return batch | {REGISTRY_KEYS.X_KEY: torch.empty((len(rows), 0))}

    def posterior_of(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Parameters of the posteriors of cells `rows` (each cells x n_latent)."""
        return {name: torch.from_numpy(values[rows]) for name, values in self.posterior.items()}

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything as tensors by name, for the file of weights."""
        arrays = {f"covariates.{name}": values for name, values in self.covariates.items()}
        arrays |= {f"posterior.{name}": values for name, values in self.posterior.items()}
        arrays |= {f"noise.{name}": values for name, values in self.noise.arrays().items()}
        arrays |= {"library": self.library, "weight": self.weight}
        return {_PREFIX + name: torch.from_numpy(values) for name, values in arrays.items()}


def remember(module: Autoencoder, cells: Cells, rows: np.ndarray, seed: int, batch_size: int) -> Templates:
    """Encode training cells, or a sample of them in which every label and batch has its share.

    Parameters
    ----------
    module
        The trained module.
    cells
        The model's cells.
    rows
        Those of them that it was trained on.
    seed
        Of the sample.
    batch_size
        Cells encoded at once.
    """
    chosen, weight = sample_rows(cells.arrays, rows, np.random.default_rng(seed))
    library, posterior = [], []
    meter = NoiseMeter(module.likelihood)
    device = module.device
    # encoding also draws a code, which is not looked at here
    with local_random_state(seed), torch.inference_mode():
        for batch in CellLoader(cells, chosen, batch_size):
            there = {name: tensor.to(device) for name, tensor in batch.items()}
            library.append(module.library(there)[:, 0].cpu().numpy())
            code = module.encode(there)
            meter.add(there[REGISTRY_KEYS.X_KEY], module.decode_raw(code.mean, there), module.library(there))
            found = module.latent.posterior(code)
            posterior.append({name: value.cpu().numpy() for name, value in found.items()})
    return Templates(
        covariates=covariates_of(cells.arrays, chosen),
        library=np.concatenate(library),
        weight=weight,
        posterior={name: np.concatenate([part[name] for part in posterior]) for name in posterior[0]},
        noise=meter.result(),
    )


def split_tensors(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], Templates | None]:
    """Weights, and the templates that a file holds beside them."""
    weights = {name: value for name, value in tensors.items() if not name.startswith(_PREFIX)}
    arrays = {
        name.removeprefix(_PREFIX): value.cpu().numpy()
        for name, value in tensors.items()
        if name.startswith(_PREFIX)
    }
    if not arrays:
        return weights, None

    def under(folder: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(folder): v for name, v in arrays.items() if name.startswith(folder)}

    return weights, Templates(
        covariates=under("covariates."),
        library=arrays["library"],
        weight=arrays["weight"],
        posterior=under("posterior."),
        noise=Noise(**under("noise.")),
    )


def check_posterior(module: Autoencoder | GAN, templates: Templates) -> None:
    """Refuse posteriors from which the module cannot draw a code (`ValueError`, `KeyError`)."""
    with local_random_state(0), torch.inference_mode():
        z = module.latent.draw(templates.posterior_of(np.arange(1)))
        mean = module.latent.mean(templates.posterior_of(np.arange(len(templates))))
    if mean.shape != (len(templates), module.latent.n_latent) or z.shape != (1, module.latent.n_latent):
        raise ValueError(f"codes of {tuple(mean.shape)}, not {(len(templates), module.latent.n_latent)}")


def describe(templates: Templates, rows: np.ndarray, spec: "DataSpec") -> pd.DataFrame:
    """Names of batch, label and covariates of cells `rows`, under the keys of the training data."""
    columns: dict[str, Any] = {}
    for key, register, names in (
        (spec.batch_key, REGISTRY_KEYS.BATCH_KEY, spec.batch),
        (spec.labels_key, REGISTRY_KEYS.LABELS_KEY, spec.labels),
    ):
        if key is not None and names is not None:
            columns[key] = _named(templates.codes_of(register)[rows], names)
    for i, (key, names) in enumerate(spec.categorical.items()):
        columns[key] = _named(templates.covariates[REGISTRY_KEYS.CAT_COVS_KEY][rows, i], names)
    for i, key in enumerate(spec.continuous):
        columns[key] = templates.covariates[REGISTRY_KEYS.CONT_COVS_KEY][rows, i]
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


def _named(codes: np.ndarray, names: list) -> pd.Categorical:
    """Categories by name; a code beyond them is missing."""
    known = np.where(codes < len(names), codes, -1)
    return pd.Categorical.from_codes(known.tolist(), categories=pd.Index(names))


def covariates_of(arrays: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Codes of batch, label and further covariates of cells `rows`, by scvi-tools' names."""
    return {key: arrays[key][rows] for key in _KEYS if key in arrays}


def sample_rows(
    arrays: dict[str, np.ndarray], rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to keep, and how many each stands for."""
    if len(rows) <= MOST_TEMPLATES:
        return rows, np.ones(len(rows))
    keys = [key for key in (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY) if key in arrays]
    strata = np.zeros(len(rows), dtype=np.int64)
    for key in keys:
        codes = arrays[key][rows, 0].astype(np.int64)
        strata = strata * (codes.max() + 1) + codes
    chosen, weight = [], []
    for stratum in np.unique(strata):
        members = rows[strata == stratum]
        wanted = max(FEWEST_PER_STRATUM, round(MOST_TEMPLATES * len(members) / len(rows)))
        kept = np.sort(rng.choice(members, min(wanted, len(members)), replace=False))
        chosen.append(kept)
        weight.append(np.full(len(kept), len(members) / len(kept)))
    return np.concatenate(chosen), np.concatenate(weight)
