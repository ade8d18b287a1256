"""One LightningModule for all likelihood models: optimiser, schedules in steps, sums kept on the device."""

from collections.abc import Callable
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch import Tensor

from latentcell.nn.schedules import Schedule

from .distributed import summed
from .guards import Losses, check_weights
from .randomness import put_random_states_back, random_states
from .records import keep

Batch = dict[str, Tensor]


class Trainable(Protocol):
    """What a module must offer to be trained by :class:`TrainingPlan`."""

    def terms(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (a scalar) and its per-cell terms (cells) by name at `progress` of training (0 to 1)."""

    def parameter_groups(self) -> list[tuple[list[torch.nn.Parameter], float, bool]]:
        """By group: parameters, the factor on the learning rate, whether weight matrices decay."""

    def schedule_values(self, progress: float) -> dict[str, float]:
        """Values of the module's schedules (weights, temperature) at `progress`, for the history."""


class TrainingPlan(pl.LightningModule):
    """Train a module on its own loss with Adam.

    Terms are summed on the device and read once per epoch; :attr:`records` holds one dict per epoch.

    Parameters
    ----------
    module
        See :class:`Trainable`.
    total_steps
        Optimiser steps of the whole run: what turns a step into progress from 0 to 1.
    lr
        Peak learning rate.
    lr_schedule
        Factor on `lr` as a function of progress.
    weight_decay
        Decoupled (AdamW) decay of weight matrices; biases, norms and scales are left out. Not used with
        `free`: decay asks for no gradient and would move what is frozen.
    free
        Parts of the module's parameters that may move (by name: dimension, start, stop); everything else
        keeps its values to the bit. None lets all of all move.

    Attributes
    ----------
    before_epoch
        Called with the progress at the start of every epoch; what it changes of the module must be in the
        module's state, so that a resumed run has it.
    adam_eps
        What Adam adds to the root of the mean squared gradient; large values (scvi-tools': 0.01) slow weights
        of small gradients down.
    """

    def __init__(
        self,
        module: Any,
        *,
        total_steps: int,
        lr: float,
        lr_schedule: Schedule,
        weight_decay: float = 0.0,
        free: dict[str, tuple[int, int, int]] | None = None,
        adam_eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.module = module
        self.total_steps = total_steps
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay if free is None else 0.0
        self.free = free
        self.adam_eps = adam_eps
        self.records: list[dict[str, float]] = []
        self._sums: dict[str, dict[str, Tensor]] = {}
        self._n_cells: dict[str, int] = {}
        self._kept: dict[str, Tensor] = {}
        self.run: dict[str, Any] = {}
        self.on_epoch: Callable[[int], None] | None = None
        self.before_epoch: Callable[[float], None] | None = None
        self.losses = Losses()
        self.weight: Callable[[int], float] = lambda number: 1.0

    @property
    def progress(self) -> float:
        """Share of optimiser steps done: 0 at the first, 1 at the last."""
        return min(self.global_step / max(self.total_steps - 1, 1), 1.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, with decoupled weight decay."""
        groups = []
        for parameters, factor, decays in self.module.parameter_groups():
            trained = [p for p in parameters if p.requires_grad]
            # decay is for weights: on biases and scales it would pull the genes' means and variances to 0
            weights = [p for p in trained if decays and p.dim() > 1]
            others = [p for p in trained if not decays or p.dim() <= 1]
            groups += [
                {"params": weights, "factor": factor},
                {"params": others, "factor": factor, "weight_decay": 0.0},
            ]
        return torch.optim.AdamW(
            groups, lr=self.lr, weight_decay=self.weight_decay, eps=self.adam_eps, fused=True
        )

    def on_train_start(self) -> None:
        """Keep the weights that the run starts from."""
        self._keep_weights()

    def on_train_epoch_start(self) -> None:
        """Let the model look at its cells, if it asked to; start the sums of an epoch."""
        if self.before_epoch is not None:
            self.before_epoch(self.progress)
        self._reset("train")
        if self.on_epoch is not None:
            self.on_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; stops the run if it is not finite (see :class:`Losses`)."""
        progress = self.progress
        lr = self.lr * self.lr_schedule(progress)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = lr * group["factor"]
        loss, terms = self.module.terms(batch, progress)
        self.losses.take(loss, batch, terms, self.global_step, lr, batch_idx)
        self._add("train", loss, terms)
        weight = self.weight(batch_idx)
        return loss if weight == 1.0 else loss * weight

    def on_after_backward(self) -> None:
        """Let no gradient reach the frozen part of a parameter: Adam then leaves it as it is."""
        for name, (dim, start, stop) in (self.free or {}).items():
            gradient = self.module.get_parameter(name).grad
            if gradient is not None:
                gradient.narrow(dim, 0, start).zero_()
                gradient.narrow(dim, stop, gradient.shape[dim] - stop).zero_()

    def on_train_epoch_end(self) -> None:
        """Record the epoch and keep its weights; stops the run if they or its losses are not finite."""
        self.losses.look()
        check_weights(self.module, self.current_epoch, self.lr * self.lr_schedule(self.progress))
        self._keep_weights()
        record = {"epoch": float(self.current_epoch), **self._means("train")}
        if "validation" in self._sums:
            record |= self._means("validation")
        record |= self.module.schedule_values(self.progress)
        record["lr"] = self.lr * self.lr_schedule(self.progress)
        keep(self, self.records, record)

    def on_validation_epoch_start(self) -> None:
        """Start the sums of a validation pass, by weights that come from finite losses."""
        self.losses.look()
        self._reset("validation")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the terms of one held-out batch, with every weight at its final value."""
        loss, terms = self.module.terms(batch, 1.0)
        self._add("validation", loss, terms)

    def on_validation_epoch_end(self) -> None:
        """Hand the held-out ELBO to early stopping."""
        self.log("elbo_validation", self._means("validation")["elbo_validation"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs to go on as if unbroken."""
        checkpoint["latentcell"] = {
            "records": self.records,
            "run": self.run,
            **random_states(self),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the history and the random state."""
        self.records = list(checkpoint["latentcell"]["records"])
        kept = checkpoint["latentcell"]
        put_random_states_back(self, kept, len(self.records))

    def put_weights_back(self) -> None:
        """Return to the weights of the last whole epoch, which a diverged batch cannot have touched."""
        if self._kept:
            self.module.load_state_dict(self._kept)

    def _keep_weights(self) -> None:
        self._kept = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def _reset(self, part: str) -> None:
        self._sums[part] = {}
        self._n_cells[part] = 0

    def _add(self, part: str, loss: Tensor, terms: dict[str, Tensor]) -> None:
        n = next(iter(terms.values())).shape[0]
        sums = self._sums[part]
        for name, value in {
            "loss": loss.detach() * n,
            **{k: v.detach().sum() for k, v in terms.items()},
        }.items():
            sums[name] = sums[name] + value if name in sums else value
        self._n_cells[part] += n

    def _means(self, part: str) -> dict[str, float]:
        n_cells = torch.tensor(self._n_cells[part], dtype=torch.float64)
        total, *sums = summed(self, [n_cells, *self._sums[part].values()])
        means = {name: value / total for name, value in zip(self._sums[part], sums, strict=True)}
        kl = sum((value for name, value in means.items() if name.startswith("kl")), start=0.0)
        named = {f"{name}_{part}": value for name, value in means.items() if name != "loss"}
        named["train_loss" if part == "train" else "validation_loss"] = means["loss"]
        return named | {f"kl_local_{part}": kl, f"elbo_{part}": means["reconstruction_loss"] + kl}
