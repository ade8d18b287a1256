"""Scores of a latent space and of generated cells: arrays or AnnData in, numbers or tables out."""

from latentcell.metrics._copying import exact_copies, nearer_to_training
from latentcell.metrics._correlation import best_correlation, matched_correlation
from latentcell.metrics._dci import dci
from latentcell.metrics._manifold import manifold_overlap, neighbor_mixing
from latentcell.metrics._marginals import gene_marginals
from latentcell.metrics._mutual import modularity, mutual_information_gap
from latentcell.metrics._threshold import separated_attribute_predictability, single_latent_accuracy
from latentcell.metrics._total_correlation import total_correlation
from latentcell.metrics._two_sample import classifier_auc, energy_distance, mmd, wasserstein
from latentcell.metrics.clustering import clustering, kmeans_tsne, leiden
from latentcell.metrics.dimensions import dimension_scores
from latentcell.metrics.disentanglement import disentanglement
from latentcell.metrics.fidelity import fidelity
from latentcell.metrics.neighbors import neighbor_average_precision, neighbor_purity
from latentcell.metrics.perturbation import perturbation_response, rank_differential_genes

__all__ = [
    "best_correlation",
    "classifier_auc",
    "clustering",
    "dci",
    "dimension_scores",
    "disentanglement",
    "energy_distance",
    "exact_copies",
    "fidelity",
    "gene_marginals",
    "kmeans_tsne",
    "leiden",
    "manifold_overlap",
    "matched_correlation",
    "mmd",
    "modularity",
    "mutual_information_gap",
    "nearer_to_training",
    "neighbor_average_precision",
    "neighbor_mixing",
    "neighbor_purity",
    "perturbation_response",
    "rank_differential_genes",
    "separated_attribute_predictability",
    "single_latent_accuracy",
    "total_correlation",
    "wasserstein",
]
