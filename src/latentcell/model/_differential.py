"""Differential expression from draws: scvi-tools' computation, without global random state."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from latentcell._checks import as_csr
from latentcell._errors import DataError, nearest
from latentcell.train.loading import Cells

Mode = Literal["vanilla", "change"]
Sample = Callable[[np.ndarray, Any, int, int], np.ndarray]
"""Rows, batch to decode in (or None), number of draws, seed -> draws (n x genes)."""

_EPS = 1e-8
_NOT_EXPRESSED = 0.01  # mean count below which a gene of a group is taken as not expressed
_CHUNK = 4096  # cells read at once, genes compared at once


def compare_groups(
    obs: pd.DataFrame,
    counts: Cells,
    genes: list[str],
    sample: Sample,
    batches: list,
    *,
    groups: tuple[str | None, str | Sequence[str] | None, str | None],
    sets: tuple[Any, Any],
    mode: Mode,
    delta: float,
    all_stats: bool,
    batch_correction: bool,
    batch_ids: tuple[Sequence[Any] | None, Sequence[Any] | None],
    fdr_target: float,
    n_samples_overall: int,
    seed: int,
) -> pd.DataFrame:
    """Compare each group with another, or with the rest; see ``differential_expression`` of the models."""
    if mode not in get_args(Mode):
        raise DataError(f"mode must be one of {get_args(Mode)}, got {mode!r}")
    if not delta >= 0:
        raise DataError(f"delta must not be negative, got {delta}")
    if not 0 < fdr_target < 1:
        raise DataError(f"fdr_target must lie between 0 and 1, got {fdr_target}")
    if n_samples_overall < 2:
        raise DataError(f"n_samples_overall must be at least 2, got {n_samples_overall}")
    if batch_ids != (None, None) and not batch_correction:
        raise DataError("batchid1 and batchid2 are for batch_correction=True")
    seeds = np.random.SeedSequence(seed)
    frames = []
    for name1, name2, mask1, mask2 in _pairs_of_groups(obs, groups, sets):
        moments = [_moments(counts, mask) for mask in (mask1, mask2)]
        where = [ids or batches for ids in batch_ids] if batch_correction else [[None], [None]]
        draws = [
            _draw(sample, mask, ids, n_samples_overall, child)
            for mask, ids, child in zip((mask1, mask2), where, seeds.spawn(2), strict=True)
        ]
        n = min(len(part) for part in draws)
        frame = pd.DataFrame(_compare(draws[0][:n], draws[1][:n], moments, mode, delta), index=genes)
        if all_stats:
            for number, found in enumerate(moments, start=1):
                frame[f"raw_mean{number}"] = found["mean"]
                frame[f"non_zeros_proportion{number}"] = found["non_zero"]
                frame[f"raw_normalized_mean{number}"] = found["normalized"]
        certain = "proba_de" if mode == "change" else "bayes_factor"
        frame = frame.sort_values(certain, ascending=False, kind="stable")
        if mode == "change":
            frame[f"is_de_fdr_{fdr_target}"] = _called(frame["proba_de"].to_numpy(), fdr_target)
        frame["comparison"] = f"{name1} vs {name2}"
        frame["group1"], frame["group2"] = name1, name2
        frames.append(frame)
    return pd.concat(frames)


def _pairs_of_groups(
    obs: pd.DataFrame, groups: tuple[str | None, Any, str | None], sets: tuple[Any, Any]
) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Names and masks of the two sides of each comparison."""
    groupby, group1, group2 = groups
    if sets[0] is not None:
        if groupby is not None or group1 is not None or group2 is not None:
            raise DataError("give groups (groupby, group1, group2) or sets of cells (idx1, idx2), not both")
        mask1 = _mask(obs, sets[0], "idx1")
        mask2 = ~mask1 if sets[1] is None else _mask(obs, sets[1], "idx2")
        found = [("idx1", "Rest" if sets[1] is None else "idx2", mask1, mask2)]
    else:
        if groupby is None:
            raise DataError("name the groups with groupby=, or two sets of cells with idx1= and idx2=")
        if groupby not in obs:
            there = [name for name in obs.columns if not str(name).startswith("_scvi")]
            raise DataError(
                f"obs has no {groupby!r} (groupby); its columns are {there}. A model of lc.tl holds only the "
                f"columns that it was told of: pass the cells as adata=.{nearest(groupby, there)}"
            )
        column = obs[groupby].astype("category")
        known = list(column.cat.remove_unused_categories().cat.categories)
        wanted = known if group1 is None else [group1] if np.ndim(group1) == 0 else list(group1)
        if len(known) < 2:
            raise DataError(f"obs[{groupby!r}] has a single group; there is nothing to compare")
        for name in [*wanted, *([] if group2 is None else [group2])]:
            if name not in known:
                raise DataError(
                    f"obs[{groupby!r}] has no group {name!r}; there are {known}.{nearest(name, known)}"
                )
        if group1 is None and group2 is not None:
            wanted.remove(group2)
        found = []
        for name in wanted:
            mask = (column == name).to_numpy()
            other = ~mask if group2 is None else (column == group2).to_numpy()
            found.append((str(name), "Rest" if group2 is None else str(group2), mask, other))
    for name1, name2, mask1, mask2 in found:
        if not mask1.any() or not mask2.any():
            raise DataError(f"no cells in {name1 if not mask1.any() else name2!r}")
    return found


