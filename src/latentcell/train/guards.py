"""What stops a run before it spoils the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from latentcell import _devices
from latentcell._errors import TrainingDivergedError
from latentcell._sparse import SparseCells

Names = tuple[Sequence, Sequence]
"""Names of cells and of genes."""
_SENSELESS = 1e30
"""A loss beyond it is as good as infinite: there is a step left to overflow, and nothing to learn from."""
_EXTREME = 1e4
"""Times the median of values other than 0 above which one is called extreme."""
CLIP = "clip gradients (train(gradient_clip=...))"
"""What can be done against divergence, besides what always can."""


def check_finite(
    loss: Tensor,
    batch: dict[str, Tensor],
    terms: dict[str, Tensor],
    step: int,
    lr: float,
    names: Callable[[], Names | None] = lambda: None,
    cure: str | None = CLIP,
) -> None:
    """Raise :class:`TrainingDivergedError` at a loss not finite or beyond 1e30; say where, why, what to do.

    Parameters
    ----------
    loss
        Scalar loss of the batch.
    batch
        The batch; its largest value is named.
    terms
        Per-cell terms of the loss (cells) by name; none of a loss that is not a sum over cells.
    step
        Optimiser steps done so far.
    lr
        Learning rate now.
    names
        Gives the names of the batch's cells and of the genes; asked only if the loss is not finite.
    cure
        What the caller can do besides lowering the rate and looking at the data.
    """
    if bool(loss.abs() < _SENSELESS):
        return
    broken = {name: ~(term.detach().abs() < _SENSELESS).cpu() for name, term in terms.items()}
    counts = {name: int(cells.sum()) for name, cells in broken.items()}
    named = ", ".join(f"{name} in {n} cells" for name, n in counts.items() if n) or "the loss itself"
    x = batch["X"].dense if isinstance(batch["X"], SparseCells) else batch["X"]
    x = x.detach().float().cpu()
    cells, genes = names() or (range(x.shape[0]), range(x.shape[1]))
    rows = sorted({row for cells_of in broken.values() for row in cells_of.nonzero().ravel().tolist()})
    which = ", ".join(repr(cells[i]) for i in rows[:5]) + (", ..." if len(rows) > 5 else "")
    raise TrainingDivergedError(
        f"the loss became {loss.item()} at step {step} ({named}; learning rate {lr:g}, largest value in the "
        f"batch {x.abs().nan_to_num(float('inf')).max().item():g}"
        f"{f'; cells {which}' if rows else ''}). {_cause(x, cells, genes, step)} {_cured(cure)}"
    )


LOOK_AFTER = 1000
"""Steps after which losses of a device that works beside the host are looked at, if the epoch is longer."""


@dataclass(frozen=True)
class _Step:
    """What is kept of a step until it is looked at: numbers per cell at most."""

    loss: Tensor
    terms: dict[str, Tensor]
    number: int
    lr: float
    batch: int


class Losses:
    """Stops a run at a loss that is not finite.

    On the CPU at that step. To look at a loss on a GPU is to wait for it; there losses are kept and looked at
    together, once per epoch and every :data:`LOOK_AFTER` steps. The batch is then read anew to be named.

    Parameters
    ----------
    cure
        See :func:`check_finite`.

    Attributes
    ----------
    names, read
        Give the names of the cells and genes of a batch of the current epoch by its number, and the batch.
    """

    def __init__(self, cure: str | None = CLIP) -> None:
        self.cure = cure
        self.names: Callable[[int], Names | None] = lambda number: None
        self.read: Callable[[int], dict[str, Tensor]] = lambda number: {"X": torch.zeros(1, 1)}
        self._kept: list[_Step] = []

    def take(
        self,
        loss: Tensor,
        batch: dict[str, Tensor],
        terms: dict[str, Tensor],
        step: int,
        lr: float,
        number: int,
    ) -> None:
        """Take the loss of a step on batch `number` of the epoch; the rest as of :func:`check_finite`."""
        if not _devices.runs_ahead(loss.device):
            check_finite(loss, batch, terms, step, lr, lambda: self.names(number), self.cure)
            return
        there = {name: term.detach() for name, term in terms.items()}
        self._kept.append(_Step(loss.detach(), there, step, lr, number))
        if len(self._kept) >= LOOK_AFTER:
            self.look()

    def look(self) -> None:
        """Look at the losses that were kept; raises of the first that is not finite."""
        kept, self._kept = self._kept, []
        if not kept:
            return
        losses = torch.stack([step.loss.float() for step in kept])
        for number in (~(losses.abs() < _SENSELESS)).nonzero().ravel().tolist():
            step = kept[number]
            names = partial(self.names, step.batch)
            check_finite(step.loss, self.read(step.batch), step.terms, step.number, step.lr, names, self.cure)


def _cause(x: Tensor, cells: Sequence, genes: Sequence, step: int) -> str:
    """What most likely broke the loss of a batch x (cells x genes)."""
    size = x.abs().nan_to_num(float("inf"))
    row, column = divmod(int(size.argmax()), x.shape[1])
    where = f"gene {genes[column]!r} of cell {cells[row]!r} is {x[row, column].item():g}"
    if not bool(torch.isfinite(x).all()):
        return f"Likely cause: the data changed after they were checked; {where}."
    others = size[size > 0].median() if bool((size > 0).any()) else size.max()
    if bool(size.max() > _EXTREME * others):
        return f"Likely cause: a value far beyond the others; {where}, the median of the others {others:g}."
    if step == 0:
        return f"Likely cause: the weights that training began with, or the scale of the data; {where}."
    return f"Likely cause: a learning rate too high for these data; their largest value: {where}."


def _cured(cure: str | None) -> str:
    further = "" if cure is None else f", {cure}"
    return (
        "The weights of the last whole epoch were put back. Lower the learning rate (train(lr=...))"
        f"{further} or check the data for extreme values."
    )


_LARGEST = 1e15
"""Weights beyond it are lost: their products overflow in single precision, if not at once then soon."""


def check_weights(module: nn.Module, epoch: int, lr: float, cure: str | None = CLIP) -> None:
    """Raise :class:`TrainingDivergedError` if a weight or running mean is not finite after an epoch.

    A finite loss can have a gradient that is not; the weights are then broken before any loss shows it.
    """
    if not all_finite(module):
        raise TrainingDivergedError(
            f"weights became NaN or too large in epoch {epoch} (learning rate {lr:g}). {_cured(cure)}"
        )


def all_finite(module: nn.Module) -> bool:
    """Whether every parameter and buffer (running means too) of the module is finite, and so are products."""
    found = [(values.abs() <= _LARGEST).all() for values in chain(module.parameters(), module.buffers())]
    return not found or bool(torch.stack(found).all())
