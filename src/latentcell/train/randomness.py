"""Random states of torch in a run: on the host and on its device, kept in checkpoints and put back."""

from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch


def draw_anew(entropy: list[int], plan: pl.LightningModule) -> None:
    """Set torch's random state, which a run has put aside, to one that follows from `entropy`."""
    state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    torch.set_rng_state(torch.Generator().manual_seed(state).get_state())
    device = plan.trainer.strategy.root_device  # the plan itself is moved there later
    if device.type == "cuda":
        torch.cuda.set_rng_state(torch.Generator(device).manual_seed(state).get_state(), device)


def random_states(plan: pl.LightningModule) -> dict[str, list[torch.Tensor]]:
    """Random states of torch in each process: on the host, and on its GPU if it has one."""
    device = plan.trainer.strategy.root_device
    states = {"rngs": torch.get_rng_state()}
    if device.type == "cuda":
        states["device_rngs"] = torch.cuda.get_rng_state(device)
    if plan.trainer.world_size == 1:
        return {name: [state] for name, state in states.items()}
    gathered = {name: plan.all_gather(state.to(plan.device)) for name, state in states.items()}
    return {name: list(cast(torch.Tensor, found).cpu()) for name, found in gathered.items()}


def put_random_states_back(plan: pl.LightningModule, kept: dict[str, Any], n_epochs: int) -> None:
    """Set torch's random states to those of :func:`random_states`; of other processes or devices, draw anew.

    Parameters
    ----------
    plan
        Whose run goes on.
    kept
        What it kept; older files have the state of one process under another name.
    n_epochs
        Epochs done.
    """
    rank, n_ranks = plan.trainer.global_rank, plan.trainer.world_size
    device = plan.trainer.strategy.root_device
    states = kept["rngs"] if "rngs" in kept else [kept["rng"]]
    there = kept.get("device_rngs", [])
    on_gpu = device.type == "cuda"
    if len(states) != n_ranks or (on_gpu and len(there) != n_ranks):
        draw_anew([n_epochs, n_ranks, rank], plan)
    if len(states) == n_ranks:
        torch.set_rng_state(states[rank])
    if on_gpu and len(there) == n_ranks:
        torch.cuda.set_rng_state(there[rank], device)
