"""What all commands share: files that are whole or as they were, messages, arguments that were given."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcell import _atomic
from latentcell._errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData


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


def read(path: Path) -> "AnnData":
    """The cells of an .h5ad file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    import anndata as ad

    try:
        return ad.read_h5ad(path)
    except OSError as error:
        raise OSError(f"{path} cannot be read as .h5ad ({error})") from error


def check_folder(path: Path) -> None:
    """Raise a DataError if a model's folder is none."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: name one that `latentcell train -o` has written")


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise a DataError if something at `path` is to be kept; a folder is, unless it is a .zarr of cells."""
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists: choose another name, or replace it with --overwrite")
    if path.is_dir() and not any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        raise DataError(f"{path} is a folder and no .zarr; it is left as it is: choose another name")


def write(adata: "AnnData", path: Path) -> None:
    """Write cells as a compressed .h5ad file, whole or not at all."""
    with replacing(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path`, in a folder that is made if need be, moved onto it if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _atomic.replacing(path) as hidden:
        yield hidden
