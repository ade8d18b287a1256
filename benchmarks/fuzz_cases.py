"""What ``benchmarks/fuzz.py`` tries: broken models, broken files of cells, and odd command lines.

Each kind of case is a function of a random generator, the pristine files and an empty working folder. It
returns what happened: ``"refused"`` (a clear error) or ``"answered"`` (a right answer, which it has checked).
Anything else is raised, and is a bug.
"""

import contextlib
import copy
import io
import json
import os
import shutil
import struct
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

import latentcell as lc
import latentcell.metrics  # all that cases need is imported here, once, and not by one of them
import latentcell.model
import latentcell.tl
from latentcell._errors import DataError, LatentcellError, ModelFileError, NotTrainedError
from latentcell.cli import main

RECORD, WEIGHTS = "model.json", "model.safetensors"
CANARY = "canary"
CODE = "__import__('os').system('touch canary')"
PICKLE = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch canary\x85R."
KEYS = {"batch_key": "batch", "labels_key": "label"}
NO_NETWORK = ("GeneShuffle", "GaussianCopula", "PCAGaussian")
BUILD = {
    "AE": {"n_latent": 2, "hidden": (4,)},
    "VAE": {"n_latent": 2, "hidden": (4,), "gene_likelihood": "zinb"},
    "VSC": {"n_latent": 2, "hidden": (4,), "gene_likelihood": "normal"},
    "CVAE": {"n_latent": 2, "hidden": (4,)},
    "DCA": {"n_latent": 2, "hidden": (4,)},
    "DisentangledVAE": {"n_latent": 2, "hidden": (4,)},
    "GAN": {"n_latent": 2, "hidden": (4,), "critic_hidden": (4,)},
    "ConditionalGAN": {"n_latent": 2, "hidden": (4,), "critic_hidden": (4,), "gene_likelihood": "nb"},
    "VASC": {"n_latent": 2, "hidden": (4,)},
    "SCVIS": {"n_latent": 2, "hidden": (4,)},
    "GeneShuffle": {},
    "GaussianCopula": {},
    "PCAGaussian": {"n_components": 3},
}
NAMES = [
    "../../x",
    "/proc/x",
    "..",
    ".",
    "a/b",
    "a\x00b",
    "con",
    "é 日本",
    "",
    " ",
    "\u202e",
    "x" * 300,
    "3",
    "nan",
    CODE,
]
NUMBERS = [0, -1, 1, 2, 7, 2**31, 2**62, 10**18, 10**30, 1e-300, 1e300, float("nan"), float("inf"), -0.0, 0.5]
WORDS = [
    "",
    "x",
    "nan",
    "1",
    "true",
    "cpu",
    "cuda:0",
    "meta",
    "AE",
    "VSC",
    "Oracle",
    "os.system",
    CODE,
    "\ud800",
    *NAMES,
]


