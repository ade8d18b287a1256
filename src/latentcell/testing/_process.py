"""The process belongs to the user: random states, warnings, loggers, numbers, settings, output."""

import io
import logging
import os
import random
import signal
import warnings
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import scanpy as sc
import threadpoolctl
import torch

from ._case import Case
from ._cells import make_cells
from ._promises import promise, same


def _random_states() -> dict[str, Any]:
    return {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's random state": str(np.random.get_state()),  # noqa: NPY002
        "Python's random state": hash(random.getstate()),
    }


def _warnings() -> dict[str, Any]:
    return {"the filters of warnings": list(warnings.filters), "showwarning": warnings.showwarning}


def _loggers() -> dict[str, Any]:
    loggers = {"root": logging.getLogger()} | {
        name: logger
        for name, logger in list(logging.Logger.manager.loggerDict.items())
        if isinstance(logger, logging.Logger)
    }
    found: dict[str, Any] = {
        f"the logger {name!r}": (logger.level, logger.disabled, logger.propagate, list(logger.handlers))
        for name, logger in loggers.items()
    }
    return found | {"logging.disable": logging.root.manager.disable}


def _numbers() -> dict[str, Any]:
    pools = {(pool["filepath"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()}
    return {
        "torch's number of threads": torch.get_num_threads(),
        "torch's number of threads between operations": torch.get_num_interop_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's precision of matrix products": torch.get_float32_matmul_precision(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's gradients": torch.is_grad_enabled(),
        "numpy's error handling": np.geterr(),
        "threads of numeric libraries": pools,
    }


def _settings() -> dict[str, Any]:
    shown = ("display.max_rows", "display.precision", "display.max_colwidth")
    scanpy = ("verbosity", "datasetdir", "figdir", "cachedir", "n_jobs", "autosave", "autoshow")
    return {
        "Matplotlib's rcParams": dict(mpl.rcParams),
        "pandas' options": {name: pd.get_option(name) for name in shown},
        "Scanpy's settings": {name: getattr(sc.settings, name, None) for name in scanpy},
        "AnnData's settings": repr(ad.settings),
        "environment variables": {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        "the handler of Ctrl-C": signal.getsignal(signal.SIGINT),
    }


FAMILIES: dict[str, Callable[[], dict[str, Any]]] = {
    "random": _random_states,
    "warnings": _warnings,
    "loggers": _loggers,
    "numbers": _numbers,
    "settings": _settings,
}
"""What of a process is looked at before and after each thing that a user does."""


def _everything(case: Case, folder: Path) -> list[tuple[str, Callable[[], Any]]]:
    """What a user does with a model, step by step."""
    model: Any = None

    def build() -> None:
        nonlocal model
        model = case.build(make_cells())

    def load() -> None:
        case.model.load(folder / "model")

    held_out: dict[str, Any] = (
        {"early_stopping": True, "train_size": 0.8} if case.can("early stopping") else {}
    )
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("setting up and building", build),
        ("train()", lambda: case.fit(model, **held_out)),
    ]
    for method in case.results:
        steps.append((f"{method}()", lambda method=method: case.look(model, method, case.new_cells)))  # type: ignore[misc]
    if case.can("generate"):
        steps.append(("generate()", lambda: model.generate(20)))
    return [*steps, ("save()", lambda: model.save(folder / "model")), ("load()", load)]


def changes(case: Case) -> dict[str, list[str]]:
    """What using the model changes in the process, by family; ``"output"`` is what it prints and leaves."""
    found: dict[str, list[str]] = {name: [] for name in (*FAMILIES, "output")}
    case.trained  # noqa: B018 - what is made once per process (loggers, thread pools) is there now
    with TemporaryDirectory() as kept, TemporaryDirectory() as here, chdir(here):
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            before = {name: look() for name, look in FAMILIES.items()}
            for step, act in _everything(case, Path(kept)):
                act()
                for name, look in FAMILIES.items():
                    now = look()
                    found[name] += [
                        f"{step} changes {k}" for k, v in now.items() if before[name].get(k, v) != v
                    ]
                    before[name] = now
                text, left = said.getvalue(), [path.name for path in Path().iterdir()]
                found["output"] += [f"{step} prints {text!r}"] if text else []
                found["output"] += [f"{step} leaves {left} in the working directory"] if left else []
                said.truncate(said.seek(0))
    return found


def _left_alone(case: Case, family: str) -> None:
    found = case.traces[family]
    promise(not found, "; ".join(found))


def check_global_random_states_are_left_alone(case: Case) -> None:
    """Those of torch, numpy and Python, by everything from set-up to loading."""
    _left_alone(case, "random")


def check_warning_filters_are_left_alone(case: Case) -> None:
    """What is shown as a warning is for the user to say."""
    _left_alone(case, "warnings")


def check_loggers_are_left_alone(case: Case) -> None:
    """Levels, handlers and switches of all loggers."""
    _left_alone(case, "loggers")


def check_threads_and_dtypes_are_left_alone(case: Case) -> None:
    """Numbers of threads, default dtypes, precision, determinism, error handling."""
    _left_alone(case, "numbers")


def check_settings_are_left_alone(case: Case) -> None:
    """Those of Scanpy, AnnData, pandas and Matplotlib, the environment and Ctrl-C."""
    _left_alone(case, "settings")


def check_nothing_is_printed_or_left_behind(case: Case) -> None:
    """Nothing on stdout or stderr, no file in the working directory."""
    _left_alone(case, "output")


def check_a_limit_of_threads_holds(case: Case) -> None:
    """Inside ``threadpoolctl.threadpool_limits(1)`` training and looking stay within it."""
    with threadpoolctl.threadpool_limits(1):
        before = _numbers()
        case.outcome(case.train(make_cells()))
        after = _numbers()
    wrong = [name for name, value in after.items() if before[name] != value]
    promise(not wrong, f"a limit of one thread does not hold: {', '.join(wrong)} changed")


def check_settings_of_others_have_no_influence(case: Case) -> None:
    """Scanpy's verbosity and folders, figure settings and AnnData's options."""
    expected = case.outcome(case.trained)
    kept = {name: getattr(sc.settings, name) for name in ("verbosity", "datasetdir", "figdir", "n_jobs")}
    with TemporaryDirectory() as folder, mpl.rc_context():
        try:
            sc.set_figure_params(dpi=50, transparent=True)
            sc.settings.verbosity, sc.settings.n_jobs = 0, 1
            sc.settings.datasetdir = sc.settings.figdir = Path(folder)
            with ad.settings.override(remove_unused_categories=False, check_uniqueness=False):
                found = case.outcome(case.train(make_cells()))
        finally:
            for name, value in kept.items():
                setattr(sc.settings, name, value)
    same(found, expected, "settings of Scanpy, Matplotlib or AnnData have an influence on results")


CHECKS = (
    check_global_random_states_are_left_alone,
    check_warning_filters_are_left_alone,
    check_loggers_are_left_alone,
    check_threads_and_dtypes_are_left_alone,
    check_settings_are_left_alone,
    check_nothing_is_printed_or_left_behind,
    check_a_limit_of_threads_holds,
    check_settings_of_others_have_no_influence,
)
