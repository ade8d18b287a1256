"""Which cells a model was trained on and which were held out: a few numbers, kept with the model."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_COUNTS = ("n_cells", "n_train", "n_held_out", "seed")


def divide(
    n_cells: int, n_train: int, n_held_out: int, *, shuffled: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted rows to train on and to hold out, at random or the first and those after them.

    Examples
    --------
    >>> from latentcell.model._trained_on import divide
    >>> divide(5, 3, 1, shuffled=False, seed=0)
    (array([0, 1, 2]), array([3]))
    """
    order = np.random.default_rng(seed).permutation(n_cells) if shuffled else np.arange(n_cells)
    return np.sort(order[:n_train]), np.sort(order[n_train : n_train + n_held_out])


def trained_on(
    names: Iterable[str], rows: tuple[np.ndarray, np.ndarray], seed: int, seconds: float | None
) -> dict[str, Any]:
    """What a model keeps of its cells: numbers, from which the division follows, and a digest of all names.

    Parameters
    ----------
    names
        Of all cells the model was built with, in order; they are not kept.
    rows
        Those trained on, and those held out; divided by :func:`divide`.
    seed
        Of the division.
    seconds
        That training took, or None.
    """
    names, (train, held_out) = list(names), rows
    return {
        "n_cells": len(names),
        "n_train": len(train),
        "n_held_out": len(held_out),
        "shuffled": not np.array_equal(train, np.arange(len(train))),
        "seed": int(seed),
        "seconds": None if seconds is None else round(seconds, 3),
        "cells": digest(names),
    }


def digest(names: Iterable[str]) -> str:
    """Fingerprint of names in their order (16 hexadecimal digits)."""
    return hashlib.sha256("\0".join(map(str, names)).encode()).hexdigest()[:16]


def held_out_rows(record: Mapping[str, Any] | None, names: Iterable[str]) -> np.ndarray | None:
    """Rows of the cells that a model was not trained on, among the cells it was built with.

    Parameters
    ----------
    record
        Of :func:`trained_on`, or None.
    names
        Of cells.

    Returns
    -------
    The rows, sorted; None if nothing is recorded, or these are other cells, fewer, more, or in another order.
    """
    names = list(names)
    if record is None or record["n_cells"] != len(names) or record["cells"] != digest(names):
        return None
    train, _ = divide(
        len(names), record["n_train"], record["n_held_out"], shuffled=record["shuffled"], seed=record["seed"]
    )
    return np.setdiff1d(np.arange(len(names)), train)


def checked(record: Any) -> dict[str, Any] | None:
    """A record as it was read; None if there is none (`ValueError`: it is not one of :func:`trained_on`)."""
    if record is None:
        return None
    fits = isinstance(record, dict) and set(record) == {*_COUNTS, "shuffled", "seconds", "cells"}
    fits = fits and all(type(record[name]) is int and record[name] >= 0 for name in _COUNTS)
    fits = fits and record["n_train"] + record["n_held_out"] <= record["n_cells"]
    fits = fits and isinstance(record["shuffled"], bool)
    fits = fits and isinstance(record["seconds"], float | int | None) and (record["seconds"] or 0) >= 0
    if not (fits and isinstance(record["cells"], str) and re.fullmatch("[0-9a-f]{16}", record["cells"])):
        raise ValueError("what it says of its training cells is no such record")
    return record