def _mask(obs: pd.DataFrame, cells: Any, argument: str) -> np.ndarray:
    if isinstance(cells, str):
        numbered = obs.reset_index(drop=True)  # names of cells may repeat
        return np.asarray(numbered.index.isin(numbered.query(cells).index))
    cells = np.asarray(cells)
    if cells.dtype == bool and cells.shape != (len(obs),):
        raise DataError(f"a boolean {argument} needs one entry per cell ({len(obs)}), got {cells.shape}")
    mask = np.zeros(len(obs), dtype=bool)
    mask[cells] = True
    return mask


def _draw(
    sample: Sample, mask: np.ndarray, batches: Sequence[Any], n: int, seed: np.random.SeedSequence
) -> np.ndarray:
    rows = np.flatnonzero(mask)
    each = max(2, n // len(batches))
    states = seed.generate_state(len(batches))
    return np.concatenate(
        [sample(rows, batch, each, int(s)) for batch, s in zip(batches, states, strict=True)]
    )


def _moments(counts: Cells, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Mean count, share of cells with counts, and mean of counts per 10,000, of each gene (genes)."""
    rows = np.flatnonzero(mask)
    total: dict[str, Any] = {"mean": 0.0, "non_zero": 0.0, "normalized": 0.0}
    for start in range(0, len(rows), _CHUNK):
        x = as_csr(counts.rows(rows[start : start + _CHUNK])).astype(np.float64)
        depth = np.asarray(x.sum(1)).ravel()
        total["mean"] += np.asarray(x.sum(0)).ravel()
        total["non_zero"] += np.asarray((x != 0).sum(0)).ravel()
        total["normalized"] += np.asarray(x.T @ (1e4 / depth)).ravel()
    return {name: values / len(rows) for name, values in total.items()}


def _compare(
    draws1: np.ndarray, draws2: np.ndarray, moments: list[dict[str, np.ndarray]], mode: Mode, delta: float
) -> dict[str, np.ndarray | float]:
    scales = {"scale1": draws1.mean(0, dtype=np.float64), "scale2": draws2.mean(0, dtype=np.float64)}
    if mode == "vanilla":
        larger = (draws1 > draws2).mean(0)
        factor = np.log(larger + _EPS) - np.log(1 - larger + _EPS)
        return {"proba_m1": larger, "proba_m2": 1 - larger, "bayes_factor": factor, **scales}
    offset = max(
        _offset(draws, found["mean"]) for draws, found in zip((draws1, draws2), moments, strict=True)
    )
    result: dict[str, Any] = {}
    parts = []
    for start in range(0, draws1.shape[1], _CHUNK):
        block = slice(start, start + _CHUNK)
        change = _lfc(draws1[:, block], draws2[:, block], offset)
        # the smaller offset leaves the size of an effect alone, the larger one keeps genes that are not
        # expressed from being called
        size = _lfc(draws1[:, block], draws2[:, block], 1e-3 * offset)
        parts.append(
            {
                "proba_de": np.maximum((change >= delta).mean(0), (change < -delta).mean(0)),
                "lfc_mean": size.mean(0),
                "lfc_median": np.median(size, axis=0),
                "lfc_std": size.std(0),
                "lfc_min": size.min(0),
                "lfc_max": size.max(0),
            }
        )
    stacked = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    certain = stacked["proba_de"]
    result["proba_de"], result["proba_not_de"] = certain, 1 - certain
    result["bayes_factor"] = np.log(certain + _EPS) - np.log(1 - certain + _EPS)
    return result | scales | {"pseudocounts": offset, "delta": delta} | stacked


def _lfc(a: np.ndarray, b: np.ndarray, offset: float) -> np.ndarray:
    return np.log2(a.astype(np.float64) + offset) - np.log2(b.astype(np.float64) + offset)


def _offset(draws: np.ndarray, mean: np.ndarray) -> float:
    """What is added to shares before their logarithm, from genes that the group does not express."""
    silent = mean < _NOT_EXPRESSED
    if not silent.any():
        return 1e-10
    return max(1e-10, float(np.quantile(draws.max(0)[silent], 0.9)) / draws.shape[1])


def _called(certain: np.ndarray, target: float) -> np.ndarray:
    """Genes called, of probabilities in falling order, at a posterior expected false discovery rate."""
    expected = np.cumsum(1 - certain) / np.arange(1, len(certain) + 1)
    called = np.zeros(len(certain), dtype=bool)
    called[: int((expected <= target).sum())] = True
    return called