def cells(n_cells: int = 24, n_genes: int = 8, seed: int = 0) -> ad.AnnData:
    """Counts of two types in two batches, and the same on the log scale."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2.0, size=(n_cells, n_genes)).astype(np.float32)
    counts[:, 0] += 1
    adata = ad.AnnData(sparse.csr_matrix(counts))
    adata.obs_names = [f"c{i}" for i in range(n_cells)]
    adata.var_names = [f"g{j}" for j in range(n_genes)]
    adata.obs["label"] = pd.Categorical(np.array(["T", "B"])[np.arange(n_cells) % 2])
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(n_cells) // 2 % 2])
    adata.obs["age"] = np.arange(n_cells, dtype=float)
    adata.layers["log"] = np.log1p(counts)
    return adata


@dataclass
class Pristine:
    """Whole files: a record and weights of every model by class, and the cells."""

    records: dict[str, dict]
    weights: dict[str, bytes]
    h5ad: bytes
    adata: ad.AnnData
    folder: Path


def prepare(folder: Path) -> None:
    """Train a small model of every class, and save them and the cells under `folder`."""
    warnings.simplefilter("ignore")
    adata = cells()
    for name, arguments in BUILD.items():
        Model, own = getattr(lc.model, name), adata.copy()
        Model.setup_anndata(own, **KEYS)
        model = Model(own, **arguments)
        epochs = 5 if "GAN" in name else 1  # one step each, and the generator learns with the fifth
        model.train(**({} if name in NO_NETWORK else {"max_epochs": epochs}), enable_progress_bar=False)
        model.save(folder / name)
    adata.write_h5ad(folder / "cells.h5ad")


def read_pristine(folder: Path) -> Pristine:
    """What :func:`prepare` wrote."""
    records = {name: json.loads((folder / name / RECORD).read_text(encoding="utf-8")) for name in BUILD}
    weights = {name: _files_of(folder / name).read_bytes() for name in BUILD}
    return Pristine(records, weights, (folder / "cells.h5ad").read_bytes(), cells(), folder)


# --- damage ---


def flip(rng: np.random.Generator, data: bytes) -> bytes:
    """Bytes with some bits turned, cut out, repeated, or cut off."""
    if not data:
        return data
    found, how = bytearray(data), rng.integers(5)
    if how == 0:
        return bytes(found[: rng.integers(len(found))])
    at = int(rng.integers(len(found)))
    if how == 1:
        del found[at : at + int(rng.integers(1, 64))]
        return bytes(found)
    if how == 2:
        return bytes(found[:at] + found[at : at + 32] + found[at:])
    for place in rng.integers(len(found), size=int(rng.choice([1, 1, 2, 8, 64]))):
        found[place] = rng.integers(256) if how == 3 else found[place] ^ (1 << int(rng.integers(8)))
    return bytes(found)


def odd_value(rng: np.random.Generator, old: Any = None) -> Any:
    """A value that does not belong where `old` stood."""
    how = rng.integers(12)
    if how == 0:
        return None
    if how == 1:
        return bool(rng.integers(2))
    if how in (2, 3):
        return NUMBERS[rng.integers(len(NUMBERS))]
    if how in (4, 5):
        return WORDS[rng.integers(len(WORDS))]
    if how == 6:
        return [odd_value(rng) for _ in range(rng.integers(4))]
    if how == 7:
        return {WORDS[rng.integers(len(WORDS))]: odd_value(rng)}
    if how == 8:
        return {"schedule": WORDS[rng.integers(len(WORDS))], "start": 0, "stop": odd_value(rng)}
    if how == 9:
        return {"array": odd_value(rng)}
    if how == 10:
        times = int(rng.choice([0, 1, 2, 1000, 100_000], p=[0.3, 0.3, 0.3, 0.09, 0.01]))
        return [old] * min(times, 2**20 // (1 + len(_places([old]))) + 1)  # a file of some MB
    nested: Any = old
    for _ in range(int(rng.choice([1, 5, 100, 300]))):
        nested = [nested]
    return nested


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found, waiting = [], [value]
    while waiting:
        here = waiting.pop()
        items = here.items() if isinstance(here, dict) else enumerate(here)
        for key, item in list(items):
            found.append((here, key))
            if isinstance(item, dict | list):
                waiting.append(item)
    return found


def mutate_json(rng: np.random.Generator, value: Any) -> Any:
    """A copy of a JSON value with one to three entries replaced, removed, renamed or added."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        places = _places(value)
        if not places:
            return value
        parent, key = places[rng.integers(len(places))]
        how = rng.integers(6)
        if how == 0:
            del parent[key]
        elif how == 1 and isinstance(parent, dict):
            parent[WORDS[rng.integers(len(WORDS))]] = parent.pop(key)
        elif how == 2 and isinstance(parent[key], int | float):
            parent[key] = parent[key] * int(rng.choice([-1, 2, 10**3, 10**9, 10**12])) + int(rng.integers(2))
        elif how == 3:
            other, name = places[rng.integers(len(places))]
            with contextlib.suppress(KeyError, IndexError):
                parent[key] = copy.deepcopy(other[name])
        else:
            parent[key] = odd_value(rng, parent[key])
    return value


