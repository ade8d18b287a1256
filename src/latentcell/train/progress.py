"""How far training is: a bar in a terminal, a line that is rewritten in a notebook, lines in a log."""

import os
from collections.abc import Mapping
from time import monotonic

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .adversarial import AdversarialPlan
from .plan import TrainingPlan

BETWEEN_LINES = 30.0
"""Seconds between two lines in a log: enough to see that a run goes on, few enough to read the log."""
LONG = 20.0
"""Seconds of training after which it is worth to say why it may be slow."""


class ProgressBar(Callback):
    """Epochs done, loss and time left on stderr, where training runs for long enough to be asked about."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.shown: _Bar | _Lines | None = None
        self.looked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to draw where there is something to draw on."""
        console = Console(stderr=True)
        kind = _Bar if console.is_terminal and not console.is_jupyter else _Lines
        self.shown = kind(console, self.title, trainer.max_epochs or 1, trainer.current_epoch)
        self.started = monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move on by one epoch."""
        if self.shown is not None and isinstance(pl_module, TrainingPlan | AdversarialPlan):
            # Lightning calls callbacks before the plan records the epoch; the last record is one epoch old
            loss = f"{pl_module.records[-1]['train_loss']:.5g}" if pl_module.records else "-"
            self.shown.advance(loss)
            if not self.looked and monotonic() - self.started > LONG:
                self.looked = True
                reason = crowded(os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.environ)
                if reason is not None:
                    self.shown.say(reason)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the last line standing."""
        if self.shown is not None:
            self.shown.stop()
            self.shown = None


def crowded(load: float, environ: Mapping[str, str]) -> str | None:
    """What to do where more programs want to run than there are cores; None where they do not.

    Threads of torch that wait for each other spin, and take the cores from those they wait for: with six
    programs on two cores that made training ten times slower and more.
    """
    if load <= 1.5 * (os.cpu_count() or 1) or environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        return None
    return (
        "Other programs want the same cores, which makes training many times slower. Set the environment "
        "variable OMP_WAIT_POLICY=PASSIVE before Python starts, and OMP_NUM_THREADS=1 if that is not enough."
    )


class _Bar:
    """A line of a terminal, drawn at most ten times a second."""

    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs, loss {task.fields[loss]}, left"),
            TimeRemainingColumn(),
            console=console,
            # rich's own refresh runs in a thread that outlives stop() by up to a tenth of a second
            auto_refresh=False,
        )
        self.task = self.bar.add_task(title, total=total, completed=done, loss="-")
        self.bar.start()
        self.drawn = monotonic()

    def advance(self, loss: str) -> None:
        self.bar.update(self.task, advance=1, loss=loss)
        if monotonic() - self.drawn > 0.1:
            self.bar.refresh()
            self.drawn = monotonic()

    def say(self, text: str) -> None:
        self.bar.console.print(text)

    def stop(self) -> None:
        self.bar.stop()


class _Lines:
    """Plain text where no line can be drawn upon: one that is rewritten in a notebook, new ones in a log.

    Rich draws in notebooks through ipywidgets only; without, it warns and shows nothing until the end.
    """

    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        self.file = console.file
        self.rewrite = console.is_jupyter
        self.title, self.total, self.first, self.done, self.loss = title, total, done, done, "-"
        self.started = self.drawn = monotonic()
        self.is_drawn = False

    def advance(self, loss: str) -> None:
        self.done, self.loss, self.is_drawn = self.done + 1, loss, False
        due = monotonic() - self.drawn > (0.5 if self.rewrite else BETWEEN_LINES)
        if due and self.done < self.total:  # the last is drawn by stop
            self._draw(last=False)

    def say(self, text: str) -> None:
        self.file.write(f"\r{text}\n" if self.rewrite else f"{text}\n")

    def stop(self) -> None:
        if not self.is_drawn or self.rewrite:
            self._draw(last=True)

    def _draw(self, *, last: bool) -> None:
        self.drawn = monotonic()
        passed = self.drawn - self.started
        left = passed / max(self.done - self.first, 1) * (self.total - self.done)
        text = f"{self.title}: {self.done}/{self.total} epochs, loss {self.loss}, {_clock(passed)}"
        if not last:
            text += f", left {_clock(left)}"
        if self.rewrite:
            self.file.write(f"\r{text:<79}" + "\n" * last)
        else:
            self.file.write(f"{text}\n")
        self.file.flush()
        self.is_drawn = True


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
