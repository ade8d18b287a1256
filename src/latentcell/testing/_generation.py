"""New cells: what they carry, how they are asked for, and that they are like the cells of the model."""

from tempfile import TemporaryDirectory
from typing import Any

import anndata as ad
import numpy as np
import torch
from scipy import sparse

from latentcell._errors import NotTrainedError

from ._case import Case
from ._cells import LABELS, dense, make_cells
from ._promises import close, needs, promise, refused, same


def _sources(case: Case) -> tuple[Any, ...]:
    """Arguments of ``generate`` that say where codes come from; ``{}`` of a model that has no choice."""
    return tuple({"source": source} for source in getattr(case.model, "SOURCES", ())) or ({},)


def _counts(new: ad.AnnData) -> bool:
    """Whether the model gives counts, as it says itself."""
    likelihood = new.uns.get("latentcell", {}).get("gene_likelihood")
    return "library_size" in new.obs or likelihood in ("nb", "zinb", "poisson")


@needs("generate")
def check_new_cells_carry_what_is_known_of_them(case: Case) -> None:
    """Shape, names, mark, batch, label and covariates by name, provenance."""
    for how in _sources(case):
        new = case.informed.generate(40, seed=3, **how)
        broken = f"generate({how})"
        promise(new.shape == (40, 20), f"{broken}: 40 cells of 20 genes have shape {new.shape}")
        promise(new.X.dtype == np.float32, f"{broken} gives {new.X.dtype} instead of float32")
        promise(list(new.var_names) == list(make_cells().var_names), f"{broken}: other gene names")
        promise(new.obs_names.is_unique, f"{broken}: new cells share names")
        marked = "is_generated" in new.obs and new.obs["is_generated"].all()
        promise(marked, f"{broken}: new cells are not marked in obs['is_generated']")
        known: dict[str, set] = {"batch": {"Zürich", "北京"}, "label": set(LABELS), "donor": {0, 10, 20, 30}}
        for key in [key for key in known if key in new.obs]:
            found = set(new.obs[key])
            promise(found <= known[key], f"{broken}: obs[{key!r}] holds {found - known[key]}")
        if case.can("batches"):
            promise("batch" in new.obs, f"{broken}: new cells have no batch")
        if case.can("covariates"):
            promise("donor" in new.obs, f"{broken}: new cells have no donor")
            promise(new.obs["age"].between(10, 90).all(), f"{broken}: ages that no cell has")
        record = new.uns.get("latentcell", {})
        promise(record.get("model") == case.name, f"{broken}: uns['latentcell'] does not name the model")
        promise(record.get("seed") == 3, f"{broken}: uns['latentcell'] does not name the seed")
        for key, value in how.items():
            promise(record.get(key) == value, f"{broken}: uns['latentcell'] does not name the {key}")
        if case.can("encode"):
            key = f"X_{case.name.lower()}"
            codes = case.informed.get_latent_representation()
            promise(key in new.obsm, f"{broken}: new cells have no obsm[{key!r}]")
            promise(new.obsm[key].shape == (40, codes.shape[1]), f"{broken}: obsm[{key!r}] has another shape")


@needs("generate")
def check_new_counts_are_counts(case: Case) -> None:
    """Of a model that gives counts: a csr matrix of whole numbers, without stored zeros."""
    for how in _sources(case):
        new = case.informed.generate(40, seed=3, **how)
        if not _counts(new):
            continue
        promise(sparse.issparse(new.X) and new.X.format == "csr", f"generate({how}): counts are not csr")
        whole = (new.X.data == np.round(new.X.data)).all()
        promise(whole, f"generate({how}): counts are not whole numbers")
        promise(new.X.data.min() > 0, f"generate({how}): counts are negative, or zeros are stored")


