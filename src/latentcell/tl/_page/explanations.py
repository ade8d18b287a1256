"""What each metric of ``lc.metrics.fidelity`` is called, and how a reader of a report should take it."""

EXPLANATIONS: dict[str, tuple[str, str]] = {
    "classifier_auc_genes": (
        "Classifier AUC, genes",
        "A random forest tries to tell generated from real cells by their genes. "
        "0.5: it cannot; 1: it always can.",
    ),
    "classifier_auc_pcs": (
        "Classifier AUC, principal components",
        "The same from principal components of real cells, which see what genes do together and less of the "
        "noise in each. 0.5 is best.",
    ),
    "mmd2": (
        "Maximum mean discrepancy, squared",
        "Distance of the two distributions on principal components, by a kernel. Near 0 for cells of one "
        "distribution; may be slightly below 0.",
    ),
    "wasserstein2": (
        "Wasserstein distance",
        "How far cells must be moved on principal components to turn one set into the other. "
        "Even two sets of real cells are not at 0: read it beside real.",
    ),
    "neighbor_mixing": (
        "Mixing of neighbours",
        "Whether neighbourhoods hold real and generated cells alike. 1: mixed as if drawn from one set; 0: "
        "apart.",
    ),
    "precision": (
        "Precision",
        "Share of generated cells that lie where real cells are. Low: cells that do not exist.",
    ),
    "recall": (
        "Recall",
        "Share of real cells that lie where generated cells are. Low: kinds of cells that are missing.",
    ),
    "density": (
        "Density",
        "Like precision, but counts in how many real neighbourhoods a generated cell lies. Far above 1: "
        "generated cells crowd in the dense middle of real ones.",
    ),
    "coverage": (
        "Coverage",
        "Share of real cells with a generated cell in their neighbourhood. Low: cells lack variety.",
    ),
    "gene_mean_pearson": (
        "Gene means, Pearson",
        "Correlation of the genes' mean expression. Nearly every generator has a high one; a low one is an "
        "alarm.",
    ),
    "gene_mean_spearman": (
        "Gene means, Spearman",
        "The same by rank, so that rarely expressed genes count as much.",
    ),
    "gene_variance_spearman": (
        "Gene variances, Spearman",
        "Whether the genes that vary much are the same ones.",
    ),
    "zero_fraction_rmse": (
        "Zeros per gene, error",
        "Typical error of the share of cells in which a gene is not seen.",
    ),
    "ks_genes": (
        "Distribution of genes (Kolmogorov-Smirnov)",
        "Largest gap between the cumulative distributions of a gene, on average over genes.",
    ),
    "ks_library_size": (
        "Distribution of library sizes (Kolmogorov-Smirnov)",
        "The same for the counts per cell.",
    ),
    "ks_detected_genes": (
        "Distribution of detected genes (Kolmogorov-Smirnov)",
        "The same for the number of genes seen in a cell.",
    ),
    "gene_correlation": (
        "Gene-gene correlations kept",
        "Whether genes go together in generated cells as they do in real ones, within groups. What genes "
        "drawn one by one cannot have.",
    ),
    "marker_lfc_pearson": (
        "Marker fold changes, Pearson",
        "Correlation of the log-fold changes of the groups' markers.",
    ),
    "marker_lfc_slope": (
        "Marker fold changes, slope",
        "Below 1: groups are less distinct than they are; above 1: more distinct than they are.",
    ),
    "train_on_generated_f1": (
        "Train on generated, test on real (F1)",
        "A classifier of groups that learned from generated cells is asked about real ones.",
    ),
    "label_f1": (
        "Labels recognised (F1)",
        "A classifier of groups that learned from real cells is asked about generated ones: are they of the "
        "group they are said to be of?",
    ),
    "nearer_to_training": (
        "Nearer to training cells",
        "Share of generated cells that are nearer to a training cell than to a real cell that was held out. "
        "Well above the real cells' share: training cells are being copied.",
    ),
    "exact_copies": (
        "Exact copies",
        "Share of generated cells that are a training cell, count by count.",
    ),
}
"""Name in words and explanation by metric."""

BETTER = {"higher": "higher is better", "lower": "lower is better", "near best": "nearer to best is better"}
"""The column ``better`` in words."""


def title_of(metric: str) -> str:
    """Name of a metric in words; that of the table for one that is not explained here."""
    return EXPLANATIONS[metric][0] if metric in EXPLANATIONS else metric
