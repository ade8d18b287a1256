"""Save small models of every class, and what they give, as an archive that all later versions must read.

    python tests/archives/make.py tests/archives/0.2.0
    python tests/archives/make.py tests/archives/0.1.0-gans GAN ConditionalGAN
    python tests/archives/make.py tests/archives/0.1.0-scgen ScGen

Run it once for every released version, whenever the format of the files changes, and for the models (by
class) that a version gains before its release. Archives are never made
anew: what an old version wrote is what users have. `test_archives.py` reads all of them.
"""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

import latentcell as lc
from latentcell.nn.schedules import Cosine, Linear

KEYS = {
    "batch_key": "batch",
    "labels_key": "label",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["age"],
}
SMALL = {"n_latent": 3, "hidden": (6,)}
N_GENERATED, N_EXACT = 300, 8

ENCODERS = {
    "AE": ("AE", KEYS, {}),
    "VAE": ("VAE", KEYS, {"gene_likelihood": "zinb", "dispersion": "gene-batch"}),
    "VAE-normal": ("VAE", {"layer": "log", "labels_key": "label"}, {"beta": Linear(0.0, 1.5, end=0.5)}),
    "VSC": ("VSC", KEYS, {"beta": Cosine(0.0, 1.0), "seed": np.int64(4)}),
    "CVAE": ("CVAE", {"labels_key": "label", "unlabeled_category": "unbekannt"}, {"encode_covariates": True}),
    "DCA": ("DCA", {"batch_key": "batch"}, {}),
    "SAUCIE": ("SAUCIE", KEYS, {}),
    "SAUCIE-normal": ("SAUCIE", {"layer": "log"}, {"n_units": 3}),
    "DESC": ("DESC", {"batch_key": "batch"}, {"n_neighbors": 5, "clusters_from": 0.25}),
    "DisentangledVAE": ("DisentangledVAE", {}, {"capacity": Linear(0.0, 2.0)}),
    "ScGen": ("ScGen", KEYS, {}),
    "ScGen-normal": ("ScGen", {"layer": "log", "labels_key": "label"}, {}),
}
ADVERSARIAL = {
    "GAN": ("GAN", {"layer": "log", "batch_key": "batch"}, {"critic_hidden": (6,)}),
    "GAN-nb": ("GAN", {}, {"gene_likelihood": "nb", "decay": 0.5, "critic_hidden": (6,)}),
    "ConditionalGAN": ("ConditionalGAN", KEYS, {"critic_hidden": (6,)}),
}
BASELINES = {
    "GeneShuffle": ("GeneShuffle", {"labels_key": "label"}, {}),
    "GaussianCopula": ("GaussianCopula", {"labels_key": "label"}, {}),
    "GaussianCopula-empirical": ("GaussianCopula", {"layer": "log"}, {"margins": "empirical"}),
    "PCAGaussian": ("PCAGaussian", {"labels_key": "label", "batch_key": "batch"}, {"n_components": 3}),
}


