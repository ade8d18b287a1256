"""New cells: real cells as templates for what a cell is besides its code, codes drawn, expression decoded."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell import __version__, _keys
from latentcell._errors import DataError
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood
from latentcell.nn.latents import Deterministic
from latentcell.train.loading import CellLoader
from latentcell.train.run import local_random_state

from ._base import INFERENCE_BATCH

if TYPE_CHECKING:
    from ._variational import AbstractVariational

Source = Literal["posterior", "prior"]
Output = Literal["sample", "mean"]
Labels = str | Mapping[Any, int] | Sequence[Any] | None


def generate(
    model: "AbstractVariational",
    n_cells: int | None,
    *,
    labels: Labels,
    batch: Any,
    source: Source,
    library_size: Literal["sample"] | float | np.ndarray,
    output: Output,
    seed: int,
) -> AnnData:
    """Draw new cells; see ``generate`` of the models."""
    if source not in get_args(Source):
        raise DataError(f"source must be one of {get_args(Source)}, got {source!r}")
    if output not in get_args(Output):
        raise DataError(f"output must be one of {get_args(Output)}, got {output!r}")
    wanted = _wanted_labels(model, n_cells, labels, source)
    adata = model.adata
    if adata is None:
        raise DataError("generating needs the cells as templates: load(dir, adata)")
    rng = np.random.default_rng(seed)
    templates = _templates(adata.obs, model, wanted, n_cells, batch, rng)
    n_new = len(templates)
    library = _library(model, library_size, n_new)
    cells = model._collect(adata, check=False)
    fixed = {}
    if batch is not None:
        fixed[REGISTRY_KEYS.BATCH_KEY] = model._batches(batch)[0]
    codes, blocks, sizes = [], [], []
    device = model.module.device
    with local_random_state(seed), torch.inference_mode():
        for n_done, found in enumerate(CellLoader(cells, templates, INFERENCE_BATCH)):
            tensors = {name: tensor.to(device) for name, tensor in found.items()}
            at = slice(n_done * INFERENCE_BATCH, n_done * INFERENCE_BATCH + len(found["X"]))
            there = tensors | {
                key: torch.full_like(tensors[key], code) for key, code in fixed.items() if code is not None
            }
            size = model.module.library(tensors) if library is None else library[at].to(device)
            z = _codes(model, tensors, source)
            codes.append(z.cpu().numpy())
            sizes.append(size.cpu().numpy()[:, 0])
            blocks.append(_decode(model, z, there, size, output))
    return _as_anndata(model, adata, templates, wanted, batch, blocks, codes, sizes, source, output, seed)


def _wanted_labels(
    model: "AbstractVariational", n_cells: int | None, labels: Labels, source: Source
) -> list | None:
    """One label per new cell, or None."""
    if n_cells is not None and n_cells < 1:
        raise DataError(f"n_cells must be at least 1, got {n_cells}")
    if labels is None:
        return None
    if model.spec.labels is None:
        raise DataError("labels need a model with setup_anndata(labels_key=...)")
    if source == "prior" and not model.module.covariates.n_labels:
        raise DataError(
            f"labels do not steer codes from the prior in this {type(model).__name__}; use CVAE, "
            "VSC(conditional=True), or source='posterior'"
        )
    if isinstance(labels, str):
        labels = {labels: n_cells if n_cells is not None else 1}
    if isinstance(labels, Mapping):
        for name, number in labels.items():
            if not isinstance(number, int | np.integer) or number < 0:
                raise DataError(f"labels: the number of {name!r} must be a whole number, got {number!r}")
        wanted = [name for name, number in labels.items() for _ in range(number)]
    else:
        wanted = list(labels)
    unknown = sorted({repr(name) for name in wanted if name not in model.spec.labels})
    if unknown:
        raise DataError(f"labels: {', '.join(unknown)} unknown to the model; it knows {model.spec.labels}")
    if n_cells is not None and n_cells != len(wanted):
        raise DataError(f"n_cells={n_cells}, but labels name {len(wanted)} cells; leave n_cells out")
    if not wanted:
        raise DataError("labels name no cell")
    return wanted


def _templates(
    obs: pd.DataFrame,
    model: "AbstractVariational",
    wanted: list | None,
    n_cells: int | None,
    batch: Any,
    rng: np.random.Generator,
) -> np.ndarray:
    """A real cell for each new one: of its label, and of its batch if there are such cells."""
    in_batch = np.ones(len(obs), dtype=bool)
    if batch is not None:
        model._batches(batch)
        in_batch = (obs[model.spec.batch_key].astype(object) == batch).to_numpy()
    if wanted is None:
        rows = np.flatnonzero(in_batch) if in_batch.any() else np.arange(len(obs))
        return rng.choice(rows, len(obs) if n_cells is None else n_cells)
    column = obs[model.spec.labels_key].astype(object).to_numpy()
    of_label = {}
    for name in dict.fromkeys(wanted):
        both = np.flatnonzero((column == name) & in_batch)
        rows = both if len(both) else np.flatnonzero(column == name)
        if not len(rows):
            raise DataError(f"labels: the model's cells have no {name!r} to take depth and covariates from")
        of_label[name] = rows
    return np.array([rng.choice(of_label[name]) for name in wanted])


def _library(
    model: "AbstractVariational", library_size: Literal["sample"] | float | np.ndarray, n: int
) -> Tensor | None:
    if isinstance(library_size, str):
        if library_size != "sample":
            raise DataError(f"library_size must be 'sample', a number or an array, got {library_size!r}")
        return None
    if not isinstance(model.module.likelihood, CountLikelihood):
        raise DataError(f"library_size is for counts; the likelihood is {model.gene_likelihood!r}")
    sizes = np.asarray(library_size, dtype=np.float32)
    if sizes.ndim == 0:
        sizes = np.full(n, sizes)
    if sizes.shape != (n,) or not (sizes > 0).all() or not np.isfinite(sizes).all():
        raise DataError(f"library_size must be positive: one number, or one per new cell ({n})")
    return torch.from_numpy(sizes)[:, None]


def _codes(model: "AbstractVariational", tensors: Batch, source: Source) -> Tensor:
    if source == "posterior":
        return model.module.encode(tensors).z
    latent = model.module.latent
    if isinstance(latent, Deterministic):
        raise TypeError("a deterministic code has no prior")
    return latent.sample_prior(len(tensors["X"]))


def _decode(model: "AbstractVariational", z: Tensor, batch: Batch, size: Tensor, output: Output) -> Any:
    raw, likelihood = model.module.decode_raw(z, batch), model.module.likelihood
    if output == "mean":
        return likelihood.mean(raw, size).cpu().numpy()
    drawn = likelihood.distribution(raw, size).sample().cpu().numpy()
    return sparse.csr_matrix(drawn) if isinstance(likelihood, CountLikelihood) else drawn


def _as_anndata(
    model: "AbstractVariational",
    adata: AnnData,
    templates: np.ndarray,
    wanted: list | None,
    batch: Any,
    blocks: list,
    codes: list[np.ndarray],
    sizes: list[np.ndarray],
    source: Source,
    output: Output,
    seed: int,
) -> AnnData:
    spec = model.spec
    keys = [spec.batch_key, spec.labels_key, *spec.categorical, *spec.continuous]
    obs = adata.obs[[key for key in dict.fromkeys(keys) if key is not None]].iloc[templates].copy()
    obs.index = pd.Index([f"generated_{i}" for i in range(len(obs))])
    if batch is not None:
        obs[spec.batch_key] = pd.Categorical([batch] * len(obs), categories=spec.batch)
    if spec.labels_key is not None and wanted is None and source == "prior" and not model.module.uses_labels:
        del obs[spec.labels_key]  # such a cell has no label
    obs["is_generated"] = True
    if isinstance(model.module.likelihood, CountLikelihood):
        obs["library_size"] = np.concatenate(sizes)
    x = sparse.vstack(blocks, format="csr") if sparse.issparse(blocks[0]) else np.concatenate(blocks)
    var = adata.var.loc[spec.genes].copy()
    new = AnnData(X=x, obs=obs, var=var)
    new.obsm[_keys.latent(type(model).__name__.lower())] = np.concatenate(codes)
    new.uns[_keys.UNS] = {
        "model": type(model).__name__,
        "latentcell": __version__,
        "gene_likelihood": model.gene_likelihood,
        "source": source,
        "output": output,
        "seed": seed,
    }
    return new
