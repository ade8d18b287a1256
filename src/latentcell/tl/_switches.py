"""When genes switch on a path through latent space."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats

from latentcell import _keys
from latentcell._errors import DataError

from ._places import log_expression

LEAST_CHANGE = 0.25
"""Change over a path below which a gene is unchanged; in log(1 + counts per 10,000) a factor of 1.28."""
MAX_FDR = 0.05
"""False discovery rate at which a gene differs between the cells at both ends."""
LEAST_MONOTONY = 0.8
"""Net change over a path, as a share of all ups and downs on it, below which a gene has no one switch."""


def rank_switches(
    path: AnnData,
    *,
    least_change: float = LEAST_CHANGE,
    least_monotony: float = LEAST_MONOTONY,
    max_fdr: float = MAX_FDR,
) -> pd.DataFrame:
    r"""Order genes by when they switch on a path: where half of their change is made.

    With :math:`v_0, \dots, v_T` the expression of a gene at the places of the path (of counts log(1 + counts
    per 10,000)), a gene switches if all of these hold, and is left out otherwise, as the order of genes that
    do not change is noise:

    * its change is large, :math:`|v_T - v_0| \ge` `least_change`;
    * it goes one way, :math:`|v_T - v_0| / \sum_t |v_t - v_{t-1}| \ge` `least_monotony` (1: it never turns);
    * the cells at both ends differ in it as well, the same way, at a false discovery rate of `max_fdr`
      (Welch's test, Benjamini and Hochberg over the genes of the path), for a decoder also draws changes that
      no cell shows. Of a path without ``var["observed_p"]`` (``n_local=0`` in :func:`interpolate`) this is
      not asked.

    Its switch is the place where :math:`(v - v_0) / (v_T - v_0)` passes one half, on straight lines between
    the steps; of a gene that turns in between, the mean of the first and the last such place. **The position
    is one on the path, not in time**: steps are of equal length in latent space.

    Parameters
    ----------
    path
        From :func:`interpolate`, of at least 3 steps; 20 and more tell switches apart better. Written to.
    least_change
        Smallest change, in log(1 + counts per 10,000), else in the unit of the data.
    least_monotony
        Between 0 and 1.
    max_fdr
        Between 0 and 1; 1 asks for the same sign only.

    Returns
    -------
    DataFrame with one row per gene that switches, earliest first (index ``"gene"``), and the columns

    ``switch``
        Position on the path, from 0 (start) to 1 (end).
    ``width``
        Length of the path, as a share of all of it, on which the middle half of the change is made: small of
        an abrupt switch; 0.5 of a gene that changes evenly.
    ``direction``
        ``"up"`` or ``"down"``.
    ``change``
        From start to end, with its sign.
    ``monotony``
        As above; 1 is best.

    Written to ``path.var``: ``"switch"`` (NaN of genes that do not), and ``"monotony"`` of all genes.

    Raises
    ------
    DataError
        If `path` is none, is a view or has fewer than 3 steps, or a bound is out of range.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0, seed=0)
    >>> model = lc.tl.vae(adata, max_epochs=20, n_latent=4, progress=False)
    >>> path = lc.tl.interpolate(adata, model, "group1", "group2", 11, groupby="group")
    >>> table = lc.tl.rank_switches(path, least_change=2)
    >>> table["switch"].is_monotonic_increasing, bool(table["monotony"].min() >= 0.8)
    (True, True)
    >>> sorted(adata.var["marker_of"][table.index].dropna().unique())
    ['group1', 'group2']
    """
    if path.is_view:
        raise DataError("path is a view, results would be lost; first make it your own: path = path.copy()")
    if not 0 <= least_monotony <= 1:
        raise DataError(f"least_monotony must lie between 0 and 1, got {least_monotony}")
    if not 0 < max_fdr <= 1:
        raise DataError(f"max_fdr must lie above 0 and at most at 1, got {max_fdr}")
    if not least_change > 0:
        raise DataError(f"least_change must be above 0, got {least_change}")
    step = places_on(path)
    if len(step) < 3:
        raise DataError(
            f"path has {len(step)} steps, 3 are needed to tell when a gene switches: raise steps="
        )
    values = log_expression(path)
    change, ways = values[-1] - values[0], np.abs(np.diff(values, axis=0)).sum(axis=0)
    monotony = np.divide(np.abs(change), ways, out=np.zeros_like(ways), where=ways > 0)
    monotony = np.minimum(monotony, 1.0)
    switches = (np.abs(change) >= least_change) & (monotony >= least_monotony)
    if "observed_p" in path.var:
        rate = stats.false_discovery_control(path.var["observed_p"].to_numpy(dtype=float))
        switches &= (rate <= max_fdr) & (path.var["observed_change"].to_numpy(dtype=float) * change > 0)
    share = (values[:, switches] - values[0, switches]) / change[switches]
    quarter, half, three = (_passed(share, step, level) for level in (0.25, 0.5, 0.75))
    path.var["monotony"] = monotony
    path.var["switch"] = np.nan
    path.var.loc[switches, "switch"] = half
    table = pd.DataFrame(
        {
            "switch": half,
            "width": three - quarter,
            "direction": np.where(change[switches] > 0, "up", "down"),
            "change": change[switches],
            "monotony": monotony[switches],
        },
        index=pd.Index(path.var_names[switches], name="gene"),
    )
    return table.sort_values("switch", kind="stable")


def places_on(path: AnnData) -> np.ndarray:
    """Positions of the places of a path, rising from 0 to 1 (steps)."""
    step = path.obs["step"].to_numpy(dtype=float) if "step" in path.obs else np.zeros(0)
    if _keys.UNS not in path.uns or len(step) < 2 or not (np.diff(step) > 0).all():
        raise DataError(
            "path must be what lc.tl.interpolate returned: its obs['step'] rises from place to place"
        )
    return step


def _passed(share: np.ndarray, step: np.ndarray, level: float) -> np.ndarray:
    """Where the share of the change (steps x genes) passes a level: mean of the first and last place."""
    column = np.arange(share.shape[1])
    after = np.argmax(share >= level, axis=0)
    before = len(step) - 1 - np.argmax(share[::-1] < level, axis=0)

    def crossing(left: np.ndarray) -> np.ndarray:
        low, high = share[left, column], share[left + 1, column]
        return step[left] + (level - low) / (high - low) * (step[left + 1] - step[left])

    return (crossing(after - 1) + crossing(before)) / 2
