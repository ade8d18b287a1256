"""What the data are, and what a reader should be warned of before believing anything else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell import _keys
from latentcell._checks import matrix_kind
from latentcell.model._cells import place_of
from latentcell.tl._describe import row_blocks

Level = Literal["bad", "look", "good"]

FEW_CELLS = 20
"""A group with fewer cells is called small: the error of its means is above a fifth of a spread."""

FEW_COUNTS, MANY_COUNTS = 0.1, 10.0
"""Cells whose counts are beyond these multiples of the median are called unusual."""

_KINDS = {
    "counts": "whole numbers, 0 or more: counts",
    "unit": "numbers from 0 to 1",
    "non-negative": "fractional numbers, 0 or more: normalised or log-transformed",
    "real": "numbers of both signs: scaled or centred",
}
_MOST_NAMED = 5


@dataclass(frozen=True)
class Remark:
    """Something that a reader should know of the data: how grave it is, and what it is."""

    level: Level
    text: str


@dataclass(frozen=True)
class Facts:
    """What a page says of the data.

    Parameters
    ----------
    entries
        Name and value, in order.
    sizes
        Number of cells and of unseen cells (None: not known) of each group or batch, by column.
    remarks
        Grave ones first.
    """

    entries: dict[str, str]
    sizes: dict[str, dict[str, tuple[int, int | None]]]
    remarks: list[Remark]


def facts_of(
    adata: AnnData,
    model: Any,
    groupby: str | None,
    *,
    n_given: tuple[int, int],
    unseen: np.ndarray | None,
    n_other: int | None,
) -> Facts:
    """Look at all values of the cells.

    Parameters
    ----------
    adata
        Cells, with the genes of the model.
    model
        The model.
    groupby
        Column of groups, or None.
    n_given
        Cells and genes of the data as they were given.
    unseen
        Rows that the model was not trained on; None if it is not known.
    n_other
        Number of cells that were given as not seen, or None.
    """
    spec = model.spec
    where = place_of(spec.layer)
    matrix = adata.X if spec.layer is None else adata.layers[spec.layer]
    kind = matrix_kind(matrix, adata.obs_names, adata.var_names, where=where)
    totals, detected = _per_cell(adata, spec.layer)
    n_filled = int(adata.var[_keys.IS_FILLED].sum()) if _keys.IS_FILLED in adata.var else 0
    stored = f"sparse ({matrix.format})" if sparse.issparse(matrix) else "dense"
    entries = {
        "Cells": f"{adata.n_obs:,}",
        "Genes": f"{n_given[1]:,} in the data; the model has {len(spec.genes):,}, "
        f"of which {len(spec.genes) - n_filled:,} are there",
        f"Values ({where})": f"{_KINDS[kind]}; {stored}, {matrix.dtype}",
        "Values that are not 0": f"{detected.sum() / max(1, adata.n_obs * adata.n_vars):.1%}",
        ("Counts" if kind == "counts" else "Sum of values") + " per cell": _spread(totals),
        "Detected genes per cell": _spread(detected),
    }
    columns = dict.fromkeys(key for key in (groupby, spec.batch_key) if key is not None)
    sizes = {key: _sizes(adata.obs[key], unseen) for key in columns}
    entries["Groups"] = "none" if groupby is None else f"{len(sizes[groupby])} in column {groupby}"
    if spec.batch_key is not None:
        entries["Batches"] = f"{len(sizes[spec.batch_key])} in column {spec.batch_key}"
    remarks = [
        *_of_cells(model, unseen, n_other),
        *_of_genes(spec.genes, adata, n_filled),
        *_of_values(kind, model, where, totals, detected, adata.obs_names),
        *(remark for key in columns for remark in _of_groups(adata.obs[key], key, sizes[key])),
        *_of_batches(adata, groupby, spec.batch_key),
    ]
    order = ("bad", "look", "good")
    return Facts(entries, sizes, sorted(remarks, key=lambda remark: order.index(remark.level)))


def _per_cell(adata: AnnData, layer: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of values that are not 0 of each cell (cells)."""
    totals, detected = np.zeros(adata.n_obs), np.zeros(adata.n_obs, dtype=np.int64)
    for rows, block in row_blocks(adata, layer):
        totals[rows] = np.asarray(block.sum(axis=1)).ravel()
        detected[rows] = np.asarray((block != 0).sum(axis=1)).ravel()
    return totals, detected


