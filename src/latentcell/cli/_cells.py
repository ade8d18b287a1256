"""Reading files of cells that may be damaged: an error says so, and the process lives on.

The HDF5 library crashes on some damaged files and never comes to an end with others; scipy's routines crash
on sparse matrices whose indices lie outside. So a child process looks at the file first, where that is cheap,
and sparse matrices are checked before anything uses them.
"""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcell._errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

_LARGEST = 2**24
"""Values of a data set that the child process reads; of larger ones it looks at the list of chunks only."""

_PATIENCE, _SPEED = 60.0, 1e7
"""Seconds that it may take for a small file, and bytes in each further second."""

_MOST = 100_000
"""Parts of a file that the child process looks at; links may lead round in circles."""


def read(path: Path) -> "AnnData":
    """The cells of an .h5ad file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DataError
        If it is not one, or damaged; the message names the part.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    import anndata as ad
    import h5py  # noqa: F401  loaded here, so that the child process need not

    trouble = _trouble(path)
    if trouble is not None:
        raise DataError(f"{path} is damaged: the HDF5 library {trouble}. Copy it anew from its source")
    try:
        adata = ad.read_h5ad(path)
        _check_sparse(adata)
    except Exception as error:
        raise DataError(f"{path} cannot be read as .h5ad ({reason(error)})") from error
    _check_columns(adata, path)
    return adata


def reason(error: BaseException) -> str:
    """What went wrong in a line: the error, and the part of the file that anndata names in a note."""
    notes = [note.splitlines()[0] for note in getattr(error, "__notes__", ()) if note]
    said = str(error).splitlines()
    return "; ".join(
        [
            f"{type(error).__name__}: {said[0][:300] if said else 'no more is known'}",
            *(n[:200] for n in notes[:1]),
        ]
    )


def _trouble(path: Path) -> str | None:
    """What becomes of a child process that looks at all of the file; None if nothing, or none can be made."""
    if not hasattr(os, "fork"):
        return None
    child = os.fork()
    if child == 0:
        # nothing of the parent's may run here: neither its cleaning up nor its output
        with contextlib.suppress(BaseException):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            _look(path)
        os._exit(0)
    status = None
    try:
        status = _end_of(child, _PATIENCE + path.stat().st_size / _SPEED)
    finally:
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if status is None:
        return "never comes to an end with it"
    return "crashes on it" if os.WIFSIGNALED(status) else None


def _end_of(child: int, seconds: float) -> int | None:
    """The status of a child process that ends in time, else None."""
    end, pause = time.monotonic() + seconds, 0.001
    while time.monotonic() < end:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            return status
        time.sleep(pause)
        pause = min(1.5 * pause, 0.1)
    return None


def _look(path: Path) -> None:
    """Open every group, data set and attribute of a file once; what cannot be read is passed over."""
    import h5py

    with h5py.File(path, "r") as file:
        waiting, seen = deque([file["/"]]), set()
        for _ in range(_MOST):
            if not waiting:
                return
            item = waiting.popleft()
            with contextlib.suppress(Exception):
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    continue
                seen.add(address)
            with contextlib.suppress(Exception):
                for name in list(item.attrs):
                    with contextlib.suppress(Exception):
                        item.attrs[name]
            if isinstance(item, h5py.Group):
                waiting.extend(_members(item))
                continue
            with contextlib.suppress(Exception):
                if item.size is not None:
                    item[()] if item.size <= _LARGEST else item.id.get_num_chunks()


def _members(group: Any) -> Iterator[Any]:
    found: list[str] = []
    with contextlib.suppress(Exception):
        found = list(group)
    for name in found:
        with contextlib.suppress(Exception):
            yield group[name]


def _check_sparse(adata: "AnnData") -> None:
    """Refuse sparse matrices whose parts do not fit each other."""
    from scipy import sparse

    from latentcell._checks import check_compressed

    parts = [("X", adata.X)] + [
        (f"{name}[{key!r}]", value)
        for name in ("layers", "obsm", "varm", "obsp", "varp")
        for key, value in getattr(adata, name).items()
        if key is not None
    ]
    for name, value in parts:
        if sparse.issparse(value):
            try:
                check_compressed(value)
            except Exception as error:
                raise ValueError(f"{name} is damaged: {error}") from error


def _check_columns(adata: "AnnData", path: Path) -> None:
    """Refuse columns of obs and var whose entries are no single values, such as matrices."""
    for name in ("obs", "var"):
        frame = getattr(adata, name)
        for column in frame.select_dtypes(object).columns:
            if not all(
                value is None or isinstance(value, str | bool | int | float | bytes)
                for value in frame[column]
            ):
                raise DataError(f"{path} cannot be used: {name}[{str(column)!r}] holds no single values")
