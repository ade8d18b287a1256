"""What all commands share: files that are whole or as they were, messages, arguments that were given."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcell import _atomic
from latentcell._errors import DataError

from ._cells import read, reason

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = [
    "Steps",
    "check_file",
    "check_folder",
    "check_free",
    "check_model_folder",
    "given",
    "read",
    "replacing",
    "write",
]

MODEL_FILE = "model.json"
"""What a saved model's folder holds; kept here, as the library that defines it takes seconds to load."""


class Steps:
    """Says on standard error what is being done and how many seconds have passed."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Say `text`, unless quiet."""
        if not self.quiet:
            print(f"[{time.monotonic() - self.start:5.1f} s] {text}", file=sys.stderr, flush=True)


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that were given: what is None is left to the library's default."""
    return {name: value for name, value in arguments.items() if value is not None}


def check_folder(path: Path) -> None:
    """Raise a DataError if a model's folder is none."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: name one that `latentcell train -o` has written")


def check_model_folder(path: Path, *, overwrite: bool) -> None:
    """Raise a DataError if a model cannot be saved at `path`: what is there is to be kept, or is no model."""
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists: choose another MODEL_DIR, or replace it with --overwrite")
    if path.exists() and not (path / MODEL_FILE).is_file():
        raise DataError(f"{path} exists and is not a saved model; it is left as it is: choose another")


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise a DataError if something at `path` is to be kept; a folder is, unless it is a .zarr of cells."""
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists: choose another name, or replace it with --overwrite")
    if path.is_dir() and not any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        raise DataError(f"{path} is a folder and no .zarr; it is left as it is: choose another name")


def check_file(path: Path) -> None:
    """Raise a DataError if a file cannot be put at `path`, as a folder is there."""
    if path.is_dir() or not path.name:
        raise DataError(f"{path} is a folder; it is left as it is: name a file")


def write(adata: "AnnData", path: Path) -> None:
    """Write cells as a compressed .h5ad file, whole or not at all."""
    check_file(path)
    with replacing(path) as temporary:
        try:
            adata.write_h5ad(temporary, compression="gzip")
        except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{path} cannot be written as .h5ad ({reason(error)})") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path`, in a folder that is made if need be, moved onto it if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _atomic.replacing(path) as hidden:
        yield hidden
