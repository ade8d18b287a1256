"""Who may import whom, and what nobody may do: arrows and rules of docs/architecture.md, held by parsing src.

Every import counts, also those inside functions, under ``TYPE_CHECKING``, through ``importlib.import_module``
and through attributes of the package itself (``import latentcell as lc; lc.pp``).
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "latentcell"

# room -> the rooms it may import. A room is a folder or a top-level file of the package;
# "train" may import one file of another room, written "nn.schedules".
ARROWS: dict[str, set[str]] = {
    "__init__": {
        "datasets",
        "metrics",
        "model",
        "pl",
        "pp",
        "testing",
        "tl",
    },  # on first use; tests/test_import.py
    "__main__": {"cli"},
    "_atomic": set(),
    "_errors": set(),
    "_keys": set(),
    "_checks": {"_errors"},
    "_codes": {"_keys", "_errors"},
    "_colors": {"_keys", "_errors", "_checks"},
    "_curves": {"_errors"},
    "_disk": {"_errors"},
    "_scvi": {"_errors"},
    "_compiled": set(),
    "_devices": set(),
    "_sparse": {"_compiled"},
    "nn": {"_sparse", "_compiled", "_devices"},
    "module": {"nn", "_sparse"},
    "train": {"nn.schedules", "_errors", "_sparse", "_devices", "_disk", "_atomic"},
    "model": {
        "module",
        "nn",
        "train",
        "_scvi",
        "_keys",
        "_errors",
        "_checks",
        "_codes",
        "_compiled",
        "_disk",
        "_atomic",
    },
    "metrics": {"_keys", "_errors", "_checks"},
    "datasets": {"_keys", "_errors"},
    "pp": {"_keys", "_errors", "_checks", "_disk"},
    "pl": {"_keys", "_errors", "_checks", "_codes", "_colors", "_curves"},
    "tl": {
        "model",
        "pp",
        "metrics",
        "_keys",
        "_errors",
        "_checks",
        "_codes",
        "_colors",
        "_curves",
        "_disk",
        "_atomic",
    },
    "testing": {"model", "nn.schedules", "_errors"},
    "cli": {"tl", "model", "metrics", "datasets", "pl", "pp", "_keys", "_errors", "_checks", "_atomic"},
}

# room -> the libraries it may import beside the standard library.
_DATA = {"anndata", "numpy", "pandas", "scanpy", "scipy", "sklearn"}
LIBRARIES: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": set(),
    "_atomic": set(),
    "_errors": set(),
    "_keys": set(),
    "_checks": {"numpy", "scipy"},
    "_codes": {"numpy"},
    "_colors": {"anndata", "matplotlib", "numpy", "pandas", "scanpy"},
    "_curves": {"pandas"},
    "_disk": {"anndata", "h5py", "numpy", "scipy", "zarr"},
    "_scvi": {"anndata", "numpy", "scipy", "scvi", "torch"},
    "_compiled": {"llvmlite.binding", "numba", "numpy"},
    "_devices": {"torch"},
    "_sparse": {"numpy", "torch"},
    "nn": {"numpy", "torch"},
    "module": {"numpy", "torch", "scvi.REGISTRY_KEYS", "scvi.module.base"},
    "train": {"anndata", "lightning.pytorch", "numpy", "rich", "safetensors", "scipy", "torch"},
    "model": {
        "anndata",
        "numpy",
        "pandas",
        "safetensors",
        "scipy",
        "h5py",
        "igraph",
        "leidenalg",
        "scvi.REGISTRY_KEYS",
        "scvi.model.base",
        "sklearn",
        "sparse",
        "torch",
        "zarr",
    },
    "metrics": _DATA,
    "datasets": _DATA,
    "pp": _DATA | {"h5py", "skmisc", "zarr"},
    "pl": {"anndata", "matplotlib", "numpy", "pandas", "scanpy", "scipy", "sklearn"},
    "tl": _DATA | {"decoupler", "rich"},
    "testing": {
        "anndata",
        "matplotlib",
        "numpy",
        "pandas",
        "scanpy",
        "scipy",
        "scvi.model.base",
        "threadpoolctl",
        "torch",
    },
    "cli": {"anndata", "h5py", "matplotlib", "numpy", "pandas", "rich", "scanpy", "scipy"},
}

# What would run code on loading a file.
PICKLES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
PICKLING_CALLS = {"torch.load", "torch.save"}
# What changes the state of the whole process.
SEEDING_CALLS = {
    "lightning.pytorch.seed_everything",
    "numpy.random.seed",
    "numpy.random.set_state",
    "random.seed",
    "torch.cuda.manual_seed",
    "torch.default_generator.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.seed",
    "torch.set_rng_state",
}
GLOBAL_CALLS = {
    "logging.basicConfig",
    "logging.disable",
    "numpy.seterr",
    "torch.set_default_dtype",
    "torch.set_float32_matmul_precision",
    "torch.set_num_threads",
    "torch.use_deterministic_algorithms",
}
WARNING_CALLS = {"warnings.filterwarnings", "warnings.resetwarnings", "warnings.simplefilter"}


def room_of(path: Path, src: Path = SRC) -> str:
    """``model/vsc.py -> model``, ``_keys.py -> _keys``."""
    first = path.relative_to(src).parts[0]
    return first.removesuffix(".py")


def names_of(tree: ast.AST, package: str) -> dict[str, str]:
    """What each imported name stands for: ``{"np": "numpy", "VSC": "latentcell.model.VSC"}``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    names[alias.asname] = alias.name
                else:
                    top = alias.name.split(".")[0]
                    names[top] = top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{absolute(node, package)}.{alias.name}"
    return names


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Module that a ``from ... import`` names, relative ones included."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """Full name of ``np.random.seed`` after imports: ``numpy.random.seed``; None if not imported."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return ".".join([names[node.id], *reversed(parts)])
    return None