def _spread(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"median {_number(middle)}, nine in ten cells from {_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sizes(column: pd.Series, unseen: np.ndarray | None) -> dict[str, tuple[int, int | None]]:
    """Cells, and cells not trained on, of each group by name."""
    known = column.dropna()
    rows = pd.Series(np.arange(len(column)), index=column.index)[column.notna().to_numpy()].to_numpy()
    names = known.astype(str).to_numpy()
    fresh = np.isin(rows, unseen) if unseen is not None else None
    order = [str(name) for name in known.cat.categories] if hasattr(known, "cat") else sorted(set(names))
    return {
        name: (int((names == name).sum()), None if fresh is None else int(fresh[names == name].sum()))
        for name in order
        if (names == name).any()
    }


def _of_cells(model: Any, unseen: np.ndarray | None, n_other: int | None) -> list[Remark]:
    """Whether the model has seen these cells."""
    found = []
    if n_other is not None:
        found.append(
            Remark("good", f"{n_other:,} cells were given as not trained on: they are the yardstick.")
        )
    if unseen is None:
        record = model.trained_on_
        what = (
            "The model does not say which cells it was trained on (an older version saved it)"
            if record is None
            else f"These are not the {record['n_cells']:,} cells that the model was built with, or "
            "they are in another order"
        )
        text = "it cannot be told which of them it has seen. What follows may flatter the model."
        found.append(Remark("look", f"{what}: {text}" if n_other is None else f"{what}."))
    elif len(unseen):
        found.append(
            Remark(
                "good", f"{len(unseen):,} of these cells were held out: the model was not trained on them."
            )
        )
    elif n_other is None:
        found.append(
            Remark(
                "look",
                "The model was trained on all of these cells. What it makes of them says little about other "
                "cells: train with train_size=0.9 to hold some out, or give others (held_out).",
            )
        )
    return found


def _of_genes(genes: Sequence[str], adata: AnnData, n_filled: int) -> list[Remark]:
    if not n_filled:
        return [Remark("good", f"All {len(genes):,} genes of the model are in the data.")]
    filled = list(adata.var_names[adata.var[_keys.IS_FILLED].to_numpy()])
    return [
        Remark(
            "bad",
            f"{n_filled:,} of the model's {len(genes):,} genes are missing and were taken as 0, as if they "
            f"were "
            f"not expressed: {named(filled)}. Codes are less sure, and comparisons of genes are wrong for "
            f"them.",
        )
    ]


def _of_values(
    kind: str, model: Any, where: str, totals: np.ndarray, detected: np.ndarray, names: pd.Index
) -> list[Remark]:
    found = []
    if kind == "counts" and model.gene_likelihood == "normal" and hasattr(model, "module"):
        found.append(
            Remark(
                "look",
                f"{where} holds counts, and the model takes them for continuous values. A model of counts, "
                f"or log-normalised values, will do better.",
            )
        )
    if kind == "real":
        found.append(
            Remark("look", f"{where} holds negative values: library sizes and detected genes mean little.")
        )
    empty = names[detected == 0]
    if len(empty):
        found.append(Remark("bad", f"{len(empty):,} cells are 0 in all genes: {named(empty)}."))
    if kind == "counts" and np.median(totals) > 0:
        share = totals / np.median(totals)
        for rows, what in (
            (share < FEW_COUNTS, f"less than {FEW_COUNTS:g} times"),
            (share > MANY_COUNTS, f"more than {MANY_COUNTS:g} times"),
        ):
            if rows.any():
                found.append(
                    Remark(
                        "look",
                        f"{int(rows.sum()):,} cells have {what} the median counts: {named(names[rows])}. "
                        f"Empty "
                        "droplets, or doublets?",
                    )
                )
    if not names.is_unique:
        found.append(Remark("look", f"Names of cells repeat: {named(names[names.duplicated()].unique())}."))
    return found


def _of_groups(column: pd.Series, key: str, sizes: dict[str, tuple[int, int | None]]) -> list[Remark]:
    found = []
    n_missing = int(column.isna().sum())
    if n_missing:
        found.append(Remark("look", f"{n_missing:,} cells have no value in column {key}."))
    small = [f"{name} ({n})" for name, (n, _) in sizes.items() if n < FEW_CELLS]
    if small:
        found.append(
            Remark(
                "look",
                f"Column {key}: fewer than {FEW_CELLS} cells in {named(small)}. Their figures are noise.",
            )
        )
    if len(sizes) == 1:
        found.append(Remark("look", f"Column {key} has one value only: there is nothing to tell apart."))
    return found


def _of_batches(adata: AnnData, groupby: str | None, batch_key: str | None) -> list[Remark]:
    """Groups that only one batch has, where there are several."""
    if groupby is None or batch_key is None or groupby == batch_key:
        return []
    table = pd.crosstab(adata.obs[groupby].astype(str), adata.obs[batch_key].astype(str))
    alone = [str(name) for name in table.index[(table > 0).sum(axis=1) == 1]]
    if table.shape[1] < 2 or not alone:
        return []
    return [
        Remark(
            "look",
            f"In one batch only: {named(alone)}. What is the group's and what the batch's cannot be told "
            f"apart.",
        )
    ]


def named(names: Sequence[str] | pd.Index) -> str:
    """The first of some names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else "")
