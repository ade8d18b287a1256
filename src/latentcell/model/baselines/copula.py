"""A Gaussian copula per label, with negative binomial or empirical genes."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from anndata import AnnData
from scipy import sparse

from latentcell._errors import DataError
from latentcell.model._arguments import own_params
from latentcell.model._generation import check_choice
from latentcell.model._sound import check_positions, check_shape, checked_csr
from latentcell.train.loading import Cells

from ._base import AbstractBaseline
from ._dependence import Dependence, Shrinkage
from ._groups import Draw, Drawn, rows_of_group
from ._margins import EmpiricalMargins, NegativeBinomialMargins

Margins = Literal["nb", "empirical"]


class _Group(NamedTuple):
    """What is fitted to one label in one batch; other genes than `genes` are 0 in it."""

    genes: np.ndarray
    margins: NegativeBinomialMargins | EmpiricalMargins
    dependence: Dependence


class GaussianCopula(AbstractBaseline):
    r"""Gaussian copula: a distribution for each gene, and a correlation between genes, per label and batch.

    Normal scores :math:`z \sim N(0, (1-\lambda) R + \lambda I)` of the genes become values
    :math:`F_g^{-1}(\Phi(z_g))`, where :math:`F_g` is gene g's distribution in the group and R the correlation
    of normal scores of its cells. There are far fewer cells in a group than genes, so that R is singular: it
    is drawn from by combining the scores of cells with random weights, and is never formed.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`: counts, or values of any kind with ``margins="empirical"``.
    registry
        Instead of `adata`, when a saved model is loaded.
    margins
        Distribution of each gene in a group. ``"nb"``: negative binomial by maximum likelihood, Poisson where
        the gene is not over-dispersed; gives values that no cell had. ``"empirical"``: the values that cells
        of the group had, as often; closer to them, and the only choice for data that are not counts.
    shrinkage
        :math:`\lambda`, 0 to 1: share of each gene's score that is its own. 0.2 by default: see the
        documentation for what others give. ``"ledoit-wolf"``: in each group the intensity that brings the
        correlation matrix nearest to the truth element by element. It is large where cells are few (0.6 to
        0.96 in the types of PBMC3k), and genes then vary together too little, depth most of all.
    max_cells
        Cells of a group that correlations are taken from at most, drawn at random (margins are of all). It
        bounds the size of the model and the time of a draw; the standard error of a correlation from 2,000
        cells is 0.02.
    seed
        Default of :meth:`train` and :meth:`generate`.

    References
    ----------
    Sun et al., scDesign2, Genome Biology 2021, `doi:10.1186/s13059-021-02367-2
    <https://doi.org/10.1186/s13059-021-02367-2>`__; Song et al., scDesign3, Nature Biotechnology 2024,
    `doi:10.1038/s41587-023-01772-1 <https://doi.org/10.1038/s41587-023-01772-1>`__. Both fit genes with
    covariates and randomise the ranks of ties; here ties share their mean rank. On shrinkage see Schaefer and
    Strimmer 2005, `doi:10.2202/1544-6115.1175 <https://doi.org/10.2202/1544-6115.1175>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> adata.X = adata.X.round()
    >>> lc.model.GaussianCopula.setup_anndata(adata, labels_key="group")
    >>> model = lc.model.GaussianCopula(adata)
    >>> model.train()
    >>> new = model.generate(labels={"group2": 20, "rare": 30})
    >>> new.shape, new.obs["group"].value_counts().loc[["group2", "rare"]].tolist()
    ((50, 1000), [20, 30])
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        margins: Margins = "nb",
        shrinkage: Shrinkage = 0.2,
        max_cells: int = 2000,
        seed: int = 0,
    ) -> None:
        params = own_params(locals())
        check_choice("margins", margins, get_args(Margins))
        if shrinkage != "ledoit-wolf" and (isinstance(shrinkage, str) or not 0 <= shrinkage <= 1):
            raise DataError(f"shrinkage must lie in [0, 1] or be 'ledoit-wolf', got {shrinkage!r}")
        if max_cells < 1:
            raise DataError(f"max_cells must be at least 1, got {max_cells}")
        super().__init__(adata, registry, params, counts_only=margins == "nb")
        self._groups: list[_Group] = []

    @property
    def gene_likelihood(self) -> str:
        """Distribution of single genes: the argument `margins`."""
        return self.params["margins"]

    @property
    def _margins(self) -> type[NegativeBinomialMargins] | type[EmpiricalMargins]:
        return NegativeBinomialMargins if self.params["margins"] == "nb" else EmpiricalMargins

    def _fit(self, cells: Cells, members: list[np.ndarray], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._groups = []
        for rows in members:
            x = rows_of_group(cells, rows)
            genes = np.unique(x.indices)
            x = x[:, genes]
            margins = self._margins.fit(x.tocsc())
            if len(rows) > self.params["max_cells"]:
                x = x[np.sort(rng.choice(len(rows), self.params["max_cells"], replace=False))]
            dependence = Dependence.fit(x.toarray(), self.params["shrinkage"])
            self._groups.append(_Group(genes, margins, dependence))

    def _drawer(self) -> Draw:
        n_genes = len(self.spec.genes)

        def draw(group: int, n_cells: int, rng: np.random.Generator) -> Drawn:
            genes, margins, dependence = self._groups[group]
            x = margins.quantile(dependence.draw(n_cells, rng))
            return sparse.csr_matrix((x.data, genes[x.indices], x.indptr), shape=(n_cells, n_genes)), None

        return draw

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for i, (genes, margins, (scores, offset, noise)) in enumerate(self._groups):
            parts = {
                "genes": genes,
                **margins._asdict(),
                "scores.data": scores.data,
                "scores.indices": scores.indices,
                "scores.indptr": scores.indptr,
                "offset": offset,
                "noise": noise,
            }
            arrays |= {f"{i}.{name}": values for name, values in parts.items()}
        return arrays

    def _restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._groups = []
        for i in range(len(self._known_groups)):
            genes, offset, noise = (arrays[f"{i}.{name}"] for name in ("genes", "offset", "noise"))
            margins = self._margins(*(arrays[f"{i}.{name}"] for name in self._margins._fields))
            data, indices, indptr = (arrays[f"{i}.scores.{name}"] for name in ("data", "indices", "indptr"))
            scores = checked_csr(data, indices, indptr, len(genes))
            check_positions("genes", genes, len(self.spec.genes))
            check_shape("offset", offset, (len(genes),))
            check_shape("noise", noise, (len(genes),))
            margins.check(len(genes))
            self._groups.append(_Group(genes, margins, Dependence(scores, offset, noise)))
