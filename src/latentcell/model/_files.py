"""Models on disk: weights as safetensors, everything else as JSON. Reading them never runs code.

A model is a folder of two files, ``model.json`` and ``model.safetensors``. It is written beside its place and
moved there at the end, so that a crash leaves either the old model or the new one.
"""

import hashlib
import json
import os
import tempfile
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from latentcell import __version__
from latentcell._atomic import move_onto, remove
from latentcell._errors import ModelFileError
from latentcell._scvi import registry_from_json, registry_to_json
from latentcell.nn.schedules import ScheduleJSON

if TYPE_CHECKING:
    from ._base import AbstractModel
    from .baselines._base import AbstractBaseline

FORMAT = 1
RECORD = "model.json"
WEIGHTS = "model.safetensors"


def load(
    dir_path: str | os.PathLike, adata: AnnData | None = None, *, device: str = "cpu"
) -> "AbstractModel | AbstractBaseline":
    """Load a saved model of whichever class it is.

    Parameters
    ----------
    dir_path
        Folder that ``model.save`` wrote.
    adata
        Cells to attach to the model, with its genes and keys; None loads the model alone, which can then
        embed any AnnData it is given.
    device
        Where the weights go, e.g. ``"cpu"`` or ``"cuda:0"``.

    Returns
    -------
    A trained model of the class that was saved.

    Raises
    ------
    ModelFileError
        If the folder is not a model, is damaged, or was written by a newer version.
    DataError
        If `adata` lacks genes, keys or categories of the model.

    Examples
    --------
    >>> import tempfile, latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.AE.setup_anndata(adata)
    >>> model = lc.model.AE(adata, n_latent=2, hidden=(10,))
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/ae")
    ...     lc.model.load(f"{folder}/ae", adata).get_latent_representation().shape
    (90, 2)
    """
    from . import (
        AE,
        CVAE,
        DCA,
        GAN,
        VAE,
        VSC,
        ConditionalGAN,
        DisentangledVAE,
        GaussianCopula,
        GeneShuffle,
        PCAGaussian,
    )

    record = read_record(Path(dir_path))
    known: tuple[type[AbstractModel] | type[AbstractBaseline], ...]
    known = (
        AE,
        CVAE,
        DCA,
        GAN,
        VAE,
        VSC,
        ConditionalGAN,
        DisentangledVAE,
        GaussianCopula,
        GeneShuffle,
        PCAGaussian,
    )
    classes = {cls.__name__: cls for cls in known}
    if record["class"] not in classes:
        raise ModelFileError(
            f"{dir_path} holds a model of class {record['class']!r}; "
            f"this version of latentcell ({__version__}) "
            f"knows {', '.join(classes)}."
        )
    return classes[record["class"]].load(dir_path, adata, device=device)


def record_of(model: Any) -> dict[str, Any]:
    """What every model's record begins with: its class, version, arguments and registry."""
    return {
        "class": type(model).__name__,
        "latentcell": __version__,
        "params": encode(model.params),
        "registry": registry_to_json(model.registry),
    }


def write(folder: Path, record: dict[str, Any], weights: dict[str, Any], *, overwrite: bool) -> None:
    """Write a model's folder whole or not at all.

    Raises
    ------
    FileExistsError
        If the folder exists and `overwrite` is False, or is not a model.
    """
    if folder.exists():
        if not overwrite:
            raise FileExistsError(f"{folder} exists; pass overwrite=True to replace the model in it")
        if not (folder / RECORD).is_file():
            raise FileExistsError(f"{folder} exists and is not a saved model; it is left as it is")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, new / WEIGHTS)
        record = record | {"format": FORMAT, "sha256": _digest(new / WEIGHTS)}
        with open(new / RECORD, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(0o777 & ~_umask())
        move_onto(new, folder)
    finally:
        remove(new)


def read_record(folder: Path) -> dict[str, Any]:
    """The JSON record of a model's folder, checked for what every record must have."""
    path = folder / RECORD
    if not path.is_file():
        raise ModelFileError(f"{folder} is not a saved model: it has no {RECORD}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    needed = {"format", "class", "params", "registry", "is_trained", "history", "train_defaults", "sha256"}
    if not isinstance(record, dict) or not needed <= set(record) or not isinstance(record["class"], str):
        raise ModelFileError(f"{path} is not the record of a model")
    if record["format"] != FORMAT:
        raise ModelFileError(
            f"{path} has format {record['format']!r}, this version of latentcell ({__version__}) reads "
            f"{FORMAT}. "
            f"It was written by latentcell {record.get('latentcell', 'of unknown version')}; update."
        )
    return record


def read_record_of(model_class: type, folder: Path) -> dict[str, Any]:
    """The record of a model's folder, which must hold a model of that class."""
    record = read_record(folder)
    if record["class"] != model_class.__name__:
        raise ModelFileError(
            f"{folder} holds a {record['class']}, not a {model_class.__name__}; "
            "use latentcell.model.load(...)"
        )
    return record


def read_weights(folder: Path, record: dict[str, Any], device: str) -> dict[str, Any]:
    """The weights of a model's folder, whose checksum must be the one in the record."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelFileError(f"{folder} has no {WEIGHTS}")
    if _digest(path) != record["sha256"]:
        raise ModelFileError(f"{path} is damaged: its checksum is not the one in {RECORD}")
    try:
        return load_file(path, device=device)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error


def encode(value: Any) -> Any:
    """Parameters as JSON: schedules become objects, tuples lists, numpy's numbers and arrays plain ones."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return ScheduleJSON.encode(value) if callable(value) else value


def decode(value: Any) -> Any:
    """Parameters that :func:`encode` wrote; lists come back as tuples."""
    if isinstance(value, dict):
        if ScheduleJSON.KEY in value:
            return ScheduleJSON.decode(value)
        return {key: decode(item) for key, item in value.items()}
    return tuple(decode(item) for item in value) if isinstance(value, list) else value


def history_to_json(history: dict[str, pd.DataFrame] | None) -> dict[str, Any] | None:
    """Training curves as lists."""
    if not history:
        return None
    epochs = next(iter(history.values())).index
    return {
        "epoch": [int(epoch) for epoch in epochs],
        # JSON has no NaN and no infinity: they are written as text
        **{
            name: [v if isfinite(v) else str(v) for v in map(float, frame[name])]
            for name, frame in history.items()
        },
    }


def history_from_json(record: dict[str, Any] | None) -> dict[str, pd.DataFrame] | None:
    """Training curves as scvi-tools keeps them: a frame with one column per name, indexed by epoch."""
    if record is None:
        return None
    index = pd.Index(record["epoch"], name="epoch")
    return {
        name: pd.DataFrame({name: [float(value) for value in values]}, index=index)
        for name, values in record.items()
        if name != "epoch"
    }


__all__ = ["decode", "encode", "load", "registry_from_json", "registry_to_json", "write"]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
