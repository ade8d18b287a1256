"""The view in which sets of cells are compared; fitted on cells that are none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier

from latentcell.metrics._cells import Cells
from latentcell.metrics._groups import centred, label_forest, top_markers

N_MARKERS = 50
"""Markers of each group."""

N_CORRELATED = 100
"""Genes whose correlations are compared."""


@dataclass(frozen=True)
class Sample:
    """Cells as they are compared.

    Parameters
    ----------
    values
        Chosen genes: log1p of counts per 10,000, or the values themselves (cells x genes).
    pcs
        Principal components (cells x components).
    library_size, detected_genes
        Counts, and genes with any, of each cell (cells); ``None`` if the data are no counts.
    groups
        Position of each cell's group; all 0 without groups.
    """

    values: np.ndarray
    pcs: np.ndarray
    library_size: np.ndarray | None
    detected_genes: np.ndarray | None
    groups: np.ndarray

    def take(self, rows: np.ndarray) -> Sample:
        """The cells in these rows."""
        library_size = None if self.library_size is None else self.library_size[rows]
        detected_genes = None if self.detected_genes is None else self.detected_genes[rows]
        return Sample(self.values[rows], self.pcs[rows], library_size, detected_genes, self.groups[rows])


@dataclass(frozen=True)
class Basis:
    """Genes, components, markers and classifier, all from the basis cells.

    Parameters
    ----------
    genes
        Positions of the genes of the highest variance.
    pca
        Principal components of these genes, centred and not scaled.
    groups
        Names of the groups; empty without groups.
    markers
        For each group positions of its markers among `genes`.
    correlated
        Positions among `genes` of those that vary most within groups.
    forest
        Classifier of the groups; ``None`` without groups.
    target
        Counts that every cell is normalised to, the median of the basis cells; ``None`` if the data are no
        counts.
    """

    genes: np.ndarray
    pca: PCA
    groups: list[str]
    markers: list[np.ndarray]
    correlated: np.ndarray
    forest: RandomForestClassifier | None
    target: float | None

    @classmethod
    def fit(
        cls,
        cells: Cells,
        groups: list[str],
        *,
        counts: bool,
        n_top_genes: int,
        n_comps: int,
        n_trees: int,
        seed: int,
    ) -> Basis:
        """Learn the view from the basis cells."""
        matrix = cells.matrix.astype(np.float64)
        target = float(np.median(_totals(matrix))) if counts else None
        matrix = _scaled(matrix, target)
        genes = np.sort(np.argsort(-_variances(matrix), kind="stable")[:n_top_genes])
        values = matrix[:, genes].toarray()
        n_comps = min(n_comps, len(values) - 1, len(genes))
        pca = PCA(n_comps, svd_solver="full").fit(values)
        codes = _codes(cells, groups)
        within = centred(values, codes).var(axis=0)
        return cls(
            genes=genes,
            pca=pca,
            groups=groups,
            markers=top_markers(values, codes, len(groups), N_MARKERS) if groups else [],
            correlated=np.sort(np.argsort(-within, kind="stable")[:N_CORRELATED]),
            forest=label_forest(values, codes, n_trees, seed) if groups else None,
            target=target,
        )

    def view(self, cells: Cells) -> Sample:
        """Bring cells into this view."""
        matrix = cells.matrix.astype(np.float64)
        values = _scaled(matrix, self.target)[:, self.genes].toarray()
        library_size = detected_genes = None
        if self.target is not None:
            library_size, detected_genes = _totals(matrix), _totals(matrix != 0)
        codes = _codes(cells, self.groups)
        return Sample(values, self.pca.transform(values), library_size, detected_genes, codes)


def _scaled(matrix: Any, target: float | None) -> Any:
    """Log1p of counts after scaling every cell to the target (cells without counts stay 0); else as it is."""
    if target is None:
        return matrix
    total = _totals(matrix)
    factor = np.divide(target, total, out=np.zeros_like(total), where=total > 0)
    return (sparse.diags(factor) @ matrix).log1p().tocsr()


def _totals(matrix: Any) -> np.ndarray:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


def _variances(matrix: Any) -> np.ndarray:
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    return np.asarray(matrix.multiply(matrix).mean(axis=0)).ravel() - mean**2


def _codes(cells: Cells, groups: list[str]) -> np.ndarray:
    if cells.groups is None:
        return np.zeros(len(cells), int)
    return np.searchsorted(np.array(groups), cells.groups)
