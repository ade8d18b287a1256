"""What a sweep says of a trained model, and what its results hang on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell import __version__, metrics
from latentcell._errors import DataError, nearest
from latentcell.metrics._factors import check_codes_and_factors
from latentcell.metrics.disentanglement import BEST, DCI_METRICS

from ._sweep_table import Rows

Score = Callable[[Any, AnnData], Mapping[str, float]]
ACTIVE = 0.01
"""Variance of a dimension's values above which it is active (Burda et al. 2016)."""
_ROWS = 4096
"""Cells that are hashed at once."""


class Judge:
    """Scores of trained models on the cells of a sweep; refuses at once what could not be scored later.

    Parameters
    ----------
    adata
        The cells.
    factors, groupby, metrics, score
        As of :func:`latentcell.tl.sweep`.
    """

    def __init__(
        self,
        adata: AnnData,
        factors: str | Sequence[str] | pd.DataFrame | None,
        groupby: str | None,
        metrics: Sequence[str] | None,
        score: Score | None,
    ) -> None:
        self.adata, self.score = adata, score
        self.factors = None if factors is None else _table(adata, factors)
        self.groups = None if groupby is None else _groups(adata, groupby)
        self.metrics: list[str] = []
        if self.factors is not None:
            self.known = self.factors.notna().all(axis=1).to_numpy()
            self.factors = self.factors[self.known]
            if self.factors.empty:
                raise DataError("factors: one is missing in every cell")
            _, read = check_codes_and_factors(np.zeros((len(self.factors), 1)), self.factors)
            self.metrics = _names(metrics, any(factor.is_discrete for factor in read))
        elif metrics is not None:
            raise DataError("metrics are of factors; name these as well")

    def __call__(self, model: Any) -> Rows:
        """Metric, factor and value of everything that is known of a trained model."""
        codes = np.asarray(model.get_latent_representation())
        active = codes.var(axis=0, dtype=np.float64) > ACTIVE
        rows: Rows = [*_losses(model), ("active_dims", "all", float(active.sum()))]
        if self.groups is not None:
            rows += _clusters(codes, self.groups)
        if self.factors is not None:
            found = metrics.disentanglement(codes[self.known], self.factors, metrics=self.metrics, seed=0)
            rows += list(found[["metric", "factor", "value"]].itertuples(index=False, name=None))
        if self.score is not None:
            rows += [(name, "all", float(value)) for name, value in self.score(model, self.adata).items()]
        return rows

    @property
    def made_of(self) -> list[Any]:
        """What scores hang on: what is known about the cells, and which scores there are."""
        score = None if self.score is None else getattr(self.score, "__qualname__", type(self.score).__name__)
        known = [
            None if table is None else [_digest_of(table), list(map(str, table.columns))]
            for table in (self.factors, None if self.groups is None else self.groups.to_frame("groups"))
        ]
        return [known, self.metrics, score]


def fingerprint(cells: AnnData, layer: str | None, judge: Judge, arguments: list[Any]) -> str:
    """What results hang on, in 16 letters: the cells that are modelled, their scores, the arguments."""
    digest = hashlib.blake2b(digest_size=8)
    matrix = cells.X if layer is None else cells.layers[layer]
    for start in range(0, cells.n_obs, _ROWS):
        rows = matrix[start : start + _ROWS]
        if sparse.issparse(rows):
            rows = sparse.csr_matrix(rows)
            parts = [rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data]
        else:
            parts = [np.asarray(rows)]
        for part in parts:
            digest.update(str(part.dtype).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
    digest.update("\n".join([*cells.obs_names, *cells.var_names]).encode())
    digest.update(_digest_of(cells.obs).encode())
    digest.update(repr([cells.shape, arguments, judge.made_of, __version__]).encode())
    return digest.hexdigest()


def _digest_of(table: pd.DataFrame) -> str:
    """A table's values, as text; categories count by their names."""
    plain = table.apply(lambda column: column.astype(str) if column.dtype == "category" else column)
    return hashlib.blake2b(
        pd.util.hash_pandas_object(plain, index=True).to_numpy().tobytes(), digest_size=8
    ).hexdigest()


def _table(adata: AnnData, factors: Any) -> pd.DataFrame:
    """Factors as a table with a row per cell, in the order of the cells."""
    if isinstance(factors, pd.DataFrame):
        if len(factors) != adata.n_obs:
            raise DataError(f"factors has {len(factors)} rows; it needs one per cell, {adata.n_obs}")
        if factors.index.is_unique and set(factors.index) == set(adata.obs_names):
            return factors.loc[adata.obs_names]
        if not factors.index.equals(pd.RangeIndex(adata.n_obs)):
            raise DataError(
                "factors: its index is neither the names of the cells nor 0, 1, ...; give it one of them: "
                "factors.set_axis(adata.obs_names)"
            )
        return factors
    if isinstance(factors, str) and factors in adata.obsm:
        found = adata.obsm[factors]
        if isinstance(found, pd.DataFrame):
            return found
        return pd.DataFrame(np.asarray(found), columns=[f"{factors}_{i}" for i in range(found.shape[1])])
    columns = [factors] if isinstance(factors, str) else list(factors)
    for name in columns:
        if name not in adata.obs:
            raise DataError(f"factors: {name!r} is neither a key of adata.obsm nor a column of adata.obs")
    return adata.obs[columns]


def _groups(adata: AnnData, groupby: str) -> pd.Series:
    if groupby not in adata.obs:
        raise DataError(
            f"groupby={groupby!r} is not a column of adata.obs (there: {', '.join(adata.obs)})."
            f"{nearest(groupby, adata.obs)}"
        )
    groups = adata.obs[groupby]
    if groups.nunique() < 2:
        raise DataError(f"groupby: adata.obs[{groupby!r}] has fewer than two groups")
    return groups


def _names(names: Sequence[str] | None, has_levels: bool) -> list[str]:
    """Metrics to compute; those of levels need a discrete factor."""
    if names is None:
        return [
            name
            for name in BEST
            if name not in DCI_METRICS and (has_levels or name != "single_latent_accuracy")
        ]
    wanted = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if name not in BEST]
    if unknown or not wanted:
        raise DataError(f"metrics={names!r} must be among {', '.join(BEST)}")
    if "single_latent_accuracy" in wanted and not has_levels:
        raise DataError("metrics: 'single_latent_accuracy' is of discrete factors, and all are continuous")
    return wanted


def _losses(model: Any) -> Rows:
    """Distortion, rate and their sum in the last epoch."""
    last = {name: float(frame[name].iloc[-1]) for name, frame in model.history.items()}
    named = {"reconstruction_loss": "reconstruction_loss_train", "kl": "kl_local_train", "elbo": "elbo_train"}
    return [(name, "all", last[key]) for name, key in named.items()]


def _clusters(codes: np.ndarray, groups: pd.Series) -> Rows:
    labelled = groups.notna().to_numpy()
    if not np.ptp(codes[labelled], axis=0).any():
        return [("nmi", "all", 0.0), ("ari", "all", 0.0)]  # one point: there is nothing to cluster
    scores = metrics.leiden(codes[labelled], groups.to_numpy()[labelled]).query("best").iloc[0]
    return [(name, "all", float(scores[name])) for name in ("nmi", "ari")]
