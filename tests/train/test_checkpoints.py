"""Checkpoints: the same objects back, whole or not at all, no pickle, clear words on a wrong one."""

import errno
import hashlib
import pickle
import re
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from latentcell import _atomic
from latentcell._errors import ModelFileError
from latentcell.train.checkpoints import _HEAD, _MAGIC, CheckpointFiles, check_fits, read_checkpoint


def assert_equal(found, expected):
    assert type(found) is (dict if isinstance(expected, dict) else type(expected))
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == expected


CHECKPOINT = {
    "state_dict": OrderedDict(weight=torch.linspace(-1, 1, 6).reshape(2, 3).T, steps=torch.tensor(3)),
    "optimizer": [
        {"betas": (0.9, 0.999), "lr": 1e-300, "fused": True, "group": None, "at": {0: (), "0": []}}
    ],
    "rng": torch.arange(5, dtype=torch.uint8),
    "best": float("inf"),
    "kept": {
        "tensor": "0",
        "dict": [],
        "name": "é",
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
    },
    "version": 3,
}


@pytest.fixture
def path(tmp_path):
    CheckpointFiles().save_checkpoint(CHECKPOINT, tmp_path / "run" / "last.ckpt")
    return tmp_path / "run" / "last.ckpt"


def test_everything_comes_back(path):
    found = read_checkpoint(path)
    assert_equal(found, CHECKPOINT)
    assert_equal(CheckpointFiles().load_checkpoint(path), CHECKPOINT)


def test_a_checkpoint_is_no_pickle(path):
    data = path.read_bytes()
    assert not zipfile.is_zipfile(path)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(data)
    with pytest.raises(TypeError, match="a checkpoint cannot hold set"):
        CheckpointFiles().save_checkpoint({"callbacks": {1, 2}}, path)
    assert path.read_bytes() == data


def test_any_changed_or_missing_byte_is_noticed(path):
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ int(rng.integers(1, 256))]) + whole[i + 1 :])
        with pytest.raises(ModelFileError, match=r"last\.ckpt .*resume=False, to begin anew"):
            read_checkpoint(path)
        path.write_bytes(whole[:i])
        with pytest.raises(ModelFileError, match=r"last\.ckpt .*resume=False, to begin anew"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 20,
        (2).to_bytes(8, "little") + b"{}",
        (37).to_bytes(8, "little") + b'{"__metadata__":{"record":"{\\"a\\":1}"}}'[:37],
    ],
)
def test_what_has_the_right_checksum_and_is_no_checkpoint_is_refused(path, body):
    path.write_bytes(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    with pytest.raises(ModelFileError, match="is damaged"):
        read_checkpoint(path)


def test_a_checkpoint_of_lightning_is_refused_and_not_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save({"state_dict": Bomb()}, tmp_path / "last.ckpt")
    with pytest.raises(ModelFileError, match="not a checkpoint that this version of latentcell wrote"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_leaves_the_older_checkpoint(path, monkeypatch):
    before = path.read_bytes()

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_atomic.os, "fsync", full)
    message = re.escape(f"{path} could not be written: No space left on device")
    with pytest.raises(OSError, match=message):
        CheckpointFiles().save_checkpoint({"version": 4}, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_removing(path):
    CheckpointFiles().remove_checkpoint(path)
    CheckpointFiles().remove_checkpoint(path)
    assert not path.exists()


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(path):
    state = {"weight": torch.zeros(2, 3)}
    checkpoint = {"state_dict": state, "latentcell": {"run": {"seed": 0, "batch size": 128}}}
    check_fits(path, checkpoint, state, {"seed": 0, "batch size": 128})
    with pytest.raises(ModelFileError, match="another run: batch size was 128 and is 64.*resume=False"):
        check_fits(path, checkpoint, state, {"seed": 0, "batch size": 64})
    for other in ({"weight": torch.zeros(3, 2)}, {"bias": torch.zeros(2, 3)}, {}):
        with pytest.raises(ModelFileError, match="checkpoint of another model"):
            check_fits(path, checkpoint, other, {})
    with pytest.raises(ModelFileError, match="not a checkpoint of this version"):
        check_fits(path, {"state_dict": state}, state, {})
    assert len(path.read_bytes()) > _HEAD
