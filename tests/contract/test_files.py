"""What is in the files of a model: any number and schedule; damage of every kind; a disk that is full."""

import copy
import hashlib
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import latentcell as lc
from latentcell._errors import DataError, ModelFileError
from latentcell.model import _record
from latentcell.nn.schedules import Linear


@pytest.fixture
def folder(with_covariates, tmp_path):
    """A saved model with covariates."""
    with_covariates.save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder, change):
    """Change the record, and let its checksum fit: what a careful forger can do."""
    record = json.loads((folder / "model.json").read_text())
    change(record)
    (folder / "model.json").write_text(json.dumps(_record.seal(record)))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_same_model(loaded, model, cells):
    np.testing.assert_array_equal(
        loaded.get_latent_representation(cells), model.get_latent_representation(cells)
    )
    np.testing.assert_array_equal(loaded.get_reconstruction(cells), model.get_reconstruction(cells))


# --- round trip ---


IN_ANOTHER_PROCESS = """
import sys
import anndata as ad, numpy as np
import latentcell as lc
cells = ad.read_h5ad(sys.argv[1])
for folder in sys.argv[2:]:
    model = lc.model.load(folder)
    np.savez(folder + ".npz", codes=model.get_latent_representation(cells), x=model.get_reconstruction(cells))
"""


