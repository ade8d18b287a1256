"""Real cells and generated ones in one AnnData."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell._checks import matrix_kind
from latentcell._errors import DataError, nearest
from latentcell.model._base import AbstractModel
from latentcell.model._cells import match_genes, matrix_of, place_of
from latentcell.model._encoder import AbstractEncoder
from latentcell.model.baselines._base import AbstractBaseline
from latentcell.pp._check import refuse_backed

from ._join import joined_matrices, joined_obs

Target = Literal["balance"] | int | Mapping[Any, int]

_OWN = ("labels", "out", "genes", "output")
"""Arguments of ``generate`` that are decided here."""
_N_COMPARED = 200
"""Cells whose codes tell whether an embedding is the model's."""


def augment(
    adata: AnnData,
    model: AbstractModel | AbstractBaseline,
    groupby: str | None = None,
    target: Target = "balance",
    *,
    n_cells: int | None = None,
    source: str | None = None,
    batch: Any = None,
    seed: int = 0,
    **generate_args: Any,
) -> AnnData:
    """Add generated cells to real ones, so that small groups are filled up. `adata` is never changed.

    Real cells come first, in their order, with their names and values. Genes are those that the model
    generates, in the order of `adata`; everything is aligned by name.

    Every matrix of the result holds values for all of its cells. The model generates one matrix, that of the
    slot it was set up with. Another one (``X`` or a layer) is there if it verifiably follows from that one
    cell by cell: if it holds the same values, values scaled to one total per cell (normalised counts), or
    log(1 + x) of either. For new cells it is then computed in the same way. A layer that does not follow is
    left out. If ``X`` does not, ``X`` of the result is the model's matrix, for real and new cells alike, and
    a warning says so. That is the case when the model knows only some of the genes (highly variable ones) and
    ``X`` was normalised by the counts of all: normalise the result then, which treats all cells alike.

    Parameters
    ----------
    adata
        Cells with the model's genes, in memory.
    model
        A trained model that generates (has ``generate``).
    groupby
        ``obs`` column of the groups: the ``labels_key`` that the model was set up with, which is also the
        default.
    target
        Number of cells that groups shall have, real and new together. ``"balance"``: as many as the largest
        group has; a number: so many in each group; a dict, e.g. ``{"B cells": 200}``: so many in the groups
        named. Nothing is taken from groups that have more already. Cells without a label and empty
        categories are no group.
    n_cells
        Instead of filling groups: add so many cells, in the proportions of the model's cells. The way for
        models without labels.
    source, batch
        Where codes come from, and the batch to decode all new cells in; None is the model's default. See
        ``generate`` of the model.
    seed
        Of the new cells: same seed, same bits on the same CPU.
    **generate_args
        Further arguments of the model's ``generate``, e.g. ``library_size=``, ``temperature=``.

    Returns
    -------
    AnnData (real and new cells x the model's genes):

    ``X``, ``layers``
        As said above; sparse or dense as in `adata`.
    ``obs``
        The columns of `adata`; new cells have a value in those that the model was set up with (label, batch,
        covariates) and a missing one in the others (integers become floats, booleans nullable booleans).
        ``obs["is_generated"]`` is False for real cells; ``obs["library_size"]`` (count models) is the depth
        that new cells were drawn at. New cells are called ``generated_0``, ``generated_1``, ..., leaving out
        names that are taken.
    ``var``, ``varm``
        Those of `adata`.
    ``obsm``
        Embeddings that hold codes of this model, found by comparing them; new cells are encoded as real ones
        are. Others are left out, for the model cannot place new cells in them.
    ``uns``
        Colours; ``uns["latentcell"]``, where the new cells come from, and ``groupby``. What else `adata` has
        in ``uns`` and ``obsp`` is about the real cells only, and left out.

    Raises
    ------
    DataError
        If `groupby` is not the model's ``labels_key``; if the model has none, cannot generate, or knows
        genes or groups that `adata` lacks or the other way round; if it generates fractional values where
        real cells have counts; if names of cells repeat.

    Warns
    -----
    UserWarning
        If ``X`` of `adata` cannot be computed for new cells.

    References
    ----------
    Marouf et al. (2020), Realistic in silico generation and augmentation of single-cell RNA-seq data using
    generative adversarial networks, Nat Commun 11, https://doi.org/10.1038/s41467-019-14018-z

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> model = lc.tl.cvae(adata, "group", max_epochs=2, progress=False)
    >>> both = lc.tl.augment(adata, model)
    >>> both.obs["group"].value_counts().to_dict()
    {'group1': 30, 'group2': 30, 'group3': 30, 'rare': 30}
    >>> int(both.obs["is_generated"].sum())
    30
    """
    _check(adata, model, generate_args)
    options = {"seed": seed} | generate_args
    options |= {name: value for name, value in (("source", source), ("batch", batch)) if value is not None}
    if n_cells is None:
        wanted = _missing(adata, model, _group_key(model, groupby), target)
        drawn = _drawn(model, wanted, options)
    elif groupby is None and isinstance(target, str) and target == "balance":
        drawn = cast("Any", model).generate(n_cells, **options)
    else:
        raise DataError("n_cells adds cells instead of filling groups; leave groupby and target out")
    if drawn.uns[_keys.UNS].get("scale") == "log1p":
        raise DataError(
            f"this {type(model).__name__} was fitted to counts and gives log-normalised values, which do not "
            "belong beside counts; set it up with a log-normalised layer"
        )
    genes = match_genes(adata.var_names, list(drawn.var_names))
    real = adata if genes is None else adata[:, np.sort(genes)]
    drawn = drawn[:, real.var_names]
    _check_scale(matrix_of(real, model.spec.layer), drawn.X, model)
    obs = joined_obs(real.obs, drawn.obs)
    matrices, x_is_kept = joined_matrices(real, drawn.X, model.spec.layer)
    origin = dict(drawn.uns[_keys.UNS])
    if model.spec.labels_key in drawn.obs:
        origin["groupby"] = model.spec.labels_key
    kept = {key for key in adata.uns if str(key).endswith("_colors") or (key == "log1p" and x_is_kept)}
    return AnnData(
        X=matrices.pop(None),
        obs=obs,
        var=real.var.copy(),
        layers=cast("Any", matrices),
        obsm={key: np.concatenate([adata.obsm[key], codes]) for key, codes in _codes(adata, model, drawn)},
        varm=dict(real.varm),
        uns={key: deepcopy(adata.uns[key]) for key in kept} | {_keys.UNS: origin},
    )


