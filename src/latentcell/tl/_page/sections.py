"""Every section of the page: what it says, and if it has nothing to show, why."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._errors import DataError
from latentcell.model._jacobian import AbstractJacobian
from latentcell.model.abstract import AbstractModel
from latentcell.tl._describe import describe_latent
from latentcell.tl._latent_genes import rank_latent_genes

from . import curves, dims, facts, judge
from .asked import Asked
from .codes import Codes, described
from .html import terms
from .page import lights, map_of, missing, remarks, sizes

GENES_PER_DIMENSION = 6
"""Genes of a dimension that are named in each direction."""


def dimensions(
    model: Any, cells: AnnData, codes: Codes, groupby: str | None, say: Callable[[str], object]
) -> tuple[str, pd.DataFrame | None]:
    """What each dimension is about, as HTML and as a table."""
    if not codes.of_model:
        return missing(f"a {type(model).__name__} has no codes, hence no dimensions"), None
    say("describing dimensions")
    told, key = described(model, cells, codes)
    has_genes = isinstance(model, AbstractJacobian)
    if has_genes:
        rank_latent_genes(told, model, use_rep=key, n_genes=GENES_PER_DIMENSION)
    few = groupby is None or told.obs[groupby].nunique() < 2
    table = describe_latent(
        told, key, None if few else groupby, n_genes=GENES_PER_DIMENSION, layer=model.spec.layer
    )
    words = (
        "<p>A dimension is <em>on</em> in a cell where a sparse code is not 0, or where a dense one is "
        "more than one "
        "standard deviation from its median. <em>AUROC</em> says how well it tells a group from all "
        "others: 0.5 is "
        "chance, 1 is perfect.</p>"
    )
    if has_genes:
        words += (
            "<p>Genes are those that the decoder moves most when the dimension rises: what the model says, "
            "without a "
            "test. Train with other seeds to see what is stable.</p>"
        )
    else:
        words += missing(f"genes of dimensions, as a {type(model).__name__} has no decoder that can be asked")
    by_group = "" if few else "<h3>Groups in which they are on</h3>" + dims.on_table(table)
    if few:
        by_group = missing("groups in which they are on, as there are no two groups")
    return words + dims.dimension_table(table) + by_group, table


def data(known: facts.Facts) -> str:
    """Warnings, what the data are, sizes of groups."""
    by = "".join(sizes(column, found) for column, found in known.sizes.items())
    return remarks(known.remarks) + terms(known.entries) + by


def _model_facts(model: Any) -> dict[str, str]:
    """Class, settings, size, and how it was trained."""
    record, history = model.trained_on_ or {}, getattr(model, "history_", None) or {}
    summary = (type(model).__doc__ or "").strip().splitlines()[0]
    found = {"Class": f"{type(model).__name__}: {summary}", "Likelihood": model.gene_likelihood}
    if hasattr(model, "module"):
        found["Weights"] = f"{sum(weight.numel() for weight in model.module.parameters()):,}"
    keys = {
        "Layer": model.spec.layer or "X",
        "Batches": model.spec.batch_key,
        "Labels": model.spec.labels_key,
    }
    found |= {name: str(key) for name, key in keys.items() if key is not None}
    if record:
        held = f", {record['n_held_out']:,} held out" if record["n_held_out"] else ", none held out"
        found["Trained on"] = f"{record['n_train']:,} cells{held}"
        found["Seed of training"] = str(record["seed"])
        if record["seconds"] is not None:
            found["Time of training"] = f"{record['seconds']:,.1f} s"
    if history:
        found["Epochs"] = f"{len(next(iter(history.values()))):,}"
    return found


def of_model(model: Any) -> str:
    """Class, size, training and settings."""
    settings = terms({name: str(value) for name, value in model.params.items()})
    short = settings.replace("<dl>", '<dl class="short">', 1)
    return f"{terms(_model_facts(model))}<h3>Settings</h3>{short}"


def training(model: Any) -> str:
    """Curves, and what they do not say."""
    history = getattr(model, "history_", None)
    if not history:
        return missing(f"a {type(model).__name__} is fitted in one step, without training curves")
    words = (
        "<p>Curves of training cells and of held-out ones; weights, rates and schedules in grey. Values "
        "are the first "
        "and the last epoch's.</p>"
    )
    if not any("validation" in name for name in history):
        words += (
            "<p>No cells were held out (train_size=0.9 would): that the curves fall says that the model "
            "fits its "
            "training cells, not that it knows others.</p>"
        )
    return f'{words}<div class="curves">{curves.drawn(history)}</div>'


def cells_map(model: Any, codes: Codes, how: str, n_shown: str, n: int) -> str:
    """The map of real cells."""
    note = (
        ""
        if codes.of_model
        else f" A {type(model).__name__} has no codes: what is shown is the data's expression."
    )
    words = (
        f"<p>{n_shown}; {escape(how)}.{note} Point at a cell, or go from cell to cell with the arrow keys, "
        "to see its name.</p>"
    )
    if how.startswith("UMAP"):
        words += "<p>Distances between far groups, their sizes and gaps mean little in a UMAP.</p>"
    return words + map_of({"real": ("Cells", n)}, "Scatter plot of cells", shared=False)


def beside(
    data: Mapping[str, Any],
    new: AnnData | None,
    of_new: np.ndarray | None,
    how: str,
    why_not: str,
    asked: Asked,
) -> str:
    """New cells and real ones on one map."""
    if new is None:
        return missing(why_not)
    if of_new is None:
        return missing(
            f"new cells have no place in {how}; take the basis umap or pca to see them beside real ones"
        )
    words = (
        f"<p>{new.n_obs:,} new cells and the real ones, on one map: {escape(how)}. New cells have no better "
        "place than real ones: they are looked at anew, by their expression. Look for places where only "
        "one of the two has cells.</p>"
    )
    if asked.groupby is not None and not data["shared"]:
        words += missing("colours of groups: generated cells have none")
    panels = {
        "real": ("Real cells", len(data["sets"]["real"]["names"])),
        "generated": ("Generated cells", new.n_obs),
    }
    return words + map_of(panels, "Scatter plot", shared=True)


def fidelity(
    model: Any,
    yardstick: judge.Yardstick,
    new: AnnData | None,
    why_not: str,
    asked: Asked,
    say: Callable[[str], object],
) -> str:
    """Scores of new cells with lights, and by which real cells they are judged."""
    if new is None:
        return missing(why_not)
    say("scoring generated cells")
    why_no_groups = judge.can_draw_groups(model, asked.groupby, asked.source)
    groupby = None if why_no_groups else asked.groupby
    try:
        table = judge.score(yardstick, new, groupby, model.spec.layer, asked.n_generated, asked.seed)
    except DataError as error:
        return missing(f"the scores cannot be had: {error}")
    words = f"<p>Judged by {escape(yardstick.words)}."
    if not yardstick.fresh:
        words += (
            " <strong>This flatters the model:</strong> cells that it learned from cannot show whether it "
            "copies them "
            "or knows more. Hold cells out (train_size=0.9) or give others to find out."
        )
    words += f" {new.n_obs:,} new cells"
    record = new.uns.get(_keys.UNS, {})
    has_codes = isinstance(model, AbstractModel)
    words += f", codes from the {record['source']}.</p>" if has_codes else ".</p>"
    if why_no_groups and asked.groupby is not None:
        words += missing(f"scores by group: {why_no_groups}")
    return words + lights(table)
