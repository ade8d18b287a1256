"""Devices that work beside the host: which they are, their free memory, and how precise they are."""

import torch


def runs_ahead(device: torch.device) -> bool:
    """Whether the host goes on while the device works, so that reading a value of it means waiting.

    Examples
    --------
    >>> runs_ahead(torch.device("cpu")), runs_ahead(torch.device("cuda"))
    (False, True)
    """
    return device.type != "cpu"


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU of CUDA or ROCm; None of devices that share the host's memory or hide it.

    Examples
    --------
    >>> free_memory(torch.device("cpu")) is None
    True
    """
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds it ready
    return torch.cuda.mem_get_info(device)[0] + unused


def finest(device: torch.device) -> torch.dtype:
    """The most precise type of number that a device computes with: Apple's GPUs have no double precision.

    Examples
    --------
    >>> finest(torch.device("cuda")), finest(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64
