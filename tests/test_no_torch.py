import subprocess
import sys

import pytest


def loaded_modules(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    script = code + "\nimport sys\nprint('|'.join(sorted({name.split('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split("|"))


def test_import_loads_nothing_heavy():
    assert not loaded_modules("import latentcell") & {
        "torch",
        "scanpy",
        "anndata",
        "numpy",
        "pandas",
        "sklearn",
    }


@pytest.mark.parametrize("folder", ["pp", "metrics", "datasets", "tl"])
def test_folder_does_not_load_torch(folder):
    code = f"import latentcell as lc\nfor name in lc.{folder}.__all__: pass"
    assert "torch" not in loaded_modules(code)


def test_calls_do_not_load_torch():
    code = """
import latentcell as lc
adata = lc.datasets.simulate_groups(n_rare=0)
lc.pp.normalize_variance(adata)
adata.obsm["X_pca"] = adata.X[:, :10]
lc.tl.compare(adata, ["X_pca"], "group", perplexity=5, resolutions=[1.0], seeds=[0])
lc.metrics.dimension_scores(adata.obsm["X_pca"], adata.obs["group"])
lc.metrics.fidelity(adata[::2], adata[1::2], n_trees=2)
lc.datasets.pbmc68k()
"""
    assert "torch" not in loaded_modules(code)
