"""What cannot be used is refused by name: values, keys, categories."""

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from ._case import Case
from ._cells import dense, make_cells, with_other_genes
from ._promises import close, finite, needs, promise, refused

# --- values ---


def _spoilt(adata: ad.AnnData, value: float, to_format: Callable[[np.ndarray], Any]) -> ad.AnnData:
    cells = adata.copy()
    X = dense(cells.X).copy()
    X[7, 4] = value
    cells.X = to_format(X)
    return cells


@needs("encode")
def check_values_that_are_not_counts_are_named(case: Case) -> None:
    """Fractional, negative, NaN, infinite: cell, gene and value are named, whatever the order."""
    for value, words in (
        (2.5, "fractional values where counts are needed: cell 'cell7', gene 'gene4': 2.5"),
        (-3.0, "negative values where counts are needed: cell 'cell7', gene 'gene4': -3"),
        (np.nan, "NaN or inf: cell 'cell7', gene 'gene4': nan"),
        (np.inf, "NaN or inf: cell 'cell7', gene 'gene4': inf"),
    ):
        for to_format in (np.asarray, sparse.csr_matrix):
            cells = _spoilt(case.new_cells, value, to_format)[:, ::-1].copy()
            refused(
                lambda cells=cells: case.trained.get_latent_representation(cells),  # type: ignore[misc]
                f"X holds {words}",
                broken=f"the value {value} in new cells is not named",
            )


@needs("encode")
def check_another_scale_is_named(case: Case) -> None:
    """A model of counts refuses log-normalised cells."""
    cells = case.new_cells.copy()
    cells.X = cells.layers["log"]
    refused(
        lambda: case.trained.get_latent_representation(cells),
        "fractional values where counts are needed: cell 'cell0'",
        broken="a model of counts takes log-normalised cells",
    )


def check_nan_is_named_before_training(case: Case) -> None:
    """Whatever kind of data it then takes the cells for."""
    for value in (np.nan, np.inf):
        for layer in case.layers:
            cells = _spoilt(make_cells(), value, np.asarray)
            if layer is not None:
                cells.layers[layer] = cells.X
            refused(
                lambda cells=cells, layer=layer: case.build(cells, {"layer": layer}),  # type: ignore[misc]
                f"NaN or inf: cell 'cell7', gene 'gene4': {value}",
                broken=f"{value} in the cells to train on is not named",
            )


def check_cells_without_counts_are_named(case: Case) -> None:
    """Before training and in new cells."""
    words = "2 cells without any counts: 'cell4', 'cell9'. "

    def emptied(adata: ad.AnnData) -> ad.AnnData:
        adata.X = dense(adata.X)
        adata.X[[4, 9]] = 0
        return adata

    broken = "cells without counts are not named"
    refused(
        lambda: case.build(emptied(make_cells())), words, "filter_cells", broken=f"{broken} before training"
    )
    if case.can("encode"):
        refused(
            lambda: case.trained.get_latent_representation(emptied(case.new_cells.copy())),
            words,
            "filter_cells",
            broken=broken,
        )


@needs("encode")
def check_cells_empty_in_the_models_genes_are_named(case: Case) -> None:
    """Counts in other genes do not help: the cell's depth would be 0."""
    both = with_other_genes(case.new_cells)
    both.X = dense(both.X)
    both.X[11, 20:] = 0
    refused(
        lambda: case.trained.get_latent_representation(both),
        "1 cells without any counts: 'cell11'",
        broken="a cell without counts in the model's genes is not named",
    )


@needs("any data")
def check_models_of_other_data_take_empty_cells(case: Case) -> None:
    """A row of zeros is a cell like others unless the data are counts."""
    for layer in ("unit", "log"):
        cells = make_cells()
        cells.layers[layer][3] = 0
        model = case.train(cells, {"layer": layer}, max_epochs=1)
        finite(case.outcome(model), f"a cell of zeros in layers[{layer!r}] spoils the results")


# --- arguments ---

_WRONG: dict[type, tuple[Any, ...]] = {
    int: ("10", 1.5, None),
    float: ("a", (1.0,)),
    bool: ("yes", None),
    tuple: (5, "8", (8.5,), None),
}
"""By the type of an argument's default: values that it cannot have."""


def check_arguments_of_a_wrong_kind_are_named(case: Case) -> None:
    """Texts for numbers, fractions for whole ones, a number for several, None: refused before training."""
    cells = make_cells()
    for name, default in case.defaults.items():
        for value in _WRONG.get(type(default), ()):
            refused(
                lambda name=name, value=value: case.build(cells, **{name: value}),  # type: ignore[misc]
                name,
                broken=f"{name}={value!r} is not refused by name",
            )
    if "seed" in case.defaults:
        refused(lambda: case.build(cells, seed=-1), "seed", broken="seed=-1 is not refused by name")


# --- keys ---


def check_missing_keys_are_named_at_set_up(case: Case) -> None:
    """Layer and ``obs`` keys that are not there or hold no numbers; and nothing is written then."""
    wrong: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"layer": "counts"}, ("layers has no 'counts'; there are ['log', 'unit']",)),
        ({"batch_key": "plate"}, ("obs has no 'plate'", "batch_key", "'batch'")),
        ({"labels_key": "kind"}, ("obs has no 'kind'", "labels_key")),
        ({"size_factor_key": "depth"}, ("obs has no 'depth'", "size_factor_key")),
        ({"size_factor_key": "label"}, ("must hold numbers",)),
        (
            {"categorical_covariate_keys": ["donor", "sex"]},
            ("obs has no 'sex'", "categorical_covariate_keys"),
        ),
        ({"continuous_covariate_keys": ["mood"]}, ("obs has no 'mood'", "continuous_covariate_keys")),
        ({"continuous_covariate_keys": ["batch"]}, ("must hold numbers",)),
    ]
    for keys, words in wrong:
        if not all(case.takes("setup_anndata", key) for key in keys):
            continue
        cells = make_cells()
        refused(
            lambda cells=cells, keys=keys: case.model.setup_anndata(cells, **{**case.setup, **keys}),  # type: ignore[misc]
            *words,
            broken=f"setup_anndata({keys}) is not refused by name",
        )
        written = [key for key in (*cells.obs, *cells.uns, *cells.obsm) if str(key).startswith("_scvi")]
        promise(not written, f"a set-up that was refused has written {written}")


