"""Preprocessing: the Seurat recipe, variance normalisation, the check on counts, cells that stay on disk."""

from latentcell.pp._check import check_counts
from latentcell.pp._open import open_cells
from latentcell.pp._seurat import seurat
from latentcell.pp._variance import normalize_variance

__all__ = ["check_counts", "normalize_variance", "open_cells", "seurat"]
