"""Labels of cells and their colours: those of ``uns``, else those that scanpy would choose and keep there."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import cycle, islice

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib.colors import is_color_like, to_hex, to_rgb
from scanpy.plotting import palettes

from latentcell import _keys
from latentcell._checks import layer_names
from latentcell._errors import DataError, nearest

MISSING = "NA"
"""Name in legends of cells without a label."""

MISSING_COLOR = to_hex("lightgray")

_ALIKE = 0.25
"""Colours less far apart than this in the RGB cube are taken for one another."""


_R_COLORS = {
    "antiquewhite2": "#eedfcc",
    "azure3": "#c1cdcd",
    "chartreuse3": "#66cd00",
    "darkolivegreen2": "#bcee68",
    "firebrick3": "#cd2626",
    "gold2": "#eec900",
    "grey10": "#1a1a1a",
    "grey20": "#333333",
    "grey30": "#4d4d4d",
    "grey40": "#666666",
    "grey50": "#7f7f7f",
    "grey60": "#999999",
    "grey65": "#a6a6a6",
    "grey77": "#c4c4c4",
    "grey80": "#cccccc",
    "grey90": "#e5e5e5",
    "indianred 3": "#cd5555",
    "khaki2": "#eee685",
    "lightblue3": "#9ac0cd",
    "mediumorchid1": "#e066ff",
    "mediumpurple3": "#8968cd",
    "olivedrab3": "#9acd32",
    "orchid3": "#b452cd",
    "palegreen3": "#7ccd7c",
    "palevioletred3": "#cd6889",
    "plum3": "#cd96cd",
    "purple4": "#551a8b",
    "seagreen4": "#2e8b57",
    "slategray3": "#9fb6cd",
    "snow4": "#8b8989",
    "tomato2": "#ee5c42",
    "violetred": "#d02090",
    "wheat4": "#8b7e66",
    "yellow4": "#8b8b00",
}
"""Names of R that scanpy also takes for colours; in which module it has them differs by version."""


def as_labels(values: pd.Series) -> pd.Categorical | None:
    """Text, categories or booleans as categories named by strings; None for numbers."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        labels = pd.Categorical(values)
    elif pd.api.types.is_bool_dtype(values.dtype):
        labels = pd.Categorical(values.astype("object"))
    elif pd.api.types.is_numeric_dtype(values.dtype):
        return None
    else:
        labels = pd.Categorical(values)
    return labels.rename_categories({category: str(category) for category in labels.categories})


def obs_labels(adata: AnnData, key: str, argument: str) -> pd.Categorical:
    """Column `key` of ``adata.obs`` as categories; numbers count as labels too.

    Raises
    ------
    DataError
        If there is no such column. The message names `argument` and the columns there are.
    """
    if key not in adata.obs:
        raise DataError(
            f"{argument}={key!r} is not a column of adata.obs, which has: {listed(adata.obs.columns)}."
            f"{nearest(key, adata.obs)}"
        )
    values = adata.obs[key]
    labels = as_labels(values)
    return as_labels(values.astype("category")) if labels is None else labels  # type: ignore[return-value]


def color_values(adata: AnnData, key: str, layer: str | None, argument: str) -> pd.Categorical | np.ndarray:
    """Labels (categories) or numbers by which cells are coloured: a column of ``obs``, else a gene.

    Raises
    ------
    DataError
        If `key` is neither, or `layer` does not exist.
    """
    if key in adata.obs:
        labels = as_labels(adata.obs[key])
        return adata.obs[key].to_numpy(dtype=float, na_value=np.nan) if labels is None else labels
    if key not in adata.var_names:
        raise DataError(
            f"{argument}={key!r} is neither a column of adata.obs nor a gene of adata.var_names. "
            f"Columns of adata.obs: {listed(adata.obs.columns)}."
            f"{nearest(key, [*adata.obs, *adata.var_names])}"
        )
    check_layer(adata, layer)
    return sc.get.obs_df(adata, keys=[key], layer=layer)[key].to_numpy(dtype=float)


