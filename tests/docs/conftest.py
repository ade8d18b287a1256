"""Pages and notebooks are run as they are written, but for the number of epochs."""

import functools
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import latentcell as lc

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Blocks of Python of a page: the line that each begins at, and its code."""
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start()].count("\n") + 2, m.group(1)) for m in BLOCK.finditer(text)]


def run_code(code: str, place: str, line: int, names: dict) -> None:
    """Run code in `names`; traces name its own lines in the page."""
    exec(compile("\n" * (line - 1) + code, place, "exec"), names)


@dataclass
class Run:
    """Where code is run, and how many epochs training has: does it run, not what comes of it, is asked."""

    folder: Path
    epochs: int = 2

    def capped(self, train):
        """`train` that stops after so many epochs."""

        @functools.wraps(train)
        def short(model, max_epochs=None, *args, **kwargs):
            return train(model, self.epochs, *args, **kwargs)

        return short


@pytest.fixture
def in_short(monkeypatch, tmp_path):
    """An empty folder to run in, and training that takes no time."""
    run = Run(tmp_path)
    classes = [getattr(lc.model, name) for name in lc.model.__all__]
    for cls in {base for c in classes if inspect.isclass(c) for base in c.__mro__ if "train" in vars(base)}:
        if "max_epochs" in inspect.signature(cls.train).parameters and cls.__module__.startswith(
            "latentcell"
        ):
            monkeypatch.setattr(cls, "train", run.capped(cls.train))
    monkeypatch.chdir(tmp_path)
    yield run
    plt.close("all")


@pytest.fixture
def my_cells(in_short):
    """The file of the how-to pages: counts, types and batches, genes with names and numbers."""
    adata = lc.datasets.simulate_factors(240, 150, {"kind": 4}, batches=2, seed=0)
    adata.obs["cell_type"] = adata.obs["kind"].map("type {}".format).astype("category")
    adata.var["gene_ids"] = [f"ENSG{i:011}" for i in range(adata.n_vars)]
    adata.X = adata.X.astype(np.float32)
    adata.write_h5ad("my_cells.h5ad")
    return adata