@needs("size factors")
def check_size_factors_must_be_positive(case: Case) -> None:
    """And finite; the first cell that has none is named."""
    for value in (0.0, -1.0, np.nan, np.inf):
        cells = make_cells()
        cells.obs.loc["cell5", "size"] = value
        refused(
            lambda cells=cells: case.model.setup_anndata(cells, **case.setup, size_factor_key="size"),  # type: ignore[misc]
            "'size'",
            "size_factor_key",
            "'cell5'",
            broken=f"a size factor of {value} is not refused by name",
        )


def check_missing_values_are_named(case: Case) -> None:
    """A batch, label or covariate that is missing for a cell: at set-up and, if it is used, in new cells."""

    def spoilt(adata: ad.AnnData, key: str) -> ad.AnnData:
        column = adata.obs[key].astype(object).where(np.arange(adata.n_obs) != 6, None)
        adata.obs[key] = column.astype(float) if key == "age" else column
        return adata

    for key in [key for name in case.keys for key in np.atleast_1d(case.keys[name]).tolist()]:
        words = (f"obs['{key}']", "missing for 1 cells, e.g. 'cell6'")
        broken = f"a missing value of obs['{key}'] is not named"
        refused(
            lambda key=key: case.model.setup_anndata(spoilt(make_cells(), key), **case.keys),  # type: ignore[misc]
            *words,
            broken=f"{broken} at set-up",
        )
        if case.can("encode") and key != "label":
            refused(
                lambda key=key: case.informed.get_latent_representation(spoilt(case.new_cells.copy(), key)),  # type: ignore[misc]
                *words,
                broken=f"{broken} in new cells",
            )


@needs("encode", "batches")
def check_unknown_categories_are_named_with_those_known(case: Case) -> None:
    """And a key that new cells lack."""
    stranger = case.new_cells.copy()
    stranger.obs["batch"] = stranger.obs["batch"].astype(str).replace("北京", "Bern")
    refused(
        lambda: case.informed.get_latent_representation(stranger),
        "obs['batch'] holds 'Bern', unknown",
        "batch_key",
        "'Zürich', '北京'",
        broken="a batch that the model does not know is not named",
    )
    without = case.new_cells.copy()
    del without.obs["batch"]
    refused(
        lambda: case.informed.get_latent_representation(without),
        "obs has no 'batch'",
        broken="cells without the batch key are taken",
    )
    if case.can("covariates"):
        other = case.new_cells.copy()
        other.obs["donor"] += 1
        refused(
            lambda: case.informed.get_latent_representation(other),
            "obs['donor'] holds 1, 11, 21, 31, unknown",
            "0, 10, 20, 30",
            broken="donors that the model does not know are not named",
        )


@needs("reconstruct", "batches")
def check_categories_are_understood_by_name(case: Case) -> None:
    """Some of the categories, in another order, with levels that no cell has, or as text."""
    expected = case.informed.get_reconstruction(case.new_cells)
    one = case.new_cells[case.new_cells.obs["batch"] == "北京"].copy()
    at = np.flatnonzero(case.new_cells.obs["batch"] == "北京")
    text = one.obs["batch"].astype(str)
    for batch in (pd.Categorical(text, categories=["北京", "neu", "Zürich"]), text):
        one.obs["batch"] = batch
        found = case.informed.get_reconstruction(one)
        close(found, expected[at], "batches are not understood by their names, but by their codes")


@needs("labels", "batches")
def check_levels_that_no_cell_has_do_no_harm(case: Case) -> None:
    """Categories may have levels that are not used: results are finite, and no new cell is of them."""
    cells = make_cells()
    for key in ("batch", "label"):
        cells.obs[key] = cells.obs[key].cat.add_categories(["ghost"])
    model = case.train(cells, {"batch_key": "batch", "labels_key": "label"})
    finite(case.outcome(model), "levels that no cell has spoil the results")
    if case.can("generate"):
        new = model.generate(50, seed=0)
        found = {*new.obs["batch"], *new.obs.get("label", ())}
        promise("ghost" not in found, "new cells are of a batch or label that no cell has")
    if case.can("cells by label"):
        refused(
            lambda: model.generate(labels={"ghost": 3}),
            "'ghost'",
            broken="cells of a label that no training cell has are drawn",
        )


CHECKS = (
    check_values_that_are_not_counts_are_named,
    check_another_scale_is_named,
    check_nan_is_named_before_training,
    check_cells_without_counts_are_named,
    check_cells_empty_in_the_models_genes_are_named,
    check_models_of_other_data_take_empty_cells,
    check_arguments_of_a_wrong_kind_are_named,
    check_missing_keys_are_named_at_set_up,
    check_size_factors_must_be_positive,
    check_missing_values_are_named,
    check_unknown_categories_are_named_with_those_known,
    check_categories_are_understood_by_name,
    check_levels_that_no_cell_has_do_no_harm,
)
