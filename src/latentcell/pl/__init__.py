"""Figures: each function draws what it is given and returns Matplotlib's Axes or Figure; none trains."""

from ._architecture import architecture
from ._augmentation import augmentation
from ._denoised import denoised
from ._embedding import embedding
from ._heatmap import heatmap
from ._history import history
from ._latent_genes import latent_genes
from ._latent_heatmap import latent_heatmap
from ._latent_traversal import latent_traversal
from ._mean_variance import mean_variance
from ._path import path
from ._perturbation import perturbation
from ._scores import scores
from ._sweep import disentanglement, rate_distortion

__all__ = [
    "architecture",
    "augmentation",
    "denoised",
    "disentanglement",
    "embedding",
    "heatmap",
    "history",
    "latent_genes",
    "latent_heatmap",
    "latent_traversal",
    "mean_variance",
    "path",
    "perturbation",
    "rate_distortion",
    "scores",
]
