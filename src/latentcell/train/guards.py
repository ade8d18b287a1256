"""What stops a run before it spoils the model."""

import torch
from torch import Tensor, nn

from latentcell._errors import TrainingDivergedError


def check_finite(loss: Tensor, batch: dict[str, Tensor], terms: dict[str, Tensor], step: int, lr: float) -> None:
    """Raise :class:`TrainingDivergedError` at a loss that is not finite, naming step, term, cells and the cure.

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
    raise TrainingDivergedError(
        f"the loss became {loss.item()} at step {step} ({named}; learning rate {lr:g}, largest value in the "
        f"batch {batch['X'].abs().max().item():g}). The weights before this step were kept. Lower the learning "
        "rate (train(lr=...)), clip gradients (train(gradient_clip=...)) or check the data for extreme values."
    )


def all_finite(module: nn.Module) -> bool:
    """Whether every parameter of the module is finite."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())