def make_cells(n_cells: int = 48, n_genes: int = 12, seed: int = 0) -> ad.AnnData:
    """Counts of three kinds of cells in two batches, with names that are not ASCII."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    rate = np.random.default_rng(7).gamma(1.0, 3.0, size=(3, n_genes)) + 0.2
    counts = rng.poisson(rate[kind]).astype(np.float32)
    counts[:, 0] += 1  # no empty cells
    return cells_of(
        {
            "counts": counts.astype(int).tolist(),
            "genes": [f"gene{j}" if j else "Gen-Ä" for j in range(n_genes)],
            "batch": np.array(["Zürich", "北京"])[np.arange(n_cells) % 2].tolist(),
            "label": np.array(["3", "1", "2"])[kind].tolist(),
            "donor": (np.arange(n_cells) % 4 * 10).tolist(),
            "age": rng.normal(50, 10, size=n_cells).round(2).tolist(),
        }
    )


def cells_of(record: dict) -> ad.AnnData:
    """The cells that a record of an archive describes."""
    counts = np.array(record["counts"], dtype=np.float32)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(record["batch"]),
            "label": pd.Categorical(record["label"]),
            "donor": record["donor"],
            "age": record["age"],
        },
        index=[f"cell{i}" for i in range(len(counts))],
    )
    adata = ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=record["genes"]))
    adata.layers["log"] = np.log1p(counts)
    return adata


def record_of(adata: ad.AnnData) -> dict:
    """What :func:`cells_of` reads."""
    columns = {name: adata.obs[name].tolist() for name in ("batch", "label", "donor", "age")}
    return {"counts": adata.X.toarray().astype(int).tolist(), "genes": adata.var_names.tolist(), **columns}


def given_by(model, cells: ad.AnnData) -> dict:
    """What a model makes of cells, and the cells that it draws."""
    found = {"class": type(model).__name__, "genes": list(model.spec.genes), "labels": model.spec.labels}
    if hasattr(model, "get_latent_representation"):
        found["codes"] = numbers(model.get_latent_representation(cells))
        found["reconstruction"] = numbers(model.get_reconstruction(cells))
        found["history"] = {k: numbers(v[k].to_numpy()) for k, v in model.history.items()}
    if hasattr(model, "get_clusters"):
        found["clusters"] = model.get_clusters(cells).tolist()
    if hasattr(model, "get_cluster_probabilities"):
        found["cluster_probabilities"] = numbers(model.get_cluster_probabilities(cells))
    if hasattr(model, "project"):
        found["codes"] = numbers(model.project(cells))
    new = model.generate(N_GENERATED, seed=1)
    x = new.X.toarray() if sparse.issparse(new.X) else new.X
    found["generated"] = {
        "mean": numbers(x.mean(axis=0)),
        "sd": numbers(x.std(axis=0)),
        "first": numbers(x[:N_EXACT]),
        "label": new.obs["label"].astype(str).tolist()[:N_EXACT] if "label" in new.obs else None,
    }
    return found


def numbers(values: np.ndarray) -> list:
    """Seven digits, which tell float32 apart well enough."""
    if values.ndim > 1:
        return [numbers(row) for row in values]
    return [float(f"{value:.7g}") for value in values]


def platform_of() -> dict:
    """What the bits of draws hang on."""
    return {"torch": torch.__version__, "numpy": version("numpy"), "machine": platform.machine()}


def trained(name: str, keys: dict, arguments: dict, cells: ad.AnnData):
    """A model of the class `name`, trained for some epochs."""
    Model = getattr(lc.model, name)
    Model.setup_anndata(cells, **keys)
    model = Model(cells, **arguments)
    if name in ("GeneShuffle", "GaussianCopula", "PCAGaussian"):
        model.train()
    else:
        model.train(8, lr=0.01, accelerator="cpu", enable_progress_bar=False)
    return model


def main(folder: Path, classes: list[str]) -> None:
    """Write the archive of some classes, or of all."""
    folder.mkdir(parents=True)
    cells, new = make_cells(), make_cells(n_cells=9, seed=1)
    models = {
        folder_name: trained(name, keys, SMALL | arguments, cells.copy())
        for folder_name, (name, keys, arguments) in (ENCODERS | ADVERSARIAL).items()
        if not classes or name in classes
    }
    models |= {
        folder_name: trained(name, keys, arguments, cells.copy())
        for folder_name, (name, keys, arguments) in BASELINES.items()
        if not classes or name in classes
    }
    if "DCA" in models:
        others = make_cells(n_cells=24, seed=2)
        others.obs["batch"] = "Ωmega"
        query = lc.model.DCA.load_query_data(others, models["DCA"])
        query.train(2, accelerator="cpu", enable_progress_bar=False)
        models["DCA-query"] = query
    for name, model in models.items():
        model.save(folder / name)
    expected = {
        "version": lc.__version__,
        "platform": platform_of(),
        "training_cells": record_of(cells),
        "new_cells": record_of(new),
        "models": {name: given_by(model, new) for name, model in models.items()},
    }
    with open(folder / "expected.json", "w", encoding="utf-8") as file:
        json.dump(expected, file, ensure_ascii=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