def _check(adata: AnnData, model: AbstractModel | AbstractBaseline, generate_args: Mapping[str, Any]) -> None:
    if not isinstance(adata, AnnData):
        raise DataError(f"an AnnData is needed, got {type(adata).__name__}")
    refuse_backed(adata, "augment")
    if not hasattr(model, "generate"):
        raise DataError(f"model: {type(model).__name__} does not generate cells; use e.g. CVAE or VAE")
    for name in set(_OWN) & set(generate_args):
        raise DataError(
            f"{name} cannot be given to augment: it adds whole cells, sampled, of the groups in target"
        )
    if not adata.obs_names.is_unique:
        raise DataError("names of cells are not unique; first call adata.obs_names_make_unique()")
    marked = adata.obs.get(_keys.IS_GENERATED)
    if marked is not None and not pd.api.types.is_bool_dtype(marked):
        raise DataError(
            f"obs[{_keys.IS_GENERATED!r}] tells generated cells from real ones, and holds {marked.dtype} "
            "instead of True and False; rename that column"
        )
    matrix_of(adata, model.spec.layer)


def _check_scale(real: Any, drawn: Any, model: AbstractModel | AbstractBaseline) -> None:
    """Refuse fractional values where the real cells have counts (zeros and ones may be other things)."""
    if drawn.shape[0] and matrix_kind(drawn) != "counts" and real.max() > 1 and matrix_kind(real) == "counts":
        raise DataError(
            f"{place_of(model.spec.layer)} holds counts, and this {type(model).__name__} generates others; "
            "set it up with the matrix whose values it generates, or use a model of counts"
        )


