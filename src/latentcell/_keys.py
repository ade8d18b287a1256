"""Every AnnData slot that latentcell reads or writes, in one place."""

COUNTS_LAYER = "counts"
"""``layers`` key under which :func:`latentcell.pp.seurat` keeps raw counts."""

SCALED_LAYER = "scaled"
"""``layers`` key under which :func:`latentcell.pp.seurat` writes z-scores, if asked to."""

IS_FILLED = "is_filled"
"""``var`` key of the genes that ``prepare_query_anndata`` filled with 0."""

IS_GENERATED = "is_generated"
"""``obs`` key that is True for generated cells."""

UNS = "latentcell"
"""``uns`` key of what latentcell says about a whole AnnData object (provenance)."""


def latent(name: str) -> str:
    """``obsm`` key of the latent codes of model `name`: ``"vsc" -> "X_vsc"``."""
    return f"X_{name}"


def params(key_added: str) -> str:
    """``uns`` key that belongs to the ``obsm`` key `key_added`: ``"X_vsc" -> "vsc"``."""
    return key_added.removeprefix("X_")


def hard(key_added: str) -> str:
    """``obsm`` key of the hard codes that belong to `key_added`: ``"X_vsc" -> "vsc_hard"``."""
    return f"{params(key_added)}_hard"


def inclusion(key_added: str) -> str:
    """``obsm`` key of the inclusion probabilities of `key_added`: ``"X_vsc" -> "vsc_inclusion"``."""
    return f"{params(key_added)}_inclusion"


def loadings(key_added: str) -> str:
    """``varm`` key of linear decoder loadings that belong to `key_added`: ``"X_vsc" -> "vsc_loadings"``."""
    return f"{params(key_added)}_loadings"


def effects(key_added: str) -> str:
    """``varm`` key of the mean effects of dimensions on genes: ``"X_vae" -> "vae_effects"``."""
    return f"{params(key_added)}_effects"


def clusters(key_added: str) -> str:
    """``obs`` key of clusters that a model found: ``"X_desc" -> "desc_clusters"``."""
    return f"{params(key_added)}_clusters"


def confidence(key_added: str) -> str:
    """``obs`` key of how probable a cell's cluster is: ``"X_desc" -> "desc_confidence"``."""
    return f"{params(key_added)}_confidence"


def probabilities(key_added: str) -> str:
    """``obsm`` key of the probabilities of clusters: ``"X_desc" -> "desc_probabilities"``."""
    return f"{params(key_added)}_probabilities"


UNASSIGNED = "unassigned"
"""Category of cells that a model puts in no cluster."""


def log_likelihood(key_added: str) -> str:
    """``obs`` key of cells' log-likelihoods of `key_added`: ``"X_scvis" -> "scvis_log_likelihood"``."""
    return f"{params(key_added)}_log_likelihood"


def dropout(key_added: str) -> str:
    """``var`` key of how often genes' values are lost, of `key_added`: ``"X_vasc" -> "vasc_dropout"``."""
    return f"{params(key_added)}_dropout"


UNIT_PRIOR = "unit_prior"
"""In ``uns["<model>"]``: whether codes have a prior of variance 1, in whose units they are small or large."""

WEIGHTS = "weights"
"""In ``uns["<model>"]`` and in tables of a model's dimensions: a digest of the weights they are of."""

RANK_LATENT_GENES = "rank_latent_genes"
"""``uns`` key of the genes that dimensions move, in the form of ``sc.tl.rank_genes_groups``."""

LATENT_DIRECTIONS = "latent_directions"
"""``uns`` key of directions in latent space that are named after what they change."""


def colors(key: str) -> str:
    """``uns`` key of the colours of an ``obs`` column, as in scanpy: ``"leiden" -> "leiden_colors"``."""
    return f"{key}_colors"
