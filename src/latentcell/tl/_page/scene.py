"""What the page's script draws: places of cells and their colours, packed small."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell._colors import MISSING, MISSING_COLOR, as_labels, label_colors, obs_labels
from latentcell.model._cells import matrix_of

from .asked import Asked

STEPS = 65535
"""Places on each axis."""

SHADES = 255
"""Shades of a number; the one above stands for a missing value."""

GENES_SHOWN = 12
"""Genes to colour by unless others are asked for."""

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
    """How a column of ``obs`` (of groups, numbers are names) or a gene is shown, and each cell's code."""
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


def _choices(
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


def scene_of(
    cells: AnnData,
    model: Any,
    new: AnnData | None,
    asked: Asked,
    places: tuple[np.ndarray, np.ndarray | None],
    table: pd.DataFrame | None,
) -> dict[str, Any]:
    """What the script draws."""
    layer, groupby = model.spec.layer, asked.groupby
    of_real, of_new = places
    columns = _choices(cells, groupby, model.spec.batch_key, asked.color)
    genes = asked.genes if asked.genes is not None else _notable(cells, layer, table)
    chosen = [(key, key == groupby) for key in columns] + [
        (gene, False) for gene in genes if gene not in columns
    ]
    colorings = [coloring_of(cells, key, layer, as_groups=is_group) for key, is_group in chosen]
    box = box_of(of_real, of_new)
    real_codes = {number: codes for number, (_, codes) in enumerate(colorings)}
    sets = {"real": set_of(list(cells.obs_names), of_real, box, real_codes)}
    shared: list[int] = []
    if new is not None and of_new is not None:
        new_codes = {}
        for number, ((key, _), (coloring, _)) in enumerate(zip(chosen, colorings, strict=True)):
            if coloring.kind == "labels" and key in new.obs and key in (groupby, model.spec.batch_key):
                position = {name: i for i, name in enumerate(coloring.labels)}
                names = new.obs[key].astype(str)
                if names.isin(list(position)).all():
                    new_codes[number] = names.map(position).to_numpy(dtype=np.int64)
        sets["generated"] = set_of(list(new.obs_names), of_new, box, new_codes)
        shared = list(new_codes)
    return {
        "colorings": [coloring.to_json() for coloring, _ in colorings],
        "group": next((i for i, (_, is_group) in enumerate(chosen) if is_group), -1),
        "shared": shared,
        "sets": sets,
    }


def _notable(cells: AnnData, layer: str | None, table: pd.DataFrame | None) -> list[str]:
    """Genes to colour by: the strongest of each dimension in turn, else those that vary most."""
    if table is not None and "genes_up" in table:
        lists = [genes.split(", ") for genes in table.loc[table["active"], "genes_up"] if genes]
        turns = [gene for rank in zip_longest(*lists) for gene in rank if gene in cells.var_names]
        return list(dict.fromkeys(turns))[:GENES_SHOWN]
    values = matrix_of(cells, layer)
    mean = np.asarray(values.mean(axis=0)).ravel()
    square = values.multiply(values) if hasattr(values, "multiply") else np.square(values)
    variance = np.asarray(square.mean(axis=0)).ravel() - np.square(mean)
    return [str(gene) for gene in cells.var_names[np.argsort(-variance, kind="stable")[:GENES_SHOWN]]]