def _text(rng: np.random.Generator, record: Any) -> bytes:
    """A record as a file: mostly as JSON, sometimes with doubled keys, deep nesting or very long numbers."""
    text = json.dumps(record)
    how = rng.integers(20)
    if how == 0:
        text = text[:-1] + ', "class": "AE", "params": {"n_latent": 5}}'
    elif how == 1:
        depth = int(rng.choice([100, 900, 5000, 100_000]))
        text = '{"params": ' + "[" * depth + "]" * depth + "," + text[1:]
    elif how == 2:
        text = text.replace("1", "1" * int(rng.choice([20, 400, 5000])), 1)
    elif how == 3:
        text = text.encode("utf-8").decode("latin-1") + "\u0000"
    return text.encode("utf-8", "surrogatepass")


def mutate_header(rng: np.random.Generator, weights: bytes) -> bytes:
    """Weights whose header says something else: names, shapes, kinds of numbers, places."""
    (length,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + length])
    name = list(header)[rng.integers(len(header))]
    how = rng.integers(7)
    if how == 0:
        header[WORDS[rng.integers(len(WORDS))]] = header.pop(name)
    elif how == 1:
        del header[name]
    elif how == 2 and "shape" in header[name]:
        header[name]["shape"] = header[name]["shape"][::-1] + [1] * int(rng.integers(2))
    elif how == 3 and "dtype" in header[name]:
        kinds = ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "X", "U64"]
        header[name]["dtype"] = kinds[rng.integers(len(kinds))]
    elif how == 4 and "data_offsets" in header[name]:
        first, last = header[name]["data_offsets"]
        header[name]["data_offsets"] = [first, int(rng.choice([last - 4, last + 4, 2**40, first]))]
    else:
        header = mutate_json(rng, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    size = len(text) if rng.integers(8) else int(rng.choice([0, 2, 2**20, 2**40, 2**63]))
    return struct.pack("<Q", size) + text + weights[8 + length :]


def mutate_values(rng: np.random.Generator, weights: bytes) -> bytes:
    """Weights of which some numbers are others: NaN, infinite, huge, negative."""
    (length,) = struct.unpack("<Q", weights[:8])
    found = bytearray(weights)
    n_words = (len(weights) - 8 - length) // 4
    bad = [np.nan, np.inf, -np.inf, 3e38, -1.0, 0.0, 1e-40, 123456.0]
    for _ in range(int(rng.choice([1, 3, 50])) if n_words else 0):
        at = 8 + length + 4 * int(rng.integers(n_words))
        found[at : at + 4] = struct.pack("<f", bad[rng.integers(len(bad))])
    return bytes(found)


# --- (a) folders of models ---


def _files_of(folder: Path) -> Path:
    """The file of weights in a model's folder."""
    (path,) = folder.glob("*.safetensors")
    return path


def sealed(record: Any, weights: bytes) -> Any:
    """The record with checksums that fit, so that what follows them is reached."""
    if not isinstance(record, dict):
        return record
    record["sha256"] = sha256(weights).hexdigest()
    if "checksum" in record:
        own = {name: value for name, value in record.items() if name != "checksum"}
        record["checksum"] = sha256(
            json.dumps(own, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()
    return record


def model_folder(rng: np.random.Generator, pristine: Pristine, work: Path) -> str:
    """Break one saved model and load it; a model that loads must also answer."""
    names = list(pristine.records)
    name = names[rng.integers(len(names))]
    record, weights, text = copy.deepcopy(pristine.records[name]), pristine.weights[name], None
    how, seal = rng.integers(10), bool(rng.integers(8))
    if how <= 3:
        record = mutate_json(rng, record)
    elif how == 4:
        weights = flip(rng, weights)
    elif how == 5:
        weights = mutate_header(rng, weights)
    elif how == 6:
        weights = mutate_values(rng, weights)
    elif how == 7:
        other = names[rng.integers(len(names))]
        if rng.integers(2):
            weights = pristine.weights[other]
        else:
            record["class"] = other
    folder = work / "model"
    folder.mkdir()
    if seal:
        record = sealed(record, weights)
    if how == 8:
        text = flip(rng, json.dumps(record).encode())
    elif how == 9 or rng.integers(10) == 0:
        text = _text(rng, record)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / RECORD).write_bytes(json.dumps(record).encode() if text is None else text)
    if rng.integers(30) == 0:
        _odd_files(rng, folder, pristine)
    loader = getattr(lc.model, name) if rng.integers(3) == 0 else lc.model
    try:
        model = loader.load(folder, pristine.adata if rng.integers(6) == 0 else None)
    except (ModelFileError, DataError) as error:
        _check_message(error)
        return "refused"
    return _use(rng, model, pristine)


def _odd_files(rng: np.random.Generator, folder: Path, pristine: Pristine) -> None:
    """Replace a file of a model by a link, a folder, a device, a pickle or nothing."""
    path = [folder / RECORD, _files_of(folder)][rng.integers(2)]
    path.unlink()
    how = rng.integers(7)
    if how == 0:
        path.symlink_to(path)
    elif how == 1:
        path.symlink_to("/dev/null")
    elif how == 2:
        path.symlink_to(pristine.folder / "VAE" / path.name)
    elif how == 3:
        path.mkdir()
    elif how == 4:
        path.write_bytes(PICKLE)
    elif how == 5:
        path.symlink_to("/etc/hostname")


def _use(rng: np.random.Generator, model: Any, pristine: Pristine) -> str:
    """Ask a model that was loaded from damaged files: right in form, or refused clearly."""
    adata, answers = pristine.adata, 0
    n_vars = len(model.spec.genes)
    calls = [lambda: model.generate(3, seed=0).X]
    if hasattr(model, "get_latent_representation"):
        calls += [lambda: model.get_latent_representation(adata), lambda: model.get_reconstruction(adata)]
    if hasattr(model, "project"):
        calls.append(lambda: model.project(adata, n_steps=2))
    for call in calls:
        try:
            found = call()
        except (DataError, NotTrainedError) as error:
            _check_message(error)
            continue
        values = found.toarray() if sparse.issparse(found) else np.asarray(found)
        if values.ndim != 2 or values.shape[0] not in (3, adata.n_obs):
            raise AssertionError(f"shape {values.shape}, {n_vars} genes")
        if not np.isfinite(values).all():
            raise AssertionError(f"{type(model).__name__} gives values that are not finite")
        answers += 1
    return "answered" if answers else "refused"


def _check_message(error: BaseException) -> None:
    if len(str(error)) < 15:
        raise AssertionError(f"no clear message: {type(error).__name__}: {error}")


# --- (b) files of cells ---


def mutate_h5(rng: np.random.Generator, path: Path) -> None:
    """Change a valid file of cells from within: parts missing, of other kinds, sizes or names."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(int(rng.choice([1, 1, 2, 4]))):
            name = names[rng.integers(len(names))]
            if name not in file:
                continue
            with contextlib.suppress(Exception):  # what cannot be changed so stays as it is
                _change(rng, file, name)


def _change(rng: np.random.Generator, file: h5py.File, name: str) -> None:
    """Change a part of a file of cells."""
    how, item, path = rng.integers(9), file[name], file.filename
    if how == 0:
        del file[name]
    elif how == 1 and len(item.attrs):
        key = list(item.attrs)[rng.integers(len(item.attrs))]
        if rng.integers(2):
            del item.attrs[key]
        else:
            item.attrs[key] = WORDS[rng.integers(10)] if rng.integers(2) else [1, 2**40]
    elif how in (2, 3, 4) and isinstance(item, h5py.Dataset):
        _replace(rng, file, name)
    elif how == 5:
        file.move(name, f"{name.rpartition('/')[0]}/" + ["..", "x", "é", "a b", CODE[:9]][rng.integers(5)])
    elif how == 6:
        file[f"{name}_soft"] = h5py.SoftLink(["/", "/nowhere", f"/{name}_soft"][rng.integers(3)])
    elif how == 7:
        del file[name]
        file[name] = h5py.ExternalLink(["/etc/passwd", "../../x", str(path)][rng.integers(3)], "/")
    else:
        del file[name]
        file[name] = file["X"] if rng.integers(2) and "X" in file else np.arange(3)


def _replace(rng: np.random.Generator, file: h5py.File, name: str) -> None:
    """Other values in place of a data set, with its attributes."""
    attributes, old = dict(file[name].attrs), file[name][()]
    old = np.asarray(old)
    how = rng.integers(9)
    new: Any
    if how == 0:
        new = old.astype(str).astype("S") if old.dtype.kind in "fiub" else np.arange(old.size)
    elif how == 1 and old.dtype.kind in "fi":
        new = old.astype(rng.choice(["f2", "f8", "i1", "i8", "u4", "c8"]))
    elif how == 2 and old.dtype.kind in "fi" and old.size:
        new = old.copy()
        bad = NUMBERS if old.dtype.kind == "f" else [-1, 10**6, 2**30, 0]
        for at in rng.integers(old.size, size=3):
            new.flat[at] = bad[rng.integers(len(bad))]
    elif how == 3:
        new = old[: len(old) // 2] if old.ndim else 0
    elif how == 4:
        new = np.concatenate([old, old]) if old.ndim else [0]
    elif how == 5 and old.dtype.kind == "O" and old.ndim:
        new = [NAMES[rng.integers(len(NAMES))].replace("\x00", "") for _ in range(len(old))]
    elif how == 6 and old.dtype.kind == "O" and old.ndim:
        new = [old[0]] * len(old)
    elif how == 7:
        new = h5py.Empty("f4")
    else:
        new = old[::-1].copy() if old.ndim else old
    del file[name]
    file[name] = new
    for key, value in attributes.items():
        file[name].attrs[key] = value


def cells_file(rng: np.random.Generator, pristine: Pristine, work: Path) -> str:
    """Give a broken file of cells to a command."""
    path = work / "cells.h5ad"
    how = rng.integers(10)
    path.write_bytes(flip(rng, pristine.h5ad) if how < 4 else pristine.h5ad)
    if how >= 4:
        mutate_h5(rng, path)
    if how == 9:
        path.write_bytes(flip(rng, path.read_bytes()))
    whole = str(pristine.folder / "cells.h5ad")
    names = [name for name in BUILD if name not in NO_NETWORK]
    model = str(pristine.folder / names[rng.integers(len(names))])
    return _command(
        [
            ["embed", model, str(path), "-o", "out.h5ad"],
            ["embed", model, str(path), "-o", "out.h5ad", "--key-added", NAMES[rng.integers(len(NAMES))]],
            ["generate", model, "-o", "out.h5ad", "-n", "3", "--data", str(path)],
            [
                "train",
                str(path),
                "--model",
                "vae",
                "-o",
                "out",
                "--epochs",
                "1",
                "--n-latent",
                "2",
                "--batch-key",
                "batch",
            ],
            [
                "train",
                str(path),
                "--model",
                "cvae",
                "-o",
                "out",
                "--epochs",
                "1",
                "--labels-key",
                "label",
                "--layer",
                "log",
            ],
            ["denoise", str(path), "-o", "out.h5ad", "--epochs", "1", "--batch-key", "batch"],
            ["evaluate", str(path), whole, "--csv", "out.csv", "--groupby", "label"],
            ["evaluate", whole, str(path), "--csv", "out.csv", "--html", "out.html"],
        ],
        rng,
        weights=[5, 2, 4, 1, 1, 1, 1, 0.1],
    )


# --- (c) command lines ---


def command_line(rng: np.random.Generator, pristine: Pristine, work: Path) -> str:
    """A command with odd arguments: values out of range, unknown and hostile names, doubled options."""
    (work / "cells.h5ad").write_bytes(pristine.h5ad)
    (work / "empty").mkdir()
    model = str(pristine.folder / list(BUILD)[rng.integers(len(BUILD))])
    texts = [
        *NAMES,
        ",".join(f"g{i}" for i in range(2000)),
        "-1",
        "0",
        "1",
        "3",
        "1e9",
        "nan",
        "inf",
        "9" * 30,
        "-",
        "--",
        "T=3",
        "T=0",
        "T=-1",
        "=",
        "T=9999999999999",
        "T=" + "9" * 30,
        "B=2",
        "g1,g2",
        "g1,g1",
        ",",
        "label",
        "batch",
        "age",
        "log",
        "X",
        "counts",
        "cells.h5ad",
        "empty",
        "out.zarr",
        "out.h5ad",
        "/proc/self/mem",
        "\udcff",
        "posterior",
        "prior",
        "mixture",
        "mean",
        "sample",
    ]
    options = {
        "train": [
            "--layer",
            "--batch-key",
            "--labels-key",
            "--likelihood",
            "--n-latent",
            "--seed",
            "--overwrite",
        ],
        "embed": ["--key-added"],
        "generate": [
            "-n",
            "--label",
            "--batch",
            "--source",
            "--library-size",
            "--temperature",
            "--genes",
            "--output",
            "--data",
            "--chunk-size",
            "--seed",
            "--overwrite",
        ],
        "denoise": ["--layer", "--batch-key", "--likelihood", "--scale", "--genes", "--seed"],
        "evaluate": ["--groupby", "--reference", "--layer", "--seed", "--overwrite"],
    }
    command = rng.choice(list(options), p=[0.08, 0.2, 0.6, 0.04, 0.08])
    starts = {
        "train": ["train", "cells.h5ad", "--model", "vae", "-o", "out"],
        "embed": ["embed", model, "cells.h5ad", "-o", "out.h5ad"],
        "generate": ["generate", model, "-o", "out.h5ad"],
        "denoise": ["denoise", "cells.h5ad", "-o", "out.h5ad"],
        "evaluate": ["evaluate", "cells.h5ad", "cells.h5ad", "--csv", "out.csv"],
    }
    argv = list(starts[command])
    if rng.integers(4) == 0:
        argv[rng.integers(len(argv))] = texts[rng.integers(len(texts))]
    for _ in range(rng.integers(4)):
        option = options[command][rng.integers(len(options[command]))]
        argv += [option] if option == "--overwrite" else [option, texts[rng.integers(len(texts))]]
    if command in ("train", "denoise"):
        argv += ["--epochs", "1"]
    return _command([argv], rng)


def _command(commands: list[list[str]], rng: np.random.Generator, weights: list[float] | None = None) -> str:
    """Run a command in this process; it is done, or says in one line what is wrong."""
    p = None if weights is None else np.array(weights) / np.sum(weights)
    argv = commands[rng.choice(len(commands), p=p)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv + ["--quiet"])
        except SystemExit as leave:
            code = 0 if leave.code is None else leave.code
        except LatentcellError as error:
            raise AssertionError(f"{argv}: escaped") from error
    err.flush()
    said = err.buffer.getvalue().decode()
    if code not in (0, 1, 2):
        raise AssertionError(f"{argv}: exit code {code}")
    if code == 0:
        _check_output(argv)
        return "answered"
    if "latentcell" not in said or "Traceback" in said:
        raise AssertionError(f"{argv}: exit code {code} without a message: {said[-200:]!r}")
    if any(Path(name).exists() for name in ("out.csv", "out.html") if argv[0] == "evaluate") and code == 1:
        raise AssertionError(f"{argv}: failed and left a file")
    left = [name for name in os.listdir(".") if name.startswith(".")]
    if left:
        raise AssertionError(f"{argv}: left {left}")
    return "refused"


def _check_output(argv: list[str]) -> None:
    """A file of cells that a command wrote can be read, and its generated cells are finite."""
    path = Path("out.h5ad")
    if path.is_file():
        found = ad.read_h5ad(path)
        if argv[0] == "generate":
            values = found.X.data if sparse.issparse(found.X) else np.asarray(found.X)
            if not np.isfinite(values).all():
                raise AssertionError(f"{argv}: values that are not finite")


KINDS = {"model folder": model_folder, "cells file": cells_file, "command line": command_line}


def clean(work: Path) -> None:
    """Empty a working folder."""
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
