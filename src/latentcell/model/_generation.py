"""What generators share: which new cells are wanted, how they are described, and how they are collected."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scvi import REGISTRY_KEYS

from latentcell import _keys
from latentcell._errors import DataError, nearest

from ._cells import DataSpec
from ._streams import check_out, write_rows
from ._templates import Templates, describe

Source = Literal["posterior", "prior", "mixture"]
Output = Literal["sample", "counts", "mean"]
Labels = str | Mapping[Any, int] | Sequence[Any] | None

MOST_CELLS = 10**9
"""New cells in one call: their names alone take 100 GB."""

CHUNK = 1024
"""Cells drawn at once unless told otherwise."""


def check_choice(argument: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse what is not among the choices."""
    if value not in choices:
        raise DataError(
            f"{argument} must be one of {tuple(choices)}, got {value!r}.{nearest(value, choices)}"
        )


def check_output(output: str, *, counts: bool) -> None:
    """Refuse an unknown output, and counts of a model of other data."""
    check_choice("output", output, get_args(Output))
    if output == "counts" and not counts:
        raise DataError("output='counts' needs a model of counts; this one gives values: output='sample'")


def wanted_labels(spec: DataSpec, n_cells: int | None, labels: Labels) -> list | None:
    """One label per new cell by name, or None.

    Parameters
    ----------
    spec
        The model's.
    n_cells, labels
        As users give them: a number per name, one name for all cells, or one name per cell.

    Raises
    ------
    DataError
        Naming unknown labels or numbers that do not fit.
    """
    if n_cells is not None and n_cells < 1:
        raise DataError(f"n_cells must be at least 1, got {n_cells}")
    named = [n for n in labels.values() if isinstance(n, int)] if isinstance(labels, Mapping) else []
    if (n_cells or 0) > MOST_CELLS or sum(named) > MOST_CELLS:
        raise DataError(f"at most {MOST_CELLS:,} cells can be drawn in one call; draw them in several")
    if labels is None:
        return None
    if spec.labels is None:
        raise DataError("labels need a model with setup_anndata(labels_key=...)")
    if not isinstance(labels, Mapping) and np.ndim(labels) == 0:
        labels = {labels: n_cells if n_cells is not None else 1}
    if isinstance(labels, Mapping):
        for name, number in labels.items():
            if not isinstance(number, int | np.integer) or number < 0:
                raise DataError(f"labels: the number of {name!r} must be a whole number, got {number!r}")
        wanted = [name for name, number in labels.items() for _ in range(number)]
    else:
        wanted = list(labels)
    unknown = sorted({repr(name) for name in wanted if name not in spec.labels})
    if unknown:
        raise DataError(
            f"labels: {', '.join(unknown)} unknown to the model; it knows {spec.labels}."
            f"{nearest([name for name in wanted if name not in spec.labels], spec.labels)}"
        )
    if n_cells is not None and n_cells != len(wanted):
        raise DataError(f"n_cells={n_cells}, but labels name {len(wanted)} cells; leave n_cells out")
    if not wanted:
        raise DataError("labels name no cell")
    return wanted


def batch_code(spec: DataSpec, batch: Any) -> int | None:
    """Code of a batch given by name; None for None."""
    if batch is None:
        return None
    if spec.batch is None:
        raise DataError("batch needs a model with setup_anndata(batch_key=...)")
    if batch not in spec.batch:
        raise DataError(
            f"batch: {batch!r} is not a batch; there are {spec.batch}.{nearest(batch, spec.batch)}"
        )
    return spec.batch.index(batch)