def test_another_process_gives_the_same_bits(make, new_cells, tmp_path):
    """All models at once: what takes time is to start Python."""
    new_cells.write_h5ad(tmp_path / "cells.h5ad")
    models = {Model.__name__: make.train(Model, make.cells(), keys=make.KEYS) for Model in make.MODELS}
    for name, model in models.items():
        model.save(tmp_path / name)
    arguments = [str(tmp_path / "cells.h5ad"), *(str(tmp_path / name) for name in models)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_PROCESS, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, model in models.items():
        there = np.load(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(there["codes"], model.get_latent_representation(new_cells))
        np.testing.assert_array_equal(there["x"], model.get_reconstruction(new_cells))


def test_numbers_of_numpy_and_schedules_are_saved(make, Model, cells, tmp_path):
    """n_latent out of np.arange, sizes out of an array: a long training must not end in an error at save."""
    arguments = {
        "n_latent": np.int64(3),
        "hidden": np.array([8]),
        "dropout": np.float32(0.25),
        "seed": np.int32(2),
    }
    if "beta" in Model.__init__.__code__.co_varnames:
        arguments["beta"] = Linear(0.0, 1.5, end=0.5)
    model = make.train(Model, cells, **arguments)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", cells)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    if "beta" in arguments:
        assert loaded.params["beta"] == arguments["beta"]
        assert loaded.module.schedule_values(0.25) == model.module.schedule_values(0.25)


def test_a_schedule_that_cannot_be_saved_is_refused_before_training(make, variational, cells):
    with pytest.raises(DataError, match=r"beta=<function .*> cannot be saved.*latentcell\.nn\.schedules"):
        make.build(type(variational), cells, beta=lambda progress: progress)


def test_values_of_the_history_that_are_not_finite_are_saved(make, Model, cells, tmp_path):
    model = make.train(Model, cells)
    model.history["elbo_train"].iloc[0] = np.nan
    model.history["lr"].iloc[1] = -np.inf
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model").history
    for name, frame in model.history.items():
        pd.testing.assert_frame_equal(loaded[name], frame)


# --- what is in the folder ---


def test_the_folder_holds_json_and_safetensors(folder):
    assert {file.name for file in folder.iterdir()} == {"model.json", "model.safetensors"}
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert record["format"] == 2
    assert all(torch.is_tensor(value) for value in load_file(folder / "model.safetensors").values())


def test_the_package_finds_the_class_itself(folder, with_covariates, Model, new_cells):
    loaded = lc.model.load(folder)
    assert type(loaded) is Model
    assert_same_model(loaded, with_covariates, new_cells)


def test_a_failed_save_leaves_nothing_behind_and_the_old_model_whole(
    folder, with_covariates, trained, Model, new_cells, monkeypatch, tmp_path
):
    def full(*args, **kwargs):
        raise OSError("No space left on device")

    for name in ("_writing.save", "_writing.settle", "_writing.to_text", "_writing.os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"latentcell.model.{name}", full)
            with pytest.raises(OSError, match="No space left"):
                trained.save(folder, overwrite=True)
            with pytest.raises(OSError, match="No space left"):
                trained.save(tmp_path / "new")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert {path.name for path in folder.iterdir()} == {"model.json", "model.safetensors"}
        assert_same_model(Model.load(folder), with_covariates, new_cells)


# --- refusals ---


def test_another_class_is_refused_by_name(folder, Model):
    other = lc.model.AE if Model is not lc.model.AE else lc.model.VAE
    with pytest.raises(
        ModelFileError, match=rf"holds a {Model.__name__}, not a {other.__name__}; use .*load"
    ):
        other.load(folder)
    edit(folder, lambda record: record.update({"class": "Oracle"}))
    with pytest.raises(
        ModelFileError, match="class 'Oracle'.*knows AE, CVAE, DCA, DESC, GAN, SAUCIE, SCVIS, VAE, VASC, VSC"
    ):
        lc.model.load(folder)


def test_another_format_is_refused_with_both_versions(folder, Model):
    edit(folder, lambda record: record.update({"format": 99, "latentcell": "7.3"}))
    with pytest.raises(ModelFileError, match=r"format 99.*written by latentcell 7\.3; update"):
        Model.load(folder)


def test_what_is_not_there_or_not_a_model_is_refused(Model, tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ModelFileError, match=r"is not a saved model: it has no model\.json"):
            Model.load(path)
    for text in ("", "{", "[1, 2]", '{"format": 1}', "null", "\x00\xff"):
        (tmp_path / "model.json").write_text(text, encoding="latin-1")
        with pytest.raises(ModelFileError):
            Model.load(tmp_path)
        with pytest.raises(ModelFileError):
            lc.model.load(tmp_path)


def test_damaged_weights_are_refused(folder, Model):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    damages = {
        "cut": whole[:-4],
        "one bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "empty": b"",
    }
    for damaged in damages.values():
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match="its checksum is not the one in model.json"):
            Model.load(folder)
    path.unlink()
    with pytest.raises(ModelFileError, match=r"has no model\.safetensors"):
        Model.load(folder)


def test_weights_of_another_model_are_refused(folder, Model):
    """Also where the checksum was made to fit."""
    path = folder / "model.safetensors"
    values = load_file(path)
    for change in (
        {name: value for name, value in values.items() if not name.startswith("encoder.")},
        {name: value[:-1].contiguous() if value.ndim else value for name, value in values.items()},
        values | {"extra": torch.zeros(1)},
    ):
        save_file(change, path)
        edit(folder, lambda record: record.update(sha256=digest(path)))
        with pytest.raises(ModelFileError, match="damaged or of another version"):
            Model.load(folder)
    path.write_bytes(b"not safetensors")
    edit(folder, lambda record: record.update(sha256=digest(path)))
    with pytest.raises(ModelFileError, match="damaged"):
        Model.load(folder)


def leaves(value, path=()):
    """Paths of the first items of every container in a JSON value, containers included."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))


def test_any_damage_to_the_record_is_a_model_file_error_or_harmless(folder, Model):
    """Every entry of model.json in turn is taken out or replaced by something else: no bare KeyError."""
    whole = json.loads((folder / "model.json").read_text())
    for path in list(leaves(whole))[1:]:
        if len(path) > {"history": 2, "registry": 4}.get(path[0], 9):
            continue
        for replacement in ("remove", "x", [[1]]):
            record = copy.deepcopy(whole)
            parent = record
            for key in path[:-1]:
                parent = parent[key]
            if replacement == "remove":
                del parent[path[-1]]
            else:
                parent[path[-1]] = replacement
            (folder / "model.json").write_text(json.dumps(_record.seal(record)))
            try:
                (lc.model.load if path == ("class",) else Model.load)(folder)
            except ModelFileError:
                pass
            except Exception as error:  # noqa: BLE001
                pytest.fail(f"{path} -> {replacement!r}: {type(error).__name__}: {error}")