def check_layer(adata: AnnData, layer: str | None, argument: str = "layer") -> None:
    """Raise a DataError that names `argument` unless `layer` is None or one of ``adata.layers``."""
    if layer is not None and layer not in adata.layers:
        raise DataError(
            f"{argument}={layer!r} is not in adata.layers, which has: {listed(layer_names(adata.layers))}."
            f"{nearest(layer, adata.layers)}"
        )


def label_colors(adata: AnnData, key: str, labels: pd.Categorical) -> dict[str, str]:
    """Colour of every label that occurs: those of ``uns``, or scanpy's default palette. Writes nothing.

    Parameters
    ----------
    adata
        Cells; ``uns[f"{key}_colors"]`` holds a colour for each category of ``obs[key]``, if it is there.
    key
        The column.
    labels
        Its values, see :func:`obs_labels`.
    """
    names = list(labels.categories)
    colors = _stored_colors(adata, key, len(names)) or default_colors(len(names))
    used = set(labels.codes)
    return {
        name: color for code, (name, color) in enumerate(zip(names, colors, strict=False)) if code in used
    }


def kept_colors(adata: AnnData, key: str, labels: pd.Categorical) -> dict[str, str]:
    """Colour of every label that occurs; where ``uns`` has none that can be used, the chosen ones go there.

    As scanpy does, so that all figures agree: for categories and booleans, a colour per category, used or
    not. Colours that can be used are never changed, obs is never converted, and neither a view nor a mapping
    that refuses is written into.

    Parameters
    ----------
    adata, key, labels
        See :func:`label_colors`.
    """
    column = adata.obs[key]
    is_kept = isinstance(column.dtype, pd.CategoricalDtype) or column.dtype == bool
    n = len(labels.categories)
    if n and is_kept and not adata.is_view and _stored_colors(adata, key, n) is None:
        slot = _keys.colors(key)
        stored = adata.uns.get(slot)
        is_list = np.ndim(np.asarray(stored, dtype=object)) > 0
        if stored is not None and (not is_list or len(stored) >= n):
            sc.logging.warning(
                f"adata.uns[{slot!r}] holds what is no colour; scanpy's default colours replace it."
            )
        with suppress(TypeError):  # a mapping of the user's that is read only
            adata.uns[slot] = default_colors(n)
    return label_colors(adata, key, labels)


def default_colors(n: int) -> list[str]:
    """`n` colours as scanpy chooses them: the user's cycle if long enough, its palettes, then grey."""
    for palette in (_own_colors(), palettes.default_20, palettes.default_28, palettes.default_102):
        if len(palette) >= n:
            return [to_hex(color) for color in palette[:n]]
    return [to_hex("grey")] * n


def other_colors(taken: Collection[str], n: int) -> list[str]:
    """`n` colours of the same palettes, none of which looks like one of `taken` as long as there are such."""
    known = dict.fromkeys([*_own_colors(), *palettes.default_20, *palettes.default_28, *palettes.default_102])
    used = [np.array(to_rgb(color)) for color in taken]
    free = [color for color in known if all(np.linalg.norm(to_rgb(color) - other) > _ALIKE for other in used)]
    return [to_hex(color) for color in islice(cycle(free or known), n)]


def _own_colors() -> list[str]:
    """The user's colour cycle."""
    return [to_hex(color) for color in plt.rcParams["axes.prop_cycle"].by_key().get("color", [])]


def _stored_colors(adata: AnnData, key: str, n: int) -> list[str] | None:
    """Colours of `n` categories in ``adata.uns``; None if there are fewer or one of them is no colour."""
    stored = adata.uns.get(_keys.colors(key))
    if isinstance(stored, str | Mapping) or np.ndim(np.asarray(stored, dtype=object)) == 0 or len(stored) < n:
        return None
    known = [_R_COLORS.get(color, color) if isinstance(color, str) else color for color in stored]
    return [to_hex(color) for color in known] if all(map(is_color_like, known)) else None


def listed(names: Iterable[str]) -> str:
    """Names for an error message; the first twelve."""
    names = [repr(str(name)) for name in names]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "none"
