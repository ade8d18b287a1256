"""A model and its cells on one web page: to look at, to send, to keep."""

import inspect
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import __version__, _atomic
from latentcell._errors import DataError, NotTrainedError
from latentcell.model._cells import match_genes, matrix_of
from latentcell.model._jacobian import AbstractJacobian
from latentcell.model._trained_on import held_out_rows
from latentcell.model.abstract import AbstractBaseline, AbstractModel

from ._describe import describe_latent
from ._latent_genes import rank_latent_genes
from ._page import curves, dims, facts, judge, scene
from ._page.codes import BASES, Codes, codes_of, described, places_of
from ._page.html import terms
from ._page.page import Section, lights, map_of, missing, page, remarks, sizes

_LIBRARIES = ("anndata", "numpy", "scanpy", "scikit-learn", "torch", "umap-learn")
_GENES_SHOWN = 12
_GENES_PER_DIMENSION = 6


@dataclass(frozen=True)
class _Asked:
    """What is asked for, checked."""

    groupby: str | None
    basis: str
    color: list[str] | None
    genes: list[str] | None
    n_cells: int
    n_generated: int
    source: str | None
    seed: int


def report(
    adata: AnnData,
    model: AbstractModel | AbstractBaseline,
    path: str | os.PathLike,
    *,
    groupby: str | None = None,
    held_out: AnnData | None = None,
    basis: str | None = None,
    color: Sequence[str] | None = None,
    genes: Sequence[str] | None = None,
    n_cells: int = 20_000,
    n_generated: int = 1000,
    source: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[str], object] | None = None,
) -> Path:
    """Write one web page on a model and its cells: data, warnings, training, map, dimensions, new cells.

    The page holds everything it shows and loads nothing: it can be opened without a network, sent and kept.
    It says what was left out and why: a model without an encoder (PCAGaussian, ...) has no dimensions, and
    its map is of expression; a GAN has no encoder either, its cells are placed by ``project``.

    Parameters
    ----------
    adata
        Cells, as a rule those that the model was trained on; not changed. Genes that the model needs and the
        cells lack are filled with 0, and the page warns of it.
    model
        A trained model of any class.
    path
        File to write (``.html``); it appears whole or not at all.
    groupby
        ``obs`` column of groups. Default: the labels that the model was told of, else ``"cell_type"``, else
        none.
    held_out
        Real cells that the model was not trained on, to judge generated cells by. Default: the cells that
        were held out in training (``train_size=``), if `adata` is what the model was built with; else all
        cells, and the page says that this flatters.
    basis
        Where cells are drawn: ``"umap"`` or ``"pca"`` of the codes, ``"code"`` (codes of two dimensions as they
        are), or an ``obsm`` key of `adata`, in which no generated cells can be drawn. Default: ``"code"`` of
        two dimensions, else ``"umap"``.
    color
        ``obs`` columns to colour by. Default: all that tell cells apart (labels up to 100 categories, and
        numbers).
    genes
        Genes to colour by. Default: the strongest of each dimension (up to 12), or the most variable.
    n_cells
        Cells that are looked at, at most; of more, so many are drawn at random, but all held-out ones are
        kept up to half of that.
    n_generated
        New cells to draw and to judge; 0 leaves that out.
    source
        Where codes of new cells come from; see ``generate``. Default: by the model.
    seed
        Of everything random. The same model, data and seed give the same page, byte by byte, on the same
        machine.
    overwrite
        Replace a file that is there.
    progress
        Called with what is being done, e.g. ``print``.

    Returns
    -------
    The path. Nothing is written to `adata`.

    Raises
    ------
    DataError
        If the cells do not fit the model, a name is not there, or the file is there already.
    NotTrainedError
        If the model has not been trained.

    References
    ----------
    Scores: see :func:`latentcell.metrics.fidelity`; dimensions: :func:`latentcell.tl.describe_latent`; map:
    McInnes, Healy and Melville, 2018, `arXiv:1802.03426 <https://arxiv.org/abs/1802.03426>`__.

    Examples
    --------
    >>> import tempfile
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.ae(adata, max_epochs=1, n_latent=2, hidden=(8,), progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = lc.tl.report(adata, model, f"{folder}/ae.html", n_generated=0)
    ...     "AE of 700 cells" in path.read_text(encoding="utf-8")
    True
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; it is left as it is: name a file")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists: choose another name, or replace it with overwrite=True")
    say = progress or (lambda text: None)
    groupby = _groups(adata, model, groupby)
    asked = _checked(adata, model, groupby, basis, color, genes, n_cells, n_generated, source, seed)
    html = _html(adata, model, held_out, asked, say)
    path.parent.mkdir(parents=True, exist_ok=True)
    _atomic.write_bytes(path, html.encode())
    return path


def _groups(adata: AnnData, model: Any, groupby: str | None) -> str | None:
    if not isinstance(model, AbstractModel | AbstractBaseline):
        raise DataError(f"model: a model of latentcell is needed, got {type(model).__name__}")
    if not model.is_trained_:
        raise NotTrainedError(f"this {type(model).__name__} has not been trained; call train() first")
    if groupby is not None:
        if groupby not in adata.obs:
            raise DataError(
                f"groupby={groupby!r} is not a column of adata.obs (there: {', '.join(adata.obs)})."
            )
        return groupby
    return next(
        (key for key in (model.spec.labels_key, "cell_type") if key is not None and key in adata.obs), None
    )


def _checked(
    adata: AnnData,
    model: Any,
    groupby: str | None,
    basis: str | None,
    color: Sequence[str] | None,
    genes: Sequence[str] | None,
    n_cells: int,
    n_generated: int,
    source: str | None,
    seed: int,
) -> _Asked:
    if basis is None:
        basis = "code" if getattr(model, "_n_latent", 0) == 2 else "umap"
    if basis not in BASES and basis not in adata.obsm:
        raise DataError(
            f"basis={basis!r} is none of {BASES} and not in adata.obsm (there: {', '.join(adata.obsm)})."
        )
    if basis == "code" and getattr(model, "_n_latent", 0) != 2:
        raise DataError("basis='code' needs codes of two dimensions; use 'umap' or 'pca'")
    for key in color or ():
        if key not in adata.obs:
            raise DataError(f"color: {key!r} is not a column of adata.obs (there: {', '.join(adata.obs)}).")
    for gene in genes or ():
        if gene not in model.spec.genes:
            raise DataError(f"genes: {gene!r} is not a gene of the model")
    if n_cells < 10:
        raise DataError(f"n_cells must be at least 10, got {n_cells}")
    if n_generated < 0 or 0 < n_generated < 10:
        raise DataError(f"n_generated must be 0 (none) or at least 10, got {n_generated}")
    known = inspect.signature(model.generate).parameters
    if source is not None and "source" not in known:
        raise DataError(f"source: a {type(model).__name__} has no codes to draw from; leave it out")
    own = None if color is None else list(color)
    return _Asked(
        groupby, basis, own, None if genes is None else list(genes), n_cells, n_generated, source, seed
    )


def _html(
    adata: AnnData, model: Any, held_out: AnnData | None, asked: _Asked, say: Callable[[str], object]
) -> str:
    say("looking at the data")
    unseen = held_out_rows(model.trained_on_, adata.obs_names)
    rows = _rows(adata.n_obs, unseen, asked.n_cells, asked.seed)
    known = facts.facts_of(
        _fitting(adata, model, np.arange(adata.n_obs)),
        model,
        asked.groupby,
        n_given=adata.shape,
        unseen=unseen,
        n_other=None if held_out is None else held_out.n_obs,
    )
    cells = _fitting(adata, model, rows)
    unseen = None if unseen is None else np.flatnonzero(np.isin(rows, unseen))
    if held_out is not None:
        held_out = _fitting(held_out, model, np.arange(held_out.n_obs))
        if asked.groupby is not None and asked.groupby not in held_out.obs:
            raise DataError(f"held_out has no column {asked.groupby!r} (groupby) in obs")
    yardstick = judge.yardstick_of(cells, unseen, held_out)
    new, why_not = _draw(model, yardstick, cells, asked, say)
    say("encoding cells")
    codes = codes_of(model, cells, new, asked.seed)
    say("drawing the map")
    places, of_new, how = places_of(codes, asked.basis, cells, asked.seed)
    told, table = _dimensions(model, cells, codes, asked.groupby, say)
    data = _data(cells, model, new, asked, (places, of_new), table)
    n_shown = (
        f"{len(rows):,} of {adata.n_obs:,} cells, drawn at random" if len(rows) < adata.n_obs else "All cells"
    )
    sections = [
        Section("data", "Data", _data_html(known)),
        Section("model", "Model", terms(_model_facts(model))),
        Section("training", "Training", _training(model)),
        Section("map", "Map of the cells", _map_html(model, codes, how, n_shown, len(rows))),
        Section("dimensions", "Dimensions", told),
        Section("generated", "Generated beside real cells", _beside(data, new, of_new, how, why_not, asked)),
        Section(
            "fidelity", "How real generated cells are", _fidelity(model, yardstick, new, why_not, asked, say)
        ),
    ]
    name = f"{type(model).__name__} of {adata.n_obs:,} cells"
    lead = "What a trained model makes of its data, what it draws, and how far that can be believed."
    return page(name, lead, sections, data, _versions(asked))


def _rows(n: int, unseen: np.ndarray | None, n_cells: int, seed: int) -> np.ndarray:
    """Rows to look at: all, or so many at random, with as many held-out ones as half of them."""
    if n <= n_cells:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    kept = np.zeros(0, dtype=np.int64) if unseen is None else unseen
    if len(kept) > n_cells // 2:
        kept = rng.choice(kept, n_cells // 2, replace=False)
    others = np.setdiff1d(np.arange(n), kept if unseen is None else np.union1d(kept, unseen))
    more = rng.choice(others, min(len(others), n_cells - len(kept)), replace=False)
    return np.sort(np.concatenate([kept, more]))


def _fitting(adata: AnnData, model: Any, rows: np.ndarray) -> AnnData:
    """Cells of their own with the model's genes in its order; those that are missing are filled with 0."""
    spec = model.spec
    matrix_of(adata, spec.layer)
    lacking = ~pd.Index(spec.genes).isin(adata.var_names)
    if lacking.any() and isinstance(model, AbstractModel):
        filled = type(model).prepare_query_anndata(adata[rows], model)
        for key in adata.obsm:
            filled.obsm[key] = np.asarray(adata.obsm[key])[rows]
        filled.uns.update({key: value for key, value in adata.uns.items() if str(key).endswith("_colors")})
        return filled
    genes = match_genes(adata.var_names, spec.genes)
    part = adata[rows] if genes is None else adata[rows, genes]
    return part.to_memory() if adata.isbacked else part.copy()


