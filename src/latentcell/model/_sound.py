"""Whether what a folder says of a model can be: looked at before anything is built from it.

A checksum tells damage, not lies. What is read here is small; what it asks for need not be.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell._checks import check_compressed
from latentcell._errors import DataError, ModelFileError

from ._cells import DataSpec
from ._templates import Templates

UNITS = (
    "latent.unit",
    "latent.clusters.scale",
    "unit",
    "depth",
    "generator.likelihood.unit",
    "averaged.likelihood.unit",
    "likelihood.largest",
    "likelihood.values.largest",
    "likelihood.components.length",
    "likelihood.values.components.length",
    "encoder_input.components.length",
)
"""Names of weights by which codes, cells or depths are divided."""
_LEAST_UNIT = 1e-30
"""Units of codes that are trained are about 1, or those of dimensions that are off in all cells."""

MOST_UNITS = 10**6
"""Of a layer that is built; weights of one more would take gigabytes beside any other layer."""

_CODES = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY, REGISTRY_KEYS.CAT_COVS_KEY)


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a model is put together into a :class:`ModelFileError`."""
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(f"{folder} is damaged or of another version: {what[:500]}") from error


def check_sizes(chains: Sequence[Sequence[Any]], weights: Mapping[str, Tensor]) -> None:
    """Refuse sizes of layers that the weights do not have, before memory for them is asked for.

    Every two neighbours in a chain have a matrix among the weights, so that all of them together cannot be
    larger than the file.
    """
    sizes = [size for chain in chains for size in chain]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ValueError(f"sizes of layers must be positive whole numbers, got {sizes}"[:200])
    n_values = sum(value.numel() for value in weights.values())
    if len(sizes) - 2 > len(weights) or sum(a * b for chain in chains for a, b in pairwise(chain)) > n_values:
        named = ", ".join(map(str, sizes[:8])) + (", ..." if len(sizes) > 8 else "")
        raise ValueError(f"layers of {named} units do not fit weights of {n_values} values")


def check_units(names: str, sizes: Sequence[int]) -> None:
    """Refuse sizes of layers that cannot be built (`DataError`); `names` says whose they are."""
    if not all(1 <= size <= MOST_UNITS for size in sizes):
        told = ", ".join(map(str, sizes))
        raise DataError(f"{names} must be positive, and at most {MOST_UNITS:,}, got {told}")


def check_spec(spec: DataSpec) -> None:
    """Refuse genes, keys and categories that are of no AnnData."""
    keys = (spec.layer, spec.batch_key, spec.labels_key, spec.size_factor_key, spec.unlabeled_category)
    _require(all(key is None or isinstance(key, str) for key in keys), "a key is not a name")
    _check_names(spec.genes, "genes", kinds=(str,))
    for what, values in {"batches": spec.batch, "labels": spec.labels, **spec.categorical}.items():
        if values is not None:
            _check_names(values, what, kinds=(str, bool, int, float))
    _check_names([*spec.categorical, *spec.continuous], "covariates", kinds=(str,), some=False)


