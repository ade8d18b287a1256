"""Arithmetic on codes: what a change of condition does to cells, learned on other types of cells."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell._errors import DataError, nearest
from latentcell.nn.likelihoods import CountLikelihood, Likelihood

from ._cells import DataSpec, _column, own_columns
from ._generation import marked

Weighting = Literal["similarity", "balanced"]
POWERS = (0, 1, 2, 4, 8)
"""How fast the weight of a type may fall with its distance; with 0 all types weigh the same."""


@dataclass(frozen=True)
class Shift:
    """A difference of codes, and what it was learned on.

    Attributes
    ----------
    vector
        What is added to codes (n_latent).
    weights
        Of each type of cells, which sum to 1.
    power
        How fast weights fall with distance; see :func:`weights_of`.
    """

    vector: np.ndarray
    weights: dict[str, float]
    power: int


@dataclass(frozen=True)
class Contrast:
    """Which cells are to be changed, and which show the change.

    Attributes
    ----------
    rows
        Positions of the cells to change.
    kinds
        Type of every cell, as text.
    first, second
        Which cells are of the first condition and which of the second (booleans), those of the types that
        are to be changed left out.
    open
        Which cells may be looked at: all but those of the second condition of the types to be changed.
    """

    rows: np.ndarray
    kinds: np.ndarray
    first: np.ndarray
    second: np.ndarray
    open: np.ndarray

    def shifts(self, codes: np.ndarray, weighting: Weighting) -> tuple[np.ndarray, dict[str, Shift]]:
        """What is added to the codes of `rows` (rows x n_latent), and the shift of each of their types."""
        added = np.empty((len(self.rows), codes.shape[1]))
        found: dict[str, Shift] = {}
        for kind in np.unique(self.kinds[self.rows]):
            of_kind = self.kinds[self.rows] == kind
            at = codes[self.rows[of_kind]].mean(axis=0)
            found[str(kind)] = learn_shift(codes, self.kinds, self.first, self.second, at, weighting)
            added[of_kind] = found[str(kind)].vector
        return added, found


def contrast_of(
    adata: AnnData,
    condition_key: str,
    labels_key: str | None,
    *,
    stimulated: Any,
    control: Any,
    cell_type: Any,
    mask: Any,
) -> Contrast:
    """Read conditions and types of cells, and which of them are to be changed.

    Parameters
    ----------
    adata
        Cells.
    condition_key, labels_key
        ``obs`` columns of condition and type.
    stimulated, control
        The two conditions.
    cell_type
        One type or several, whose control cells are to be changed.
    mask
        Instead, the cells (booleans): all of them control cells.

    Raises
    ------
    DataError
        If a column, condition or type is not there, or what is asked for makes no sense.
    """
    kinds = kinds_of(adata, labels_key)
    is_control = is_in(adata, condition_key, control, "control", "condition_key")
    is_stimulated = is_in(adata, condition_key, stimulated, "stimulated", "condition_key")
    if control == stimulated:
        raise DataError(f"control and stimulated are both {control!r}")
    if (cell_type is None) == (mask is None):
        raise DataError("name the cells to change by cell_type or by mask, one of the two")
    if mask is None:
        wanted = [cell_type] if isinstance(cell_type, str) else list(np.atleast_1d(cell_type))
        names = {str(name) for name in wanted}
        missing = sorted(names - set(kinds))
        if missing:
            raise DataError(
                f"cell_type: {missing} not in obs[{labels_key!r}]; it has {_some(kinds)}."
                f"{nearest(missing, kinds)}"
            )
        chosen = is_control & np.isin(kinds, list(names))
        if not chosen.any():
            raise DataError(f"cell_type={cell_type!r} has no cell in the condition {control!r}")
    else:
        chosen = np.asarray(mask)
        if chosen.dtype != bool or chosen.shape != (adata.n_obs,) or not chosen.any():
            raise DataError(
                f"mask must be one boolean per cell ({adata.n_obs}), some of them True; it is "
                f"{chosen.dtype} of shape {chosen.shape}"
            )
        wrong = chosen & ~is_control
        if wrong.any():
            cell = adata.obs_names[int(wrong.argmax())]
            raise DataError(
                f"mask: cell {cell!r} is not of the condition {control!r}; only such cells can be changed"
            )
    shown = ~np.isin(kinds, np.unique(kinds[chosen]))
    first, second = is_control & shown, is_stimulated & shown
    return Contrast(np.flatnonzero(chosen), kinds, first, second, shown | ~is_stimulated)


def learn_shift(
    codes: np.ndarray,
    kinds: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    at: np.ndarray | None,
    weighting: Weighting,
) -> Shift:
    r"""Learn the difference of codes of two conditions, from types of cells that are seen in both.

    Each type t has a difference :math:`\delta_t` of the mean codes of its cells; the shift is
    :math:`\sum_t w_t \delta_t`.

    Parameters
    ----------
    codes
        Of cells (cells x n_latent).
    kinds
        Type of each cell.
    first, second
        Which cells are of the first condition, and which of the second (booleans).
    at
        Mean code (n_latent) of the cells that are to be shifted; None is for ``"balanced"`` only.
    weighting
        ``"balanced"``: all types the same. ``"similarity"``: see :func:`weights_of`.

    Raises
    ------
    DataError
        If no type is seen in both conditions.
    """
    if weighting not in get_args(Weighting):
        raise DataError(
            f"weighting must be one of {get_args(Weighting)}, got {weighting!r}."
            f"{nearest(weighting, get_args(Weighting))}"
        )
    names = sorted(set(kinds[first]) & set(kinds[second]))
    if not names:
        raise DataError(
            "no other type has cells in both conditions, so there is nothing to learn the change from"
        )
    n_first, n_second = (
        np.array([np.sum(rows & (kinds == name)) for name in names], dtype=float) for rows in (first, second)
    )
    centers, ends = (
        np.array([codes[rows & (kinds == name)].mean(axis=0) for name in names], dtype=np.float64)
        for rows in (first, second)
    )
    deltas, sizes = ends - centers, n_first * n_second / (n_first + n_second)
    power = 0
    if weighting == "similarity":
        if at is None:
            raise DataError("weighting='similarity' needs the cells that are to be changed")
        power = chosen_power(centers, deltas, sizes)
    here = np.zeros(codes.shape[1]) if at is None else at
    weights = weights_of(centers, here, sizes, power)
    told = {str(name): float(weight) for name, weight in zip(names, weights, strict=True)}
    return Shift(weights @ deltas, told, power)


def weights_of(centers: np.ndarray, at: np.ndarray, sizes: np.ndarray, power: int) -> np.ndarray:
    r"""Weights of types (types), which sum to 1: :math:`w_t \propto n_t \, d_t^{-p}`; all alike if p is 0.

    Parameters
    ----------
    centers
        Mean code of each type's cells in the first condition (types x n_latent).
    at
        The place (n_latent) from which distances :math:`d_t` to centers are measured.
    sizes
        :math:`n_t`, the inverse of 1 / cells in one condition + 1 / cells in the other (types): a difference
        of means varies with the inverse of it.
    power
        p.
    """
    if not power:
        return np.full(len(centers), 1 / len(centers))
    distance = np.linalg.norm(centers - at, axis=1)
    nearest = distance.min()
    closeness = np.divide(nearest, distance, out=np.ones(len(centers)), where=distance > 0)
    weights = sizes * closeness**power
    return weights / weights.sum()


def chosen_power(centers: np.ndarray, deltas: np.ndarray, sizes: np.ndarray) -> int:
    """The power with which the types shown foretell each other's difference best.

    Each type in turn is left out, its difference foretold from the others, and the squared error summed.
    Of equal errors the lowest power is taken; with less than three types it is 0.
    """
    if len(centers) < 3:
        return 0
    errors = np.zeros(len(POWERS))
    for left_out in range(len(centers)):
        others = np.arange(len(centers)) != left_out
        for i, power in enumerate(POWERS):
            weights = weights_of(centers[others], centers[left_out], sizes[others], power)
            errors[i] += np.square(weights @ deltas[others] - deltas[left_out]).sum()
    return POWERS[int(errors.argmin())]


def check_not_told(spec: DataSpec, key: str) -> None:
    """Refuse a change of what the decoder is told: codes need not hold it."""
    if key in (spec.batch_key, *spec.categorical, *spec.continuous):
        raise DataError(
            f"the model was set up with {key!r} as batch or covariate, so its decoder is told it and codes "
            "need not hold it; set the model up without it"
        )


def changed_obs(obs: pd.DataFrame, changes: dict[str, Any]) -> pd.DataFrame:
    """``obs`` of changed cells: marked, with new names, their own columns, and what was changed.

    Parameters
    ----------
    obs
        Of the cells before (cells x columns).
    changes
        New values by column.
    """
    found = own_columns(obs).copy()
    found["cell"] = obs.index.to_numpy()
    for key, value in changes.items():
        known = obs[key].cat.categories if isinstance(obs[key].dtype, pd.CategoricalDtype) else None
        found[key] = value if known is None else pd.Categorical([value] * len(obs), categories=known)
    return marked(found)


def told_shifts(shifts: dict[str, Shift]) -> pd.DataFrame:
    """Weights of the types that shifts were learned on, a row for each, for ``uns``."""
    rows = [
        (kind, name, weight, shift.power)
        for kind, shift in shifts.items()
        for name, weight in shift.weights.items()
    ]
    return pd.DataFrame(rows, columns=["cell_type", "learned_on", "weight", "power"])


def kinds_of(adata: AnnData, labels_key: str | None) -> np.ndarray:
    """Types of cells as text (cells)."""
    if labels_key is None:
        raise DataError(
            "labels_key is needed: the model was set up without one; name the obs column of the types"
        )
    return _column(adata, labels_key, "labels_key").astype(str).to_numpy()


def unit_of(likelihood: Likelihood, output: str) -> str:
    """The unit of decoded cells, in words."""
    if not isinstance(likelihood, CountLikelihood):
        return likelihood.unit
    return "expected counts at the depth of the cell" if output == "mean" else "counts"


def is_in(adata: AnnData, key: str, wanted: Any, argument: str, key_argument: str) -> np.ndarray:
    """Which cells have a value in a column of ``obs`` (booleans); at least one must."""
    values = _column(adata, key, key_argument)
    found = (values == wanted).to_numpy(dtype=bool)
    if not found.any():
        raise DataError(
            f"{argument}={wanted!r} is not in obs[{key!r}]; it has {_some(values.astype(str))}."
            f"{nearest(wanted, set(values.astype(str)))}"
        )
    return found


def _some(values: Any) -> str:
    names = np.unique(values).tolist()
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