def _draw(
    model: Any, yardstick: judge.Yardstick, cells: AnnData, asked: _Asked, say: Callable[[str], object]
) -> tuple[AnnData | None, str]:
    """New cells, or why there are none."""
    if asked.n_generated == 0:
        return None, "no generated cells were asked for"
    say(f"generating {asked.n_generated:,} cells")
    groupby = asked.groupby
    if judge.can_draw_groups(model, groupby, asked.source):
        groupby = None
    if isinstance(model, AbstractBaseline):
        model.attach(cells)  # some draw from cells
    new = judge.draw(model, yardstick.real, groupby, asked.n_generated, asked.source, asked.seed)
    if groupby is None and asked.groupby is not None and asked.groupby in new.obs:
        del new.obs[asked.groupby]  # it says nothing of these cells
    return new, ""


def _dimensions(
    model: Any, cells: AnnData, codes: Codes, groupby: str | None, say: Callable[[str], object]
) -> tuple[str, pd.DataFrame | None]:
    """What each dimension is about, as HTML and as a table."""
    if not codes.of_model:
        return missing(f"a {type(model).__name__} has no codes, hence no dimensions"), None
    say("describing dimensions")
    told, key = described(model, cells, codes)
    has_genes = isinstance(model, AbstractJacobian)
    if has_genes:
        rank_latent_genes(told, model, use_rep=key, n_genes=_GENES_PER_DIMENSION)
    few = groupby is None or told.obs[groupby].nunique() < 2
    table = describe_latent(
        told, key, None if few else groupby, n_genes=_GENES_PER_DIMENSION, layer=model.spec.layer
    )
    words = (
        "<p>A dimension is <em>on</em> in a cell where a sparse code is not 0, or where a dense one is more than one "
        "standard deviation from its median. <em>AUROC</em> says how well it tells a group from all others: 0.5 is "
        "chance, 1 is perfect.</p>"
    )
    if has_genes:
        words += (
            "<p>Genes are those that the decoder moves most when the dimension rises: what the model says, without a "
            "test. Train with other seeds to see what is stable.</p>"
        )
    else:
        words += missing(f"genes of dimensions, as a {type(model).__name__} has no decoder that can be asked")
    by_group = "" if few else "<h3>Groups in which they are on</h3>" + dims.on_table(table)
    if few:
        by_group = missing("groups in which they are on, as there are no two groups")
    return words + dims.dimension_table(table) + by_group, table


