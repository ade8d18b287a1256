"""What goes in: any matrix, rows in their order, genes by name, the layer that was asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from ._case import Case
from ._cells import dense, make_cells, with_other_genes
from ._promises import close, needs, promise, refused, same


def _with_wide_pointers(X: np.ndarray) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix(X)
    matrix.indptr = matrix.indptr.astype(np.int64)
    return matrix


FORMATS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "float64": lambda X: X.astype(np.float64),
    "int64": lambda X: X.astype(np.int64),
    "csr": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "csr int32": lambda X: sparse.csr_matrix(X.astype(np.int32)),
    "csr wide pointers": _with_wide_pointers,
    "csc": sparse.csc_matrix,
    "csc_array": sparse.csc_array,
    "backed dense": np.asarray,
    "backed csr": sparse.csr_matrix,
    "backed csc": sparse.csc_matrix,
}
"""Kinds of matrices; those whose names begin with "backed" are on disk."""


@contextmanager
def in_format(adata: ad.AnnData, name: str) -> Iterator[ad.AnnData]:
    """The same cells with ``X`` in another kind of matrix."""
    other = ad.AnnData(FORMATS[name](dense(adata.X)), obs=adata.obs.copy(), var=adata.var.copy())
    if not name.startswith("backed"):
        yield other
        return
    with TemporaryDirectory() as folder:
        other.write_h5ad(Path(folder) / "cells.h5ad")
        backed = ad.read_h5ad(Path(folder) / "cells.h5ad", backed="r")
        try:
            yield backed
        finally:
            backed.file.close()


# --- matrices ---


@needs("encode")
def check_every_kind_of_matrix_gives_the_same_codes(case: Case) -> None:
    """Dense, sparse, of any dtype, in memory or backed: the same bits, and rows in the order asked for."""
    expected = case.trained.get_latent_representation(case.new_cells)
    rows = [50, 7, 20, 7]
    for name in FORMATS:
        with in_format(case.new_cells, name) as other:
            codes = case.trained.get_latent_representation(other)
            some = case.trained.get_latent_representation(other, indices=rows)
        same(codes, expected, f"codes of a {name} matrix differ from those of csr")
        close(some, expected[rows], f"rows of a {name} matrix do not come in the order of indices")


@needs("encode")
def check_genes_are_matched_by_name(case: Case) -> None:
    """Genes in any order, among others, in any kind of matrix."""
    expected = case.trained.get_latent_representation(case.new_cells)
    both = with_other_genes(case.new_cells)
    order = np.random.default_rng(0).permutation(both.n_vars)
    for name in FORMATS:
        with in_format(both[:, order].copy(), name) as other:
            codes = case.trained.get_latent_representation(other)
        same(codes, expected, f"genes of a {name} matrix are not matched by name")


def check_training_on_every_kind_of_matrix_is_the_same(case: Case) -> None:
    """Sparse, dense and backed cells train the same model."""
    expected = case.outcome(case.trained, case.trained.adata)
    for name in ("dense", "int64", "csc", "backed dense", "backed csr"):
        with in_format(make_cells(), name) as other:
            found = case.outcome(case.train(other))
        same(found, expected, f"training on a {name} matrix differs from training on csr")


def check_the_layer_is_honoured(case: Case) -> None:
    """``layer=`` is read in training and after, also without ``X``."""

    def moved(adata: ad.AnnData) -> ad.AnnData:
        adata.layers["counts"] = adata.X
        adata.X = np.full(adata.shape, 1.0, dtype=np.float32)
        return adata

    model = case.train(moved(make_cells()), {"layer": "counts"})
    broken = "a model set up with layer= does not model the layer"
    if hasattr(model, "gene_likelihood"):
        promise(model.gene_likelihood == case.trained.gene_likelihood, f"{broken}: other likelihood")
    same(case.outcome(model), case.outcome(case.trained), broken)
    if case.can("encode"):
        expected = case.trained.get_latent_representation(case.new_cells)
        found = model.get_latent_representation(moved(case.new_cells.copy()))
        same(found, expected, "codes of new cells are not those of the layer")
        new = case.new_cells
        bare = ad.AnnData(obs=new.obs, var=new.var, layers={"counts": new.X})
        same(model.get_latent_representation(bare), expected, "codes need X although a layer is modelled")


# --- rows ---


@needs("encode")
def check_rows_come_in_the_order_asked_for(case: Case) -> None:
    """``indices`` in any order, negative, repeated, of any type, or a mask."""
    model, new = case.trained, case.new_cells
    mask = np.zeros(55, dtype=bool)
    mask[[3, 40, 8]] = True
    asked: list[Any] = [[50, 7, 20], (0, 54), [-1, 3, -55], [5, 5, 5], np.array([9, 2])]
    asked += [pd.Series([4, 1]), range(10, 5, -1), mask]
    methods = ["get_latent_representation"]
    methods += ["get_reconstruction"] if case.can("reconstruct") else []
    for method in methods:
        whole = getattr(model, method)(new)
        for indices in asked:
            rows = list(indices) if indices is not mask else mask
            some = getattr(model, method)(new, indices=indices)
            close(some, whole[rows], f"{method}(indices={indices}) does not give those rows in that order")


@needs("covariates")
def check_the_unit_of_a_covariate_does_not_matter(case: Case) -> None:
    """Age in days teaches a model what age in years does: weights start alike, and must end alike."""
    found = []
    for unit in (1.0, 1024.0):  # a power of two, so that rounding is the same
        cells = make_cells()
        cells.obs["age"] *= unit
        model = case.train(cells, {"continuous_covariate_keys": ["age"]})
        found.append(case.outcome(model))
    close(found[1], found[0], "a covariate in another unit gives another model", atol=1e-4)


@needs("encode")
def check_rows_that_are_not_there_are_refused(case: Case) -> None:
    """Positions beyond the cells, of another type or shape, and none at all."""
    asked: list[tuple[Any, str]] = [
        ([3, 55], "indices reach 55, but there are only 55 cells"),
        ([-56], "indices reach -56, but there are only 55 cells"),
        ([0.5], "integers"),
        (["cell1"], "integers"),
        ([[1, 2]], "list of cell positions"),
        (np.ones(54, dtype=bool), "one entry per cell (55)"),
        ([], "no cells"),
        (np.zeros(55, dtype=bool), "no cells"),
    ]
    for indices, words in asked:
        refused(
            lambda indices=indices: case.trained.get_latent_representation(case.new_cells, indices=indices),  # type: ignore[misc]
            words,
            broken=f"indices={indices} is not refused",
        )


def check_a_view_is_refused_at_set_up(case: Case) -> None:
    """A view cannot be set up: what is written to it would be lost."""
    view = make_cells()[[30, 2, 5, 8, 11]]
    refused(
        lambda: case.model.setup_anndata(view, **case.setup),
        "view",
        "adata = adata.copy()",
        broken="setup_anndata takes a view",
    )
    promise(view.is_view, "a refused view was made an object of its own")


@needs("encode")
def check_a_view_can_be_read(case: Case) -> None:
    """A trained model reads a view, which stays one."""
    view = case.new_cells[[30, 2]]
    expected = case.trained.get_latent_representation(case.new_cells)[[30, 2]]
    close(case.trained.get_latent_representation(view), expected, "codes of a view are not its rows'")
    promise(view.is_view, "reading a view made it an object of its own")


# --- genes and names ---


@needs("encode")
def check_missing_genes_are_named(case: Case) -> None:
    """How many are missing, and which."""
    refused(
        lambda: case.trained.get_latent_representation(case.new_cells[:, 2:].copy()),
        "2 of the model's 20 genes are not in adata.var_names: 'gene0', 'gene1'",
        broken="missing genes are not named",
    )


def check_repeated_gene_names_are_refused(case: Case) -> None:
    """At set-up and in new cells."""

    def repeated(adata: ad.AnnData) -> ad.AnnData:
        adata.var_names = ["same", "same", *adata.var_names[2:]]
        return adata

    words = ("'same'", "first call adata.var_names_make_unique()")
    refused(
        lambda: case.model.setup_anndata(repeated(make_cells()), **case.setup),
        *words,
        broken="setup_anndata takes repeated gene names",
    )
    if case.can("encode"):
        refused(
            lambda: case.trained.get_latent_representation(repeated(case.new_cells.copy())),
            *words,
            broken="new cells with repeated gene names are taken",
        )


@needs("encode")
def check_genes_that_are_not_the_models_may_hold_anything(case: Case) -> None:
    """Also NaN."""
    both = with_other_genes(case.new_cells, np.full(case.new_cells.shape, np.nan, dtype=np.float32))
    expected = case.trained.get_latent_representation(case.new_cells)
    same(case.trained.get_latent_representation(both), expected, "genes that are not the model's have a say")


def check_names_are_only_names(case: Case) -> None:
    """Genes outside ASCII or that look like numbers, cells that share a name: the same results."""
    expected = case.outcome(case.trained)
    for genes in ([f"β{j}-基因" for j in range(20)], [str(100 - j) for j in range(20)]):
        cells = make_cells()
        cells.var_names = genes
        same(case.outcome(case.train(cells)), expected, f"gene names like {genes[0]!r} have a say in results")
    if case.can("encode"):
        alike = case.new_cells.copy()
        alike.obs_names = ["Zelle ü"] * alike.n_obs
        codes = case.trained.get_latent_representation(case.new_cells)
        same(case.trained.get_latent_representation(alike), codes, "names of cells have a say in codes")


# --- which cells a model is of ---


def check_a_model_is_built_on_the_very_object_that_was_set_up(case: Case) -> None:
    """Not on a copy or a view of it."""
    cells = make_cells()
    case.model.setup_anndata(cells, **case.setup)
    for other in (cells.copy(), cells[:30]):
        refused(
            lambda other=other: case.model(other, **case.arguments),  # type: ignore[misc]
            "copy",
            broken="a model can be built on a copy or a view of what was set up",
            error=ValueError,
        )


def check_cells_that_are_not_set_up_are_refused(case: Case) -> None:
    """By words that say what to call; and what is no AnnData."""
    cells = make_cells()
    refused(
        lambda: case.model(cells, **case.arguments),
        "not set up",
        f"{case.name}.setup_anndata",
        broken="a model can be built on cells that are not set up",
    )
    refused(
        lambda: case.model(**case.arguments),
        "needs an AnnData",
        broken="a model can be built on nothing",
    )
    refused(
        lambda: case.model.setup_anndata(dense(cells.X), **case.setup),
        "an AnnData is needed, got ndarray",
        broken="setup_anndata takes an array",
    )


@needs("encode", "batches")
def check_two_models_live_on_one_anndata(case: Case) -> None:
    """A second set-up of the same cells has no influence on the first model."""
    method = "get_reconstruction" if case.can("reconstruct") else "get_latent_representation"
    cells = make_cells()
    first = case.train(cells, {"batch_key": "batch"})
    before = getattr(first, method)()
    case.train(cells, {"batch_key": "donor"})
    case.train(cells, {"batch_key": "label"} | ({"layer": "log"} if case.can("any data") else {}))
    same(getattr(first, method)(), before, "a second model on the same AnnData changes the first one")
    case.fit(first, 1)
    promise(np.isfinite(getattr(first, method)()).all(), "the first of two models cannot be trained further")


CHECKS = (
    check_every_kind_of_matrix_gives_the_same_codes,
    check_genes_are_matched_by_name,
    check_training_on_every_kind_of_matrix_is_the_same,
    check_the_layer_is_honoured,
    check_rows_come_in_the_order_asked_for,
    check_the_unit_of_a_covariate_does_not_matter,
    check_rows_that_are_not_there_are_refused,
    check_a_view_is_refused_at_set_up,
    check_a_view_can_be_read,
    check_missing_genes_are_named,
    check_repeated_gene_names_are_refused,
    check_genes_that_are_not_the_models_may_hold_anything,
    check_names_are_only_names,
    check_a_model_is_built_on_the_very_object_that_was_set_up,
    check_cells_that_are_not_set_up_are_refused,
    check_two_models_live_on_one_anndata,
)
