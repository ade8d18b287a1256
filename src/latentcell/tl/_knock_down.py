"""What the encoder does when a gene is held at zero: where cells go among the codes, and who is near them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from latentcell._errors import DataError, nearest
from latentcell.model import AE, CVAE, DCA, VAE, VSC, DisentangledVAE
from latentcell.model._cells import gene_positions, match_genes
from latentcell.model._encoder import AbstractEncoder

from ._observed import log_moments
from ._places import places_of

ALL = "all"
"""Name of the only group where there are no groups."""


def knock_down(
    adata: AnnData,
    model: AE | CVAE | DCA | DisentangledVAE | VAE | VSC,
    genes: str | Sequence[str] | Mapping[str, Sequence[str]],
    *,
    groupby: str | None = None,
    value: float | None = None,
    n_null: int = 20,
    n_neighbors: int = 15,
    max_cells: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Hold genes at zero at the input of the encoder, and tell how far cells move among the codes.

    **What is shown is the reaction of the encoder, not that of a cell.** A cell that loses a gene changes
    others; here all others stay as they were measured. What comes out says how much the code of these cells
    rests on the gene. A gene may be needed by the cell and not by the code (another tells the same), or the
    other way round. Any gene moves cells somewhat, a highly expressed one more than others; so each is
    compared with genes of the same mean in the same cells, and the table has both.

    Genes are held at zero in the matrix that the model reads (``layer`` of ``setup_anndata``), in its unit.
    Of counts the depth of the cell falls by those that are taken, unless the model has a size factor: an
    encoder that sees shares (log(1 + counts per 10,000)) sees all others rise a little. The genes that are
    compared lose as many counts. **A gene that hardly any cell lacks** (highly expressed, much the same in
    all) takes cells where the encoder has seen none when it is held at zero, and moves them far for no reason
    of biology.

    With :math:`z_i` the code of cell i as it is, :math:`z_i'` without the gene and :math:`s^2` the variance
    of codes, summed over dimensions, the shift is :math:`\lVert z_i' - z_i \rVert / s`.

    Parameters
    ----------
    adata
        Cells with the model's genes and keys. Not changed.
    model
        A trained model with an encoder.
    genes
        Genes, each by itself; or sets of genes that are held at zero together, by name.
    groupby
        ``obs`` column of groups, of text or categories: a row for each. Cells without one are left out. None
        takes all cells as one group.
    value
        What genes are held at. None is 0, which is refused of data with values below 0 (scaled ones), where 0
        is no absence: give the value that a gene has in cells without it.
    n_null
        Genes (or sets) of the same mean to compare with, in each group: those whose mean of log(1 + counts
        per 10,000) in its cells (else of the values) is nearest. Of a set, each gene is replaced by one drawn
        from its `n_null` nearest.
    n_neighbors
        Nearest cells that are compared, before and after.
    max_cells
        Cells of each group that are tried; of larger groups a random sample.
    seed
        Of samples and of null sets.

    Returns
    -------
    DataFrame with one row per gene (or set) and group, in the order of `genes`, and the columns

    ``gene``, ``group``, ``n_cells``
        What was held at zero, and in how many cells of which group that was tried.
    ``expressed``, ``mean``, ``mean_null``
        Share of these cells that have the gene (of a set: any of it), its mean expression there (of a set:
        the mean over genes), and that of the genes compared with. **Where these differ, there are no genes of
        the same level, and the comparison says little.**
    ``shift``, ``shift_null``, ``shift_null_high``
        Mean shift of the cells; mean and 95th percentile of that of the genes compared with.
    ``p``
        Share of the genes compared with, with this one among them, that move the cells as far; at least 1 /
        (1 + `n_null`), and a rank more than a test: genes differ in how much they say for other reasons too.
    ``kept``, ``kept_null``
        Share of a cell's nearest neighbours (among all cells as they are) that are still so afterwards.
    ``own_before``, ``own_after``, ``own_null``
        Share of the nearest neighbours that are of the cell's own group; afterwards; and with the genes
        compared with (NaN without groups).
    ``towards``, ``share_of_way``, ``way_null``
        The group to whose mean code cells move furthest, and how far, as a share of the way there from the
        mean code of their own (None and NaN without other groups); the mean of this share over the genes
        compared with, of each to the group that is its own furthest.

    Raises
    ------
    DataError
        If `model` has no encoder, a gene or column does not exist, a cell has no counts left without the
        gene, the model has too few other genes to compare with, or an argument is out of range.

    References
    ----------
    Inputs taken away to see what a trained network rests on: Zeiler and Fergus, Visualizing and understanding
    convolutional networks, ECCV 2014, `arXiv:1311.2901 <https://arxiv.org/abs/1311.2901>`__; genes of cells,
    in a transformer: Theodoris et al., Transfer learning enables predictions in network biology, Nature 618,
    2023, `doi:10.1038/s41586-023-06139-9 <https://doi.org/10.1038/s41586-023-06139-9>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0, seed=0)
    >>> model = lc.tl.vae(adata, max_epochs=20, n_latent=4, progress=False)
    >>> markers = adata.var_names[adata.var["marker_of"] == "group1"].tolist()
    >>> table = lc.tl.knock_down(adata, model, {"markers": markers}, groupby="group", n_null=5)
    >>> table.shape, table["group"].tolist()
    ((3, 18), ['group1', 'group2', 'group3'])
    >>> own = table.set_index("group").loc["group1"]
    >>> bool(own["shift"] > own["shift_null_high"])
    True
    """
    if not isinstance(model, AbstractEncoder):
        raise DataError(
            f"model: a {type(model).__name__} has no encoder whose input could change; use e.g. VAE or VSC"
        )
    for name, number in (("n_null", n_null), ("n_neighbors", n_neighbors), ("max_cells", max_cells)):
        if number < 1:
            raise DataError(f"{name} must be at least 1, got {number}")
    sets = _sets_of(model, genes)
    groups = _groups_of(adata, groupby)
    codes = places_of(adata, model, None)
    if not n_neighbors < len(codes):
        raise DataError(f"n_neighbors must be below the number of cells ({len(codes)}), got {n_neighbors}")
    where = _Surroundings(codes, groups, n_neighbors)
    if not where.spread > 0:
        raise DataError("the codes are the same in all cells; there is no shift to measure")
    rng = np.random.default_rng(seed)
    held = np.unique(np.concatenate(list(sets.values())))
    rows: list[dict[str, Any]] = []
    for group in dict.fromkeys(groups[groups >= 0].tolist() if groupby else [0]):
        members = np.flatnonzero(groups == group)
        if len(members) > max_cells:
            members = np.sort(rng.choice(members, max_cells, replace=False))
        cells, near = _Cells(adata, model, members, value), where.near(members, codes[members])
        means = log_moments(adata, model, members)[0]
        tried: dict[tuple[int, ...], dict[str, Any]] = {}
        for name, own in sets.items():
            nulls = _null_sets(means, own, held, n_null, rng)
            result = where.reaction(cells, own, group, near)
            for null in nulls:
                if null not in tried:
                    tried[null] = where.reaction(cells, np.array(null), group, near)
            shifts = np.array([tried[null]["shift"] for null in nulls])
            rows.append(
                {
                    "gene": name,
                    "group": group,
                    "n_cells": len(members),
                    "expressed": cells.have(own).mean(),
                    "mean": means[own].mean(),
                    "mean_null": means[np.array(nulls)].mean(),
                    "shift": result["shift"],
                    "shift_null": shifts.mean(),
                    "shift_null_high": np.quantile(shifts, 0.95),
                    "p": (1 + (shifts >= result["shift"]).sum()) / (1 + n_null),
                    "kept": result["kept"],
                    "kept_null": np.mean([tried[null]["kept"] for null in nulls]),
                    "own_before": (groups[near] == group).mean(),
                    "own_after": result["own"],
                    "own_null": np.mean([tried[null]["own"] for null in nulls]),
                    "towards": result["towards"],
                    "share_of_way": result["share_of_way"],
                    "way_null": np.mean([tried[null]["share_of_way"] for null in nulls]),
                }
            )
    table = pd.DataFrame(rows)
    order = table["gene"].map({name: at for at, name in enumerate(sets)})
    table = table.iloc[np.lexsort((table["group"], order))].reset_index(drop=True)
    names = _names_of(adata, groupby)
    if groupby is None:
        table[["own_before", "own_after", "own_null"]] = np.nan
    table["group"] = [names[group] for group in table["group"]]
    table["towards"] = [None if group is None else names[group] for group in table["towards"]]
    return table


