"""Predictions of a perturbation side by side: every type held out in turn, baselines beside models."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from latentcell import metrics
from latentcell._errors import DataError
from latentcell.model._arithmetic import Weighting, is_in, kinds_of

from ._perturb import components, log_values, perturb, told_as

Method = Callable[[AnnData, int], Any]


def compare_perturbation(
    adata: AnnData,
    methods: Mapping[str, Method] | None,
    condition_key: str,
    labels_key: str,
    *,
    stimulated: Any,
    control: Any,
    cell_types: Sequence[Any] | None = None,
    min_cells: int = 30,
    layer: str | None = None,
    weightings: Sequence[Weighting] = ("balanced", "similarity"),
    seeds: Iterable[int] = (0,),
    n_comps: int = 50,
    n_top: Sequence[int] = (100, 20),
    baselines: bool = True,
) -> pd.DataFrame:
    """Hold out the stimulated cells of each type in turn, predict them, and judge models beside baselines.

    Everything that predicts (a model, principal components, a shift) is given the cells without the
    stimulated ones of the type. Those are seen only when the prediction is judged, and by the choice of the
    top differential genes it is judged on (:func:`latentcell.metrics.rank_differential_genes`).

    Simple baselines are hard to beat, so they stand in the same table:

    ``"no change"``
        The control cells of the type.
    ``"mean of other types"``
        The control cells moved so that their mean is the mean of the other types' stimulated means.
    ``"mean shift"``
        The control cells moved by the difference of the means of all stimulated and all control cells of
        other types.
    ``"genes"``, ``"pca"``
        :func:`perturb` without a model: arithmetic on values, and on principal components.
    ``"half of the real cells"``
        A random half of the real stimulated cells, judged against the other half: about what can be
        reached (with half of the cells, so a little less).

    Parameters
    ----------
    adata
        Cells with both conditions and types. Not changed.
    methods
        By name, functions that take cells (an AnnData of its own with all layers, which may be changed) and a
        seed, and return a model trained on them, for :func:`perturb`; or an AnnData of predicted cells with
        the genes of `adata`, log-normalised. None judges the baselines alone.
    condition_key, labels_key
        ``obs`` columns of condition and type.
    stimulated, control
        The condition to predict, and that of the cells to start from.
    cell_types
        Types to hold out. Default: all that have at least `min_cells` cells in both conditions.
    min_cells
        See `cell_types`; types with fewer cells still help to learn the shift.
    layer
        ``layers`` key of log-normalised values; None is ``X``. Everything is judged on them: models of counts
        draw counts, which are log-normalised alike (the log of an expected count is not what a log is
        expected to be).
    weightings
        How shifts of other types are averaged, each a row of its own; see :meth:`ScGen.predict
        <latentcell.model.ScGen.predict>`.
    seeds
        Seeds of the methods.
    n_comps
        Principal components of ``"pca"``, and of the distances.
    n_top
        Sizes of the sets of differential genes.
    baselines
        Judge the baselines. They do not hang on seeds, but for the half of the real cells.

    Returns
    -------
    DataFrame with a row per held-out type, method, weighting and seed, and the columns ``cell_type``,
    ``method``, ``weighting`` (``""`` where there is nothing to weight), ``seed``, ``n_control``, ``n_real``;
    those of :func:`latentcell.metrics.perturbation_response` over all genes (``r2``: squared Pearson of
    means; ``r2_score``; ...) and, with ``_top100`` and so on behind the name, over the top genes; and
    ``energy_distance`` and ``mmd`` to the real stimulated cells, on principal components fitted without them
    (lower is better).

    Raises
    ------
    DataError
        If a column, condition or type is not there, values are not log-normalised, no type has enough cells,
        or a method predicts other genes.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders, Deep learning-based predictions of gene perturbation effects do not yet
    outperform simple linear baselines, Nature Methods 2025, https://doi.org/10.1038/s41592-025-02772-6.

    Examples
    --------
    >>> import latentcell as lc
    >>> import numpy as np
    >>> adata = lc.datasets.simulate_factors(400, 60, {"type": 4, "drug": 2}, seed=1)
    >>> counts = adata.X.toarray()
    >>> adata.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    >>> table = lc.tl.compare_perturbation(
    ...     adata, None, "drug", "type", stimulated="drug_2", control="drug_1", n_comps=10, n_top=[20]
    ... )
    >>> r2 = table.groupby("method")["r2_top20"].mean()
    >>> bool(r2["no change"] < r2["mean of other types"] < r2["genes"])
    True
    """
    values = log_values(adata, layer)
    kinds = kinds_of(adata, labels_key)
    is_control = is_in(adata, condition_key, control, "control", "condition_key")
    is_stimulated = is_in(adata, condition_key, stimulated, "stimulated", "condition_key")
    for name in weightings:
        if name not in get_args(Weighting):
            raise DataError(f"weightings: {name!r} is not one of {get_args(Weighting)}")
    held_out = _types(kinds, is_control, is_stimulated, cell_types, min_cells)
    names, seeds = {"condition_key": condition_key, "stimulated": stimulated, "control": control}, list(seeds)
    if not seeds:
        raise DataError("seeds must not be empty")
    rows = []
    for kind in held_out:
        of_kind = kinds == kind
        seen = ~(of_kind & is_stimulated)
        judge = _Judge(
            kind, values[~seen], values[of_kind & is_control], components(values[seen], n_comps), n_top
        )
        change = names | {"cell_type": kind, "labels_key": labels_key}
        if baselines:
            first, second = is_control & ~of_kind, is_stimulated & ~of_kind
            for name, shift in _simple(values, kinds, first, second, judge.start):
                rows.append(judge.row(name, "", seeds[0], judge.start + shift))
            cells = adata[seen].copy()
            for name, weighting in product(("genes", "pca"), weightings):
                new = perturb(cells, name, **change, weighting=weighting, layer=layer, n_comps=n_comps)
                rows.append(judge.row(name, weighting, seeds[0], np.asarray(new.X)))
            for seed in seeds:
                halves = np.array_split(np.random.default_rng(seed).permutation(judge.real), 2)
                rows.append(judge.row("half of the real cells", "", seed, *halves))
        for (method, make), seed in product((methods or {}).items(), seeds):
            model = make(adata[seen].copy(), seed)
            for weighting, new in _predictions(adata[seen].copy(), model, change, weightings, seed):
                rows.append(judge.row(method, weighting, seed, _comparable(new, adata, values, method)))
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Judge:
    """What predictions of a held-out type are compared with.

    Parameters
    ----------
    kind
        The type.
    real, start
        Its stimulated and its control cells (cells x genes), log-normalised.
    pca
        Principal components of all cells but the real ones.
    n_top
        Sizes of the sets of differential genes.
    """

    kind: str
    real: np.ndarray
    start: np.ndarray
    pca: PCA
    n_top: Sequence[int]

    def row(
        self, method: str, weighting: str, seed: int, predicted: np.ndarray, real: np.ndarray | None = None
    ) -> dict[str, Any]:
        """A row of the table; `real` are other cells to compare with than all real ones."""
        real = self.real if real is None else real
        response = metrics.perturbation_response(real, predicted, self.start, n_top=self.n_top)
        scores = {
            name if genes == "all" else f"{name}_{genes.replace(' ', '')}": value
            for genes, values in response.drop(columns="n_genes").iterrows()
            for name, value in values.items()
            if (genes, name) != ("all", "overlap")
        }
        places = [self.pca.transform(X) for X in (real, predicted)]
        return {
            "cell_type": self.kind,
            "method": method,
            "weighting": weighting,
            "seed": seed,
            "n_control": len(self.start),
            "n_real": len(real),
            **scores,
            "energy_distance": metrics.energy_distance(*places),
            "mmd": metrics.mmd(*places),
        }


def _types(
    kinds: np.ndarray, first: np.ndarray, second: np.ndarray, wanted: Sequence[Any] | None, min_cells: int
) -> list[str]:
    """Types to hold out."""
    if wanted is not None:
        found = [str(name) for name in wanted]
        for name in found:
            if ((kinds == name) & first).sum() < 2 or ((kinds == name) & second).sum() < 4:
                raise DataError(
                    f"cell_types: {name!r} has too few cells; 2 control and 4 stimulated are least"
                )
        return found
    found = [
        str(name)
        for name in np.unique(kinds)
        if min(((kinds == name) & first).sum(), ((kinds == name) & second).sum()) >= max(min_cells, 4)
    ]
    if not found:
        raise DataError(f"no type has {min_cells} cells in both conditions (min_cells)")
    return found


def _simple(
    values: np.ndarray, kinds: np.ndarray, first: np.ndarray, second: np.ndarray, start: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Shifts of the control cells (genes) that need no model."""
    yield "no change", np.zeros(values.shape[1])
    if not (first.any() and second.any()):
        raise DataError("there are no other types to learn the change from")
    means = [values[second & (kinds == name)].mean(axis=0) for name in np.unique(kinds[second])]
    yield "mean of other types", np.mean(means, axis=0) - start.mean(axis=0)
    yield "mean shift", values[second].mean(axis=0) - values[first].mean(axis=0)


