"""The small cells that the contract is kept on."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

KEYS = {
    "batch_key": "batch",
    "labels_key": "label",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["age"],
}
"""Everything besides expression that a model may be told of :func:`make_cells`."""
LABELS = ("1", "2", "3")
"""Labels of :func:`make_cells`."""


def make_cells(n_cells: int = 60, n_genes: int = 20, seed: int = 0) -> ad.AnnData:
    """Counts of three kinds of cells in two batches, with the same on other scales as layers.

    Parameters
    ----------
    n_cells, n_genes
        Their numbers.
    seed
        Of rates and counts.

    Returns
    -------
    AnnData (n_cells x n_genes): counts in ``X`` (csr, float32), their log1p in ``layers["log"]`` and counts
    between 0 and 1 in ``layers["unit"]``; in ``obs`` the categories ``"batch"`` (names outside ASCII),
    ``"label"`` (text that looks like numbers) and ``"donor"`` (integers), and the numbers ``"age"`` and
    ``"size"``.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.testing.make_cells(n_cells=6)
    >>> adata.shape, adata.obs["label"].to_list()
    ((6, 20), ['3', '1', '2', '3', '1', '2'])
    """
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    rate = rng.gamma(1.0, 3.0, size=(3, n_genes)) + 0.2
    counts = rng.poisson(rate[kind]).astype(np.float32)
    counts[:, 0] += 1  # no empty cells
    adata = ad.AnnData(sparse.csr_matrix(counts))
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var_names = [f"gene{j}" for j in range(n_genes)]
    adata.layers["log"] = np.log1p(counts)
    adata.layers["unit"] = counts / counts.max()
    adata.obs["batch"] = pd.Categorical(np.array(["Zürich", "北京"])[np.arange(n_cells) % 2])
    adata.obs["label"] = pd.Categorical(np.array(["3", "1", "2"])[kind])
    adata.obs["donor"] = np.arange(n_cells) % 4 * 10
    adata.obs["age"] = rng.normal(50, 10, size=n_cells)
    adata.obs["size"] = rng.uniform(20, 80, size=n_cells)
    return adata


def dense(matrix: object) -> np.ndarray:
    """A matrix as an array."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)  # type: ignore[attr-defined]


def with_other_genes(adata: ad.AnnData, values: object = None) -> ad.AnnData:
    """`adata` and as many genes again that no model knows, which come first and hold `values`."""
    other = adata.copy()
    other.var_names = [f"other{j}" for j in range(other.n_vars)]
    if values is not None:
        other.X = values
    return ad.concat([other, adata], axis=1, merge="first")


def fingerprint(adata: ad.AnnData, *, but: str = "\0") -> dict[str, object]:
    """Everything an AnnData holds, as text and bytes, without slots whose names start with `but`.

    Parameters
    ----------
    adata
        Cells.
    but
        Prefix of ``obs``, ``obsm`` and ``uns`` keys to leave out.
    """
    columns = [name for name in adata.obs if not str(name).startswith(but)]
    record: dict[str, object] = {
        "obs": adata.obs[columns].to_csv(),
        "dtypes of obs": [str(adata.obs[name].dtype) for name in columns],
        "var": adata.var.to_csv(),
        "uns": repr({key: value for key, value in adata.uns.items() if not str(key).startswith(but)}),
    }
    matrices = {"X": adata.X}
    for slot in ("layers", "obsm", "varm", "obsp", "varp"):
        matrices |= {f"{slot}[{key!r}]": value for key, value in getattr(adata, slot).items()}
    for name, values in matrices.items():
        if name.startswith(f"obsm['{but}"):
            continue
        parts = (values.data, values.indices, values.indptr) if sparse.issparse(values) else (values,)
        arrays = [np.asarray(part) for part in parts]
        record[name] = [(part.dtype.str, part.shape, part.tobytes()) for part in arrays]
    return record