@needs("generate", "labels")
def check_labels_are_asked_for_by_name_in_any_order(case: Case) -> None:
    """A number per name, one name, or one per cell; unknown names are refused."""
    hows = [how for how in _sources(case) if how != {"source": "prior"}]
    for how in hows or [{}] * case.can("cells by label"):
        broken = f"labels in generate({how}) do not come as asked for"
        new = case.informed.generate(labels={"2": 5, "3": 7}, **how)
        promise(list(new.obs["label"]) == ["2"] * 5 + ["3"] * 7, broken)
        mixed = ["3", "1", "2", "3"] * 3
        new = case.informed.generate(labels=mixed, **how)
        promise(list(new.obs["label"]) == mixed, broken)
        new = case.informed.generate(4, labels="1", **how)
        promise(list(new.obs["label"]) == ["1"] * 4, broken)
    wrong: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"labels": "T cells"}, ("'T cells' unknown to the model; it knows",)),
        ({"labels": {"2": -1}}, ("must be a whole number",)),
        ({"n_cells": 3, "labels": {"2": 2}}, ("leave n_cells out",)),
        ({"n_cells": 0}, ("n_cells must be at least 1",)),
        ({"output": "guess"}, ("output must be one of",)),
        ({"genes": ["gene1", "TP53"]}, ("does not have these genes: ['TP53']",)),
        ({"chunk_size": 0}, ("chunk_size must be at least 1",)),
    ]
    for arguments, words in wrong:
        refused(
            lambda arguments=arguments: case.informed.generate(**arguments),  # type: ignore[misc]
            *words,
            broken=f"generate({arguments}) is not refused",
        )


@needs("generate", "cells by label")
def check_new_cells_of_a_label_are_like_its_cells(case: Case) -> None:
    """As the model reconstructs them: nearer to those of their label than to any other, up to chance."""
    cells, model = make_cells(), case.informed
    kinds = cells.obs["label"].to_numpy()
    new = model.generate(labels=dict.fromkeys(LABELS, 200), seed=1)
    expected = model.get_reconstruction() if case.can("reconstruct") else _on_the_scale_of(new, cells)
    drawn, theirs = _shares(dense(new.X), new.obs["label"].to_numpy()), _shares(expected, kinds)
    gaps = np.linalg.norm(drawn[:, None] - theirs[None], axis=2)
    # what 200 cells of about 100 counts differ by from their expectation, if a model knows no labels at all
    chance = 1 / np.sqrt(200 * 100)
    for row, label in enumerate(LABELS):
        nearest = LABELS[int(gaps[row].argmin())]
        like = gaps[row, row] < gaps[row].min() + chance
        promise(like, f"new cells of label {label!r} are like those of {nearest!r}")


def _on_the_scale_of(new: ad.AnnData, cells: ad.AnnData) -> np.ndarray:
    """Counts of real cells as the new ones are given: as they are, or log1p of counts per 10,000."""
    counts = dense(cells.X)
    if new.uns["latentcell"].get("scale") != "log1p":
        return counts
    return np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)


