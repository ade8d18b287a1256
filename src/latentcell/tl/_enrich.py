"""Gene sets among the genes that latent dimensions move, by decoupler."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._codes import is_down
from latentcell._errors import DataError, nearest

GeneSets = Mapping[str, Sequence[str]] | str | os.PathLike


def enrich_latent_genes(
    adata: AnnData,
    gene_sets: GeneSets,
    *,
    key: str = _keys.RANK_LATENT_GENES,
    min_genes: int = 5,
) -> pd.DataFrame:
    """Find gene sets whose genes a latent dimension moves more than others.

    For each dimension and set, a straight line is fitted through the scores of all genes by membership in
    the set (decoupler's univariate linear model); its t-value says how much higher the set's genes score.
    Nothing is downloaded. Needs decoupler: ``pip install "latentcell[enrich]"``.

    The p-values take genes to be independent, which genes of a programme are not: read them as an order of
    sets, not as error rates.

    Parameters
    ----------
    adata
        With the table of :func:`latentcell.tl.rank_latent_genes` with all its genes (``n_genes=None``).
    gene_sets
        Genes by name of set: a dict, or the path of a .gmt file.
    key
        ``uns`` key of the table.
    min_genes
        Sets with fewer of the ranked genes than this are left out.

    Returns
    -------
    DataFrame with one row per dimension and set, the strongest of each dimension first: ``group``,
    ``gene_set``, ``n_genes`` (of the set, among those ranked), ``score`` (t-value; above 0: the set's genes
    are moved in the group's direction), ``pvals_adj`` (two-sided; Benjamini-Hochberg over the sets of a
    dimension). Groups are those of genes that rise; of a table of falling genes only, those.

    Raises
    ------
    ImportError
        If decoupler is not installed.
    DataError
        If there is no such table, genes were cut off it, or no set has enough of its genes.

    References
    ----------
    Badia-i-Mompel et al., Bioinformatics Advances 2022, `doi:10.1093/bioadv/vbac016
    <https://doi.org/10.1093/bioadv/vbac016>`__ (decoupler).

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.vae(adata, max_epochs=2, n_latent=3, progress=False)
    >>> lc.tl.rank_latent_genes(adata, model)
    >>> hla = [gene for gene in adata.var_names if gene.startswith("HLA-")]
    >>> table = lc.tl.enrich_latent_genes(adata, {"HLA": hla})  # doctest: +SKIP
    >>> table["group"].tolist()  # doctest: +SKIP
    ['dim_0', 'dim_1', 'dim_2']
    """
    try:
        import decoupler
    except ImportError as error:
        raise ImportError(
            "enrich_latent_genes needs decoupler (version 2 or later), which is not installed: "
            'pip install "latentcell[enrich]", or pip install "decoupler>=2"'
        ) from error
    scores = _scores(adata, key)
    sets = _sets(gene_sets)
    members = pd.DataFrame(
        [(name, gene) for name, genes in sets.items() for gene in dict.fromkeys(genes)],
        columns=["source", "target"],
    )
    sizes = members[members["target"].isin(scores.columns)].groupby("source").size()
    sizes = sizes[sizes >= min_genes]
    if sizes.empty:
        raise DataError(
            f"gene_sets: none of the {len(sets)} sets has {min_genes} genes or more among the "
            f"{scores.shape[1]} ranked ones, such as {', '.join(scores.columns[:3])}. Are they the same kind "
            "of name?"
        )
    if (sizes == scores.shape[1]).any():
        raise DataError("gene_sets: a set holds all ranked genes, so that there are no others to compare.")
    found, adjusted = decoupler.mt.ulm(scores, members, tmin=min_genes)
    table = pd.DataFrame(
        {
            "group": found.index.repeat(found.shape[1]),
            "gene_set": list(found.columns) * len(found),
            "n_genes": list(sizes.loc[found.columns]) * len(found),
            "score": found.to_numpy().ravel(),
            "pvals_adj": adjusted.loc[found.index, found.columns].to_numpy().ravel(),
        }
    )
    order = {name: i for i, name in enumerate(scores.index)}
    table = table.sort_values("score", key=lambda column: -column.abs(), kind="stable")
    return table.sort_values("group", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def _scores(adata: AnnData, key: str) -> pd.DataFrame:
    """Scores of all ranked genes (groups x genes)."""
    if key not in adata.uns:
        raise DataError(
            f"key: uns has no {key!r}; first call lc.tl.rank_latent_genes(adata, model)."
            f"{nearest(key, adata.uns)}"
        )
    stored = adata.uns[key]
    names, scores = stored["names"], stored["scores"]
    if len(names) < stored["params"]["n_ranked"]:
        raise DataError(f"key: genes were cut off the table {key!r}; rank them with n_genes=None")
    groups = [group for group in names.dtype.names if not is_down(group)] or list(names.dtype.names)
    genes = names[groups[0]]
    columns = [pd.Series(scores[group], index=names[group]).reindex(genes) for group in groups]
    table = pd.DataFrame(np.stack(columns), index=groups, columns=[str(gene) for gene in genes])
    return table.astype(np.float64)


def _sets(given: GeneSets) -> dict[str, list[str]]:
    """Genes by name of set, from a dict or a .gmt file (name, description, genes; separated by tabs)."""
    if isinstance(given, Mapping):
        return {str(name): [str(gene) for gene in genes] for name, genes in given.items()}
    path = Path(given)
    if not path.is_file():
        raise DataError(f"gene_sets: there is no file {str(path)!r}; pass a .gmt file or a dict of genes")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    short = next((row for row in rows if len(row) < 3), None)
    if short is not None:
        raise DataError(
            f"gene_sets: {str(path)!r} is no .gmt file (a set per line: name, description, genes, separated "
            f"by tabs); one line is {short[0][:60]!r}"
        )
    return {row[0]: [gene.strip() for gene in row[2:] if gene.strip()] for row in rows}
