"""Directions in latent space that are named after what they change: features of cells read from codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict

from latentcell import _keys
from latentcell._codes import varying_dims
from latentcell._errors import DataError, nearest
from latentcell.model import AE, CVAE, DCA, GAN, VAE, VSC, ConditionalGAN, DisentangledVAE
from latentcell.model._variational import AbstractVariational

from ._features import LEAST_CELLS, Features, features_of
from ._fit import added, weights_of
from ._places import check_places, places_of

PENALTIES = np.logspace(-4, 1, 11)
"""Strengths of the ridge that are tried, in units of the number of cells."""
NOTHING_LEFT = 1e-3
"""Cosine with what it was, below which a direction was nothing but a mix of those that are held."""


@dataclass(frozen=True)
class _Readout:
    """How features are read from standardised codes: slopes (features x n_latent), ridge, held-out score."""

    slopes: np.ndarray
    penalties: np.ndarray
    scores: np.ndarray


def latent_directions(
    adata: AnnData,
    model: AE | CVAE | ConditionalGAN | DCA | DisentangledVAE | GAN | VAE | VSC,
    by: str | Sequence[str],
    *,
    hold: bool | str | Sequence[str] = False,
    layer: str | None = None,
    use_rep: str | None = None,
    key_added: str = _keys.LATENT_DIRECTIONS,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Find directions in latent space along which a feature of cells changes: a type, a score, a gene.

    As in TL-GAN, features are regressed on codes, of a model that is trained already. With standardised codes
    :math:`u = (z - \bar z) / \mathrm{sd}(z)` and a standardised feature y, the slopes w minimise

    .. math:: \sum_i (y_i - w^\top u_i)^2 + \alpha\, n \lVert w \rVert^2,

    with the strength :math:`\alpha` among 11 from 0.0001 to 10 whose leave-one-out error is smallest, for
    each feature its own. Along w the feature rises fastest. Features that go together in cells have similar
    slopes, so that moving along one moves the other; with `hold`, w is made orthogonal to the slopes of
    features that shall stay. The direction is w in units of the code, of a length such that **a step of 1 is
    one standard deviation of the cells' codes along it**.

    A category is 1 in its cells and 0 in all others, so that its direction leads away from all of them: each
    has one.

    Parameters
    ----------
    adata
        Cells with the model's genes and keys; not a view.
    model
        A trained model: its codes are the posterior's mean, or the place that :meth:`GAN.project
        <latentcell.model.GAN.project>` finds.
    by
        Columns of ``obs`` (of text, categories or booleans: a direction for each category; of numbers, whole
        ones included: one direction) and names of genes. Cells where a column is missing (NaN) are left out
        for that column.
    hold
        What shall stay while another feature moves: True for everything else in `by`; or names from `by`, or
        of single categories (``"cell_type=B"``). Categories of a column are not held for each other by True
        or by the column's name, for one cannot become more likely while all others stay.
    layer
        ``layers`` key of the genes' values; None is ``X``. Counts are taken as log(1 + counts per 10,000).
    use_rep
        ``obsm`` key under which `adata` has the model's codes; None computes them. **TL-GAN's own way**,
        features of generated cells on the very noise that made them, is ``use_rep="X_gan"`` with cells from
        ``model.generate(...)``, once their ``obs`` has labels or scores.
    key_added
        ``uns`` key of the result.
    seed
        Of the folds of the cross-validation.

    Returns
    -------
    DataFrame with one row per direction (index ``"direction"``: ``"cell_type=B"``, ``"score"``, ``"CD3D"``)
    in the order of `by`, columns of ``obs`` first, and the columns

    ``by``, ``kind``
        What it comes from, and whether that is a ``"category"``, a ``"number"`` or a ``"gene"``.
    ``score``, ``metric``
        How well codes tell the feature, in cells that were not used to fit (five folds): ``"AUROC"`` of a
        category (0.5 is chance, 1 is best), ``"R2"`` of the others (0 or less is chance, 1 is best). **A
        direction of a feature that cannot be read means nothing.**
    ``n_cells``
        Cells of which the feature is known.
    ``penalty``
        The chosen :math:`\alpha`.
    ``kept``
        Cosine with the direction before others were held (in standardised codes): near 0, little of what the
        feature is remains.

    Written to ``adata.uns[key_added]``, everything in the order of the table:

    ``names``
        Of the directions.
    ``directions``
        In units of the code (directions x n_latent); dimensions that the model does not use are 0.
    ``effects``
        What a step of 1 along each direction does to what is read of each feature, in standard deviations of
        the feature (directions x features); 0 for those that are held.
    ``cosines``
        Between directions, in standardised codes (directions x directions): TL-GAN's diagnostic.
    ``table``, ``params``
        The table, by column; model, `by`, `hold`, `use_rep`, `seed`.

    Raises
    ------
    DataError
        If `adata` is a view or does not fit the model, a name is unknown, a feature is constant or of too few
        cells (5 of a category), or nothing of a direction is left once others are held.

    References
    ----------
    Guan (2018), TL-GAN: transparent latent-space GAN, `github.com/SummitKwan/transparent_latent_gan
    <https://github.com/SummitKwan/transparent_latent_gan>`__; Shen et al., Interpreting the latent space of
    GANs for semantic face editing, CVPR 2020, `arXiv:1907.10786 <https://arxiv.org/abs/1907.10786>`__ (one
    feature moves, others stay).

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0, seed=0)
    >>> adata.obs["total"] = adata.X.sum(axis=1)
    >>> model = lc.tl.vae(adata, max_epochs=20, n_latent=4, progress=False)
    >>> table = lc.tl.latent_directions(adata, model, ["group", "total"], hold=True)
    >>> table.index.tolist()
    ['group=group1', 'group=group2', 'group=group3', 'total']
    >>> adata.uns["latent_directions"]["directions"].shape
    (4, 4)
    """
    check_places(adata, model)
    if adata.is_view:
        raise DataError(
            "adata is a view, results would be lost; first make it your own: adata = adata.copy()"
        )
    blocks = features_of(adata, by, layer)
    names = [name for block in blocks for name in block.names]
    entries = [entry for block in blocks for entry in block.by]
    held = _held(names, entries, hold)
    codes = places_of(adata, model, use_rep)
    varies = varying_dims(codes, isinstance(model, AbstractVariational))
    if not varies.any():
        raise DataError("the codes are the same in all cells; nothing can be read from them")
    spread = np.where(varies, codes.std(axis=0), 0.0)
    standard = (codes - codes.mean(axis=0)) / np.where(varies, spread, np.inf)
    readouts = [_read(standard, block, seed) for block in blocks]
    slopes = np.concatenate([readout.slopes for readout in readouts])
    axes = np.stack([_freed(slopes, i, held[i], names) for i in range(len(names))])
    kept = np.sum(axes * slopes, axis=1) / np.linalg.norm(slopes, axis=1)
    steps = (standard @ axes.T).std(axis=0)
    table = pd.DataFrame(
        {
            "by": entries,
            "kind": [block.kind for block in blocks for _ in block.names],
            "score": np.concatenate([readout.scores for readout in readouts]),
            "metric": [
                "AUROC" if block.kind == "category" else "R2" for block in blocks for _ in block.names
            ],
            "n_cells": [int(block.known.sum()) for block in blocks for _ in block.names],
            "penalty": np.concatenate([readout.penalties for readout in readouts]),
            "kept": np.minimum(kept, 1.0),
        },
        index=pd.Index(names, name="direction"),
    )
    adata.uns[key_added] = {
        "names": np.array(names),
        "directions": axes * steps[:, None] * spread,
        "effects": steps[:, None] * (axes @ slopes.T),
        "cosines": axes @ axes.T,
        "table": {column: table[column].to_numpy() for column in table},
        "params": {
            "model": type(model).__name__,
            "by": np.array([by] if isinstance(by, str) else list(by)),
            "hold": str(hold)
            if isinstance(hold, bool)
            else np.array([hold] if isinstance(hold, str) else hold),
            "use_rep": use_rep or "",
            "seed": seed,
            _keys.WEIGHTS: weights_of(model),
        },
    }
    added(uns=[key_added])
    return table


