"""Write a model's folder so that it holds a whole model at any time, whenever the writer is killed."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anndata import AnnData
from anndata.io import write_h5ad
from safetensors.torch import save

from latentcell._atomic import move_onto, remove, settle, sync_folder, temporary, write_bytes
from latentcell._errors import ModelFileError

from ._record import RECORD, WEIGHTS, WEIGHTS_NAME, read_record, to_text

CELLS = "adata.h5ad"
_SEALED = re.compile(r"adata-[0-9a-f]{16}\.h5ad")
_ABANDONED = 600.0
"""Seconds after which a file that no record names is of no save that is under way."""


def write(
    folder: Path,
    record: dict[str, Any],
    weights: dict[str, Any],
    *,
    overwrite: bool,
    cells: AnnData | None = None,
) -> None:
    """Write a model's folder whole or not at all; `cells` go into it as ``adata.h5ad``.

    Raises
    ------
    FileExistsError
        If the folder exists and `overwrite` is False, or is not a model.
    OSError
        Naming the folder, if the disk is full, read-only or broken; what was there is as it was.
    """
    exists = folder.exists()
    if exists and not overwrite:
        raise FileExistsError(f"{folder} exists; pass overwrite=True to replace the model in it")
    if exists and not (folder / RECORD).is_file():
        raise FileExistsError(f"{folder} exists and is not a saved model; it is left as it is")
    folder.parent.mkdir(parents=True, exist_ok=True)
    data = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    record = record | {"sha256": hashlib.sha256(data).hexdigest()}
    if exists:
        _replace(folder, record, data, cells)
        return
    with temporary(folder) as new:
        new.mkdir()
        (new / WEIGHTS).write_bytes(data)
        if cells is not None:
            write_h5ad(new / CELLS, cells)
            record["cells"] = _digest(new / CELLS)
        (new / RECORD).write_bytes(to_text(record | {"weights": WEIGHTS}))
        settle(new)
        os.replace(new, folder)  # fails if another process made a model there in the meantime
        sync_folder(folder.parent)


def _replace(folder: Path, record: dict[str, Any], data: bytes, cells: AnnData | None) -> None:
    """Put a new model in the place of the one in the folder. One step decides which it is: the record's.

    Cells called ``adata.h5ad`` are at no time beside a model that they were not saved with: while the record
    is replaced, they have their checksum for a name.
    """
    here, weights = folder / CELLS, folder / f"model-{record['sha256'][:16]}.safetensors"
    old, had_cells = _of_the_old(folder)
    text, aside = b"", None
    try:
        if cells is not None:
            with temporary(here) as new:
                write_h5ad(new, cells)
                settle(new)
                record["cells"] = _digest(new)
                move_onto(new, _sealed(here, record["cells"]))
        with temporary(folder / WEIGHTS) as new:
            new.write_bytes(data)
            settle(new)
            move_onto(new, weights)
        if here.exists() and (cells is not None or had_cells):
            aside = _sealed(here, _digest(here))
            move_onto(here, aside)
        text = to_text(record | {"weights": weights.name})
        write_bytes(folder / RECORD, text)
    except BaseException:
        if (folder / RECORD).read_bytes() != text:  # else Ctrl-C came after the step that decides
            if aside is not None:
                move_onto(aside, here)
            for file in {weights, _sealed(here, record.get("cells", ""))} - {old}:
                remove(file)
        raise
    if cells is not None:
        move_onto(_sealed(here, record["cells"]), here)
    _clean(folder, [old, aside], weights)


def _of_the_old(folder: Path) -> tuple[Path, bool]:
    """The weights of the model in the folder, and whether it was saved with its cells.

    Of a damaged one or one of format 1 nobody knows: what has the name of its cells is taken for them. Cells
    whose save was killed before they had their name get it.
    """
    try:
        record = read_record(folder)
    except ModelFileError:
        return folder / WEIGHTS, True
    cells, here = record.get("cells"), folder / CELLS
    if isinstance(cells, str) and _sealed(here, cells).is_file() and not here.exists():
        move_onto(_sealed(here, cells), here)
    return folder / record.get("weights", WEIGHTS), record["format"] == 1 or cells is not None


def _clean(folder: Path, done: Sequence[Path | None], kept: Path) -> None:
    """Remove files that are done with, and what no record names since a save was killed."""
    for file in list(folder.iterdir()):
        ours = WEIGHTS_NAME.fullmatch(file.name) or _SEALED.fullmatch(file.name)
        # an open file cannot be removed everywhere; the next save tries again
        with contextlib.suppress(OSError):
            if file != kept and (file in done or (ours and time.time() - file.stat().st_mtime > _ABANDONED)):
                file.unlink()


def _sealed(cells: Path, checksum: str) -> Path:
    """The name of cells while it is not decided which model is the folder's."""
    return cells.with_name(f"adata-{checksum[:16]}.h5ad")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
