"""Principal components, and a normal distribution of them per label."""

from collections.abc import Mapping

import numpy as np
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from latentcell._errors import DataError
from latentcell.model._arguments import own_params
from latentcell.model._sound import check_shape
from latentcell.train.loading import Cells

from ._base import AbstractBaseline
from ._groups import Draw, Drawn, rows_of_group

_TARGET_SUM = 1e4


class PCAGaussian(AbstractBaseline):
    r"""PCA-Gaussian: scores of principal components, normal in each label and batch, mapped back to genes.

    Its cells are combinations of the components and have nothing beside: no noise of single genes, and no
    exact zeros but those below 0. On the leading components they look like real cells, on genes they are told
    at a glance. It is here as the example of what a measure on components of the training cells does not see.

    Of counts it models :math:`\log(1 + 10^4 x / \sum x)` over the model's genes, and that is what it gives:
    ``X`` holds no counts, and ``uns["latentcell"]["scale"]`` is ``"log1p"``. Other data stay on their scale
    (``"data"``). Values below 0 become 0 unless the data have negative values.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`. Values of any kind.
    registry
        Instead of `adata`, when a saved model is loaded.
    n_components
        Principal components, of all cells together; fewer where there are too few cells or genes.
    seed
        Default of :meth:`train` and :meth:`generate`.

    References
    ----------
    Tipping and Bishop, Probabilistic Principal Component Analysis, JRSS B 1999,
    `doi:10.1111/1467-9868.00196 <https://doi.org/10.1111/1467-9868.00196>`__; here without its noise, and
    with a distribution per label.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.PCAGaussian.setup_anndata(adata, labels_key="group")
    >>> model = lc.model.PCAGaussian(adata, n_components=10)
    >>> model.train()
    >>> new = model.generate(30, labels="rare")
    >>> new.shape, new.obsm["X_pcagaussian"].shape, new.uns["latentcell"]["scale"]
    ((30, 1000), (30, 10), 'data')
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_components: int = 50,
        seed: int = 0,
    ) -> None:
        params = own_params(locals())
        if n_components < 1:
            raise DataError(f"n_components must be at least 1, got {n_components}")
        super().__init__(adata, registry, params)
        self._components = self._center = np.empty(0)
        self._groups: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def gene_likelihood(self) -> str:
        """Distribution of scores: ``"normal"``."""
        return "normal"

    @property
    def _scale(self) -> str:
        return "log1p" if self._kind == "counts" else "data"

    def _fit(self, cells: Cells, members: list[np.ndarray], seed: int) -> None:
        x = sparse.vstack([self._values(rows_of_group(cells, rows)) for rows in members], format="csr")
        n = min(self.params["n_components"], *(size - 1 for size in x.shape))
        if n < 1:
            raise DataError(f"principal components need 2 cells and 2 genes at least, there are {x.shape}")
        pca = PCA(n, svd_solver="arpack", random_state=seed).fit(x)
        scores = np.split(pca.transform(x), np.cumsum([len(rows) for rows in members])[:-1])
        self._components, self._center = pca.components_, pca.mean_
        self._groups = [(part.mean(axis=0), covariance_factor(part)) for part in scores]

    def _values(self, x: sparse.csr_matrix) -> sparse.csr_matrix:
        """What components are taken of, float64."""
        x = x.astype(np.float64)
        if self._kind == "counts":
            totals = np.asarray(x.sum(axis=1)).ravel()
            x = (sparse.diags_array(_TARGET_SUM / totals) @ x).log1p()
        return sparse.csr_matrix(x)

    def _drawer(self) -> Draw:
        def draw(group: int, n_cells: int, rng: np.random.Generator) -> Drawn:
            mean, factor = self._groups[group]
            scores = mean + rng.standard_normal((n_cells, len(factor))) @ factor
            x = scores @ self._components + self._center
            if self._kind != "real":
                np.maximum(x, 0.0, out=x)
            return x.astype(np.float32), scores.astype(np.float32)

        return draw

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"components": self._components, "center": self._center}
        for i, (mean, factor) in enumerate(self._groups):
            arrays |= {f"{i}.mean": mean, f"{i}.factor": factor}
        return arrays

    def _restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._components, self._center = arrays["components"], arrays["center"]
        n_groups = len(self._known_groups)
        self._groups = [(arrays[f"{i}.mean"], arrays[f"{i}.factor"]) for i in range(n_groups)]
        n_dims, n_genes = len(self._components), len(self.spec.genes)
        check_shape("components", self._components, (n_dims, n_genes))
        check_shape("center", self._center, (n_genes,))
        for mean, factor in self._groups:
            check_shape("mean", mean, (n_dims,))
            check_shape("factor", factor, (None, n_dims))


def covariance_factor(scores: np.ndarray) -> np.ndarray:
    """A matrix (k x dimensions) with ``factor.T @ factor`` the sample covariance, k at most the dimensions.

    Normal draws times it have that covariance, also where it is singular: with fewer cells than dimensions,
    and down to one cell, which is then repeated.

    Examples
    --------
    >>> x = np.array([[0.0, 1], [2, 3], [4, 8]])
    >>> f = covariance_factor(x)
    >>> np.allclose(f.T @ f, np.cov(x.T))
    True
    """
    centered = scores - scores.mean(axis=0)
    if len(scores) <= 2:
        return centered
    factor = np.linalg.qr(centered, mode="r")
    return factor / np.sqrt(len(scores) - 1)