def _data(
    cells: AnnData,
    model: Any,
    new: AnnData | None,
    asked: _Asked,
    places: tuple[np.ndarray, np.ndarray | None],
    table: pd.DataFrame | None,
) -> dict[str, Any]:
    """What the script draws."""
    layer, groupby = model.spec.layer, asked.groupby
    of_real, of_new = places
    columns = scene.choices(cells, groupby, model.spec.batch_key, asked.color)
    genes = asked.genes if asked.genes is not None else _notable(cells, layer, table)
    if groupby is None and model.spec.batch_key is None and not columns:
        columns = []
    chosen = [(key, key == groupby) for key in columns] + [
        (gene, False) for gene in genes if gene not in columns
    ]
    colorings = [scene.coloring_of(cells, key, layer, as_groups=is_group) for key, is_group in chosen]
    box = scene.box_of(of_real, of_new)
    real_codes = {number: codes for number, (_, codes) in enumerate(colorings)}
    sets = {"real": scene.set_of(list(cells.obs_names), of_real, box, real_codes)}
    shared: list[int] = []
    if new is not None and of_new is not None:
        new_codes = {}
        for number, ((key, _), (coloring, _)) in enumerate(zip(chosen, colorings, strict=True)):
            if coloring.kind == "labels" and key in new.obs and key in (groupby, model.spec.batch_key):
                position = {name: i for i, name in enumerate(coloring.labels)}
                names = new.obs[key].astype(str)
                if names.isin(list(position)).all():
                    new_codes[number] = names.map(position).to_numpy(dtype=np.int64)
        sets["generated"] = scene.set_of(list(new.obs_names), of_new, box, new_codes)
        shared = list(new_codes)
    return {
        "colorings": [coloring.to_json() for coloring, _ in colorings],
        "group": next((i for i, (_, is_group) in enumerate(chosen) if is_group), -1),
        "shared": shared,
        "sets": sets,
    }