def _group_key(model: AbstractModel | AbstractBaseline, groupby: str | None) -> str:
    """The column of groups: the model's labels_key."""
    key = model.spec.labels_key
    if key is None:
        raise DataError(
            "the model was set up without labels_key, so it cannot fill groups; set it up with "
            f"labels_key={groupby or '...'!r}, or add cells of no particular group with n_cells="
        )
    if groupby is not None and groupby != key:
        raise DataError(
            f"groupby={groupby!r} is not the column that the model was set up with: labels_key={key!r}"
        )
    return key


def _missing(
    adata: AnnData, model: AbstractModel | AbstractBaseline, key: str, target: Target
) -> dict[Any, int]:
    """How many cells each group lacks, in the order of the categories; groups that lack none are left out."""
    if key not in adata.obs:
        raise DataError(
            f"obs has no {key!r}, the labels_key of the model; its columns are {list(adata.obs.columns)}."
            f"{nearest(key, adata.obs)}"
        )
    column = adata.obs[key].astype("category")
    sizes = {
        group: int((column == group).sum())
        for group in column.cat.categories
        if group != model.spec.unlabeled_category and (column == group).any()
    }
    if isinstance(target, Mapping):
        unknown = [group for group in target if group not in (model.spec.labels or [])]
        if unknown:
            raise DataError(
                f"target: {unknown} unknown to the model; it knows {model.spec.labels}."
                f"{nearest(unknown, model.spec.labels or [])}"
            )
        totals = dict(target)
    elif isinstance(target, str):
        if target != "balance":
            raise DataError(
                f"target={target!r}: use 'balance', a number of cells, or a dict from groups to numbers"
            )
        totals = dict.fromkeys(sizes, max(sizes.values(), default=0))
    else:
        totals = dict.fromkeys(sizes, target)
    for group, number in totals.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise DataError(
                f"target: the number of cells of {group!r} must be a whole number, got {number!r}"
            )
    lacking = {group: int(number) - sizes.get(group, 0) for group, number in totals.items()}
    return {group: number for group, number in lacking.items() if number > 0}


def _drawn(
    model: AbstractModel | AbstractBaseline, wanted: dict[Any, int], options: dict[str, Any]
) -> AnnData:
    """New cells of the groups wanted, by group."""
    generate = cast("Any", model).generate
    if wanted:
        return generate(labels=wanted, **options)
    one = next(iter(model.spec.labels or []))
    return generate(labels={one: 1}, **options)[:0].copy()  # none, with the columns and genes of new cells


def _codes(
    adata: AnnData, model: AbstractModel | AbstractBaseline, drawn: AnnData
) -> list[tuple[str, np.ndarray]]:
    """Codes of new cells for every embedding of `adata` that holds codes of this model."""
    if not isinstance(model, AbstractEncoder):
        return []
    shape = (adata.n_obs, model.params["n_latent"])
    candidates = [
        key for key, values in adata.obsm.items() if isinstance(values, np.ndarray) and values.shape == shape
    ]
    if not candidates:
        return []
    some = np.unique(np.linspace(0, adata.n_obs - 1, _N_COMPARED, dtype=int))
    try:
        codes = model.get_latent_representation(adata, some)
    except DataError:  # cells that the model cannot read have no codes of it
        return []
    same = [key for key in candidates if np.allclose(adata.obsm[key][some], codes, rtol=1e-3, atol=1e-4)]
    return [(key, _encoded(model, drawn)) for key in same]


def _encoded(model: AbstractEncoder, drawn: AnnData) -> np.ndarray:
    """Codes of new cells as the encoder gives them; of a cell without counts, what it was decoded from."""
    spec = model.spec
    codes = np.array(drawn.obsm[_keys.latent(type(model).__name__.lower())])
    readable = np.asarray(abs(drawn.X).sum(axis=1)).ravel() > 0
    if not readable.any():
        return codes
    cells = drawn[readable].copy()
    if spec.size_factor_key is not None:
        cells.obs[spec.size_factor_key] = cells.obs["library_size"]
    if spec.layer is not None:
        cells = AnnData(obs=cells.obs, var=cells.var, layers={spec.layer: cells.X})
    codes[readable] = cast("Any", model).get_latent_representation(cells)
    return codes
