"""Small cells for the commands."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse


@pytest.fixture(scope="session")
def counts() -> ad.AnnData:
    """60 cells x 40 genes, Poisson counts of two types and two batches."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1], 30)
    rate = rng.gamma(1.0, 2.0, size=(2, 40)) + 0.5
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate[kind]).astype(np.float32)))
    adata.obs_names = [f"cell{i}" for i in range(60)]
    adata.var_names = [f"gene{i}" for i in range(40)]
    adata.obs["cell_type"] = pd.Categorical(np.array(["T", "B"])[kind])
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(60) % 2])
    return adata


@pytest.fixture(scope="session")
def cells(counts, tmp_path_factory):
    """The counts as a file, with a log-normalised X and the counts as a layer."""
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X.data = np.log1p(adata.X.data)
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def message(capsys):
    """Tells the message on standard error, which must be all there is, but for lines of progress."""

    def read() -> str:
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = [line for line in captured.err.splitlines() if not line.startswith("[")]
        assert len(lines) == 1
        assert lines[0].startswith("latentcell: ")
        return lines[0]

    return read
