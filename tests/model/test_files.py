"""Folders of saved models: replaced in one step, sealed by checksums, unharmed by full disks."""

import errno
import json
import os
import shutil
import stat
import sys

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError, ModelFileError
from latentcell.model import _record, _writing


def make_cells(seed=0):
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(
        sparse.csr_matrix(rng.poisson(2.0, (30, 6)).astype(np.float32) + np.eye(30, 6, dtype="f4"))
    )
    adata.obs_names = [f"cell{i}" for i in range(30)]
    adata.var_names = [f"gene{j}" for j in range(6)]
    adata.obs["label"] = np.array(["a", "b", "c"])[np.arange(30) % 3]
    return adata


def make_model(seed):
    cells = make_cells(seed)
    lc.model.VAE.setup_anndata(cells, labels_key="label")
    model = lc.model.VAE(cells, n_latent=2, hidden=(4,), seed=seed)
    model.train(2, accelerator="cpu", enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def models():
    """Two models, each of its own cells. Not to be changed."""
    return make_model(0), make_model(1)


def is_model(folder, model):
    """Whether the folder holds this model, and no cells but its own."""
    codes = lc.model.load(folder).get_latent_representation(make_cells(5))
    if (folder / "adata.h5ad").exists():
        saved = ad.read_h5ad(folder / "adata.h5ad")
        np.testing.assert_array_equal(saved.X.toarray(), model.adata.X.toarray())
    return np.array_equal(codes, model.get_latent_representation(make_cells(5)))


def record_of(folder):
    return json.loads((folder / "model.json").read_text())


# --- replacing a model ---


def test_a_replaced_model_leaves_two_files_and_what_else_was_there(models, tmp_path):
    one, two = models
    folder = tmp_path / "model"
    one.save(folder)
    assert {file.name for file in folder.iterdir()} == {"model.json", "model.safetensors"}
    (folder / "notes.txt").write_text("the user's")
    two.save(folder, overwrite=True)
    record = record_of(folder)
    assert record["weights"] == f"model-{record['sha256'][:16]}.safetensors"
    assert {file.name for file in folder.iterdir()} == {"model.json", record["weights"], "notes.txt"}
    assert is_model(folder, two)
    one.save(folder, overwrite=True)
    assert is_model(folder, one)
    one.save(folder, overwrite=True)  # over itself
    assert is_model(folder, one)
    assert len(list(folder.iterdir())) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_cells_beside_a_model_are_its_own(models, tmp_path):
    one, two = models
    folder = tmp_path / "model"
    one.save(folder, save_anndata=True)
    assert is_model(folder, one)
    assert record_of(folder)["cells"] == _writing._digest(folder / "adata.h5ad")
    two.save(folder, overwrite=True, save_anndata=True)
    assert is_model(folder, two)
    assert (folder / "adata.h5ad").exists()
    assert record_of(folder)["cells"] == _writing._digest(folder / "adata.h5ad")
    one.save(folder, overwrite=True)
    assert not (folder / "adata.h5ad").exists()  # those of the other model
    assert "cells" not in record_of(folder)
    assert len(list(folder.iterdir())) == 2


def test_cells_that_the_model_did_not_write_are_left_alone(models, tmp_path):
    one, two = models
    one.save(tmp_path / "model")
    make_cells(7).write_h5ad(tmp_path / "model" / "adata.h5ad")
    two.save(tmp_path / "model", overwrite=True)
    kept = ad.read_h5ad(tmp_path / "model" / "adata.h5ad")
    np.testing.assert_array_equal(kept.X.toarray(), make_cells(7).X.toarray())


def test_saving_backed_cells_leaves_them_on_their_file(models, tmp_path):
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    models[0].save(tmp_path / "plain")
    model = lc.model.load(tmp_path / "plain", backed)
    model.save(tmp_path / "model", save_anndata=True)
    assert str(backed.filename) == str(tmp_path / "cells.h5ad")
    saved = ad.read_h5ad(tmp_path / "model" / "adata.h5ad")
    np.testing.assert_array_equal(saved.X.toarray(), make_cells().X.toarray())
    backed.file.close()


def test_files_of_killed_saves_are_removed_but_not_those_of_a_save_under_way(models, tmp_path):
    one, two = models
    folder = tmp_path / "model"
    one.save(folder)
    names = ("model-0123456789abcdef.safetensors", "adata-0123456789abcdef.h5ad")
    for name in names:
        (folder / name).write_text("of a save that was killed, or is not done")
    two.save(folder, overwrite=True)
    assert {file.name for file in folder.iterdir()} >= set(names)
    for name in names:
        os.utime(folder / name, (0, 0))
    one.save(folder, overwrite=True)
    assert {file.name for file in folder.iterdir()} == {"model.json", record_of(folder)["weights"]}


def test_ctrl_c_after_the_step_that_decides_leaves_the_new_model(models, tmp_path, monkeypatch):
    one, two = models
    folder = tmp_path / "model"
    one.save(folder, save_anndata=True)
    write = _writing.write_bytes

    def and_ctrl_c(path, data):
        write(path, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_writing, "write_bytes", and_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            two.save(folder, overwrite=True, save_anndata=True)
    assert is_model(folder, two)
    assert (folder / f"adata-{record_of(folder)['cells'][:16]}.h5ad").exists()
    two.save(folder, overwrite=True, save_anndata=True)
    assert is_model(folder, two)


def test_a_failed_save_finishes_the_one_that_was_killed_before(models, tmp_path, monkeypatch):
    """Cells that had no time to get their name are not lost, and not taken for leftovers."""
    one, two = models
    folder = tmp_path / "model"
    one.save(folder, save_anndata=True)
    sealed = folder / f"adata-{record_of(folder)['cells'][:16]}.h5ad"
    os.replace(folder / "adata.h5ad", sealed)
    os.utime(sealed, (0, 0))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_writing, "to_text", full)
    with pytest.raises(OSError, match="No space left"):
        two.save(folder, overwrite=True)
    assert {file.name for file in folder.iterdir()} == {"adata.h5ad", "model.json", "model.safetensors"}
    assert is_model(folder, one)


def test_a_model_is_read_whole_while_another_process_replaces_it(models, tmp_path, monkeypatch):
    """The weights that the record named are gone when they are read; the record is another by then."""
    from latentcell.model import _files

    one, two = models
    one.save(tmp_path / "model")
    read, times = _files._read_weights, []

    def replaced_meanwhile(folder, record, device):
        if not times:
            two.save(tmp_path / "model", overwrite=True)
        times.append(record["sha256"])
        return read(folder, record, device)

    monkeypatch.setattr(_files, "_read_weights", replaced_meanwhile)
    loaded = lc.model.VAE.load(tmp_path / "model")
    assert len(set(times)) == 2
    np.testing.assert_array_equal(
        loaded.get_latent_representation(make_cells(5)), two.get_latent_representation(make_cells(5))
    )


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_others_may_read_a_model_as_they_may_read_other_files(models, tmp_path):
    models[0].save(tmp_path / "model", save_anndata=True)
    (tmp_path / "a.txt").write_text("any file")
    mode = stat.S_IMODE((tmp_path / "a.txt").stat().st_mode)
    for file in (tmp_path / "model").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == mode, file.name


# --- damage ---


def test_any_changed_byte_of_the_record_is_noticed(models, tmp_path):
    """Some bytes of every line; only between values may a space become another."""
    models[0].save(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    before, harmless = json.loads(whole), 0
    for i, flip in zip(range(0, len(whole), 3), rng.integers(1, 256, size=len(whole)), strict=False):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ int(flip)]) + whole[i + 1 :])
        try:
            found = _record.read_record(path.parent)
        except ModelFileError:
            continue
        harmless += 1
        assert found == before, whole[max(i - 40, 0) : i + 40]
    assert harmless < len(whole) / 150
    path.write_bytes(whole)
    assert is_model(path.parent, models[0])