def _notable(cells: AnnData, layer: str | None, table: pd.DataFrame | None) -> list[str]:
    """Genes to colour by: the strongest of each dimension in turn, else those that vary most."""
    if table is not None and "genes_up" in table:
        lists = [genes.split(", ") for genes in table.loc[table["active"], "genes_up"] if genes]
        turns = [genes[rank] for rank in range(_GENES_PER_DIMENSION) for genes in lists if rank < len(genes)]
        return list(dict.fromkeys(turns))[:_GENES_SHOWN]
    values = matrix_of(cells, layer)
    mean = np.asarray(values.mean(axis=0)).ravel()
    square = values.multiply(values) if hasattr(values, "multiply") else np.square(values)
    variance = np.asarray(square.mean(axis=0)).ravel() - np.square(mean)
    return [str(gene) for gene in cells.var_names[np.argsort(-variance, kind="stable")[:_GENES_SHOWN]]]


# --- sections ---


def _data_html(known: facts.Facts) -> str:
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
    return found | {f"{name}=": str(value) for name, value in model.params.items()}


def _training(model: Any) -> str:
    history = getattr(model, "history_", None)
    if not history:
        return missing(f"a {type(model).__name__} is fitted in one step, without training curves")
    words = (
        "<p>Curves of training cells and of held-out ones; weights, rates and schedules in grey. Values are the first "
        "and the last epoch's.</p>"
    )
    if not any("validation" in name for name in history):
        words += (
            "<p>No cells were held out (train_size=0.9 would): that the curves fall says that the model fits its "
            "training cells, not that it knows others.</p>"
        )
    return f'{words}<div class="curves">{curves.drawn(history)}</div>'


