"""Generated cells beside real ones: which are drawn, which real ones they are judged by, and the lights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._errors import DataError
from latentcell.metrics.fidelity import fidelity
from latentcell.model._cells import matrix_of

from .codes import logged

Light = Literal["good", "fair", "poor", "none"]

GOOD, FAIR = 0.8, 0.4
"""Share of the way from chance to real cells from which on a score is good, and from which on it is fair."""

GOOD_TIMES, FAIR_TIMES = 2.0, 5.0
"""Where chance is as good as real: how many times as far from the best as real cells a score may be."""

LEAST_ERROR = 0.01
"""Distances from the best below this are not told apart."""

_ROUNDING = 1e-9

WORDS: dict[Light, str] = {
    "good": "good",
    "fair": "fair",
    "poor": "poor",
    "none": "not lit",
}

FEWEST_UNSEEN = 50
"""Cells that were held out must be so many, else scores on them are noise and all cells are used."""


@dataclass(frozen=True)
class Yardstick:
    """Real cells that generated ones are judged by, and what is to be said of them.

    Parameters
    ----------
    real, reference
        Cells to judge by, and cells trained on (None: those of `real`, or not known).
    words
        What they are, in a sentence.
    fresh
        Whether the model has not seen `real`.
    """

    real: AnnData
    reference: AnnData | None
    words: str
    fresh: bool


def yardstick_of(cells: AnnData, unseen: np.ndarray | None, held_out: AnnData | None) -> Yardstick:
    """The best that there is: cells given as not seen, cells held out in training, or all."""
    if held_out is not None:
        words = f"{held_out.n_obs:,} cells that were given as not seen in training"
        return Yardstick(held_out, cells, words, True)
    if unseen is not None and len(unseen) >= FEWEST_UNSEEN:
        seen = np.setdiff1d(np.arange(cells.n_obs), unseen)
        words = f"the {len(unseen):,} cells that were held out in training"
        return Yardstick(cells[unseen].copy(), cells[seen].copy(), words, True)
    if unseen is None:
        return Yardstick(cells, None, "all cells of the data, of which the model may have seen any", False)
    few = f" (only {len(unseen)} were held out, too few to judge by)" if len(unseen) else ""
    return Yardstick(cells, None, f"the cells that the model was trained on{few}", False)


def can_draw_groups(model: Any, groupby: str | None, source: str | None) -> str:
    """Why the model cannot draw cells of the groups; ``""`` if it can."""
    if groupby is None:
        return "there are no groups"
    if model.spec.labels is None or model.spec.labels_key != groupby:
        return f"the model was not told of column {groupby} (labels_key=)"
    is_prior = (source or getattr(model, "SOURCES", ("",))[0]) == "prior"
    if is_prior and not model.module.covariates.n_labels:
        return f"labels do not steer the codes that this {type(model).__name__} draws"
    return ""


def draw(
    model: Any, real: AnnData, groupby: str | None, n_cells: int, source: str | None, seed: int
) -> AnnData:
    """New cells, as many as asked for; of groups as frequent as among the real ones if `groupby` is given."""
    options = {} if source is None else {"source": source}
    if groupby is None:
        return model.generate(n_cells, **options, seed=seed)
    groups = real.obs[groupby]
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(groups.isin(model.spec.labels).to_numpy())
    if not len(known):
        raise DataError(f"no cell has a group of column {groupby} that the model knows")
    order = known[np.argsort(groups.iloc[known].astype(str).to_numpy(), kind="stable")]
    at = order[((np.arange(n_cells) + rng.random()) * len(order) / n_cells).astype(int)]
    wanted = groups.iloc[at].value_counts(sort=False)
    labels = {name: int(n) for name, n in wanted.items() if n}
    return model.generate(labels=labels, **options, seed=seed)


def score(
    yardstick: Yardstick, new: AnnData, groupby: str | None, layer: str | None, max_cells: int, seed: int
) -> pd.DataFrame:
    """``lc.metrics.fidelity`` of generated cells, on their scale; cells of unknown groups are left out."""
    real, reference = yardstick.real, yardstick.reference
    if new.uns.get(_keys.UNS, {}).get("scale") == "log1p":
        real = _on_log_scale(real, layer)
        reference = None if reference is None else _on_log_scale(reference, layer)
        layer = None
    if groupby is not None:
        known = set(new.obs[groupby].astype(str))
        real = real[real.obs[groupby].astype(str).isin(known).to_numpy()].copy()
        if reference is not None:
            reference = reference[reference.obs[groupby].astype(str).isin(known).to_numpy()].copy()
    genes = new.var_names
    return fidelity(
        real[:, genes].copy(),
        new,
        groupby,
        None if reference is None else reference[:, genes].copy(),
        layer=layer,
        max_cells=max_cells,
        seed=seed,
    )


def _on_log_scale(cells: AnnData, layer: str | None) -> AnnData:
    """Cells with log1p CP10k for ``X``, as models that draw no counts have it."""
    return AnnData(logged(matrix_of(cells, layer)), obs=cells.obs.copy(), var=cells.var[[]].copy())


def light_of(row: Mapping[Any, Any]) -> Light:
    """The traffic light of a score: how far it is on the way from chance to real cells.

    Where chance is as near to the best as real cells are, a score is measured by them alone: in how many
    times their distance from the best it lies.

    Parameters
    ----------
    row
        A row of ``lc.metrics.fidelity``.

    Examples
    --------
    >>> from latentcell.tl._page.judge import light_of
    >>> row = {"real": 0.9, "chance": 0.1, "best": 1.0, "better": "higher"}
    >>> [light_of(row | {"value": value}) for value in (0.95, 0.8, 0.5, 0.2, float("nan"))]
    ['good', 'good', 'fair', 'poor', 'none']
    """
    value, real, chance = (_distance(row, name) for name in ("value", "real", "chance"))
    if not (np.isfinite(value) and np.isfinite(real)):
        return "none"
    if value <= real + LEAST_ERROR:
        return "good"
    if np.isfinite(chance) and chance > GOOD_TIMES * max(real, LEAST_ERROR):
        share = (chance - value) / (chance - real) + _ROUNDING
        return "good" if share >= GOOD else "fair" if share >= FAIR else "poor"
    times = value / max(real, LEAST_ERROR) - _ROUNDING
    return "good" if times <= GOOD_TIMES else "fair" if times <= FAIR_TIMES else "poor"


def _distance(row: Mapping[Any, Any], name: str) -> float:
    """How far a score is from the best, on its worse side."""
    value, best = float(row[name]), float(row["best"])
    if row["better"] == "near best":
        return abs(value - best)
    worse = value - best if row["better"] == "lower" else best - value
    return worse if np.isnan(worse) else max(0.0, worse)
