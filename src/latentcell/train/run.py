"""One training run: Lightning's Trainer with a quiet log, local random state, early stopping, checkpoints."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import nn

from latentcell._errors import TrainingDivergedError

from .adversarial import AdversarialPlan
from .checkpoints import CheckpointFiles, check_fits, read_checkpoint
from .distributed import Together, several_processes, strategy_of
from .loading import CellLoader
from .plan import TrainingPlan
from .progress import ProgressBar
from .resident import OnDevice

Plan = TrainingPlan | AdversarialPlan
CHECKPOINT = "last.ckpt"


class BestWeights(Callback):
    """Keep the weights of the epoch with the lowest held-out ELBO loss, to be put back at the end."""

    def __init__(self) -> None:
        self.best = float("inf")
        self.weights: dict[str, torch.Tensor] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare this epoch with the best."""
        value = float(trainer.callback_metrics["elbo_validation"])
        if value < self.best:
            self.best = value
            self.weights = {k: v.detach().clone() for k, v in _module(pl_module).state_dict().items()}

    def put_back(self, pl_module: pl.LightningModule) -> None:
        """Put the best weights back; no hook does, as Lightning calls none at the end of a finished run."""
        if self.weights is not None:
            _module(pl_module).load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.best, self.weights = state_dict["best"], state_dict["weights"]


def fit(
    plan: Plan,
    train: CellLoader,
    validation: CellLoader | None,
    *,
    max_epochs: int,
    accelerator: str,
    devices: int | str | list[int],
    strategy: str,
    precision: Any,
    gradient_clip: float | None,
    early_stopping_patience: int | None,
    seed: int,
    progress_title: str | None,
    checkpoint_dir: Path | None,
    resume: bool,
    callbacks: Sequence[Callback] = (),
    logger: Any = False,
) -> bool:
    """Run the plan; return whether it was interrupted (Ctrl-C). The plan's module is trained in place.

    The caller's random state, warning filters and log levels are as they were when this returns.

    Parameters
    ----------
    plan, train, validation
        What to train, on which cells, and on which held-out cells to watch it.
    max_epochs
        Passes over the training cells.
    accelerator, devices, precision
        Lightning's; ``devices="auto"`` takes one.
    strategy
        Of several devices: see :func:`latentcell.train.distributed.strategy_of`.
    gradient_clip
        Largest norm of the gradient; None does not clip.
    early_stopping_patience
        Epochs without a better held-out ELBO after which to stop; None runs all epochs. The best weights are
        put back at the end.
    seed
        Of every random draw in training.
    progress_title
        What the progress bar says; None draws none.
    checkpoint_dir
        Folder that receives ``last.ckpt`` after every epoch.
    resume
        Go on from that checkpoint if it is there.
    callbacks, logger
        Lightning's, beside the run's own; loggers get each epoch's record.

    Raises
    ------
    ModelFileError
        If the checkpoint is damaged, or of another run.
    """
    best = BestWeights()

    def results() -> dict[str, Any]:
        return {
            "records": plan.records,
            "weights": _module(plan).state_dict(),
            "best": best.state_dict(),
        }

    def take(found: dict[str, Any]) -> None:
        plan.records = found["records"]
        _module(plan).load_state_dict(found["weights"])
        best.load_state_dict(found["best"])

    together = Together(train, validation, seed=seed, max_epochs=max_epochs, results=results)
    on_device = OnDevice(train, validation)
    all_callbacks: list[Callback] = [together, on_device, *callbacks]
    if early_stopping_patience is not None:
        all_callbacks += [EarlyStopping("elbo_validation", patience=early_stopping_patience), best]
    if progress_title is not None:
        all_callbacks.append(ProgressBar(progress_title))
    if checkpoint_dir is not None:
        all_callbacks.append(
            # save_last=True would write nothing here: Lightning then saves "last" only beside another
            # checkpoint
            ModelCheckpoint(
                dirpath=checkpoint_dir,
                filename=CHECKPOINT.removesuffix(".ckpt"),
                save_top_k=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            )
        )
    plan.on_epoch, plan.losses.names, plan.losses.read = train.set_epoch, train.names, train.at
    if isinstance(plan, TrainingPlan):
        plan.weight = train.weight
    plan.run = plan.run | {
        "seed": seed,
        "batch size": train.batch_size,
        "number of training cells": len(train.indices),
        "training cells": hashlib.sha256(np.ascontiguousarray(train.indices, "<i8").tobytes()).hexdigest()[
            :16
        ],
    }
    checkpoint = None
    if resume and checkpoint_dir is not None and (checkpoint_dir / CHECKPOINT).exists():
        checkpoint = checkpoint_dir / CHECKPOINT
        check_fits(checkpoint, read_checkpoint(checkpoint), plan.state_dict(), plan.run)
    with _quiet(), local_random_state(seed):
        several = strategy_of(strategy, devices)
        trainer = pl.Trainer(
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=1 if devices == "auto" and several == "auto" else devices,
            strategy=several,
            precision=precision,
            gradient_clip_val=gradient_clip,
            callbacks=all_callbacks,
            logger=logger,
            enable_checkpointing=checkpoint_dir is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            plugins=None if checkpoint_dir is None else [CheckpointFiles()],
        )
        try:
            try:
                with several_processes(trainer, plan, together, checkpoint_dir, take):
                    trainer.fit(plan, train, validation, ckpt_path=checkpoint)
            except SystemExit as stop:
                # Lightning answers Ctrl-C by leaving the interpreter; a notebook must survive that
                if not isinstance(stop.__context__, KeyboardInterrupt):
                    raise
                plan.losses.look()
                return True
        except TrainingDivergedError:
            plan.put_weights_back()
            raise
        finally:
            on_device.release()
        best.put_back(plan)
        return False


def _module(plan: pl.LightningModule) -> nn.Module:
    return plan.get_submodule("module")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's notes for the length of a run."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def local_random_state(seed: int) -> Iterator[None]:
    """Seed torch for the length of a run and give the caller's random state back afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        if devices or torch.backends.mps.is_available():
            torch.manual_seed(seed)
        else:
            # the same draws; torch.manual_seed would also note the seed, with a whole stack trace, for each
            # kind of device that is not there
            torch.default_generator.manual_seed(int(seed))
        yield