def direction_of(adata: AnnData, model: Any, direction: str | np.ndarray, key: str) -> np.ndarray:
    """A direction (n_latent) by its name in ``uns[key]``, or as given."""
    if isinstance(direction, str):
        if key not in adata.uns:
            raise DataError(
                f"key={key!r} is not in adata.uns; first call lc.tl.latent_directions(adata, model, by=...)"
            )
        names = [str(name) for name in adata.uns[key]["names"]]
        if direction not in names:
            raise DataError(
                f"direction={direction!r} is not in adata.uns[{key!r}]; there are {names[:20]}."
                f"{nearest(direction, names)}"
            )
        of = adata.uns[key].get("params", {}).get(_keys.WEIGHTS)
        if of is not None and str(of) != weights_of(model):
            raise DataError(
                f"the directions in adata.uns[{key!r}] are those of another model than this one, as it is "
                "now; call lc.tl.latent_directions(adata, model, by=...) again"
            )
        direction = adata.uns[key]["directions"][names.index(direction)]
    vector = np.asarray(direction, dtype=np.float64)
    if vector.shape != (model._n_latent,) or not np.isfinite(vector).all():
        raise DataError(
            f"direction must be a name, or {model._n_latent} finite numbers (n_latent), got {vector.shape}"
        )
    return vector


