"""One model trained by several processes: who reads what, and how their results come together."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from latentcell import _errors
from latentcell._errors import DataError, DistributedError, LatentcellError

from .adversarial import AdversarialPlan
from .checkpoints import CheckpointFiles, read_checkpoint
from .loading import CellLoader
from .randomness import draw_anew

STRATEGIES = ("auto", "ddp", "ddp_notebook")
_ENVIRONMENT = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
_GONE = ("connection closed", "connection reset", "broken pipe", "gloo", "nccl", "peer", "socket")
"""What the messages of torch's backends say when a process they speak with is gone."""


def strategy_of(name: str, devices: int | str | list[int]) -> str | Strategy:
    """Lightning's strategy of that name.

    Buffers are not copied from the first process at every step, as is torch's default: :class:`Together`
    averages what batch normalisation remembers.
    """
    if name not in STRATEGIES:
        raise DataError(f"strategy must be one of {STRATEGIES}, got {name!r}")
    several = (isinstance(devices, int) and devices > 1) or (isinstance(devices, list) and len(devices) > 1)
    if name == "auto":
        if not several:
            return "auto"
        name = "ddp_notebook" if hasattr(sys, "ps1") or "ipykernel" in sys.modules else "ddp"
    if name == "ddp":
        return DDPStrategy(broadcast_buffers=False)
    return DDPStrategy(broadcast_buffers=False, start_method="fork")


class Together(Callback):
    """Give each process its share of the cells and random draws of its own; average running means.

    Parameters
    ----------
    train, validation
        What the processes read.
    seed
        Of the run.
    max_epochs
        Passes over the cells, which progress is measured by.
    results
        Gives what the process that started the others has to know of the run.

    Attributes
    ----------
    kept
        File that the first process writes that to; None: it is the one that started the others.
    """

    def __init__(
        self,
        train: CellLoader,
        validation: CellLoader | None,
        *,
        seed: int,
        max_epochs: int,
        results: Callable[[], dict[str, Any]],
    ) -> None:
        self.train, self.validation = train, validation
        self.seed, self.max_epochs = seed, max_epochs
        self.results = results
        self.kept: Path | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Divide the cells; called in every process before it looks at how many batches there are."""
        rank, n_ranks = trainer.global_rank, trainer.world_size
        for loader, fewest, what in ((self.train, 2, "training"), (self.validation, 1, "held-out")):
            if loader is None:
                continue
            loader.set_share(rank, n_ranks)
            if min(loader.sizes()) < fewest * n_ranks:
                raise DataError(
                    f"{n_ranks} processes need at least {fewest * n_ranks} {what} cells in every batch, one "
                    f"has {min(loader.sizes())}; use fewer devices or another batch_size"
                )
        plan: Any = pl_module
        plan.total_steps = self.max_epochs * len(self.train)
        if n_ranks > 1:
            draw_anew([self.seed, rank], pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Average, so that all processes look with the same eyes."""
        average_norms(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Average, before weights are kept."""
        average_norms(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand the results to the process that waits for them."""
        if self.kept is not None and trainer.is_global_zero:
            CheckpointFiles().save_checkpoint(self.results(), self.kept)


def average_norms(plan: pl.LightningModule) -> None:
    """Average the running means and variances of batch normalisation over all processes."""
    if plan.trainer.world_size == 1:
        return
    for part in plan.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            for name in ("running_mean", "running_var"):
                running = part.get_buffer(name)
                running.copy_(plan.trainer.strategy.reduce(running.clone(), reduce_op="mean"))


def summed(plan: pl.LightningModule, values: list[torch.Tensor]) -> list[float]:
    """Sums of numbers over all processes; of one process they are themselves."""
    if plan.trainer.world_size > 1:
        together = torch.stack([value.detach().double().to(plan.device) for value in values])
        values = list(plan.trainer.strategy.reduce(together, reduce_op="sum"))
    return [float(value) for value in values]


_launched = False
"""Whether this process has started its own script anew."""


@contextmanager
def several_processes(
    trainer: pl.Trainer,
    plan: pl.LightningModule,
    together: Together,
    checkpoint_dir: Path | None,
    take: Callable[[dict[str, Any]], None],
) -> Iterator[None]:
    """Around a run: what comes before and after it if it has several processes.

    Parameters
    ----------
    trainer, plan, together
        Of the run.
    checkpoint_dir
        Where its checkpoints are, to be named.
    take
        Takes over the results of a run in processes that are gone when it is done.

    Raises
    ------
    DistributedError
        If a process ended before the others.
    """
    if trainer.world_size == 1:
        yield
        return
    if isinstance(plan, AdversarialPlan):
        raise DataError("GANs are trained by one process: pass devices=1")
    strategy = trainer.strategy
    forks = isinstance(strategy, DDPStrategy) and strategy._start_method == "fork"
    if not forks:
        with _script_once(trainer), _clear_errors(trainer, checkpoint_dir):
            yield
        return
    with tempfile.TemporaryDirectory() as folder:
        together.kept = Path(folder) / "results"
        with _clear_errors(trainer, checkpoint_dir):
            yield
        take(read_checkpoint(together.kept))


@contextmanager
def _script_once(trainer: pl.Trainer) -> Iterator[None]:
    """Around a run by copies of the script, which end with it; the first process goes on alone."""
    global _launched
    cluster = getattr(trainer.strategy, "cluster_environment", None)
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    starts = isinstance(cluster, LightningEnvironment) and before["LOCAL_RANK"] is None
    if starts and _launched:
        raise DataError(
            "strategy='ddp' starts this script once more for every device, and has done so: it can train one "
            "model only. Train the next with strategy='ddp_notebook', or in a script of its own"
        )
    try:
        yield
    finally:
        if starts:
            _launched = True
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
    if isinstance(cluster, LightningEnvironment):
        torch.distributed.destroy_process_group()
        if not starts:
            sys.exit(0)  # what follows in the script is for the process that the user started


@contextmanager
def _clear_errors(trainer: pl.Trainer, checkpoint_dir: Path | None) -> Iterator[None]:
    """Say it clearly if a process of the run is gone, and raise what a forked one raised."""
    try:
        yield
    except (RuntimeError, ProcessExitedException, ProcessRaisedException) as error:
        last = str(error).strip().splitlines()[-1]
        kind, _, message = last.partition(": ")
        if isinstance(error, ProcessRaisedException) and kind.startswith(f"{DataError.__module__}."):
            raise getattr(_errors, kind.rpartition(".")[2])(message) from error
        gone = isinstance(error, ProcessExitedException) or any(word in last.lower() for word in _GONE)
        if isinstance(error, LatentcellError) or not gone:
            raise
        remedy = (
            "train(checkpoint_dir=...) keeps what such a run has reached"
            if checkpoint_dir is None
            else f"the same call with resume=True goes on from the checkpoint in {str(checkpoint_dir)!r}"
        )
        raise DistributedError(
            f"training in {trainer.world_size} processes stopped because one of them is gone: it was killed, "
            f"ran out of memory, or failed with a message of its own (see above); {remedy}. ({last})"
        ) from error