def template_rows(
    templates: Templates,
    spec: DataSpec,
    wanted: list | None,
    n_cells: int | None,
    batch: int | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """A real cell drawn for each new one (cells): of its label, and of its batch if there are such cells.

    Parameters
    ----------
    templates
        The real cells.
    spec
        The model's.
    wanted
        Label of each new cell by name; None draws from all real cells.
    n_cells
        Number of new cells where `wanted` is None; None draws as many as the model was trained on.
    batch
        Code of the batch, or None for any.
    rng
        Of the draws.
    """
    in_batch = np.ones(len(templates), dtype=bool)
    if batch is not None:
        in_batch = templates.codes_of(REGISTRY_KEYS.BATCH_KEY) == batch
    if wanted is None:
        rows = np.flatnonzero(in_batch) if in_batch.any() else np.arange(len(templates))
        n = round(templates.weight.sum()) if n_cells is None else n_cells
        return _draw(rows, templates.weight, n, rng)
    codes = templates.codes_of(REGISTRY_KEYS.LABELS_KEY)
    names = np.array([(spec.labels or []).index(name) for name in wanted])
    found = np.empty(len(wanted), dtype=np.int64)
    for code in np.unique(names):
        rows = np.flatnonzero((codes == code) & in_batch)
        rows = rows if len(rows) else np.flatnonzero(codes == code)
        if not len(rows):
            name = (spec.labels or [])[code]
            raise DataError(f"labels: the model's cells have no {name!r} to take depth and covariates from")
        at = np.flatnonzero(names == code)
        found[at] = _draw(rows, templates.weight, len(at), rng)
    return found


def new_obs(templates: Templates, rows: np.ndarray, spec: DataSpec, batch: int | None) -> pd.DataFrame:
    """``obs`` of new cells: what their templates are, in the batch they are decoded in; marked."""
    obs = describe(templates, rows, spec)
    if batch is not None and spec.batch is not None:
        obs[spec.batch_key] = pd.Categorical.from_codes([batch] * len(rows), categories=pd.Index(spec.batch))
    return marked(obs)


def marked(obs: pd.DataFrame) -> pd.DataFrame:
    """The frame with names for new cells and the mark that they are generated."""
    obs.index = pd.Index([f"generated_{i}" for i in range(len(obs))])
    obs[_keys.IS_GENERATED] = True
    return obs


def new_var(adata: AnnData | None, genes: Sequence[str]) -> pd.DataFrame:
    """``var`` of new cells: that of the model's cells where they are at hand, else the names alone."""
    if adata is None or not pd.Index(genes).isin(adata.var_names).all():
        return pd.DataFrame(index=pd.Index(list(genes)))
    return adata.var.loc[list(genes)].copy()


def collect_cells(
    blocks: Iterable[Any],
    obs: pd.DataFrame,
    var: pd.DataFrame,
    uns: dict[str, Any],
    out: str | os.PathLike | None,
    last: Callable[[], dict[str, dict[str, np.ndarray]]],
) -> AnnData | Path:
    """Make new cells an AnnData, in memory or on disk.

    Parameters
    ----------
    blocks
        Rows of ``X`` in order: arrays or csr matrices.
    obs, var
        Cells and genes.
    uns
        What ``uns["latentcell"]`` says of where the cells come from.
    out
        Write to this path (.h5ad or .zarr) as the blocks come, so that they are never in memory together.
    last
        What is known only after the last block: ``{"obs": {column: values}, "obsm": {key: values}}``.

    Returns
    -------
    The AnnData, or the path with `out`.
    """
    if out is not None:
        path = check_out(out)

        def finish() -> dict[str, Any]:
            known = last()
            return {"obs": obs.assign(**known["obs"]), "obsm": known["obsm"]}

        return write_rows(path, iter(blocks), len(obs), obs, var, {_keys.UNS: uns}, last=finish)
    parts = list(blocks)
    x = sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)
    known = last()
    new = AnnData(X=x, obs=obs.assign(**known["obs"]), var=var, obsm=known["obsm"])
    new.uns[_keys.UNS] = uns
    return new


def _draw(rows: np.ndarray, weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows in proportion to their weights: none comes twice before all of equal weight came once."""
    order = rng.permutation(rows)
    share = np.cumsum(weight[order])
    at = np.searchsorted(share, (rng.random() + np.arange(n)) / n * share[-1], side="right")
    return rng.permutation(order[np.minimum(at, len(order) - 1)])
