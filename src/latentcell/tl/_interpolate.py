"""The way from one group of cells to another through latent space, and what changes on it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._errors import DataError, nearest
from latentcell.model import AE, CVAE, DCA, GAN, VAE, VSC, ConditionalGAN, DisentangledVAE
from latentcell.model._generation import check_choice

from ._graph_path import (
    Closeness,
    equal_steps,
    medoid,
    neighbor_graph,
    parts_of,
    shortest_route,
    smooth_route,
)
from ._observed import observed_change
from ._places import check_places, log_expression, places_of, rank_changes

Along = Literal["line", "graph"]
BAND = (0.05, 0.95)
"""Quantiles over the cells around a place, between which its bands lie."""
LEAST_CELLS = 3
"""Cells of a group whose own expression is compared at an end of a path: of fewer, those around it serve."""
NEAREST_CELLS = 30
"""How many these are, at most."""


def interpolate(
    adata: AnnData,
    model: AE | CVAE | ConditionalGAN | DCA | DisentangledVAE | GAN | VAE | VSC,
    start: str | np.ndarray,
    end: str | np.ndarray,
    steps: int = 10,
    *,
    groupby: str | None = None,
    along: Along = "line",
    via: Sequence[str | np.ndarray] = (),
    n_neighbors: int = 15,
    neighbors_key: str | None = None,
    n_local: int = 30,
    use_rep: str | None = None,
    labels: Any = None,
    batch: Any = None,
    covariates: Mapping[str, Any] | None = None,
    library_size: float | None = None,
    genes: Sequence[str] | None = None,
) -> AnnData:
    """Decode a path in latent space from one group of cells to another, and rank genes by change.

    ``along="line"`` is straight, from the mean code of one group to that of the other. It may lead through
    places where no cell is. ``along="graph"`` follows cells: from medoid to medoid (the cell nearest to all
    others of its group) over the graph of nearest neighbours of codes, on the route whose squared steps have
    the smallest sum, so that many near cells are preferred to a few far ones. The cells on the route are
    averaged with their neighbours and the line through them is smoothed; then it is cut into equal steps.

    Neither says anything of time, nor that any cell takes the way. ``obs["distance"]`` tells where a path is
    farther from all cells than cells are from each other: there, what is decoded is the decoder's guess.

    Parameters
    ----------
    adata
        Cells with both groups; with `along` ``"graph"`` and for bands also all others that a path may pass.
        Not changed.
    model
        A trained model: cells are placed by its encoder, or by :meth:`GAN.project
        <latentcell.model.GAN.project>`.
    start, end
        Groups by name; names of cells; or codes (n_latent).
    steps
        Places on the path, both ends included.
    groupby
        ``obs`` column of the groups; None takes the ``labels_key`` that the model was set up with.
    along
        ``"line"`` or ``"graph"``.
    via
        Groups, cells or codes that the path passes in this order: means of groups on a line, medoids on the
        graph (of a code, the nearest cell).
    n_neighbors
        Nearest cells to which each is joined on the graph. 15 is Scanpy's number; more lets a path jump.
    neighbors_key
        ``uns`` key of a graph from ``sc.pp.neighbors(adata, use_rep="X_<model>")`` to go along (Scanpy's own
        is ``"neighbors"``), for `along` ``"graph"``; lengths are still those between codes. None computes
        one.
    n_local
        Cells around each place that tell how sure it is, see Returns; 0 leaves out all that comes of it, so
        that of a line only the codes of the groups are computed, and `adata` need not have the genes if it
        has codes.
    use_rep
        ``obsm`` key under which `adata` has the model's codes; None computes those that are needed.
    labels, batch, covariates, library_size, genes
        What all places are decoded as; see :meth:`decode <latentcell.model.VAE.decode>`. A model that is told
        labels, batches or covariates needs them, and what it is told is not in its codes: a path of a
        conditional model between two labels shows what else differs.

    Returns
    -------
    AnnData (steps x genes) as from :meth:`decode <latentcell.model.VAE.decode>`, the likelihood's mean in
    ``X``, with

    ``obs["step"]``
        From 0 (`start`) to 1 (`end`), as a share of the length in latent space.
    ``var["change"]``
        Of the gene from `start` to `end`: of counts in log(1 + counts per 10,000), else in the unit of the
        data.
    ``var["rank"]``
        Genes by the size of their change, from 1. :func:`rank_switches` orders them by when they change.
    ``var["observed_change"]``, ``var["observed_p"]``
        How far the gene differs between the cells of both groups themselves, in means of log(1 + counts per
        10,000), else in the unit of the data, and Welch's p of it: what :func:`rank_switches` asks before it
        believes the decoder. For ends that are codes, cells or groups of fewer than 3: the cells nearest to
        the end (30, at most a quarter of all). Those were chosen by the model, so that their p is too small.
    ``layers["lower"]``, ``layers["upper"]``
        Bands: the 5th and the 95th percentile of what is decoded at the codes of the `n_local` nearest cells,
        as the place itself is decoded, in the unit of ``X``. They say how much cells here differ, in what the
        model holds of them, and are wide and off the curve where a path leaves the cells; they are no
        confidence interval and hold no noise of counting.
    ``obs["nearest_cell"]``, ``obs["distance"]``
        The nearest cell by name, and how far it is, in the unit of the codes.
    ``uns["latentcell"]``
        Where it comes from, with ``"start"``, ``"end"``, ``"along"``; ``"cell_distance"``, within which 95 %
        of the cells have another cell; ``"local_cells"``, names of the nearest cells (steps x `n_local`); on
        the graph ``"route"``, names of its cells. :func:`latentcell.pl.path` draws it.

    Raises
    ------
    DataError
        If there is no such column, group or cell, `adata` or an argument does not fit the model, or the graph
        has no way from `start` to `end`.

    References
    ----------
    Ghahramani, Watt and Luscombe, Generative adversarial networks simulate gene expression and predict
    perturbations in single cells, 2018, `doi:10.1101/262501 <https://doi.org/10.1101/262501>`__ (lines);
    Little, McKenzie and Murphy, Balancing geometry and density: path distances on high-dimensional data, SIAM
    Journal on Mathematics of Data Science 4, 2022, `arXiv:2012.09385 <https://arxiv.org/abs/2012.09385>`__
    (shortest paths with powers of lengths).

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0, seed=0)
    >>> model = lc.tl.vae(adata, max_epochs=20, n_latent=4, progress=False)
    >>> path = lc.tl.interpolate(adata, model, "group1", "group2", 5, groupby="group")
    >>> path.obs["step"].tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> top = path.var.nsmallest(20, "rank").index
    >>> sorted(adata.var["marker_of"][top].unique())
    ['group1', 'group2']
    >>> path = lc.tl.interpolate(
    ...     adata, model, "group1", "group2", 5, groupby="group", along="graph", n_neighbors=40
    ... )
    >>> path.uns["latentcell"]["route"][0] in adata.obs_names[adata.obs["group"] == "group1"]
    True
    """
    check_places(adata, model)
    check_choice("along", along, get_args(Along))
    if steps < 2:
        raise DataError(f"steps must be at least 2, got {steps}")
    if n_local < 0:
        raise DataError(f"n_local must be at least 0, got {n_local}")
    key = model.spec.labels_key if groupby is None else groupby
    stops = [("start", start), *(("via", stop) for stop in via), ("end", end)]
    cells = [_cells_of(adata, key, stop, name) if not np.ndim(stop) else None for name, stop in stops]
    given = [_code(stop, model, name) if np.ndim(stop) else None for name, stop in stops]
    codes = places_of(adata, model, use_rep) if along == "graph" or n_local else None
    told: dict[str, Any] = {
        "labels": labels,
        "batch": batch,
        "covariates": covariates,
        "library_size": library_size,
    }
    said: dict[str, Any] = {"along": along}
    if along == "line":
        points = [
            _mean_code(adata, model, use_rep, codes, rows) if code is None else code
            for rows, code in zip(cells, given, strict=True)
        ]
        places = equal_steps(np.stack(points), steps)
    else:
        graph = neighbor_graph(adata, cast("np.ndarray", codes), n_neighbors, neighbors_key)
        places, route = _over_graph(cast("np.ndarray", codes), graph, cells, given, steps)
        said["route"] = adata.obs_names.to_numpy(dtype=str)[route]
    path = cast("AnnData", model.decode(places, genes=genes, **told))
    path.obs["step"] = np.linspace(0.0, 1.0, steps)
    if codes is not None and n_local:
        close = Closeness(codes)
        rows = _add_surroundings(path, model, codes, close, places, n_local, told, genes)
        path.uns[_keys.UNS]["local_cells"] = adata.obs_names.to_numpy(dtype=str)[rows]
        path.obs["nearest_cell"] = path.uns[_keys.UNS]["local_cells"][:, 0]
        n_near = min(NEAREST_CELLS, max(LEAST_CELLS, len(codes) // 4))
        sides = [
            own if own is not None and len(own) >= LEAST_CELLS else close.of(place[None], n_near)[1][0]
            for own, place in ((cells[0], places[0]), (cells[-1], places[-1]))
        ]
        change, p = observed_change(adata, model, *sides)
        at = pd.Index(model.spec.genes).get_indexer(path.var_names)
        path.var["observed_change"], path.var["observed_p"] = change[at], p[at]
    ends = log_expression(path, [0, -1])
    rank_changes(path, ends[1] - ends[0])
    named = {name: "a code" if np.ndim(stop) else str(stop) for name, stop in stops if name != "via"}
    path.uns[_keys.UNS] |= said | named
    return path


def _over_graph(
    codes: np.ndarray,
    graph: Any,
    cells: list[np.ndarray | None],
    given: list[np.ndarray | None],
    steps: int,
) -> tuple[np.ndarray, list[int]]:
    """Places of a path along the graph (steps x n_latent), and the cells of its route."""
    close = Closeness(codes)
    stops = [
        medoid(codes, rows) if rows is not None else int(close.of(cast("np.ndarray", code)[None], 1)[1][0, 0])
        for rows, code in zip(cells, given, strict=True)
    ]
    route = shortest_route(codes, graph, stops)
    if route is None:
        n_parts, sizes = parts_of(graph, stops)
        raise DataError(
            f"no path along the graph leads from start to end: it has {n_parts} parts that nothing joins, "
            f"and the stops lie in parts of {', '.join(map(str, sizes))} cells. Raise n_neighbors= (or, with "
            "neighbors_key=, that of sc.pp.neighbors), add the cells that lie between, or take "
            "along='line', which crosses what is empty"
        )
    first, last = (codes[stops[at]] if given[at] is None else cast("np.ndarray", given[at]) for at in (0, -1))
    return equal_steps(smooth_route(codes, graph, route, first, last), steps), route


def _add_surroundings(
    path: AnnData,
    model: Any,
    codes: np.ndarray,
    close: Closeness,
    places: np.ndarray,
    n_local: int,
    told: dict[str, Any],
    genes: Sequence[str] | None,
) -> np.ndarray:
    """Write how far cells are and what they decode to; returns their positions (steps x n_local)."""
    distances, rows = close.of(places, n_local)
    bands = np.empty((2, *path.shape), dtype=np.float32)
    for at, local in enumerate(rows):
        here = {name: _at(value, at) for name, value in told.items() if name != "covariates"}
        covariates = {name: _at(value, at) for name, value in (told["covariates"] or {}).items()}
        around = model.decode(codes[local], genes=genes, covariates=covariates, **here)
        bands[:, at] = np.quantile(np.asarray(around.X), BAND, axis=0)
    path.layers["lower"], path.layers["upper"] = bands
    path.obs["distance"] = distances[:, 0]
    path.uns[_keys.UNS]["cell_distance"] = close.usual()
    return rows


def _at(value: Any, step: int) -> Any:
    """What a place is told: the same at all, or one value per place."""
    return value if np.ndim(value) == 0 else np.asarray(value)[step]


def _mean_code(
    adata: AnnData, model: Any, use_rep: str | None, codes: np.ndarray | None, rows: np.ndarray | None
) -> np.ndarray:
    own = places_of(adata, model, use_rep, rows) if codes is None else codes[rows]
    return np.asarray(own.mean(axis=0))


def _code(given: Any, model: Any, argument: str) -> np.ndarray:
    code = np.asarray(given, dtype=np.float64)
    if code.shape != (model._n_latent,) or not np.isfinite(code).all():
        raise DataError(
            f"{argument} must be the name of a group or cell, or {model._n_latent} finite numbers "
            f"(n_latent), got {code.shape}"
        )
    return code


def _cells_of(adata: AnnData, key: str | None, group: Any, argument: str) -> np.ndarray:
    """Positions of the cells of a group, else of the one cell of this name."""
    cell = np.flatnonzero(adata.obs_names == group)
    if key is None:
        if len(cell) == 1:
            return cell
        raise DataError(
            "groupby is needed: the model was set up without labels_key; name the obs column of the groups"
        )
    if key not in adata.obs:
        raise DataError(
            f"groupby={key!r} is not a column of adata.obs (there: {', '.join(adata.obs)})."
            f"{nearest(key, adata.obs)}"
        )
    rows = np.flatnonzero((adata.obs[key] == group).to_numpy(dtype=bool, na_value=False))
    if not len(rows) and len(cell) != 1:
        there = adata.obs[key].dropna().unique().tolist()
        raise DataError(
            f"{argument}={group!r} is not in adata.obs[{key!r}] (there are {there[:20]}), and no one cell "
            "has this name"
        )
    return rows if len(rows) else cell
