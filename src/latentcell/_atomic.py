"""Files and folders that appear whole or not at all, whenever the process that writes them is killed.

What is written takes a hidden name beside its place, which says who writes it, and is moved on when it is on
the disk. What killed processes left under such names is removed by the next that writes to the same place.
"""

import contextlib
import ctypes
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DAY = 24 * 3600.0
_WRITER = r"\.([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{6}\.(tmp|old)\."
_WRITER_WITHIN = r"\.[0-9a-f]{8}-[0-9]{1,9}-[0-9a-f]{6}\.tmp\."
_mine: set[str] = set()
"""Hidden names that this process is writing to."""


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; what is left there at the end is removed.

    Raises
    ------
    OSError
        Naming `path`, if the disk is full, read-only or broken.
    """
    sweep(path)
    hidden = _hidden(path, "tmp")
    _mine.add(hidden.name)
    try:
        yield hidden
    except (OSError, RuntimeError) as error:
        # hidden itself: who hid it knows the name that the user gave
        named = None if re.match(_WRITER, path.name) else _naming(path, error)
        if named is None:
            raise
        raise named from error
    finally:
        # zarr's threads may still write into a folder after one of them failed
        for seconds in (0.0, 0.01, 0.1, 0.4) if hidden.is_dir() else (0.0,):
            time.sleep(seconds)
            with contextlib.suppress(OSError):  # what happened first is what matters; the next writer sweeps
                remove(hidden)
        _mine.discard(hidden.name)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path`, moved onto it if all went well: `path` is whole, or as it was.

    Raises
    ------
    OSError
        Naming `path`, if the disk is full, read-only or broken.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as hidden:
    ...         _ = hidden.write_text("all of it")
    ...     (Path(folder) / "a.txt").read_text()
    'all of it'
    """
    with temporary(path) as hidden:
        yield hidden
        settle(hidden)
        move_onto(hidden, path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole, or leave it as it was."""
    with replacing(path) as hidden:
        hidden.write_bytes(data)


def move_onto(new: Path, path: Path) -> None:
    """Replace `path` by `new`, in one step if it is a file.

    A folder and another swap their names in one step where the system can do that (Linux). Elsewhere the old
    one is moved aside first; what a kill between the two moves leaves is put right by :func:`sweep`.
    """
    if not path.is_dir():
        os.replace(new, path)
    elif _swap(new, path):
        remove(new)
    else:
        old = _hidden(path, "old")
        os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            os.replace(old, path)
            raise
        remove(old)
    sync_folder(path.parent)


def sweep(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; put back what was moved aside if it is missing."""
    pattern = re.compile(f"{_WRITER}(?:{_WRITER_WITHIN})*{re.escape(path.name)}")
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return  # no such folder, or none of ours: whoever writes will say so
    for name in names:
        match, left = pattern.fullmatch(name), path.with_name(name)
        if match is None or not _is_dead(left, match[1], int(match[2])):
            continue
        with contextlib.suppress(OSError):  # another process may sweep as well
            if match[3] == "old" and not path.exists():
                os.replace(left, path)
            else:
                remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Wait until a file, or everything in a folder, is on the disk: a power cut then leaves it whole."""
    if not path.is_dir():
        _sync_file(path)
        return
    for folder, _, files in os.walk(path):
        for name in files:
            _sync_file(Path(folder) / name)
        sync_folder(Path(folder))


def sync_folder(path: Path) -> None:
    """Make names in a folder last; not every system can, and none needs it for a kill."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".{_host()}-{os.getpid()}-{secrets.token_hex(3)}.{kind}.{path.name}")


def _host() -> str:
    """What tells apart machines, and containers on one, whose processes have numbers of their own."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _is_dead(path: Path, host: str, pid: int) -> bool:
    """Whether the writer of a hidden path is no more; on another machine: nothing was written for a day."""
    if host == _host() and os.name == "posix":
        if pid == os.getpid():
            return path.name not in _mine
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False  # another user's
        return False
    try:
        newest = max(part.stat().st_mtime for part in [path, *path.rglob("*")])
    except OSError:
        return False
    return time.time() - newest > _DAY


def _swap(first: Path, second: Path) -> bool:
    """Let two paths swap what they name, in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _naming(path: Path, error: Exception) -> OSError | None:
    """The error with the path that the user named in place of the hidden one; None if it is another error."""
    of_hdf5 = re.search(r"errno = ([0-9]+)", str(error))  # h5py has RuntimeErrors of full disks, too
    if of_hdf5 is not None:
        number = int(of_hdf5[1])
        return OSError(number, f"{path} could not be written: {os.strerror(number)}")
    if not isinstance(error, OSError):
        return None
    message = f"{path} could not be written: {error.strerror or ' '.join(str(error).split())}"
    return OSError(message) if error.errno is None else OSError(error.errno, message)
