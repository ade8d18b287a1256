"""Files and folders that are whole at any time: moves, what killed writers leave, full disks."""

import errno
import os
import subprocess
import sys

import pytest

from latentcell import _atomic
from latentcell._atomic import move_onto, remove, replacing, settle, sweep, temporary, write_bytes


def tree(folder):
    """All names in a folder, with what files hold."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def make_folder(path, **files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def hidden_by(pid, path, kind="tmp"):
    """The name under which a process writes to a path."""
    return path.with_name(f".{_atomic._host()}-{pid}-0a1b2c.{kind}.{path.name}")


@pytest.fixture
def dead():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- moves ---


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")

    def break_off():
        with replacing(path) as hidden:
            hidden.write_text("half of")
            assert path.read_text() == "old"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert tree(tmp_path) == {"a.txt": "old"}
    with replacing(path) as hidden:
        hidden.write_text("new")
        assert path.read_text() == "old"
    assert tree(tmp_path) == {"a.txt": "new"}


@pytest.mark.parametrize("swaps", [True, False], ids=["in one step", "in two"])
def test_a_folder_is_replaced_with_all_that_is_in_it(tmp_path, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(_atomic, "_swap", lambda first, second: False)
    make_folder(tmp_path / "x.zarr", a="1", b="2")
    with replacing(tmp_path / "x.zarr") as hidden:
        make_folder(hidden, a="3")
    assert tree(tmp_path) == {"x.zarr": None, "x.zarr/a": "3"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems cannot swap two folders")
def test_two_folders_swap_their_names_in_one_step(tmp_path):
    one, two = make_folder(tmp_path / "one", a="1"), make_folder(tmp_path / "two", a="2")
    assert _atomic._swap(one, two)
    assert (one / "a").read_text() == "2"
    assert (two / "a").read_text() == "1"
    assert not _atomic._swap(one, tmp_path / "nowhere")
    assert (one / "a").read_text() == "2"


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one_there(tmp_path, monkeypatch):
    monkeypatch.setattr(_atomic, "_swap", lambda first, second: False)
    old = make_folder(tmp_path / "x.zarr", a="1")
    with pytest.raises(FileNotFoundError):
        move_onto(tmp_path / "nothing", old)
    assert tree(tmp_path) == {"x.zarr": None, "x.zarr/a": "1"}


def test_what_is_removed_is_a_link_and_not_what_it_names(tmp_path):
    kept = make_folder(tmp_path / "kept", a="1")
    (tmp_path / "link").symlink_to(kept)
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert tree(tmp_path) == {"kept": None, "kept/a": "1"}


def test_all_files_of_a_folder_are_synced(tmp_path, monkeypatch):
    make_folder(make_folder(tmp_path / "x", a="1") / "y", b="2")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    settle(tmp_path / "x")
    assert {str(tmp_path / "x" / name) for name in ("a", "y/b", "y", ".")} >= {
        path for path in synced if path != str(tmp_path / "x")
    }
    assert len(synced) == 4


# --- what killed writers leave ---


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, dead):
    path = tmp_path / "cells.h5ad"
    hidden_by(dead, path).write_text("half of")
    make_folder(hidden_by(dead, tmp_path / "cells.h5ad", "old"), a="1")
    nested = path.with_name(
        f".{_atomic._host()}-{dead}-0a1b2c.tmp..{_atomic._host()}-{dead}-3d4e5f.tmp.cells.h5ad"
    )
    nested.write_text("half of")
    write_bytes(path, b"new")
    assert tree(tmp_path) == {"cells.h5ad": "new"}


def test_what_is_not_surely_left_by_a_killed_writer_is_kept(tmp_path, dead):
    path = tmp_path / "model"
    kept = [
        hidden_by(os.getppid(), path),  # a process that runs
        hidden_by(dead, tmp_path / "other"),  # of another name
        hidden_by(dead, tmp_path / "model2"),
        tmp_path / ".model",
        tmp_path / f".{dead}.tmp.model",
        tmp_path / f".ffffffff-{dead}-0a1b2c.tmp.model",  # of another machine, and new
    ]
    for file in kept:
        file.write_text("mine")
    with temporary(path) as outer:
        outer.write_text("of this process")
        sweep(path)
        assert outer.exists()
    assert set(tmp_path.iterdir()) == set(kept)


def test_what_another_machine_left_is_removed_a_day_later(tmp_path):
    path = tmp_path / "model"
    left = make_folder(tmp_path / ".ffffffff-1-0a1b2c.tmp.model", a="1")
    for file in (left, left / "a"):
        os.utime(file, (0, 0))
    sweep(path)
    assert not left.exists()


def test_a_folder_that_was_moved_aside_is_put_back(tmp_path, dead):
    """Where folders cannot swap names, a kill between two moves leaves none of that name."""
    path = tmp_path / "x.zarr"
    make_folder(hidden_by(dead, path, "old"), a="old")
    make_folder(hidden_by(dead, path), a="new, whole or not")
    sweep(path)
    assert tree(tmp_path) == {"x.zarr": None, "x.zarr/a": "old"}


# --- disks ---


def test_errors_name_the_path_that_the_user_gave(tmp_path):
    path = tmp_path / "cells.h5ad"

    def fill():
        with replacing(path) as hidden, replacing(hidden) as inner:
            inner.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"cells\.h5ad could not be written: No space left on device") as error:
        fill()
    assert error.value.errno == errno.ENOSPC
    assert ".tmp." not in str(error.value)
    assert tree(tmp_path) == {}


def test_a_path_that_may_not_be_written_is_a_permission_error(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied", "hidden")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match=r"a\.txt could not be written: Permission denied"):
        write_bytes(tmp_path / "a.txt", b"new")
    assert tree(tmp_path) == {}


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/a\.txt could not be written: No such file"):
        write_bytes(tmp_path / "nowhere" / "a.txt", b"new")