def check_train_defaults(found: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse arguments of ``train`` that there are not, or that are neither numbers nor schedules."""
    for name, value in found.items():
        _require(name in known, f"train has no {name!r}")
        plain = value is None or callable(value) or (isinstance(value, int | float) and math.isfinite(value))
        _require(plain, f"{name}={value!r} is no argument of train")


def check_finite(arrays: Mapping[str, Tensor | np.ndarray], infinite: Sequence[str] = ()) -> None:
    """Refuse NaN, and infinity but in arrays whose names end with one of `infinite`."""
    for name, values in arrays.items():
        there = torch.as_tensor(values)
        bad = there.isnan() if name.endswith(tuple(infinite)) else ~there.isfinite()
        _require(not bool(bad.any()), f"{name} holds values that are not finite")


def check_unit(name: str, unit: Tensor) -> None:
    """Refuse units by which nothing can be divided; of the pair ``depth`` the second is one."""
    divisors = unit[1:] if name == "depth" else unit
    _require(bool((divisors > _LEAST_UNIT).all()), f"{name} is no unit")


def check_templates(templates: Templates, spec: DataSpec) -> None:
    """Refuse remembered cells with codes of categories that there are not, or of unequal number."""
    n = len(templates)
    sizes = {"library": templates.library, "weight": templates.weight}
    for name, values in sizes.items():
        _require(values.shape == (n,) and n > 0 and values.dtype.kind == "f", f"{name} has {values.shape}")
    _require(bool((templates.weight > 0).all() and (templates.library >= 0).all()), "cells weigh nothing")
    check_finite(sizes | templates.posterior | templates.noise.arrays())
    for name, values in templates.posterior.items():
        _require(values.ndim == 2 and len(values) == n, f"{name} has {values.shape}, {n} cells")
        _require(values.dtype == np.float32, f"{name} holds {values.dtype}")
    for name, values in templates.noise.arrays().items():
        _require(values.shape == (len(spec.genes),), f"{name} has {values.shape}, {len(spec.genes)} genes")
    _check_codes(templates, spec)


def _check_codes(templates: Templates, spec: DataSpec) -> None:
    """Codes of batch, label (one more stands for an unknown one) and categories are of known ones."""
    limits = {
        REGISTRY_KEYS.BATCH_KEY: None if spec.batch is None else [len(spec.batch)],
        REGISTRY_KEYS.LABELS_KEY: None if spec.labels is None else [len(spec.labels) + 1],
        REGISTRY_KEYS.CAT_COVS_KEY: [len(values) for values in spec.categorical.values()] or None,
        REGISTRY_KEYS.CONT_COVS_KEY: [0] * len(spec.continuous) or None,
    }
    for key, limit in limits.items():
        if limit is None:
            continue
        values = templates.covariates[key]
        _require(values.shape == (len(templates), len(limit)), f"{key} has {values.shape}")
        if key in _CODES:
            known = values.dtype.kind in "iu" and ((values >= 0) & (values < np.array(limit))).all()
            _require(bool(known), f"{key} has codes of categories that there are not")
        else:
            check_finite({key: values})
    _require(set(templates.covariates) <= set(limits), f"covariates {sorted(templates.covariates)}")


def check_results(values: Tensor, cells: Sequence[str] | str) -> None:
    """Refuse to give results (cells x ...) that are not finite, naming the first such cell.

    Parameters
    ----------
    values
        Results of some cells.
    cells
        Their names, or what to call one of them.

    Raises
    ------
    DataError
        If a value is NaN or infinite.
    """
    if math.isfinite(float(values.sum())):  # one pass; a sum may overflow where no value does
        return
    finite = values.isfinite()
    if bool(finite.all()):
        return
    row = int((~finite).reshape(len(values), -1).any(dim=1).nonzero()[0])
    name = cells if isinstance(cells, str) else f"cell {str(cells[row])!r}"
    raise DataError(
        f"what the model makes of {name} is NaN or infinite: values of the cell, its library size or the "
        "code are far beyond those of the training cells, or the model has diverged. Compare their scales"
    )


@contextmanager
def drawing() -> Iterator[None]:
    """Turn the refusal of a distribution to draw into a :class:`DataError`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise DataError(
            "expression cannot be drawn: the model's parameters of its distribution are not finite "
            f"({str(error).splitlines()[0]}). The library size or the code is far beyond those of training"
        ) from error


def check_shape(name: str, values: np.ndarray, shape: tuple[int | None, ...], kind: str = "f") -> None:
    """Refuse an array of another shape (None: any size) or kind of numbers."""
    fits = len(values.shape) == len(shape) and all(
        want is None or size == want for size, want in zip(values.shape, shape, strict=True)
    )
    _require(fits and values.dtype.kind in kind, f"{name} is {values.dtype} of shape {values.shape}")


def check_positions(name: str, values: np.ndarray, n: int) -> None:
    """Refuse positions among `n` that are not rising or not there."""
    check_shape(name, values, (None,), "iu")
    rising = len(values) == 0 or (values[0] >= 0 and values[-1] < n and (np.diff(values) > 0).all())
    _require(bool(rising), f"{name} holds positions that there are not")


def checked_csr(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, n_columns: int
) -> sparse.csr_matrix:
    """A csr matrix of its parts, which must fit each other: scipy's routines do not look."""
    check_shape("data", data, (None,))
    check_shape("indices", indices, (len(data),), "iu")
    check_shape("indptr", indptr, (None,), "iu")
    matrix = sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, n_columns))
    check_compressed(matrix)
    return matrix


def _check_names(values: Any, what: str, *, kinds: tuple[type, ...], some: bool = True) -> None:
    _require(
        isinstance(values, list) and all(isinstance(value, kinds) for value in values), f"{what} are no names"
    )
    _require(all(value == value for value in values), f"one of the {what} is NaN")
    _require(bool(values) or not some, f"there are no {what}")
    _require(len(set(values)) == len(values), f"{what} are named twice")


def _require(true: bool, otherwise: str) -> None:
    if not true:
        raise ValueError(otherwise)
