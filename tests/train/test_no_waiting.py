"""Nothing in a training step makes the host wait for a device that works on its own, such as a GPU.

Two looks without one. On tensors that only pretend to be on a GPU every operation of a step is written down,
with the devices of what it takes: so are values read by the host, sizes that hang on values, and copies between
host and device. And in whole runs on the CPU, told to do as if it were a GPU, no value is read between the first
step of an epoch and its last.
"""

import traceback

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import latentcell as lc
from latentcell.testing._cells import KEYS, make_cells

WAITS = {
    "_local_scalar_dense", "equal", "is_nonzero", "item", "lift_fresh", "masked_select", "nonzero", "unique",
    "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "argwhere",
}  # fmt: skip
"""Operations whose result the host needs, or has to send."""
SMALL = {"n_latent": 3, "hidden": (8,)}


class Waiting(AssertionError):
    """An operation that makes the host wait."""


class Forbid(TorchDispatchMode):
    """Raise at an operation that would make the host wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Look at the operation, then do it."""
        kwargs = kwargs or {}
        name = func.__name__.split(".")[0]
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        where = {x.device.type for x in tensors}
        masks = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        waits = (
            name in WAITS
            or (name in ("_to_copy", "copy_") and len(where | {torch.device(kwargs.get("device") or "cpu").type}
                if name == "_to_copy" and kwargs.get("device") is not None else where) > 1)
            or any(mask is not None and mask.dtype == torch.bool for mask in masks)
            or (name == "repeat_interleave" and kwargs.get("output_size") is None)
        )
        if waits:
            stack = "".join(traceback.format_stack(limit=12)[:-1])
            raise Waiting(f"{func} on {sorted(where)}:\n{stack}")
        return func(*args, **kwargs)
