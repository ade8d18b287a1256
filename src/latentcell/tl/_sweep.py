"""Train a grid of models and seeds; one tidy table that grows on disk and can be resumed."""

import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from latentcell._errors import DataError, TrainingDivergedError, nearest

from ._fit import Mask, fit, selection, shows
from ._sweep_judge import Judge, Score, fingerprint
from ._sweep_table import ResultTable, Rows, Settings


def sweep(
    adata: AnnData,
    model_class: type,
    grid: Mapping[str, Sequence[Any]] | Sequence[Settings],
    seeds: Iterable[int] = (0, 1, 2, 3, 4),
    *,
    factors: str | Sequence[str] | pd.DataFrame | None = None,
    groupby: str | None = None,
    metrics: Sequence[str] | None = None,
    score: Score | None = None,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    labels_key: str | None = None,
    max_epochs: int | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **model_args: Any,
) -> pd.DataFrame:
    """Train a model with every setting of a grid and every seed, and score each.

    Parameters
    ----------
    adata
        Annotated cells; not changed.
    model_class
        A model with a latent space, e.g. :class:`latentcell.model.DisentangledVAE`.
    grid
        Values per argument of the model, ``{"beta": [1, 4, 10], "capacity": [0, 10]}`` for all their
        combinations; or a list of settings, each a dict. Numbers, strings and None.
    seeds
        Of weights, order of cells and noise; each setting is trained once with each.
    factors
        What is known about the cells: key of ``obsm`` with a DataFrame (as of
        :func:`latentcell.datasets.simulate_factors`), columns of ``obs``, or a DataFrame with a row per
        cell (matched by name if its index holds names of cells). Codes are scored against them by
        :func:`latentcell.metrics.disentanglement`, without the cells in which one is missing.
    groupby
        Column of ``obs`` with known groups. Leiden clusters of the codes are scored against them
        (:func:`latentcell.metrics.leiden`, the best resolution), without the cells that have none.
    metrics
        Metrics of :func:`latentcell.metrics.disentanglement`; None takes all but those of DCI, whose trees
        may take longer than training.
    score
        A function of the trained model and `adata` that returns further numbers by name.
    layer, mask_var, batch_key, max_epochs
        See :func:`latentcell.tl.ae`.
    labels_key
        Column of ``obs`` with the labels that a conditional model is told.
    path
        A .csv file that receives the table after every model. If it is there, its results are kept and only
        what is missing is trained: an interrupted sweep goes on where it stopped, and a grid can be made
        larger. Results of other cells, arguments, scores or versions of latentcell are refused (a `score` is
        known by its name only).
    progress
        Draw a line of progress on stderr. None: unless ``sc.settings.verbosity`` is 0.
    **model_args
        Arguments of the model that stay the same throughout, e.g. ``n_latent=10``.

    Returns
    -------
    DataFrame in long form, one row for each number: a column per argument of the grid, ``seed``, ``metric``,
    ``factor`` (the factor or group a number is about; ``"all"``: all of them) and ``value``. Metrics:

    ``reconstruction_loss``, ``kl``, ``elbo``
        Of the last epoch, nats per cell, on the training cells (distortion, rate and their sum).
    ``seconds``
        Of training.
    ``active_dims``
        Dimensions whose values (posterior means) have a variance above 0.01 among the cells. A dimension that
        has not is dead: it may go along with a factor, but the decoder is told next to nothing by it.
    ``nmi``, ``ari``
        With `groupby`: Leiden clusters against the groups, higher is better.
    those of :func:`latentcell.metrics.disentanglement`
        With `factors`.
    ``diverged``
        1, and nothing else, for a model whose training broke off because the loss was not finite; a warning
        names it.

    Raises
    ------
    DataError
        If a key does not exist, the grid is empty or names no argument of the model, or if `path` holds
        results of something else.

    References
    ----------
    Burda, Grosse and Salakhutdinov, ICLR 2016, `arXiv:1509.00519 <https://arxiv.org/abs/1509.00519>`__
    (active dimensions).

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> table = lc.tl.sweep(
    ...     adata,
    ...     lc.model.VAE,
    ...     {"beta": [0.5, 5.0]},
    ...     seeds=[0],
    ...     n_latent=2,
    ...     max_epochs=5,
    ...     progress=False,
    ... )
    >>> rate = table[table["metric"] == "kl"].set_index("beta")["value"]
    >>> bool(rate[0.5] > rate[5.0])
    True
    """
    settings = _settings(grid)
    names = list(settings[0])
    _check_names(model_class, names, model_args)
    seeds = [int(seed) for seed in seeds]
    if not seeds:
        raise DataError("seeds is empty; give at least one")
    keys = {"batch_key": batch_key, "labels_key": labels_key}
    cells = selection(adata, layer, mask_var, keys)
    judge = Judge(adata, factors, groupby, metrics, score)
    table = ResultTable(names)
    if path is not None:
        made_of = [model_class.__name__, layer, keys, max_epochs, model_args, names]
        table.keep_in(Path(path), fingerprint(cells, layer, judge, made_of))
    todo = [(one, seed) for one in settings for seed in seeds if not table.has(one, seed)]

    def train_one(one: Settings, seed: int) -> Rows:
        start = monotonic()
        try:
            model: Any = fit(
                model_class, adata, layer, mask_var, keys, max_epochs, seed, False, model_args | one
            )
        except TrainingDivergedError as error:
            told = ", ".join(f"{name}={value!r}" for name, value in one.items())
            warnings.warn(f"sweep: training diverged with {told}, seed={seed}: {error}", stacklevel=3)
            return [("diverged", "all", 1.0)]
        return [("seconds", "all", monotonic() - start), *judge(model)]

    with _progress(shows(progress) and bool(todo), f"Sweep of {model_class.__name__}", len(todo)) as advance:
        for one, seed in todo:
            table.add(one, seed, train_one(one, seed))
            advance()
    return table.of(settings, seeds)


