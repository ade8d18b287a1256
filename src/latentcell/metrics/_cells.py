"""Sets of cells that are compared: read from AnnData, matched by gene, divided, drawn, permuted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell._checks import as_csr, layer_names, matrix_kind
from latentcell._errors import DataError, nearest
from latentcell.metrics._copying import row_digests

_N_NAMED = 3
"""Genes or groups that an error names."""

_MOST_SHARED = 0.1
"""Share of real cells that may be among the training cells (the same name and values)."""


@dataclass(frozen=True)
class Cells:
    """A set of cells.

    Parameters
    ----------
    matrix
        Cells x genes, csr.
    groups
        Group of every cell, as text; ``None`` without groups.
    names
        Names of the cells.
    """

    matrix: Any
    groups: np.ndarray | None
    names: np.ndarray

    def __len__(self) -> int:
        return self.matrix.shape[0]

    @cached_property
    def digests(self) -> np.ndarray:
        """A fingerprint of every cell's values (cells)."""
        return row_digests(self.matrix)

    def take(self, rows: np.ndarray) -> Cells:
        """The cells in these rows."""
        groups = None if self.groups is None else self.groups[rows]
        return Cells(self.matrix[rows], groups, self.names[rows])

    def parts(self, n_parts: int, rng: np.random.Generator) -> list[Cells]:
        """Divide at random into equal parts, each with its share of every group."""
        order = _shuffled(self.groups, len(self), rng)
        return [self.take(np.sort(order[part::n_parts])) for part in range(n_parts)]

    def draw(self, n_cells: int, rng: np.random.Generator) -> Cells:
        """Draw so many at random without replacement, groups in proportion; all, if there are no more."""
        return self if len(self) <= n_cells else self.take(drawn(self.groups, len(self), n_cells, rng))

    def permuted(self, rng: np.random.Generator) -> Cells:
        """Permute every gene on its own over all cells; and the groups, too."""
        columns = self.matrix.tocsc(copy=True)
        for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
            columns.indices[start:stop] = rng.permutation(len(self))[: stop - start]
        columns.has_sorted_indices = False
        groups = None if self.groups is None else rng.permutation(self.groups)
        return Cells(columns.tocsr(), groups, self.names)


