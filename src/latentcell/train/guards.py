"""What stops a run before it spoils the model."""

from itertools import chain

import torch
from torch import Tensor, nn

from latentcell._errors import TrainingDivergedError
from latentcell._sparse import SparseCells

_CURE = (
    "The weights of the last whole epoch were put back. Lower the learning rate (train(lr=...)), clip "
    "gradients (train(gradient_clip=...)) or check the data for extreme values."
)


def check_finite(
    loss: Tensor, batch: dict[str, Tensor], terms: dict[str, Tensor], step: int, lr: float
) -> None:
    """Raise :class:`TrainingDivergedError` at a loss not finite, naming step, term, cells and the cure.

    Parameters
    ----------
    loss
        Scalar loss of the batch.
    batch
        The batch; its largest value is named.
    terms
        Per-cell terms of the loss (cells) by name.
    step
        Optimiser steps done so far.
    lr
        Learning rate now.
    """
    if bool(torch.isfinite(loss)):
        return
    broken = {name: int((~torch.isfinite(term)).sum()) for name, term in terms.items()}
    named = ", ".join(f"{name} in {n} cells" for name, n in broken.items() if n) or "the loss itself"
    x = batch["X"]
    largest = x.largest() if isinstance(x, SparseCells) else x.abs().max().item()
    raise TrainingDivergedError(
        f"the loss became {loss.item()} at step {step} ({named}; learning rate {lr:g}, largest value in the "
        f"batch {largest:g}). {_CURE}"
    )


def check_weights(module: nn.Module, epoch: int, lr: float) -> None:
    """Raise :class:`TrainingDivergedError` if a weight or running mean is not finite after an epoch.

    A finite loss can have a gradient that is not; the weights are then broken before any loss shows it.
    """
    if not all_finite(module):
        raise TrainingDivergedError(
            f"weights became NaN or infinite in epoch {epoch} (learning rate {lr:g}). {_CURE}"
        )


def all_finite(module: nn.Module) -> bool:
    """Whether every parameter and buffer (running means too) of the module is finite."""
    # a finite sum has finite terms and is quicker to find; a sum that is not finite may be an overflow
    return all(
        bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
        for values in chain(module.parameters(), module.buffers())
    )
