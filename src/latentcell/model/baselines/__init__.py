"""Simple generators of new cells: what a deep model has to be better than."""

from .copula import GaussianCopula
from .gene_shuffle import GeneShuffle
from .pca_gaussian import PCAGaussian

__all__ = ["GaussianCopula", "GeneShuffle", "PCAGaussian"]