def _map_html(model: Any, codes: Codes, how: str, n_shown: str, n: int) -> str:
    note = (
        ""
        if codes.of_model
        else f" A {type(model).__name__} has no codes: what is shown is the data's expression."
    )
    words = (
        f"<p>{n_shown}; {escape(how)}.{note} Point at a cell, or go from cell to cell with the arrow keys, to see "
        "its name. Distances between far groups, their sizes and gaps mean little in a UMAP.</p>"
    )
    return words + map_of({"real": ("Cells", n)}, "Scatter plot of cells", shared=False)


def _beside(
    data: Mapping[str, Any],
    new: AnnData | None,
    of_new: np.ndarray | None,
    how: str,
    why_not: str,
    asked: _Asked,
) -> str:
    if new is None:
        return missing(why_not)
    if of_new is None:
        return missing(
            f"new cells have no place in {how}; take the basis umap or pca to see them beside real ones"
        )
    words = (
        f"<p>{new.n_obs:,} new cells and the real ones, on one map: {escape(how)} of both together. New cells were "
        "encoded anew, as real ones are. Look for places where only one of the two has cells.</p>"
    )
    if asked.groupby is not None and not data["shared"]:
        words += missing("colours of groups: generated cells have none")
    panels = {
        "real": ("Real cells", len(data["sets"]["real"]["names"])),
        "generated": ("Generated cells", new.n_obs),
    }
    return words + map_of(panels, "Scatter plot", shared=True)


def _fidelity(
    model: Any,
    yardstick: judge.Yardstick,
    new: AnnData | None,
    why_not: str,
    asked: _Asked,
    say: Callable[[str], object],
) -> str:
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
            " <strong>This flatters the model:</strong> cells that it learned from cannot show whether it copies them "
            "or knows more. Hold cells out (train_size=0.9) or give others to find out."
        )
    words += f" {new.n_obs:,} new cells"
    record = new.uns.get("latentcell", {})
    words += f", codes from the {record['source']}.</p>" if record.get("source") else ".</p>"
    if why_no_groups and asked.groupby is not None:
        words += missing(f"scores by group: {why_no_groups}")
    return words + lights(table)


def _versions(asked: _Asked) -> dict[str, str]:
    found = {"latentcell": __version__, "Python": platform.python_version()}
    found |= {name: version(name) for name in _LIBRARIES}
    own = {"groupby": asked.groupby, "basis": asked.basis, "n_cells": asked.n_cells, "seed": asked.seed}
    return found | {"Asked for": ", ".join(f"{name}={value}" for name, value in own.items())}
