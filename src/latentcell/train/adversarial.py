"""The LightningModule of adversarial models: two optimisers in turn, and how the run is going."""

from collections.abc import Callable
from typing import Any, Protocol, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from latentcell._errors import ModelFileError
from latentcell.nn.schedules import Schedule

from .guards import Losses, check_weights
from .randomness import put_random_states_back, random_states
from .records import keep

Batch = dict[str, Tensor]


class Multipliers(Protocol):
    """What holds drawn cells to some means of real ones (see :class:`latentcell.nn.shares.Shares`)."""

    price: Tensor
    """The multipliers, which a resumed run needs."""
    lacking: Tensor
    """Recent mean of what is missing, which it needs too."""
    pace: float
    """Factor of their steps."""

    def to(self, device: torch.device) -> None:
        """Have them on a device."""


class Adversaries(Protocol):
    """What a module must offer to be trained by :class:`AdversarialPlan`."""

    def critic_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the critic (a scalar) and per-cell terms (cells) by name."""

    def generator_loss(self, batch: Batch, shares: Multipliers | None) -> Tensor:
        """Loss of the generator (a scalar), which is held to the shares of kinds of cells."""

    def average(self) -> None:
        """Move the running mean of the generator's weights."""


class Watch(Protocol):
    """Figures of an epoch beside the losses."""

    seen: list[list[float]]
    """What a resumed run needs of the epochs before."""

    def __call__(self) -> dict[str, float]:
        """Figures by name."""


class AdversarialPlan(pl.LightningModule):
    """Train critic and generator in turn with Adam; :attr:`records` holds one dict per epoch.

    Parameters
    ----------
    module
        See :class:`Adversaries`; its parts are ``critic`` and ``generator``.
    total_steps
        Steps of the critic in the whole run: what turns a step into progress from 0 to 1.
    n_critic
        Steps of the critic for each of the generator.
    lr, lr_schedule
        Learning rate of both, and its factor as a function of progress.
    betas
        Adam's.
    watch
        Called at the end of an epoch; gives what the history keeps beside the losses.
    shares
        Kinds of cells that the generator is held to; None leaves all to the critic.
    """

    def __init__(
        self,
        module: Any,
        *,
        total_steps: int,
        n_critic: int,
        lr: float,
        lr_schedule: Schedule,
        betas: tuple[float, float],
        watch: Watch,
        shares: Multipliers | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.module = module
        self.total_steps = total_steps
        self.n_critic = n_critic
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.betas = betas
        self.watch = watch
        self.shares = shares
        self.records: list[dict[str, float]] = []
        self.run: dict[str, Any] = {}
        self.on_epoch: Callable[[int], None] | None = None
        self.losses = Losses(cure=None)
        self._step = 0
        self._sums: dict[str, Tensor] = {}
        self._n_cells = 0
        self._kept: dict[str, Tensor] = {}

    @property
    def progress(self) -> float:
        """Share of the critic's steps done: 0 at the first, 1 at the last."""
        return min(self._step / max(self.total_steps - 1, 1), 1.0)

    @property
    def generator_steps(self) -> int:
        """Steps of the generator done so far."""
        return self._step // self.n_critic

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the critic and for the generator, whose dispersions move faster (see the likelihood)."""
        generator = self.module.generator
        dispersions = list(generator.likelihood.parameters())
        theirs = {id(parameter) for parameter in dispersions}
        network = [p for p in generator.parameters() if id(p) not in theirs]
        factor = generator.likelihood.lr_factor
        groups: list[dict[str, Any]] = [{"params": network, "factor": 1.0}]
        if dispersions:
            groups.append({"params": dispersions, "factor": factor})
        critic = [{"params": list(self.module.critic.parameters()), "factor": 1.0}]
        return [torch.optim.Adam(part, lr=self.lr, betas=self.betas, fused=True) for part in (critic, groups)]

    def on_train_start(self) -> None:
        """Keep the weights that the run starts from."""
        self._keep_weights()

    def on_train_epoch_start(self) -> None:
        """Start the sums of an epoch."""
        self._sums, self._n_cells = {}, 0
        if self.on_epoch is not None:
            self.on_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of the critic, and after every `n_critic` of them one of the generator."""
        factor = self.lr_schedule(self.progress)
        lr = self.lr * factor
        of_critic, of_generator = cast(list[Any], self.optimizers())
        for optimizer in (of_critic, of_generator):
            for group in optimizer.param_groups:
                group["lr"] = lr * group["factor"]
        loss, terms = self.module.critic_loss(batch)
        self.losses.take(loss, batch, terms, self._step, lr, batch_idx)
        self._update(of_critic, loss)
        self._add({"critic_loss": loss.detach().expand(len(next(iter(terms.values())))), **terms})
        self._step += 1
        if self._step % self.n_critic == 0:
            self.module.critic.requires_grad_(False)
            try:
                if self.shares is not None:
                    self.shares.pace = factor
                loss = self.module.generator_loss(batch, self.shares)
                self.losses.take(loss, batch, {}, self._step, lr, batch_idx)
                self._update(of_generator, loss)
            finally:  # the next run trains it too
                self.module.critic.requires_grad_(True)
            self.module.average()

    def on_train_epoch_end(self) -> None:
        """Record the epoch and keep its weights; stops the run if they or its losses are not finite."""
        self.losses.look()
        lr = self.lr * self.lr_schedule(self.progress)
        check_weights(self.module, self.current_epoch, lr, cure=None)
        self._keep_weights()
        means = {f"{name}_train": float(total) / self._n_cells for name, total in self._sums.items()}
        loss = means.pop("critic_loss_train")
        record = {"epoch": float(self.current_epoch), "train_loss": loss, **means, **self.watch()}
        keep(self, self.records, record | {"lr": lr})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs to go on as if unbroken."""
        checkpoint["latentcell"] = {
            "records": self.records,
            "run": self.run,
            "step": self._step,
            "seen": self.watch.seen,
            **random_states(self),
            "price": None if self.shares is None else [self.shares.price.cpu(), self.shares.lacking.cpu()],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the history, the step and the random state."""
        kept = checkpoint["latentcell"]
        self.records, self._step = list(kept["records"]), int(kept["step"])
        self.watch.seen = [list(figures) for figures in kept["seen"]]
        put_random_states_back(self, kept, len(self.records))
        price = kept.get("price")
        if price is None:  # begun without, or by a version that had none: it goes on so
            self.shares = None
            return
        n_kinds = 0 if self.shares is None else len(self.shares.price)
        if self.shares is None or len(price[0]) != n_kinds:
            raise ModelFileError(
                f"the checkpoint is of another run: it has {len(price[0])} kinds of cells (n_kinds=) where "
                f"this has {n_kinds}; go on with as many, or start anew with resume=False"
            )
        self.shares.to(torch.device("cpu"))  # until a step says where it is
        self.shares.price, self.shares.lacking = price

    def put_weights_back(self) -> None:
        """Return to the weights of the last whole epoch, which a diverged batch cannot have touched."""
        if self._kept:
            self.module.load_state_dict(self._kept)

    def _update(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def _keep_weights(self) -> None:
        self._kept = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def _add(self, terms: dict[str, Tensor]) -> None:
        self._n_cells += len(next(iter(terms.values())))
        for name, value in terms.items():
            total = value.detach().float().sum()  # in half precision a sum stops growing
            self._sums[name] = self._sums[name] + total if name in self._sums else total
