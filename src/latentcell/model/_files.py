"""Models on disk: weights as safetensors, everything else as JSON. Reading them never runs code.

A model is a folder of two files: the record ``model.json``, and the weights that the record names. A new
folder is written beside its place and moved there at the end. In a folder that holds a model already, new
weights are written beside the old ones, the record is replaced in one step, and what it does not name is
removed: whenever the process is killed, the folder holds the old model or the new one.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from safetensors import SafetensorError
from safetensors.torch import load as weights_from

from latentcell import __version__
from latentcell._errors import ModelFileError
from latentcell._scvi import registry_from_json, registry_to_json

from ._record import RECORD, WEIGHTS, decode, encode, history_from_json, history_to_json, read_record
from ._writing import write

if TYPE_CHECKING:
    from ._base import AbstractModel
    from .baselines._base import AbstractBaseline


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
    from latentcell import model as room

    public = {name: getattr(room, name) for name in room.__all__}
    classes: dict[str, Any] = {name: one for name, one in public.items() if hasattr(one, "setup_anndata")}
    record = read_record(Path(dir_path))
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


def read(model_class: type, folder: Path, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record and weights of a model's folder, which must hold a model of that class.

    They are of one model also while another process replaces it.
    """
    record = _record_of_class(model_class, folder)
    while True:
        try:
            return record, _read_weights(folder, record, device)
        except ModelFileError:
            now = _record_of_class(model_class, folder)
            if now == record:
                raise
            record = now


def _record_of_class(model_class: type, folder: Path) -> dict[str, Any]:
    record = read_record(folder)
    if record["class"] != model_class.__name__:
        raise ModelFileError(
            f"{folder} holds a {record['class']}, not a {model_class.__name__}; "
            "use latentcell.model.load(...)"
        )
    return record


def _read_weights(folder: Path, record: dict[str, Any], device: str) -> dict[str, Any]:
    """The weights that the record names, whose checksum must be the one in the record."""
    path = folder / record.get("weights", WEIGHTS)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{folder} has no {path.name}") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    if _digest(data) != record["sha256"]:
        raise ModelFileError(f"{path} is damaged: its checksum is not the one in {RECORD}")
    try:
        return {name: value.to(device) for name, value in weights_from(data).items()}
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error


__all__ = [
    "decode",
    "encode",
    "history_from_json",
    "history_to_json",
    "load",
    "read",
    "registry_from_json",
    "registry_to_json",
    "write",
]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
