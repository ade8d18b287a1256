"""Cells put together gene by gene from real ones."""

from collections.abc import Mapping

import numpy as np
from anndata import AnnData
from scipy import sparse

from latentcell._errors import DataError
from latentcell.model._arguments import own_params
from latentcell.train.loading import Cells

from ._base import AbstractBaseline
from ._groups import Draw, Drawn, members_of, rows_of_group


class GeneShuffle(AbstractBaseline):
    """Gene shuffling: every gene of a new cell is that of another real cell of the same label and batch.

    It keeps the distribution of each gene inside a label exactly, and nothing else: inside a label genes are
    independent, so that library sizes vary too little. What a model knows of genes together, it must show
    against this.

    It is its cells: nothing is fitted, and what :meth:`save` writes holds no expression. A loaded one needs
    cells, ``load(dir, adata)``.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`. Values of any kind.
    registry
        Instead of `adata`, when a saved model is loaded.
    seed
        Default of :meth:`generate`.

    References
    ----------
    Permutation of each variable is the null model of Breiman, Statistical Modeling: the two cultures,
    Statistical Science 2001, `doi:10.1214/ss/1009213726 <https://doi.org/10.1214/ss/1009213726>`__, and of
    the unsupervised random forest.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.GeneShuffle.setup_anndata(adata, labels_key="group")
    >>> model = lc.model.GeneShuffle(adata)
    >>> model.train()
    >>> new = model.generate(labels={"rare": 20})
    >>> new.shape, bool(set(new.X[:, 0]) <= set(adata[adata.obs["group"] == "rare"].X[:, 0]))
    ((20, 1000), True)
    """

    def __init__(self, adata: AnnData | None = None, *, registry: dict | None = None, seed: int = 0) -> None:
        super().__init__(adata, registry, own_params(locals()))

    @property
    def gene_likelihood(self) -> str:
        """Distribution of single genes: ``"empirical"``."""
        return "empirical"

    def _fit(self, cells: Cells, members: list[np.ndarray], seed: int) -> None:
        pass

    def _drawer(self) -> Draw:
        if self.adata is None:
            raise DataError("GeneShuffle draws from real cells: load(dir, adata)")
        cells = self._collect(self.adata, check=False)
        members = members_of(self._known_groups, cells)
        by_gene: dict[int, sparse.csc_matrix] = {}

        def draw(group: int, n_cells: int, rng: np.random.Generator) -> Drawn:
            if not len(members[group]):
                raise DataError("the attached cells lack a label or batch that GeneShuffle was trained on")
            if group not in by_gene:
                by_gene[group] = rows_of_group(cells, members[group]).tocsc()
            return shuffled(by_gene[group], n_cells, rng), None

        return draw

    def _arrays(self) -> dict[str, np.ndarray]:
        return {}

    def _restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays:
            raise ValueError(f"GeneShuffle has no arrays, found {sorted(arrays)}")


def shuffled(x: sparse.csc_matrix, n_cells: int, rng: np.random.Generator) -> sparse.csr_matrix:
    """New cells (n_cells x genes), every value that of the same gene in a cell of `x` drawn for it alone.

    Parameters
    ----------
    x
        Cells x genes, without stored zeros.
    n_cells
        Number of new cells.
    rng
        Of the draws.
    """
    # the cells of a gene are numbered so that those with a value come first: no cell is looked up
    drawn = rng.integers(x.shape[0], size=(n_cells, x.shape[1]), dtype=np.int32)
    cells, genes = np.nonzero(drawn < np.diff(x.indptr))
    values = x.data[x.indptr[genes] + drawn[cells, genes]]
    return sparse.csr_matrix((values, (cells, genes)), shape=drawn.shape)
