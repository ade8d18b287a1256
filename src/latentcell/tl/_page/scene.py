"""What the page's script draws: places of cells and their colours, packed small."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell._colors import MISSING, MISSING_COLOR, as_labels, label_colors, obs_labels
from latentcell.model._cells import matrix_of

STEPS = 65535
"""Places on each axis."""

SHADES = 255
"""Shades of a number; the one above stands for a missing value."""

MOST_LABELS = 100
"""Labels of a column that are told apart by colour at most."""


@dataclass(frozen=True)
class Coloring:
    """A way to colour cells: labels with their colours, or numbers in shades."""

    name: str
    kind: str
    labels: list[str]
    colors: list[str]
    low: float
    high: float
    unit: str

    def to_json(self) -> dict[str, Any]:
        """For the script."""
        told: dict[str, Any] = {"name": self.name, "kind": self.kind, "unit": self.unit}
        if self.kind == "labels":
            return told | {"labels": self.labels, "colors": self.colors}
        return told | {"low": self.low, "high": self.high}


def coloring_of(
    adata: AnnData, key: str, layer: str | None, *, as_groups: bool = False
) -> tuple[Coloring, np.ndarray]:
    """How a column of ``obs``, or a gene, is shown, and the code of each cell; of groups, numbers are names."""
    if key in adata.obs:
        labels = obs_labels(adata, key, "groupby") if as_groups else as_labels(adata.obs[key])
        if labels is not None:
            return _by_label(adata, key, labels)
        return _by_number(key, adata.obs[key].to_numpy(dtype=float, na_value=np.nan), "")
    values = matrix_of(adata, layer)
    column = values[:, int(adata.var_names.get_indexer([key])[0])]
    dense = column.toarray() if sparse.issparse(column) else np.asarray(column)
    return _by_number(key, dense.ravel().astype(float), "X" if layer is None else f"layer {layer}")


def _by_label(adata: AnnData, key: str, labels: pd.Categorical) -> tuple[Coloring, np.ndarray]:
    colors = label_colors(adata, key, labels)
    names = list(colors)
    position = {name: i for i, name in enumerate(names)}
    codes = np.array([position.get(name, len(names)) for name in labels.categories], dtype=np.int64)
    found = np.where(labels.codes < 0, len(names), codes[labels.codes] if len(codes) else 0)
    shown, hues = names, list(colors.values())
    if (found == len(names)).any():
        shown, hues = [*names, MISSING], [*hues, MISSING_COLOR]
    return Coloring(key, "labels", shown, hues, 0.0, 0.0, ""), found


def _by_number(key: str, values: np.ndarray, unit: str) -> tuple[Coloring, np.ndarray]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    scale = (SHADES - 1) / (high - low) if high > low else 0.0
    with np.errstate(invalid="ignore"):
        codes = np.where(np.isfinite(values), np.round((values - low) * scale), SHADES)
    return Coloring(key, "numbers", [], [], low, high, unit), codes.astype(np.int64)


def choices(
    adata: AnnData, groupby: str | None, batch_key: str | None, others: Sequence[str] | None
) -> list[str]:
    """Columns of ``obs`` to colour by: those that are asked for, else all that say something."""
    if others is not None:
        return list(dict.fromkeys([*([groupby] if groupby else []), *others]))
    first = [key for key in (groupby, batch_key) if key is not None]
    return list(dict.fromkeys([*first, *(str(key) for key in adata.obs if _says_something(adata.obs[key]))]))


def _says_something(column: pd.Series) -> bool:
    if str(column.name).startswith("_scvi_"):
        return False
    labels = as_labels(column)
    if labels is None:
        return bool(column.nunique(dropna=True) > 1)
    return 1 < len(labels.categories) <= MOST_LABELS


def packed(codes: np.ndarray) -> dict[str, Any]:
    """Whole numbers from 0 as base64 of one or two bytes each, lowest first."""
    wide = bool(len(codes) and codes.max() > SHADES)
    data = codes.astype("<u2" if wide else "u1").tobytes()
    return {"bytes": 2 if wide else 1, "data": base64.b64encode(data).decode("ascii")}


def set_of(
    names: Sequence[str], places: np.ndarray, box: tuple[np.ndarray, np.ndarray], codes: dict[int, np.ndarray]
) -> dict[str, Any]:
    """A set of cells for the script.

    Parameters
    ----------
    names
        Of cells.
    places
        Cells x 2.
    box
        Lower and upper ends of both axes, which all sets share.
    codes
        Code of each cell by the number of the coloring.
    """
    low, high = box
    size = np.where(high > low, high - low, 1.0)
    steps = np.clip(np.round((places - low) / size * STEPS), 0, STEPS).astype(np.int64)
    return {
        "names": [str(name) for name in names],
        "x": base64.b64encode(steps[:, 0].astype("<u2").tobytes()).decode("ascii"),
        "y": base64.b64encode(steps[:, 1].astype("<u2").tobytes()).decode("ascii"),
        "codes": {str(number): packed(values) for number, values in codes.items()},
    }


def box_of(*sets: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Ends of both axes over all sets."""
    all_places = np.concatenate([places for places in sets if places is not None])
    return all_places.min(axis=0), all_places.max(axis=0)