def _shares(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each gene in the cells of each label (labels x genes)."""
    sums = np.clip([values[labels == label].sum(0) for label in LABELS], 0, None)
    return sums / sums.sum(1, keepdims=True)


@needs("generate")
def check_new_cells_have_the_moments_of_the_cells(case: Case) -> None:
    """Total, means of genes and their variances, within what 20 epochs on 60 cells can teach."""
    new = case.informed.generate(2000, seed=2)
    real, values = _on_the_scale_of(new, make_cells()), dense(new.X)
    ratio = values.sum(1).mean() / real.sum(1).mean()
    promise(0.75 < ratio < 1.33, f"new cells have {ratio:.2f} times the total of the cells")
    likeness = np.corrcoef(values.mean(0), real.mean(0))[0, 1]
    promise(
        likeness > 0.9, f"means of genes in new cells correlate by {likeness:.2f} with those of the cells"
    )
    spread = float(np.median(values.var(0) / real.var(0)))
    promise(
        0.5 < spread < 2.0, f"genes in new cells have {spread:.2f} times the variance they have in the cells"
    )


@needs("generate")
def check_the_seed_decides_which_cells_are_drawn(case: Case) -> None:
    """The same seed, the same bits, whatever else is random; another seed, other cells."""
    for how in _sources(case):
        first = case.informed.generate(60, seed=1, **how)
        torch.rand(3)
        np.random.random(2)  # noqa: NPY002
        again, other = (case.informed.generate(60, seed=seed, **how) for seed in (1, 2))
        broken = f"the same seed draws other cells in generate({how})"
        same(again.X, first.X, broken)
        promise(again.obs.equals(first.obs), f"{broken}: obs")
        differs = not np.array_equal(dense(first.X), dense(other.X))
        promise(differs, f"generate({how}) draws the same cells for any seed")


@needs("generate")
def check_as_many_cells_as_trained_on_unless_told(case: Case) -> None:
    """And a subset of genes is the columns of all."""
    promise(
        case.informed.generate().n_obs == 60, "generate() does not give as many cells as it was trained on"
    )
    every = case.informed.generate(30, seed=1)
    some = case.informed.generate(30, seed=1, genes=["gene7", "gene2"])
    promise(list(some.var_names) == ["gene7", "gene2"], "genes= does not give those genes in that order")
    same(some.X, every[:, ["gene7", "gene2"]].X, "genes= gives other values than all genes have")


# --- codes given by hand ---


@needs("decode", "reconstruct", "batches", "labels", "covariates")
def check_decoded_cells_are_what_the_model_expects(case: Case) -> None:
    """``decode`` of the codes of cells, told all that is known of them, is their reconstruction."""
    adata, model = make_cells(), case.informed
    obs = adata.obs
    new = model.decode(
        model.get_latent_representation(adata),
        labels=obs["label"],
        batch=obs["batch"],
        covariates={"donor": obs["donor"], "age": obs["age"]},
        library_size=np.asarray(adata.X.sum(1)).ravel(),
    )
    broken = "decoded codes of cells are not their reconstruction"
    promise(not sparse.issparse(new.X), "expected values are a sparse matrix")
    close(new.X, model.get_reconstruction(adata), broken, rtol=2e-4, atol=1e-4)


@needs("decode", "batches", "labels", "covariates")
def check_paths_lead_from_start_to_end(case: Case) -> None:
    """``interpolate`` and ``traverse``: their steps are where they say, in any model that is loaded."""
    told = {"labels": "1", "batch": "北京", "covariates": {"donor": 10, "age": 50.0}}
    path = case.informed.interpolate("1", "2", steps=3, **told)
    promise(list(path.obs["step"]) == [0.0, 0.5, 1.0], "the steps of a path are not from 0 to 1")
    codes = path.obsm[f"X_{case.name.lower()}"]
    close(codes[1], (codes[0] + codes[2]) / 2, "the middle of a path is not in the middle", atol=1e-5)
    with TemporaryDirectory() as folder:
        case.informed.save(f"{folder}/model")
        again = case.model.load(f"{folder}/model").interpolate("1", "2", steps=3, **told)
    same(again.X, path.X, "a loaded model decodes another path")
    along = case.informed.traverse(0, [-1.0, 2.0], **told)
    codes = along.obsm[f"X_{case.name.lower()}"]
    close(codes[:, 0], [-1.0, 2.0], "a traversal does not take the values it was given", atol=1e-5)
    same(codes[0, 1:], codes[1, 1:], "a traversal moves other dimensions too")


@needs("decode")
def check_an_untrained_model_decodes_nothing(case: Case) -> None:
    """It says that it is not trained."""
    model = case.build(make_cells())
    n_latent = case.trained.get_latent_representation().shape[1] if case.can("encode") else 1
    for name, call in (
        ("decode()", lambda: model.decode(np.zeros((1, n_latent)))),
        ("traverse()", lambda: model.traverse(0)),
    ):
        refused(call, "has not been trained", broken=f"{name} of an untrained model", error=NotTrainedError)


CHECKS = (
    check_new_cells_carry_what_is_known_of_them,
    check_new_counts_are_counts,
    check_labels_are_asked_for_by_name_in_any_order,
    check_new_cells_of_a_label_are_like_its_cells,
    check_new_cells_have_the_moments_of_the_cells,
    check_the_seed_decides_which_cells_are_drawn,
    check_as_many_cells_as_trained_on_unless_told,
    check_decoded_cells_are_what_the_model_expects,
    check_paths_lead_from_start_to_end,
    check_an_untrained_model_decodes_nothing,
)
