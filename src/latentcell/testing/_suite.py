"""All checks in order, and how they are run on one model class."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from . import (
    _breaks,
    _files,
    _generation,
    _inputs,
    _process,
    _refusals,
    _results,
    _sizes,
    _slots,
    _training,
)
from ._case import Case

Check = Callable[[Case], None]

CHECKS: tuple[Check, ...] = (
    *_inputs.CHECKS,
    *_refusals.CHECKS,
    *_sizes.CHECKS,
    *_results.CHECKS,
    *_slots.CHECKS,
    *_training.CHECKS,
    *_breaks.CHECKS,
    *_process.CHECKS,
    *_files.CHECKS,
    *_generation.CHECKS,
)
"""Every check, in the order in which :func:`check_model` runs them."""


class ContractError(AssertionError):
    """A model breaks promises; ``table`` is what :func:`check_model` would have returned."""

    def __init__(self, name: str, table: pd.DataFrame) -> None:
        self.table = table
        failed = table[table["outcome"] == "failed"]
        lines = [f"  {row.check}: {row.message}" for row in failed.itertuples()]
        ran = int((table["outcome"] != "not applicable").sum())
        super().__init__("\n".join([f"{name} fails {len(failed)} of {ran} checks:", *lines]))


def checks_of(case: Case) -> tuple[Check, ...]:
    """The checks that apply to a model class.

    Parameters
    ----------
    case
        The class and what it needs.

    Returns
    -------
    Functions of a :class:`Case` that raise an `AssertionError` naming the promise that is broken.

    Examples
    --------
    >>> import latentcell as lc
    >>> checks = lc.testing.checks_of(lc.testing.Case(lc.model.GeneShuffle))
    >>> (
    ...     lc.testing.check_same_seed_same_bits in checks,
    ...     lc.testing.check_history_is_complete_and_finite in checks,
    ... )
    (True, False)
    """
    return tuple(check for check in CHECKS if _applies(check, case))


def check_model(
    model_class: type[Any],
    *,
    setup: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    checks: Iterable[str | Check] | None = None,
    progress: Callable[[str], object] | None = None,
) -> pd.DataFrame:
    """Check that a model class keeps the contract of latentcell's own models.

    Rows keep their order, genes go by name, seeds are local and decide everything, nothing is written but
    declared slots, what cannot be used is refused by name, saved models come back to the bit, and so on.
    Small models are trained on :func:`make_cells`, on the CPU; expect about half a minute for a class that
    encodes and generates.

    Parameters
    ----------
    model_class
        The class, in the manner of :class:`latentcell.model.VAE`: ``setup_anndata``, construct, ``train``,
        ask, ``save``, ``load``. What it can do is told by which methods it has and what they take; checks of
        what it cannot do are not applicable.
    setup
        Arguments that ``setup_anndata`` cannot do without, by columns of :func:`make_cells`, e.g.
        ``{"labels_key": "label"}``.
    arguments
        Arguments of the constructor; small sizes make the checks quick.
    checks
        Only these, by name or as functions; default: all of ``lc.testing.CHECKS``.
    progress
        Called with a line after each check, e.g. `print`; None is silent.

    Returns
    -------
    A frame with a row per check: ``check``, ``outcome`` (``"passed"`` or ``"not applicable"``), ``message``.

    Raises
    ------
    ContractError
        An `AssertionError` that names every failed check and the promise that is broken; its ``table`` is the
        frame, with the outcome ``"failed"`` too.
    ValueError
        If there is no check of a name.

    References
    ----------
    In the manner of scikit-learn's ``check_estimator``: Buitinck et al., API design for machine learning
    software, 2013, `arXiv:1309.0238 <https://arxiv.org/abs/1309.0238>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> names = [
    ...     "check_same_seed_same_bits",
    ...     "check_labels_are_asked_for_by_name_in_any_order",
    ...     "check_covariates_reach_the_decoder",
    ... ]
    >>> lc.testing.check_model(lc.model.GeneShuffle, checks=names)["outcome"].to_list()
    ['passed', 'passed', 'not applicable']
    """
    case = Case(model_class, setup or {}, arguments or {})
    rows = []
    for check in _chosen(checks):
        outcome, message = _run(check, case)
        rows.append({"check": check.__name__, "outcome": outcome, "message": message})
        if progress is not None:
            progress(f"{check.__name__}: {outcome}{f': {message}' if message else ''}")
    table = pd.DataFrame(rows, columns=["check", "outcome", "message"])
    if (table["outcome"] == "failed").any():
        raise ContractError(case.name, table)
    return table


def _applies(check: Check, case: Case) -> bool:
    return all(case.can(capability) for capability in getattr(check, "needs", ()))


def _chosen(checks: Iterable[str | Check] | None) -> list[Check]:
    if checks is None:
        return list(CHECKS)
    by_name = {check.__name__: check for check in CHECKS}
    unknown = [check for check in checks if isinstance(check, str) and check not in by_name]
    if unknown:
        raise ValueError(f"there are no checks {unknown}; lc.testing.CHECKS holds them all")
    return [by_name[check] if isinstance(check, str) else check for check in checks]


def _run(check: Check, case: Case) -> tuple[str, str]:
    if not _applies(check, case):
        return "not applicable", ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(case)
    except AssertionError as broken:
        return "failed", str(broken)
    except Exception as error:  # noqa: BLE001 - whatever a model does instead of what it promised
        return "failed", f"{type(error).__name__}: {error}"
    return "passed", ""
