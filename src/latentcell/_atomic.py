"""Files and folders that appear whole or not at all: what was written beside its place is moved onto it."""

import os
import shutil
from pathlib import Path


def move_onto(new: Path, path: Path) -> None:
    """Replace `path` by `new`; a folder is moved aside first, as none replaces one with something in it."""
    if not path.is_dir():
        os.replace(new, path)
        return
    old = new.with_name(f"{new.name}-old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