def _held(names: list[str], entries: list[str], hold: bool | str | Sequence[str]) -> list[np.ndarray]:
    """Positions of what is held for each feature."""
    asked = list(dict.fromkeys(entries)) if hold is True else [hold] if isinstance(hold, str) else hold or []
    unknown = [name for name in asked if name not in entries and name not in names]
    if unknown:
        raise DataError(f"hold: {unknown} are neither in by nor one of its categories ({names[:20]})")
    return [
        np.array(
            [
                j
                for j, (name, entry) in enumerate(zip(names, entries, strict=True))
                if (entry in asked and entry != entries[i]) or (name in asked and entry != name and i != j)
            ],
            dtype=int,
        )
        for i in range(len(names))
    ]


def _read(standard: np.ndarray, features: Features, seed: int) -> _Readout:
    """Ridge of standardised features on standardised codes; score in five folds."""
    u, y = standard[features.known], features.values
    scaled = (y - y.mean(axis=0)) / y.std(axis=0)
    ridge = RidgeCV(alphas=PENALTIES * len(u), alpha_per_target=True)
    fitted = ridge.fit(u, scaled)
    if features.kind == "category":
        folds: Any = StratifiedKFold(LEAST_CELLS, shuffle=True, random_state=seed)
        splits = list(folds.split(u, y.argmax(axis=1)))
    else:
        folds = KFold(LEAST_CELLS, shuffle=True, random_state=seed)
        splits = list(folds.split(u))
    predicted = cross_val_predict(ridge, u, scaled, cv=splits).reshape(scaled.shape)
    if features.kind == "category":
        scores = [roc_auc_score(member, value) for member, value in zip(y.T, predicted.T, strict=True)]
    else:
        scores = list(r2_score(scaled, predicted, multioutput="raw_values"))
    slopes = np.asarray(fitted.coef_).reshape(y.shape[1], -1)
    return _Readout(slopes, np.atleast_1d(fitted.alpha_) / len(u), np.array(scores))


def _freed(slopes: np.ndarray, own: int, held: np.ndarray, names: list[str]) -> np.ndarray:
    """Unit vector (n_latent) along which feature `own` rises fastest while those held stay."""
    length = np.linalg.norm(slopes[own])
    if not length > 0:
        raise DataError(f"by: nothing of {names[own]!r} can be read from the codes; leave it out")
    axis = slopes[own] / length
    if len(held):
        scale = np.linalg.norm(slopes[held], axis=1, keepdims=True)
        _, sizes, rows = np.linalg.svd(slopes[held] / np.where(scale > 0, scale, 1.0), full_matrices=False)
        rows = rows[sizes > 1e-8 * sizes[0]]
        for _ in range(2):  # once more against rounding
            axis = axis - rows.T @ (rows @ axis)
        if np.linalg.norm(axis) < NOTHING_LEFT:
            what = ", ".join(repr(names[j]) for j in held[:5])
            raise DataError(
                f"hold: nothing of {names[own]!r} is left while {what}{', ...' if len(held) > 5 else ''} "
                f"stay, in codes of {slopes.shape[1]} dimensions; hold fewer"
            )
    return axis / np.linalg.norm(axis)
