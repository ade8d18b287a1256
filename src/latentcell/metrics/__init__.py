"""Scores of a latent space: arrays in, numbers or tables out."""

from latentcell.metrics.clustering import clustering, kmeans_tsne, leiden
from latentcell.metrics.dimensions import dimension_scores
from latentcell.metrics.neighbors import neighbor_average_precision, neighbor_purity

__all__ = [
    "clustering",
    "dimension_scores",
    "kmeans_tsne",
    "leiden",
    "neighbor_average_precision",
    "neighbor_purity",
]