def _predictions(
    cells: AnnData, model: Any, change: dict[str, Any], weightings: Sequence[Weighting], seed: int
) -> Iterator[tuple[str, AnnData]]:
    """Predicted cells by weighting; of a counterfactual or of cells that were given, one set."""
    if isinstance(model, AnnData):
        yield "", model
        return
    drawn = model.module.likelihood.data_kind == "counts"
    how = change | {"output": "sample" if drawn else "mean", "seed": seed}
    if told_as(model, change["condition_key"]) is not None:
        yield "", perturb(cells, model, **how)
        return
    for weighting in weightings:
        yield weighting, perturb(cells, model, **how, weighting=weighting)


def _comparable(new: AnnData, adata: AnnData, values: np.ndarray, method: str) -> np.ndarray:
    """Predicted cells (cells x genes) with the genes, and on the scale, of the log-normalised values."""
    if set(new.var_names) != set(adata.var_names):
        raise DataError(
            f"methods: {method!r} predicts {new.n_vars} genes, adata has {adata.n_vars}; give the same"
        )
    x = new[:, adata.var_names].X
    x = np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float64)
    if "library_size" not in new.obs:
        return x
    totals = np.expm1(values).sum(axis=1)
    target = float(np.median(totals))
    if np.abs(totals / target - 1).max() > 1e-2:
        raise DataError(
            "the values judged on do not add up to the same number of counts in every cell, so predicted "
            "counts cannot be brought to their scale; use sc.pp.normalize_total, sc.pp.log1p on these genes"
        )
    return np.log1p(target * x / np.maximum(x.sum(axis=1, keepdims=True), 1.0))
