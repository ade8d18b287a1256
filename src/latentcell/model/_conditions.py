"""What users say of cells besides their codes: labels, batches and covariates, by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS

from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Batch

from ._cells import DataSpec
from ._generation import marked


def conditions(
    spec: DataSpec, n: int, labels: Any, batch: Any, covariates: Mapping[str, Any], *, needs_labels: bool
) -> tuple[pd.DataFrame, Batch]:
    """What cells are besides their codes, by name (obs) and as codes (a batch without expression).

    Parameters
    ----------
    spec
        The model's.
    n
        Number of cells.
    labels, batch
        One name or one per cell, or None.
    covariates
        Values of all further covariates by ``obs`` key, one or one per cell.
    needs_labels
        Whether the model is told labels.

    Raises
    ------
    DataError
        Naming what is unknown or missing.
    """
    obs = pd.DataFrame(index=pd.RangeIndex(n))
    tensors: Batch = {REGISTRY_KEYS.X_KEY: torch.empty((n, 0))}

    def tell(argument: str, given: Any, key: Any, known: list | None, register: str, *, needed: bool) -> None:
        if known is None:
            if given is not None:
                raise DataError(f"{argument}= needs a model with setup_anndata({argument}_key=...)")
        elif given is not None:
            codes = _codes(argument, given, known, n)
            obs[key] = _named(codes, known)
            tensors[register] = torch.from_numpy(codes)[:, None]
        elif needed:
            raise DataError(f"this model is told {key!r}: pass {argument}=, one of {known}")

    tell("batch", batch, spec.batch_key, spec.batch, REGISTRY_KEYS.BATCH_KEY, needed=True)
    tell("labels", labels, spec.labels_key, spec.labels, REGISTRY_KEYS.LABELS_KEY, needed=needs_labels)
    expected = [*spec.categorical, *spec.continuous]
    if set(covariates) != set(expected):
        raise DataError(f"covariates must give a value for each of {expected}, got {sorted(covariates)}")
    if spec.categorical:
        found = {key: _codes(key, covariates[key], known, n) for key, known in spec.categorical.items()}
        tensors[REGISTRY_KEYS.CAT_COVS_KEY] = torch.from_numpy(np.stack(list(found.values()), axis=1))
        for key, codes in found.items():
            obs[key] = _named(codes, spec.categorical[key])
    if spec.continuous:
        numbers = np.stack([_numbers(key, covariates[key], n) for key in spec.continuous], axis=1)
        tensors[REGISTRY_KEYS.CONT_COVS_KEY] = torch.from_numpy(numbers)
        obs[spec.continuous] = numbers
    return marked(obs), tensors


def _named(codes: np.ndarray, known: list) -> pd.Categorical:
    return pd.Categorical.from_codes(codes.tolist(), categories=pd.Index(known))


def _codes(argument: str, given: Any, known: list, n: int) -> np.ndarray:
    """Codes of one name, or of one per cell (cells)."""
    several = isinstance(given, list | tuple | np.ndarray | pd.Series | pd.Index)
    names = list(given) if several else [given] * n
    if len(names) != n:
        raise DataError(f"{argument} has {len(names)} entries for {n} cells")
    codes = pd.Index(known, dtype=object).get_indexer(pd.Index(names, dtype=object))
    if (codes < 0).any():
        unknown = names[int(np.flatnonzero(codes < 0)[0])]
        raise DataError(
            f"{argument}: {unknown!r} is unknown to the model; it knows {known}.{nearest(unknown, known)}"
        )
    return codes.astype(np.int64)


def _numbers(argument: str, given: Any, n: int) -> np.ndarray:
    values = np.asarray(given, dtype=np.float32)
    values = np.full(n, values) if values.ndim == 0 else values
    if values.shape != (n,) or not np.isfinite(values).all():
        raise DataError(f"covariates: {argument!r} must be a finite number, or one per cell ({n})")
    return values
