"""Files and arguments that mean harm, or are broken: one line says so, and nothing else happens."""

import os
import shutil
import signal
import time

import anndata as ad
import h5py
import pytest

import latentcell as lc
from latentcell import cli
from latentcell._errors import DataError
from latentcell.cli import _cells


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in (*arguments, "--quiet")])


@pytest.fixture(scope="module")
def model(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "ae"
    assert run("train", cells, "--model", "ae", "-o", path, "--epochs", 1, "--n-latent", 2) == 0
    return path


@pytest.fixture
def broken(cells, tmp_path):
    """A copy of the file of cells that may be changed."""
    return shutil.copy(cells, tmp_path / "broken.h5ad")


def lose_obs(file):
    del file["obs"]


def lose_encoding(file):
    del file["X"].attrs["encoding-type"]


def circle(file):
    file["uns/again"] = h5py.SoftLink("/")


def text_for_numbers(file):
    values = file["X/data"][()].astype("S")
    del file["X/data"]
    file["X/data"] = values


def genes_outside(file):
    file["X/indices"][3] = 2**30


def pointers_backwards(file):
    file["X/indptr"][5] = 0


def pointers_end_with_nothing(file):
    file["X/indptr"][-1] = 0


@pytest.mark.parametrize(
    "damage",
    [
        lose_obs,
        lose_encoding,
        circle,
        text_for_numbers,
        genes_outside,
        pointers_backwards,
        pointers_end_with_nothing,
    ],
)
def test_damaged_cells_are_refused_in_a_line(model, broken, damage, message, tmp_path):
    """Genes outside the matrix made scipy's routines crash; of pointers it looks at the last one only."""
    with h5py.File(broken, "r+") as file:
        damage(file)
    assert run("embed", model, broken, "-o", tmp_path / "out.h5ad") == 1
    said = message()
    assert "broken.h5ad cannot be read as .h5ad" in said or "values of type" in said
    assert not (tmp_path / "out.h5ad").exists()


def test_a_file_that_crashes_hdf5_does_not_take_the_process_along(cells, monkeypatch):
    monkeypatch.setattr(_cells, "_look", lambda path: os.kill(os.getpid(), signal.SIGSEGV))
    with pytest.raises(DataError, match="is damaged: the HDF5 library crashes on it"):
        _cells.read(cells)


def test_a_file_that_holds_hdf5_up_for_ever_is_given_up(cells, monkeypatch):
    monkeypatch.setattr(_cells, "_look", lambda path: time.sleep(600))
    monkeypatch.setattr(_cells, "_PATIENCE", 0.2)
    fork, children = os.fork, []
    monkeypatch.setattr(os, "fork", lambda: children.append(fork()) or children[-1])
    start = time.monotonic()
    with pytest.raises(DataError, match="the HDF5 library never comes to an end with it"):
        _cells.read(cells)
    assert time.monotonic() - start < 60
    assert len(children) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], os.WNOHANG)  # it is not left behind


def test_the_look_at_a_file_goes_on_after_what_cannot_be_read(broken, monkeypatch):
    """It ended there, and the process crashed on what came after."""
    with h5py.File(broken, "r+") as file:
        circle(file)
        names: set[str] = set(file.attrs)
        file.visititems(lambda _, item: names.update(item.attrs))
    seen = set()

    def fail(self, name):
        seen.add(name)
        raise OSError(name)

    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", fail)
    _cells._look(broken)
    assert seen == names

    def lost(*args):
        raise RuntimeError("no such object")

    seen.clear()
    monkeypatch.setattr(h5py.h5o, "get_info", lost)
    monkeypatch.setattr(_cells, "_MOST", 500)
    _cells._look(broken)
    assert seen == names


def test_a_column_of_matrices_is_refused(cells, tmp_path):
    adata = ad.read_h5ad(cells)
    adata.obs["batch"] = [adata.X[0]] * adata.n_obs
    with pytest.raises(DataError, match=r"obs\['batch'\] holds no single values"):
        _cells._check_columns(adata, tmp_path)


@pytest.mark.parametrize("command", ["embed", "denoise"])
def test_a_folder_is_never_replaced_by_a_file(model, cells, command, message, tmp_path, monkeypatch):
    """It was moved aside and removed."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.tex").write_text("In the beginning")
    monkeypatch.chdir(tmp_path / "results")
    for out in ("..", tmp_path / "results", "."):
        arguments = [model, cells] if command == "embed" else [cells]
        assert run(command, *arguments, "-o", out) == 1
        assert "is a folder; it is left as it is" in message()
    assert (tmp_path / "results" / "thesis.tex").read_text() == "In the beginning"
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_model_without_codes_embeds_nothing(counts, cells, message, tmp_path):
    adata = counts.copy()
    lc.model.GeneShuffle.setup_anndata(adata)
    shuffle = lc.model.GeneShuffle(adata)
    shuffle.train()
    shuffle.save(tmp_path / "model")
    assert run("embed", tmp_path / "model", cells, "-o", tmp_path / "out.h5ad") == 1
    assert "holds a GeneShuffle, which has no encoder" in message()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--key-added", "/etc/x"), ("--key-added", ".."), ("--key-added", "a\x00"), ("--key-added", "")],
)
def test_keys_that_would_lead_elsewhere_in_the_file(option, value, capsys):
    with pytest.raises(SystemExit) as stop:
        run("embed", "m", "cells.h5ad", "-o", "out.h5ad", option, value)
    assert stop.value.code == 2
    assert "is no name of a slot" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "9" * 30])
def test_seeds_are_those_that_libraries_take(seed, capsys):
    with pytest.raises(SystemExit):
        run("generate", "m", "-o", "out.h5ad", "--seed", seed)
    assert "is not from 0 to 4294967295" in capsys.readouterr().err


def test_more_cells_than_any_memory_holds(model, message, tmp_path):
    assert run("generate", model, "-o", tmp_path / "out.h5ad", "-n", 10**15) == 1
    assert "at most 1,000,000,000 cells" in message()


def test_cells_whose_columns_no_file_can_hold_are_not_written(counts, tmp_path):
    adata = counts.copy()
    adata.obs["../../x"] = adata.obs["cell_type"]
    lc.model.GeneShuffle.setup_anndata(adata, labels_key="../../x")
    shuffle = lc.model.GeneShuffle(adata)
    shuffle.train()
    assert "../../x" in shuffle.generate(3).obs
    with pytest.raises(DataError, match=r"column '\.\./\.\./x' cannot be written"):
        shuffle.generate(3, out=tmp_path / "out.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_running_out_of_memory_is_said(cells, monkeypatch, message):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("latentcell.cli._train.read", full)
    assert run("train", cells, "--model", "ae", "-o", "m") == 1
    assert message() == "latentcell: not enough memory"