@pytest.mark.parametrize(
    "change", [("params", "beta", 2.0), ("registry", "model_name", "DCA"), ("history", "lr", [])]
)
def test_an_edited_record_is_refused_and_says_what_to_do(models, tmp_path, change):
    models[0].save(tmp_path / "model")
    record = record_of(tmp_path / "model")
    assert change[1] in record[change[0]]
    record[change[0]][change[1]] = change[2]
    (tmp_path / "model" / "model.json").write_text(json.dumps(record))
    with pytest.raises(ModelFileError, match=r"model\.json is damaged or was edited.*Copy the folder anew"):
        lc.model.load(tmp_path / "model")
    del record["checksum"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(record))
    with pytest.raises(ModelFileError, match="damaged or was edited"):
        lc.model.load(tmp_path / "model")


def test_a_record_is_parsed_once(models, tmp_path, monkeypatch):
    """Not again for its checksum: a record of 64 MiB takes gigabytes as objects."""
    models[0].save(tmp_path / "model")
    parsed, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text, **how: parsed.append(text) or loads(text, **how))
    record = _record.read_record(tmp_path / "model")
    assert len(parsed) == 1
    assert record == loads(parsed[0])


def test_a_record_too_large_to_be_read_is_not_written(models, tmp_path, monkeypatch):
    """What is there stays: also the model that would have been replaced."""
    models[0].save(tmp_path / "model")
    size = (tmp_path / "model" / "model.json").stat().st_size
    monkeypatch.setattr(_record, "MOST_BYTES", size // 2)
    for name in ("model", "new"):
        with pytest.raises(DataError, match=rf"would have [\d,]+ bytes, and one above {size // 2:,} is not"):
            models[1].save(tmp_path / name, overwrite=True)
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors"}
    assert is_model(tmp_path / "model", models[0])
    monkeypatch.setattr(_record, "MOST_BYTES", size)
    models[0].save(tmp_path / "other")  # one of just that size is
    assert is_model(tmp_path / "other", models[0])


def test_another_layout_of_the_same_record_is_read(models, tmp_path):
    models[0].save(tmp_path / "model")
    record = record_of(tmp_path / "model")
    text = json.dumps(dict(reversed(record.items())), indent=4, ensure_ascii=False).replace("\n", "\r\n")
    (tmp_path / "model" / "model.json").write_text(text, encoding="utf-8")
    assert is_model(tmp_path / "model", models[0])


@pytest.mark.parametrize(
    "name", ["../other/model.safetensors", "/etc/passwd", "model.json", "model-..safetensors", 3, None, ["x"]]
)
def test_a_record_names_no_file_outside_of_its_folder(models, tmp_path, name):
    models[0].save(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    record = record_of(tmp_path / "model") | {"weights": name}
    (tmp_path / "model" / "model.json").write_text(json.dumps(_record.seal(record)))
    with pytest.raises(ModelFileError, match="names no file of weights"):
        lc.model.load(tmp_path / "model")


def test_which_gene_or_category_differs_is_said(models, tmp_path):
    models[0].save(tmp_path / "model")
    cells = make_cells()
    with pytest.raises(
        DataError, match="2 of the model's 6 genes are not in adata.var_names: 'gene1', 'gene4'"
    ):
        lc.model.load(tmp_path / "model", cells[:, [0, 2, 3, 5]].copy())
    model = make_model_with_batch(tmp_path)
    cells.obs["batch"] = ["x", "y", "new"] * 10
    with pytest.raises(DataError, match=r"obs\['batch'\] holds 'new', unknown to the model.*'x', 'y'"):
        lc.model.load(model, cells)


def make_model_with_batch(tmp_path):
    cells = make_cells()
    cells.obs["batch"] = ["x", "y"] * 15
    lc.model.AE.setup_anndata(cells, batch_key="batch")
    lc.model.AE(cells, n_latent=2, hidden=(4,)).save(tmp_path / "batch")
    return tmp_path / "batch"


# --- disks ---


@pytest.mark.parametrize("step", ["save", "write_h5ad", "settle", "to_text", "write_bytes", "move_onto"])
def test_a_save_that_fails_at_any_step_leaves_the_older_model_and_its_cells(
    models, tmp_path, monkeypatch, step
):
    one, two = models
    folder = tmp_path / "model"
    one.save(folder, save_anndata=True)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_writing, step, full)
        with pytest.raises(OSError, match="No space left on device"):
            two.save(folder, overwrite=True, save_anndata=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert is_model(folder, one)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_path_is_named_where_a_model_cannot_be_saved(models, tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(_writing, "settle", refuse)
    with pytest.raises(
        OSError, match=rf"{tmp_path}/model could not be written: Read-only file system"
    ) as error:
        models[0].save(tmp_path / "model")
    assert error.value.errno == errno.EROFS
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_weights_that_cannot_be_read_are_no_model(models, tmp_path):
    models[0].save(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.unlink()
    weights.symlink_to(weights)
    with pytest.raises(ModelFileError, match=r"model\.safetensors cannot be read: .*symbolic links"):
        lc.model.load(tmp_path / "model")