@dataclass
class _Surroundings:
    """All cells among the codes, as they are; where cells that were changed come to lie."""

    codes: np.ndarray
    groups: np.ndarray
    n_neighbors: int

    def __post_init__(self) -> None:
        self.spread = float(np.sqrt(self.codes.var(axis=0).sum()))
        self.search = NearestNeighbors().fit(self.codes)

    def near(self, members: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Nearest cells of cells at these codes (members x n_neighbors), themselves left out."""
        rows = self.search.kneighbors(codes, n_neighbors=self.n_neighbors + 1, return_distance=False)
        other = rows != members[:, None]
        other[other.all(axis=1), -1] = False
        return rows[other].reshape(len(members), self.n_neighbors)

    def reaction(
        self, cells: "_Cells", genes: np.ndarray, group: int, was_near: np.ndarray
    ) -> dict[str, Any]:
        """Mean shift, neighbours kept and those of the own group, and where cells go, without the genes."""
        before = self.codes[cells.members]
        after = cells.codes_without(genes, before)
        near = self.near(cells.members, after)
        kept = (near[:, :, None] == was_near[:, None, :]).any(axis=2).mean()
        own = (self.groups[near] == group).mean()
        shift = np.linalg.norm(after - before, axis=1).mean() / self.spread
        way = self.way(group, after - before)
        return {"shift": float(shift), "kept": float(kept), "own": float(own), **way}

    def way(self, group: int, moved: np.ndarray) -> dict[str, Any]:
        """The group towards whose mean code cells move furthest, and the share of the way."""
        others = [other for other in np.unique(self.groups[self.groups >= 0]) if other != group]
        if not others:
            return {"towards": None, "share_of_way": np.nan}
        start = self.codes[self.groups == group].mean(axis=0)
        ways = np.stack([self.codes[self.groups == other].mean(axis=0) - start for other in others])
        shares = ways @ moved.mean(axis=0) / np.maximum(np.square(ways).sum(axis=1), 1e-12)
        return {"towards": int(others[int(shares.argmax())]), "share_of_way": float(shares.max())}


class _Cells:
    """Some cells as the model reads them, which can be encoded without some of their genes."""

    def __init__(self, adata: AnnData, model: Any, members: np.ndarray, value: float | None) -> None:
        self.model, self.members, self.layer = model, members, model.spec.layer
        cells = adata[members]
        cells = cells.to_memory() if adata.isbacked else cells
        matrix = cells.X if self.layer is None else cells.layers[self.layer]
        genes = match_genes(adata.var_names, model.spec.genes)
        matrix = matrix if genes is None else matrix[:, genes]
        self.matrix: Any = matrix.tocsr() if sparse.issparse(matrix) else np.asarray(matrix)
        self.obs, self.var = cells.obs, pd.DataFrame(index=pd.Index(model.spec.genes))
        if value is None and self.matrix.min() < 0:
            raise DataError(
                "the model's matrix has values below 0 (is it scaled?), where 0 does not mean that a gene is "
                "absent; give with value= what it has in cells without it"
            )
        self.value = 0.0 if value is None else float(value)

    def have(self, genes: np.ndarray) -> np.ndarray:
        """Which cells have another value than that at which the genes are held (cells)."""
        values = self.matrix[:, genes]
        values = values.toarray() if sparse.issparse(values) else values
        return np.asarray((values != self.value).any(axis=1))

    def codes_without(self, genes: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Codes with the genes held at the value; those of cells that have it anyway stay as they are."""
        at = np.flatnonzero(self.have(genes))
        after = codes.copy()
        if not len(at):
            return after
        changed: Any = self.matrix[at]
        if sparse.issparse(changed) and self.value == 0:
            kept = np.ones(changed.shape[1], dtype=changed.dtype)
            kept[genes] = 0
            changed = sparse.csr_matrix(changed @ sparse.diags(kept, dtype=changed.dtype))
            changed.eliminate_zeros()
        else:
            changed = changed.toarray() if sparse.issparse(changed) else changed.copy()
            changed[:, genes] = self.value
        if self.model.module.likelihood.data_kind == "counts":
            left = np.asarray(changed.sum(axis=1)).ravel()
            if not left.all():
                names = ", ".join(repr(gene) for gene in self.var.index[genes[:5]])
                raise DataError(
                    f"cell {self.obs.index[at[int(np.argmin(left))]]!r} has no counts left without {names}; "
                    "leave it out: adata = adata[adata.obs_names != ...].copy()"
                )
        layers = {} if self.layer is None else {self.layer: changed}
        cells = AnnData(changed, obs=self.obs.iloc[at], var=self.var, layers=layers)
        after[at] = places_of(cells, self.model, None)
        return after


def _sets_of(model: Any, genes: str | Sequence[str] | Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Positions of the genes of each set, by its name."""
    if not isinstance(genes, Mapping):
        genes = {gene: [gene] for gene in ([genes] if isinstance(genes, str) else list(genes))}
    if not genes or not all(len(members) for members in genes.values()):
        raise DataError("genes: name at least one gene, and one of each set")
    return {str(name): np.unique(gene_positions(model.spec, members)) for name, members in genes.items()}


def _groups_of(adata: AnnData, groupby: str | None) -> np.ndarray:
    """Code of each cell's group (cells), -1 without one."""
    if groupby is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    if groupby not in adata.obs:
        raise DataError(
            f"groupby={groupby!r} is not a column of adata.obs (there: {', '.join(adata.obs)})."
            f"{nearest(groupby, adata.obs)}"
        )
    codes = pd.Categorical(adata.obs[groupby]).codes.astype(np.int64)
    if not (codes >= 0).any():
        raise DataError(f"groupby: no cell has a value in obs[{groupby!r}]")
    return codes


def _names_of(adata: AnnData, groupby: str | None) -> list[Any]:
    return [ALL] if groupby is None else pd.Categorical(adata.obs[groupby]).categories.tolist()


def _null_sets(
    means: np.ndarray, genes: np.ndarray, held: np.ndarray, n_null: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Sets of other genes whose means are nearest to those of `genes` (positions)."""
    others = np.setdiff1d(np.arange(len(means)), held)
    if len(others) < max(n_null, len(genes)):
        raise DataError(
            f"n_null={n_null}, sets of {len(genes)}: beside the genes that are held at zero the model has "
            f"{len(others)} to compare with; lower n_null, or name fewer genes"
        )
    nearest = [others[np.argsort(np.abs(means[others] - means[gene]), kind="stable")] for gene in genes]
    if len(genes) == 1:
        return [(int(gene),) for gene in nearest[0][:n_null]]
    found = []
    for _ in range(n_null):
        drawn: list[int] = []
        for order in nearest:
            free = order[~np.isin(order, drawn)][:n_null]
            drawn.append(int(rng.choice(free)))
        found.append(tuple(sorted(drawn)))
    return found
