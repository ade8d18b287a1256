"""A model and its cells on one web page: to look at, to send, to keep."""

import inspect
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import __version__, _atomic
from latentcell._errors import DataError, NotTrainedError, nearest
from latentcell.model._cells import match_genes, matrix_of
from latentcell.model._trained_on import held_out_rows
from latentcell.model.abstract import AbstractBaseline, AbstractModel

from ._page import judge, sections
from ._page.asked import Asked
from ._page.codes import BASES, codes_of, places_of
from ._page.facts import facts_of
from ._page.page import Section, page
from ._page.scene import scene_of

_LIBRARIES = ("anndata", "numpy", "scanpy", "scikit-learn", "torch", "umap-learn")


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
        Where cells are drawn: ``"umap"`` or ``"pca"`` of the codes, ``"code"`` (codes of two dimensions as
        they are), or an ``obsm`` key of `adata`, in which no generated cells can be drawn. Default:
        ``"code"`` of two dimensions, else ``"umap"``.
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
                f"{nearest(groupby, adata.obs)}"
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
) -> Asked:
    if basis is None:
        basis = "code" if getattr(model, "_n_latent", 0) == 2 else "umap"
    if basis not in BASES and basis not in adata.obsm:
        raise DataError(
            f"basis={basis!r} is none of {BASES} and not in adata.obsm (there: {', '.join(adata.obsm)})."
            f"{nearest(basis, [*BASES, *adata.obsm])}"
        )
    if basis == "code" and getattr(model, "_n_latent", 0) != 2:
        raise DataError("basis='code' needs codes of two dimensions; use 'umap' or 'pca'")
    for key in color or ():
        if key not in adata.obs:
            raise DataError(
                f"color: {key!r} is not a column of adata.obs (there: {', '.join(adata.obs)})."
                f"{nearest(key, adata.obs)}"
            )
    for gene in genes or ():
        if gene not in model.spec.genes:
            raise DataError(f"genes: {gene!r} is not a gene of the model.{nearest(gene, model.spec.genes)}")
    if n_cells < 10:
        raise DataError(f"n_cells must be at least 10, got {n_cells}")
    if n_generated < 0 or 0 < n_generated < 10:
        raise DataError(f"n_generated must be 0 (none) or at least 10, got {n_generated}")
    known = inspect.signature(model.generate).parameters
    if source is not None and "source" not in known:
        raise DataError(f"source: a {type(model).__name__} has no codes to draw from; leave it out")
    own = None if color is None else list(color)
    return Asked(
        groupby, basis, own, None if genes is None else list(genes), n_cells, n_generated, source, seed
    )


def _html(
    adata: AnnData, model: Any, held_out: AnnData | None, asked: Asked, say: Callable[[str], object]
) -> str:
    _check_batches(adata, model, "adata")
    if held_out is not None:
        _check_batches(held_out, model, "held_out")
    say("looking at the data")
    unseen = held_out_rows(model.trained_on_, adata.obs_names)
    rows = _rows(adata.n_obs, unseen, asked.n_cells, asked.seed)
    known = facts_of(
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
    told, table = sections.dimensions(model, cells, codes, asked.groupby, say)
    data = scene_of(cells, model, new, asked, (places, of_new), table)
    n_shown = (
        f"{len(rows):,} of {adata.n_obs:,} cells, drawn at random"
        if len(rows) < adata.n_obs
        else f"All {len(rows):,} cells"
    )
    beside = sections.beside(data, new, of_new, how, why_not, asked)
    scores = sections.fidelity(model, yardstick, new, why_not, asked, say)
    parts = [
        Section("data", "Data", sections.data(known)),
        Section("model", "Model", sections.of_model(model)),
        Section("training", "Training", sections.training(model)),
        Section("map", "Map of the cells", sections.cells_map(model, codes, how, n_shown, len(rows))),
        Section("dimensions", "Dimensions", told),
        Section("generated", "Generated beside real cells", beside),
        Section("fidelity", "How real generated cells are", scores),
    ]
    name = f"{type(model).__name__} of {adata.n_obs:,} cells"
    lead = "What a trained model makes of its data, what it draws, and how far that can be believed."
    return page(name, lead, parts, data, _versions(asked))


def _check_batches(cells: AnnData, model: Any, name: str) -> None:
    """Refuse cells that do not say of which batch they are, where the model asks for it."""
    key, known = model.spec.batch_key, model.spec.batch or []
    if key is None or key in cells.obs:
        return
    named = ", ".join(repr(batch) for batch in known[:5]) + (", ..." if len(known) > 5 else "")
    there = ", ".join(map(str, cells.obs)) or "none"
    raise DataError(
        f"{name}.obs has no {key!r}, the model's column of batches (batch_key); its columns are: {there}. "
        f"Add one that holds the batch of every cell: {named}.{nearest(key, cells.obs)}"
    )


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
        part = adata[rows]
        filled = type(model).prepare_query_anndata(part, model)
        for key in part.obsm:
            filled.obsm[key] = part.obsm[key]
        filled.uns.update({key: value for key, value in adata.uns.items() if str(key).endswith("_colors")})
        return filled
    genes = match_genes(adata.var_names, spec.genes)
    part = adata[rows] if genes is None else adata[rows, genes]
    return part.to_memory() if adata.isbacked else part.copy()


def _draw(
    model: Any, yardstick: judge.Yardstick, cells: AnnData, asked: Asked, say: Callable[[str], object]
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


def _versions(asked: Asked) -> dict[str, str]:
    found = {"latentcell": __version__, "Python": platform.python_version()}
    found |= {name: version(name) for name in _LIBRARIES}
    own = {"groupby": asked.groupby, "basis": asked.basis, "n_cells": asked.n_cells, "seed": asked.seed}
    return found | {"Asked for": ", ".join(f"{name}={value}" for name, value in own.items())}
