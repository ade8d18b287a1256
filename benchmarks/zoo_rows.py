"""What the comparison of models is of: rows and data sets, for benchmarks/zoo.py and the page's tables."""

DATA = {
    "pbmc3k": None,
    "cellmix": "batch",
    "kang": "condition",
    "splatter": None,
    "yan": None,
}
"""Data sets and their batches."""
BASELINES = ("PCA", "NMF", "SCVI")
"""Rows that are not of the package."""
VARIANTS: dict[str, tuple[str, str | None, dict]] = {
    "VAE (zinb)": ("VAE", None, {"gene_likelihood": "zinb"}),
    "VAE (scvi)": ("VAE", "scvi", {}),
}
"""Rows that are a class with a preset or with arguments of its own."""
MODELS = (
    *BASELINES,
    "AE",
    "VAE",
    *VARIANTS,
    "VSC",
    "DisentangledVAE",
    "DCA",
    "VASC",
    "SCVIS",
    "SAUCIE",
    "DESC",
    "GAN",
    "CVAE",
)
"""All rows."""
COUNTS_ONLY = ("DCA", "SCVI", *VARIANTS)
"""Rows that are for counts alone, and so not for Yan's values."""
