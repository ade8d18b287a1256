"""Runs that are broken off: Ctrl-C, a crash, and going on from the checkpoint."""

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from latentcell._errors import NotTrainedError

from ._case import Case
from ._cells import make_cells
from ._promises import finite, needs, promise, refused, same
from ._training import same_weights


class PowerCut(Exception):
    """Stands for whatever ends a run from outside."""


class _Falling:
    """A schedule of the learning rate that lets something happen once, when training has come that far."""

    def __init__(self, at: float = 2.0, event: Callable[[], Any] = lambda: None) -> None:
        self.at, self.event, self.done = at, event, False

    def __call__(self, progress: float) -> float:
        if progress > self.at and not self.done:
            self.done = True
            self.event()
        return 1.0 - progress / 2


def _interrupted(case: Case, model: Any, max_epochs: int, at: float) -> bool:
    """Train, and press Ctrl-C when `at` (0 to 1) is done; whether `KeyboardInterrupt` came back."""
    found = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    schedule = _Falling(at, lambda: signal.raise_signal(signal.SIGINT))
    try:
        case.fit(model, max_epochs, lr_schedule=schedule)
        return False
    except KeyboardInterrupt:
        return True
    finally:
        handler = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, found)
        promise(handler is signal.default_int_handler, "after a run Ctrl-C does not do what it did before")


@needs("rates")
def check_ctrl_c_leaves_a_usable_model(case: Case) -> None:
    """With the weights it had, and the epochs done in its history; it can be trained further."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python tells no other thread of Ctrl-C
    model = case.build(make_cells())
    promise(_interrupted(case, model, 8, 2.4 / 8), "Ctrl-C in training does not raise KeyboardInterrupt")
    finite(case.outcome(model), "results after Ctrl-C")
    promise(
        len(model.history["train_loss"]) == 2, "after Ctrl-C in the third epoch two are not in the history"
    )
    promise(not model.module.training, "after Ctrl-C the network is left in training mode")
    case.fit(model, 1)


@needs("rates")
def check_ctrl_c_in_the_first_epoch_leaves_an_untrained_model(case: Case) -> None:
    """Which can be trained."""
    if threading.current_thread() is not threading.main_thread():
        return
    model = case.build(make_cells())
    promise(_interrupted(case, model, 3, 0.4 / 3), "Ctrl-C in training does not raise KeyboardInterrupt")
    refused(
        lambda: case.outcome(model),
        broken="a model counts as trained after Ctrl-C in its first epoch",
        error=NotTrainedError,
    )
    case.fit(model, 1)
    finite(case.outcome(model), "results of a model that was interrupted and then trained")


@needs("checkpoints")
def check_a_resumed_run_has_the_bits_of_an_unbroken_one(case: Case) -> None:
    """Weights, results and history, with and without early stopping."""
    for early_stopping in (False, True):
        fixed = {"lr": 0.01, "early_stopping": early_stopping}

        def run(schedule: _Falling, fixed: dict = fixed, **more: Any) -> Any:
            model = case.build(make_cells(), case.keys)
            case.fit(model, 6, lr_schedule=schedule, **fixed, **more)
            return model

        def cut() -> None:
            raise PowerCut

        whole = run(_Falling())
        with TemporaryDirectory() as folder:
            with suppress(PowerCut):
                run(_Falling(3.4 / 6, cut), checkpoint_dir=folder)
                raise AssertionError("an error in training is swallowed")
            left = [path.name for path in Path(folder).iterdir()]
            promise(left == ["last.ckpt"], f"a run that was cut off left {left} instead of last.ckpt")
            resumed = run(_Falling(), checkpoint_dir=folder, resume=True)
        broken = "a resumed run is not what an unbroken one is"
        same_weights(resumed, whole, broken)
        same(case.outcome(resumed), case.outcome(whole), broken)
        promise(resumed.history.keys() == whole.history.keys(), f"{broken}: other curves")
        for name, frame in whole.history.items():
            equal = pd.DataFrame.equals(resumed.history[name], frame)
            promise(equal, f"{broken}: history[{name!r}]")


CHECKS = (
    check_ctrl_c_leaves_a_usable_model,
    check_ctrl_c_in_the_first_epoch_leaves_an_untrained_model,
    check_a_resumed_run_has_the_bits_of_an_unbroken_one,
)