def _settings(grid: Mapping[str, Sequence[Any]] | Sequence[Settings]) -> list[Settings]:
    """Every setting of the grid, each with the same arguments, all plain values."""
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise DataError(f"grid[{name!r}] must be a list of values, got {values!r}")
        rows = [
            dict(zip(grid, values, strict=True))
            for values in itertools.product(*(list(values) for values in grid.values()))
        ]
    else:
        rows = [dict(one) for one in grid]
    if not rows or not rows[0]:
        raise DataError("grid is empty; give values of at least one argument of the model")
    for one in rows:
        if set(one) != set(rows[0]):
            raise DataError(f"every setting must name the same arguments: {sorted(rows[0])}, {sorted(one)}")
        for name, value in one.items():
            if not (value is None or isinstance(value, bool | int | float | str | np.number)):
                raise DataError(
                    f"grid: {name}={value!r} is not a number, a string or None; "
                    "try such values with a loop of your own"
                )
    return rows


def _check_names(model_class: type, names: list[str], model_args: Settings) -> None:
    """Refuse what is no argument of the model, or is given twice."""
    if clash := ({"adata", "registry", "seed"} | set(model_args)) & set(names):
        raise DataError(f"grid must not hold {sorted(clash)}: they are given elsewhere in the call")
    if not hasattr(model_class, "get_latent_representation"):
        raise DataError(
            f"sweep scores codes of cells, and a {model_class.__name__} has no encoder; sweep e.g. VAE or VSC"
        )
    known = set(inspect.signature(model_class).parameters) - {"adata", "registry", "seed"}
    if unknown := sorted((set(names) | set(model_args)) - known):
        raise DataError(
            f"{unknown} are no arguments of {model_class.__name__}; they are {', '.join(sorted(known))}."
            f"{nearest(unknown, known)}"
        )


@contextmanager
def _progress(shown: bool, title: str, total: int) -> Iterator[Callable[[], None]]:
    """A line of progress on stderr, or none; gives what moves it by one."""
    if not shown:
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    left = (TextColumn("models, left"), TimeRemainingColumn())
    with Progress(*columns, *left, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task(title, total=total)
        bar.refresh()

        def advance() -> None:
            bar.advance(task)
            bar.refresh()

        yield advance