def imports(tree: ast.AST, package: str, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, in whichever way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{absolute(node, package)}.{alias.name}"
        elif isinstance(node, ast.Attribute):
            full = dotted(node, names)
            # attributes of packages load or reach other rooms; those of imported objects do not
            if full and full.split(".")[0] in {"latentcell", "scvi"}:
                yield node.lineno, full
        elif isinstance(node, ast.Call):
            full = dotted(node.func, names) or (node.func.id if isinstance(node.func, ast.Name) else None)
            if full in {"importlib.import_module", "__import__"}:
                argument = node.args[0] if node.args else None
                yield node.lineno, named_module(argument, package)


def named_module(argument: ast.expr | None, package: str) -> str:
    """What ``import_module``'s argument names: a constant, or ``f"{__name__}.{...}"``, in its own room."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    if isinstance(argument, ast.JoinedStr) and len(argument.values) > 1:
        first, second = argument.values[:2]
        own = isinstance(first, ast.FormattedValue) and ast.unparse(first.value) == "__name__"
        if own and isinstance(second, ast.Constant) and str(second.value).startswith("."):
            return package
    return "<a module named at run time>"


def parents_of(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def inside_with(node: ast.AST, parents: dict[ast.AST, ast.AST], names: dict[str, str], manager: str) -> bool:
    """Whether `node` stands under ``with <manager>(...)``, where `manager` ends the manager's full name."""
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                call = item.context_expr
                full = dotted(call.func, names) if isinstance(call, ast.Call) else None
                if full and full.split(".")[-1] == manager:
                    return True
    return False


def within(name: str, allowed: set[str]) -> bool:
    return any(name == a or name.startswith(f"{a}.") for a in allowed)


def violations(path: Path, src: Path = SRC) -> list[str]:
    """Everything in the file at `path` that its room forbids, one line each."""
    room = room_of(path, src)
    package = ".".join(["latentcell", *path.relative_to(src).parts[:-1]])
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    names, parents = names_of(tree, package), parents_of(tree)
    found: list[tuple[int, str]] = []

    if room not in ARROWS:
        return [f"{path.name}: {room!r} is not a room of the house: give it its arrows in ARROWS and in docs"]

    for line, full in imports(tree, package, names):
        top = full.split(".")[0]
        if full.startswith("<"):
            found.append((line, f"imports {full}: write the name out"))
        elif top == "pytorch_lightning":
            found.append((line, "imports pytorch_lightning: its classes are not those of lightning.pytorch"))
        elif top in PICKLES:
            found.append((line, f"imports {top}: saved files hold no pickle"))
        elif top == "latentcell":
            inner = full.removeprefix("latentcell").removeprefix(".")
            other = inner.split(".")[0]
            # the package itself, its version, or the own room
            if other not in {"", "__version__", room} and not within(inner, ARROWS[room]):
                found.append((line, f"{room} may not import latentcell.{inner}"))
        elif top == "scvi" and any(part.startswith("_") for part in full.split(".")) and room != "_scvi":
            found.append((line, f"touches the non-public {full} of scvi-tools: that is for _scvi.py"))
        elif top not in sys.stdlib_module_names and not within(full, LIBRARIES[room]):
            found.append((line, f"{room} may not import {full}"))

    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "print" and room != "cli":
            found.append((node.lineno, "prints: only the command line does"))
        full = dotted(node.func, names)
        if full in PICKLING_CALLS:
            found.append((node.lineno, f"calls {full}: saved files hold no pickle"))
        if full in GLOBAL_CALLS:
            found.append((node.lineno, f"calls {full}: the process belongs to the user"))
        if full in WARNING_CALLS and not inside_with(node, parents, names, "catch_warnings"):
            found.append((node.lineno, f"calls {full} outside of warnings.catch_warnings()"))
        if full in SEEDING_CALLS:
            seeds = full in ("torch.manual_seed", "torch.default_generator.manual_seed")
            forked = seeds and inside_with(node, parents, names, "fork_rng")
            # by a checkpoint, within the forked state of a run
            resumed = full == "torch.set_rng_state" and room == "train"
            if not (forked or resumed):
                found.append((node.lineno, f"calls {full}: seeds are local"))
    return [f"{path.relative_to(src)}:{line}: {what}" for line, what in sorted(set(found))]


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_file_keeps_to_its_room(path):
    assert violations(path) == []


def test_arrows_make_no_circle():
    def reachable(room, seen):
        for other in (o.split(".")[0] for o in ARROWS[room]):
            if other not in seen:
                seen.add(other)
                reachable(other, seen)
        return seen

    assert [room for room in ARROWS if room in reachable(room, set())] == []


def test_torch_is_out_of_reach_of_the_light_rooms():
    for room in ("metrics", "pp", "datasets", "pl"):
        reach = {room, *ARROWS[room]}
        assert "torch" not in set().union(*(LIBRARIES[r.split(".")[0]] for r in reach))


@pytest.mark.parametrize(
    ("file", "code", "expected"),
    [
        ("pl/a.py", "from latentcell.model import VSC", "pl may not import latentcell.model.VSC"),
        ("pl/a.py", "from ..model.vsc import VSC", "pl may not import latentcell.model.vsc.VSC"),
        ("pl/a.py", "from .. import model", "pl may not import latentcell.model"),
        ("pl/a.py", "import latentcell as lc\ndef f(): return lc.tl.vsc", "pl may not import latentcell.tl"),
        ("metrics/a.py", "def f():\n    import torch.nn", "metrics may not import torch.nn"),
        ("pp/a.py", "from importlib import import_module\nimport_module('torch')", "pp may not import torch"),
        ("pp/a.py", "import importlib\nimportlib.import_module('to' + 'rch')", "named at run time"),
        (
            "datasets/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor",
            "datasets may not import torch.Tensor",
        ),
        ("nn/a.py", "import anndata", "nn may not import anndata"),
        ("nn/a.py", "from scvi.nn import FCLayers", "nn may not import scvi.nn.FCLayers"),
        ("nn/a.py", "from latentcell._errors import DataError", "nn may not import latentcell._errors"),
        ("module/a.py", "from latentcell.train import plan", "module may not import latentcell.train"),
        ("train/a.py", "from latentcell.nn.mlp import MLP", "train may not import latentcell.nn.mlp"),
        ("model/a.py", "from latentcell.pp import seurat", "model may not import latentcell.pp"),
        (
            "train/a.py",
            "from latentcell.nn.latents import Gaussian",
            "train may not import latentcell.nn.latents",
        ),
        (
            "model/a.py",
            "from scvi.data import AnnDataManager",
            "model may not import scvi.data.AnnDataManager",
        ),
        (
            "model/a.py",
            "from scvi.model._utils import parse",
            "touches the non-public scvi.model._utils.parse",
        ),
        ("model/a.py", "import scvi\nscvi.settings.seed = 0", "model may not import scvi"),
        ("model/a.py", "import torch\ntorch.save({}, 'f')", "calls torch.save"),
        ("model/a.py", "import pickle", "imports pickle"),
        ("train/a.py", "import pytorch_lightning as pl", "imports pytorch_lightning"),
        ("train/a.py", "import lightning", "train may not import lightning"),
        (
            "train/a.py",
            "import torch\ndef f(): torch.manual_seed(0)",
            "calls torch.manual_seed: seeds are local",
        ),
        (
            "model/a.py",
            "import torch\nwith torch.no_grad():\n    torch.manual_seed(0)",
            "calls torch.manual_seed: seeds are local",
        ),
        ("model/a.py", "import torch\ntorch.set_rng_state(0)", "calls torch.set_rng_state: seeds are local"),
        ("tl/a.py", "import numpy as np\nnp.random.seed(0)", "calls numpy.random.seed: seeds are local"),
        ("tl/a.py", "print('done')", "prints"),
        (
            "tl/a.py",
            "import warnings\nwarnings.simplefilter('ignore')",
            "calls warnings.simplefilter outside",
        ),
        ("tl/a.py", "from warnings import filterwarnings\ndef f(): filterwarnings('ignore')", "outside"),
        ("train/a.py", "import torch\ntorch.set_num_threads(1)", "calls torch.set_num_threads"),
        ("utils/a.py", "", "'utils' is not a room of the house"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, code, expected):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    found = violations(path, tmp_path)
    assert any(expected in line for line in found), found


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "nn/a.py",
            "import math\nimport numpy as np\nimport torch\nfrom torch import nn\n"
            "from latentcell.nn import mlp",
        ),
        ("module/a.py", "from scvi.module.base import BaseModuleClass\nfrom latentcell.nn.mlp import MLP"),
        ("train/a.py", "import lightning.pytorch as pl\nfrom lightning.pytorch.callbacks import Callback"),
        ("train/a.py", "import torch\nwith torch.random.fork_rng():\n    torch.manual_seed(0)"),
        ("train/a.py", "from latentcell.nn.schedules import linear"),
        ("tl/a.py", "import warnings\nwith warnings.catch_warnings():\n    warnings.simplefilter('ignore')"),
        ("tl/__init__.py", "from importlib import import_module\ndef f(n): import_module(f'{__name__}.{n}')"),
        ("tl/a.py", "from latentcell import __version__\nfrom latentcell.model import VSC"),
        ("cli/a.py", "import latentcell as lc\nprint(lc.datasets.pbmc68k())"),
        ("_scvi.py", "from scvi.model._utils import parse"),
    ],
)
def test_what_is_allowed_passes(tmp_path, file, code):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    assert violations(path, tmp_path) == []