def drawn(groups: np.ndarray | None, n_cells: int, n_drawn: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of a random sample without replacement, groups in proportion (drawn, in ascending order)."""
    order = _shuffled(groups, n_cells, rng)
    return np.sort(order[((np.arange(n_drawn) + rng.random()) * n_cells / n_drawn).astype(int)])


def _shuffled(groups: np.ndarray | None, n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Rows group by group, at random within each."""
    codes = np.zeros(n_cells, int) if groups is None else np.unique(groups, return_inverse=True)[1]
    return np.lexsort((rng.permutation(n_cells), codes))


def read_sets(
    sets: dict[str, AnnData], groupby: str | None, layer: str | None
) -> tuple[dict[str, Cells], bool]:
    """Read sets of cells, ``"real"`` and ``"generated"`` among them.

    Genes and cells are brought into the order of their names, so that their own has no influence on what is
    drawn and grown.

    Returns
    -------
    The sets, and whether they hold counts.
    """
    for name, adata in sets.items():
        _check_object(name, adata)
    genes = sets["real"].var_names.sort_values()
    read, kinds = {}, {}
    for name, adata in sets.items():
        _check_genes(name, adata.var_names, genes)
        matrix, where = _matrix(name, adata, layer)
        kinds[name] = matrix_kind(matrix, adata.obs_names, adata.var_names, where=where)
        by_name = np.argsort(adata.obs_names.to_numpy(dtype=str), kind="stable")
        matrix = as_csr(matrix)[by_name][:, adata.var_names.get_indexer(genes)]
        groups = None if groupby is None else _groups(name, adata, groupby)[by_name]
        read[name] = Cells(matrix, groups, adata.obs_names.to_numpy(dtype=str)[by_name])
    return read, _all_counts(read, kinds)


def check_unseen(real: Cells, reference: Cells) -> None:
    """Refuse real cells that were trained on: the same name and values as a reference cell."""
    own, seen = (np.char.add(cells.names, cells.digests) for cells in (real, reference))
    shared = np.isin(own, seen)
    if shared.mean() > _MOST_SHARED:
        raise DataError(
            f"real must hold cells that the generator has not seen, and {shared.sum()} of its {len(real)} "
            f"cells are among the reference's, first {real.names[shared][0]!r}. Set cells aside before "
            "training, and pass these as real."
        )


def named(names: Sequence[Any]) -> str:
    """The first few names, as an error tells them."""
    shown = ", ".join(repr(str(name)) for name in list(names)[:_N_NAMED])
    return f"{shown}, ..." if len(names) > _N_NAMED else shown


def _check_object(name: str, adata: Any) -> None:
    if not isinstance(adata, AnnData):
        raise DataError(f"{name} must be an AnnData object; it is {type(adata).__name__}.")
    if adata.isbacked:
        raise DataError(
            f"{name} is backed; fidelity works in memory: pass a sample, adata[rows].to_memory()."
        )
    if not adata.n_obs or not adata.n_vars:
        raise DataError(f"{name} is empty: {adata.n_obs} cells x {adata.n_vars} genes.")
    if not adata.var_names.is_unique:
        raise DataError(f"gene names of {name} are not unique; first call {name}.var_names_make_unique().")


def _check_genes(name: str, genes: pd.Index, wanted: pd.Index) -> None:
    for missing, lacking, has in (
        (wanted.difference(genes, sort=False), name, "real"),
        (genes.difference(wanted, sort=False), "real", name),
    ):
        if len(missing):
            raise DataError(
                f"{lacking} lacks {len(missing)} genes that {has} has: {named(list(missing))}. Compare the "
                f"shared ones: genes = real.var_names.intersection({name}.var_names); real[:, genes], ..."
            )


def _matrix(name: str, adata: AnnData, layer: str | None) -> tuple[Any, str]:
    if layer is not None and layer in adata.layers:
        return adata.layers[layer], f"{name}.layers[{layer!r}]"
    if layer is not None and name != "generated":
        have = ", ".join(map(repr, layer_names(adata.layers))) or "none"
        raise DataError(
            f"layer={layer!r} is not in {name}.layers (there: {have}).{nearest(layer, adata.layers)}"
        )
    if adata.X is None:
        raise DataError(f"{name}.X is None; name the layer that holds the data: layer=...")
    return adata.X, f"{name}.X"


def _groups(name: str, adata: AnnData, groupby: str) -> np.ndarray:
    if groupby not in adata.obs:
        have = ", ".join(map(repr, adata.obs)) or "none"
        raise DataError(
            f"groupby={groupby!r} is not a column of {name}.obs (there: {have}).{nearest(groupby, adata.obs)}"
        )
    column = adata.obs[groupby]
    if column.isna().any():
        raise DataError(
            f"{name}.obs[{groupby!r}] is missing for {column.isna().sum()} cells, first "
            f"{adata.obs_names[column.isna()][0]!r}. Leave these cells out."
        )
    return column.astype(str).to_numpy(dtype=str)


def _all_counts(sets: dict[str, Cells], kinds: Mapping[str, str]) -> bool:
    """Whether all sets hold counts; refuse counts beside other values (those of 0 and 1 may be either)."""
    if set(kinds.values()) == {"counts"}:
        return True
    counts = [name for name, kind in kinds.items() if kind == "counts" and sets[name].matrix.max() > 1]
    if counts:
        others = [name for name in kinds if kinds[name] != "counts"]
        raise DataError(
            f"{counts[0]} holds counts and {others[0]} does not: they are on different scales. Name the "
            "layer of the real cells that the generator learned: layer=..., or generate counts."
        )
    return False
