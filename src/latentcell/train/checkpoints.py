"""Checkpoints of a run: one file without a pickle, replaced in one step, and read only if it is whole."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load, save

from latentcell._atomic import remove, write_bytes
from latentcell._errors import ModelFileError

_MAGIC = b"latentcell checkpoint 1 "
_HEAD = len(_MAGIC) + 64 + 1
_REMEDY = "Remove it, or pass resume=False, to begin anew"


class CheckpointFiles(CheckpointIO):
    """How Lightning writes and reads checkpoints.

    Its own way is a pickle, written to the folder of temporary files and copied from there if that is on
    another disk: a kill during the copy leaves neither the old checkpoint nor the new one.

    A file is one line with a checksum, and then safetensors, whose metadata hold all that is not a tensor.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, or leave the older one as it was."""
        tensors: dict[str, torch.Tensor] = {}
        record = json.dumps(_pack(checkpoint, tensors))
        body = save(tensors, metadata={"record": record})
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(path), _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        remove(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint in a file, as Lightning wrote it; its tensors are on the CPU.

    Raises
    ------
    ModelFileError
        If it is no checkpoint, or a damaged one.
    """
    data = path.read_bytes()
    head, body = data[:_HEAD], data[_HEAD:]
    if not head.startswith(_MAGIC):
        raise ModelFileError(f"{path} is not a checkpoint that this version of latentcell wrote. {_REMEDY}")
    if head != _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise ModelFileError(f"{path} is damaged: its checksum is not that of what it holds. {_REMEDY}")
    try:
        length = int.from_bytes(body[:8], "little")
        record = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["record"])
        return _unpack(record, load(body))
    except (SafetensorError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}. {_REMEDY}") from error


def check_fits(
    path: Path, checkpoint: dict[str, Any], state: dict[str, torch.Tensor], run: dict[str, Any]
) -> None:
    """Raise a ModelFileError if a checkpoint is of another run: other weights, cells, batches or seed.

    Parameters
    ----------
    path
        Where it was read, to be named.
    checkpoint
        What was read.
    state
        Weights of the module to be trained, by name.
    run
        What else a run that goes on from it must have in common with the one that wrote it.
    """
    try:
        found = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
        facts = checkpoint["latentcell"]["run"]
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is not a checkpoint of this version. {_REMEDY}") from error
    if found != {name: tuple(value.shape) for name, value in state.items()}:
        raise ModelFileError(f"{path} is a checkpoint of another model. {_REMEDY}")
    for name, value in run.items():
        if facts.get(name) != value:
            raise ModelFileError(
                f"{path} is a checkpoint of another run: {name} was {facts.get(name)!r} "
                f"and is {value!r}. {_REMEDY}"
            )


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """A value as JSON that says its types; tensors go into `tensors` and leave their number."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, tensors), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What :func:`_pack` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "dict":
        return {_unpack(key, tensors): _unpack(item, tensors) for key, item in inside}
    items = [_unpack(item, tensors) for item in inside]
    return {"list": items, "tuple": tuple(items)}[kind]
