"""Kill processes that train, save and write cells, at every file-system call, and look at what they leave.

    python benchmarks/kills.py                    all cases at calls, at sizes, and 200 at random times
    python benchmarks/kills.py --random 1000 --calls 0 --sizes 0
    python benchmarks/kills.py --only save train  cases whose name holds one of the words

A case is work that writes files. It is done once undisturbed, and then again and again by a copy of this
process (fork) that is killed:

- calls: at its k-th call that opens, renames, removes, makes or syncs a file of the case, for every k (zarr
  makes 2,000 such calls: for 60 of them), before the call is made (SIGKILL);
- sizes: as soon as a file of it grows beyond n bytes, for n up to the largest (by the kernel's SIGXFSZ, in
  the middle of a write, also of those of the HDF5 library);
- random: after a time drawn from the length of the undisturbed work (SIGKILL).

After each, another process checks that what can be opened is what was there before, or what the undisturbed
work gives; then the work is done again (trained on from the checkpoint), and must give that to the bit and
leave nothing else behind.

In "full", writing beyond the n-th byte fails, as on a full disk: the work must end with an error that names a
path of the user's, and leave all that was there, and no half of a file. Needs a system with fork (Linux).
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import argparse
import contextlib
import hashlib
import io
import json
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from scipy import sparse

import latentcell as lc
import latentcell.metrics
import latentcell.tl
from latentcell.cli import main as command_line
from latentcell.train.checkpoints import read_checkpoint
from latentcell.train.run import CHECKPOINT

MODELS = ("AE", "VAE", "VSC", "CVAE", "DCA", "DisentangledVAE", "GAN", "ConditionalGAN")
EPOCHS = 3
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link")
PATIENCE = 900.0  # seconds after which a process hangs
NOTHING = "nothing"


@dataclass(frozen=True)
class Case:
    """Work in a folder.

    Attributes
    ----------
    before
        Puts what is there before into the folder.
    work
        What is killed.
    look
        What the folder holds, by name: something that can be compared. Raises where a file is wrong.
    again
        Finishes what was killed; default: the work itself.
    keeps
        Files and folders that may be there after a part of the work.
    """

    before: Callable[[Path], Any]
    work: Callable[[Path], Any]
    look: Callable[[Path], dict[str, Any]]
    again: Callable[[Path], Any] | None = None
    keeps: tuple[str, ...] = ()


@dataclass
class Tally:
    """What was seen of a case."""

    kills: int = 0
    before: int = 0
    after: int = 0
    nothing: int = 0
    partly: int = 0
    resumed: int = 0
    full: int = 0


# --- processes ---


def in_child(
    work: Callable[[], Any], killer: Callable[[], None] | None = None, after: float | None = None
) -> Any:
    """Do the work in a copy of this process: its result, None if it was killed. Errors are raised here."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 on threads of others: the copy uses none
        pid = os.fork()
    if pid == 0:
        os.close(read)
        result: Any
        try:
            warnings.simplefilter("ignore")
            if killer is not None:
                killer()
            result = {"result": work()}
        except BaseException:  # noqa: BLE001
            result = {"error": traceback.format_exc()}
        # limits on the size of files are for files
        with contextlib.suppress(BaseException), os.fdopen(write, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(write)
    start = time.monotonic()
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(read) as pipe:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        text = pipe.read()
        _, status = os.waitpid(pid, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    if time.monotonic() - start > PATIENCE:
        raise AssertionError("the process hangs")
    if os.WIFSIGNALED(status):
        return None
    found = json.loads(text)
    if "error" in found:
        raise AssertionError(f"in another process:\n{found['error']}")
    return found


def at_call(k: int, folder: Path) -> Callable[[], None]:
    """Kill the process at its k-th call on a file in the folder."""
    return lambda: count_calls(folder, lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == k else None)


def count_calls(folder: Path, then: Callable[[int], Any]) -> None:
    """Call `then` with the number of calls on files of the folder, at each and before it is made."""
    calls = 0
    fsync = os.fsync

    def count() -> None:
        nonlocal calls
        calls += 1
        then(calls)

    def hook(event: str, arguments: tuple) -> None:
        if event not in EVENTS or isinstance(arguments[0], int):
            return
        relative = not os.path.isabs(os.fsdecode(arguments[0])) and event in ("os.remove", "os.rmdir")
        if relative or os.fsdecode(arguments[0]).startswith(f"{folder}"):
            count()

    def counted(number: int) -> None:
        count()
        fsync(number)

    os.fsync = counted
    sys.addaudithook(hook)


def beyond_size(n: int, *, kill: bool = True) -> Callable[[], None]:
    """Let the kernel kill the process, or refuse, when it writes beyond the n-th byte of a file."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return limit


# --- one case ---


class Judge:
    """Does a case undisturbed, and judges what killed copies leave."""

    def __init__(self, case: Case, root: Path) -> None:
        self.case, self.root = case, root
        shutil.rmtree(root, ignore_errors=True)
        (root / "before").mkdir(parents=True)
        in_child(lambda: self.case.before(root / "before") and None)
        self.before = self.look(root / "before")
        folder = self.fresh()
        start = time.monotonic()
        in_child(lambda: self.case.work(folder) and None)
        self.seconds = time.monotonic() - start
        self.after = self.look(folder)
        self.sizes = sorted({file.stat().st_size for file in folder.rglob("*") if file.is_file()})
        self.files = self.names(folder)
        folder = self.fresh()
        self.calls = in_child(lambda: self._count(folder))["result"]
        self.tally = Tally()

    def _count(self, folder: Path) -> int:
        found = []
        count_calls(folder, found.append)
        self.case.work(folder)
        return len(found)

    def fresh(self) -> Path:
        """A new copy of what is there before."""
        folder = self.root / "now"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.root / "before", folder)
        return folder

    def look(self, folder: Path) -> dict[str, Any]:
        """What the folder holds, seen by another process."""
        return in_child(lambda: self.case.look(folder))["result"]

    def names(self, folder: Path) -> list[str]:
        """All files of the folder, hidden ones too; weights have a name of their own in a replaced model."""
        names = (str(file.relative_to(folder)) for file in folder.rglob("*"))
        return sorted(re.sub(r"model-[0-9a-f]{16}\.", "model.", name) for name in names)

    def kill(self, what: str, killer: Callable[[], None] | None = None, after: float | None = None) -> bool:
        """Kill the work and judge what is left; False if it was done before it was killed."""
        folder = self.fresh()
        killer = at_call(int(what.removeprefix("call ")), folder) if what.startswith("call") else killer
        finished = in_child(lambda: self.case.work(folder) and None, killer, after)
        if finished is not None:
            return False
        try:
            self.judge(folder)
        except AssertionError as error:
            raise AssertionError(f"killed at {what}: {error}\n{self.names(folder)}") from error
        return True

    def fill(self, n: int) -> bool:
        """Let the disk be full beyond n bytes of a file, and judge what is left; False if it has room."""
        folder = self.fresh()

        def work() -> str:
            try:
                self.case.work(folder)
            except (OSError, AssertionError) as error:  # of a model, of the command line
                return f"{type(error).__name__}: {error}"
            return ""

        result = in_child(work, beyond_size(n, kill=False))
        said = "killed" if result is None else result["result"]
        if not said:
            return False
        assert "could not be written" in said, said
        assert f"{folder}/" in said, said
        assert "/." not in said, said
        now = self.look(folder)
        left = set(self.names(folder)) - set(self.names(self.root / "before"))
        assert now == self.before, f"{now} is not {self.before}"
        assert left <= set(self.case.keeps), f"left behind: {sorted(left)}"
        self.tally.full += 1
        return True

    def judge(self, folder: Path) -> None:
        """What is there is what was there or what is to be there; finished, it is what is to be there."""
        tally, found = self.tally, self.look(folder)
        tally.kills += 1
        wrong = {
            name: value
            for name, value in found.items()
            if value not in (self.before.get(name, NOTHING), self.after.get(name, NOTHING))
        }
        assert not wrong, f"files that open but are wrong: {wrong}"
        lost = [name for name in self.before if name not in found]
        assert not lost, f"lost: {lost}"
        if found == self.after:
            tally.after += 1
        elif found == self.before:
            tally.nothing += not found
            tally.before += bool(found)
        else:
            tally.partly += 1
        for file in folder.rglob("*"):
            os.utime(file, (0, 0))  # an hour later, or a day
        in_child(lambda: (self.case.again or self.case.work)(folder) and None)
        found = self.look(folder)
        assert found == self.after, f"done again, it gives something else: {found} is not {self.after}"
        assert self.names(folder) == self.files, f"left behind: {self.names(folder)}, not {self.files}"
        tally.resumed += 1


# --- what files hold ---


def digest(*arrays: Any) -> str:
    """A number of the values."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def look_at_cells(path: Path) -> str:
    """What an .h5ad or .zarr of cells holds."""
    adata = ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)
    x = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    frames = [adata.obs.to_csv().encode(), adata.var.to_csv().encode(), repr(sorted(adata.uns)).encode()]
    more = [adata.obsm[key] for key in sorted(adata.obsm)] + [
        adata.layers[key] for key in sorted(adata.layers)
    ]
    more = [part.toarray() if sparse.issparse(part) else part for part in more]
    return digest(x, *more, *(np.frombuffer(frame, dtype=np.uint8) for frame in frames))


def look_at_model(folder: Path) -> str:
    """What a saved model is: its weights and what it says of itself."""
    model = lc.model.load(folder)
    with safe_open(folder / json.loads((folder / "model.json").read_text())["weights"], "numpy") as file:
        arrays = [file.get_tensor(name) for name in sorted(file.keys())]
    return digest(*arrays, np.frombuffer(repr((type(model), model.params)).encode(), dtype=np.uint8))


def look(folder: Path) -> dict[str, Any]:
    """Everything in a folder that has a name of its own, by this name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if (path / "model.json").exists():
            found[path.name] = look_at_model(path)
            # cells beside a model are of this model
            if (path / "adata.h5ad").exists():
                found[f"{path.name}: cells of {found[path.name]}"] = look_at_cells(path / "adata.h5ad")
        elif path.suffix in (".h5ad", ".zarr"):
            found[path.name] = look_at_cells(path)
        else:
            found[path.name] = digest(np.frombuffer(path.read_bytes(), dtype=np.uint8))
    return found


# --- the cases ---


def make_cells(seed: int = 0, n_cells: int = 40, n_genes: int = 12) -> ad.AnnData:
    """Counts of two kinds of cells."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 2
    counts = rng.poisson(rng.gamma(1.0, 3.0, size=(2, n_genes))[kind] + 0.3).astype(np.float32)
    counts[:, 0] += 1
    adata = ad.AnnData(sparse.csr_matrix(counts))
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var_names = [f"gene{j}" for j in range(n_genes)]
    adata.obs["label"] = pd.Categorical(np.array(["a", "b"])[kind])
    return adata


def build(name: str, seed: int) -> Any:
    """A small untrained model."""
    cells = make_cells(seed)
    Model = getattr(lc.model, name)
    Model.setup_anndata(cells, labels_key="label")
    sizes: dict[str, Any] = {"n_latent": 2, "hidden": (6,)} if name in MODELS else {}
    return Model(cells, **sizes, **({"critic_hidden": (6,)} if "GAN" in name else {}), seed=seed)


def train(model: Any, **arguments: Any) -> Any:
    """Train it for some epochs."""
    fixed = {"accelerator": "cpu", "enable_progress_bar": False, "batch_size": 16}
    early = {} if isinstance(model, lc.model.GAN | lc.model.ConditionalGAN) else {"early_stopping": True}
    model.train(EPOCHS, **fixed, **early, **arguments)
    return model


def training(name: str) -> Case:
    """A training run with checkpoints; what counts is what it resumes to."""

    def resumed(folder: Path) -> dict[str, str]:
        """The weights of the last checkpoint, which must be whole or not there, and how the run ended."""
        found = {}
        if (folder / "run" / CHECKPOINT).exists():
            checkpoint = read_checkpoint(folder / "run" / CHECKPOINT)
            if checkpoint["epoch"] == EPOCHS - 1:
                found["checkpoint"] = digest(*(value.numpy() for value in checkpoint["state_dict"].values()))
        if (folder / "done").exists():
            found["done"] = (folder / "done").read_text()
        return found

    def work(folder: Path) -> None:
        model = train(build(name, 0), checkpoint_dir=folder / "run", resume=True)
        bits = [value.numpy() for value in model.module.state_dict().values()]
        bits += [frame.to_numpy() for frame in model.history.values()]
        (folder / ".done").write_text(digest(*bits))
        os.replace(folder / ".done", folder / "done")

    return Case(lambda folder: None, work, resumed, keeps=("run", f"run/{CHECKPOINT}"))


def cases() -> dict[str, Case]:
    """All cases by name. Models are trained here, once: copies of this process have them."""
    one, two = train(build("VAE", 0)), train(build("VAE", 1))
    simple = build("GaussianCopula", 0)
    simple.train()
    dca = train(build("DCA", 0))
    codes = make_cells(5)
    found = {f"train {name}, checkpoints": training(name) for name in MODELS}

    def keep(model: Any, **arguments: Any) -> Callable[[Path], None]:
        return lambda folder: model.save(folder / "model", overwrite=True, **arguments)

    def nothing(folder: Path) -> None:
        """There is nothing."""

    def write_twice(write: Callable[[Path], Any], name: str) -> Callable[[Path], None]:
        """Write cells where the killed run did not: what is there is whole, and refused."""
        return lambda folder: None if (folder / name).exists() else write(folder)

    found["save, new"] = Case(nothing, keep(one), look)
    found["save, new, with cells"] = Case(nothing, keep(one, save_anndata=True), look)
    found["save over another"] = Case(keep(one), keep(two), look)
    found["save over another class"] = Case(keep(one), keep(simple), look)
    found["save with cells over another with cells"] = Case(
        keep(one, save_anndata=True), keep(two, save_anndata=True), look_apart
    )
    found["save over another with cells"] = Case(keep(one, save_anndata=True), keep(two), look_apart)
    for suffix in (".h5ad", ".zarr"):

        def generate(folder: Path, out: str = f"new{suffix}") -> None:
            one.generate(60, seed=3, chunk_size=16, out=folder / out)

        def denoise(folder: Path, out: str = f"denoised{suffix}") -> None:
            dca.get_denoised(codes, chunk_size=16, out=folder / out)

        found[f"generate to {suffix}"] = Case(nothing, generate, look, write_twice(generate, f"new{suffix}"))
        found[f"denoise to {suffix}"] = Case(
            nothing, denoise, look, write_twice(denoise, f"denoised{suffix}")
        )
    return found | commands(one, dca)


def look_apart(folder: Path) -> dict[str, Any]:
    """What :func:`look` finds, without cells that have no name while it is not decided whose they are."""
    return {name: value for name, value in look(folder).items() if ": cells of" not in name} | check_cells(
        folder
    )


def check_cells(folder: Path) -> dict[str, Any]:
    """Cells called those of the model are the cells that it was trained on."""
    path = folder / "model"
    if (path / "adata.h5ad").exists():
        seed = lc.model.load(path).params["seed"]
        assert look_at_cells(path / "adata.h5ad") == look_at_cells_in_memory(seed), "cells of another model"
    return {}


def look_at_cells_in_memory(seed: int) -> str:
    """What the cells of a seed hold, once written and read."""
    with tempfile.TemporaryDirectory() as folder:
        model = build("VAE", seed)
        model.adata.write_h5ad(Path(folder) / "cells.h5ad")
        return look_at_cells(Path(folder) / "cells.h5ad")


def commands(one: Any, dca: Any) -> dict[str, Case]:
    """The command line."""

    def prepare(folder: Path) -> None:
        make_cells(0, 80).write_h5ad(folder / "cells.h5ad")
        make_cells(1, 80).write_h5ad(folder / "other.h5ad")
        one.save(folder / "vae")
        for name in ("out.h5ad", "new.h5ad"):
            make_cells(2).write_h5ad(folder / name)
        make_cells(2).write_zarr(folder / "new.zarr")
        (folder / "table.csv").write_text("an older table")

    def run(*arguments: str) -> Callable[[Path], None]:
        def work(folder: Path) -> None:
            paths = [str(folder / a[1:]) if a.startswith("@") else a for a in arguments]
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
                code = command_line([*paths, "--quiet"])
            # h5py says of a full disk what nobody can catch, before the line that is meant for the user
            assert code == 0, said.getvalue().splitlines()[-1]

        return work

    few = ("--epochs", "2")
    lines = {
        "train": ("train", "@cells.h5ad", "--model", "vae", "-o", "@trained", "--overwrite", *few),
        "train --overwrite": ("train", "@cells.h5ad", "--model", "ae", "-o", "@vae", "--overwrite", *few),
        "embed": ("embed", "@vae", "@cells.h5ad", "-o", "@out.h5ad"),
        "generate .h5ad": ("generate", "@vae", "-n", "50", "-o", "@new.h5ad", "--overwrite"),
        "generate .zarr": ("generate", "@vae", "-n", "50", "-o", "@new.zarr", "--overwrite"),
        "denoise": ("denoise", "@cells.h5ad", "-o", "@out.h5ad", *few),
        "evaluate": ("evaluate", "@cells.h5ad", "@other.h5ad", "--csv", "@table.csv", "--overwrite"),
    }
    return {f"latentcell {name}": Case(prepare, run(*line), look) for name, line in lines.items()}


# --- the table ---


def some(n: int, most: int) -> list[int]:
    """Numbers from 1 to n: all, or the first, the last and others between them; none of 0."""
    if not most:
        return []
    return sorted({1, *range(max(n - 5, 1), n + 1), *np.linspace(1, n, min(n, most), dtype=int).tolist()})


def sizes_of(judge: Judge, most: int) -> list[int]:
    """Numbers of bytes at which a file of the work is cut: also the last of some of its files; none of 0."""
    if not most:
        return []
    lasts = [size - 1 for size in judge.sizes if size]
    lasts = lasts[:: -(-len(lasts) // most)] + lasts[-1:]
    return sorted({0, *lasts, *np.linspace(0, lasts[-1], most, dtype=int).tolist()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", type=int, default=200, metavar="N", help="kills at random times, in all")
    parser.add_argument(
        "--sizes", type=int, default=6, metavar="N", help="sizes at which files are cut, by case"
    )
    parser.add_argument("--calls", type=int, default=60, metavar="N", help="calls by case, if it has more")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rng = random.Random(args.seed)
    chosen = {name: case for name, case in cases().items() if any(word in name for word in args.only)}
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, case) in enumerate(chosen.items()):
            start = time.monotonic()
            judge = Judge(case, Path(folder) / "case")
            counts = {}
            for kind, kills in {
                "calls": [(f"call {k}", None, None) for k in some(judge.calls, args.calls)],
                "sizes": [(f"byte {n}", beyond_size(n), None) for n in sizes_of(judge, args.sizes)],
                "random": [
                    (f"{t:.3f} s", None, t)
                    for t in (
                        rng.uniform(0, judge.seconds) for _ in range(_share(args.random, i, len(chosen)))
                    )
                ],
            }.items():
                done = judge.tally.kills
                for what, killer, after in kills:
                    noted(failures, name, judge.kill, what, killer, after)
                counts[kind] = judge.tally.kills - done
            for n in sizes_of(judge, args.sizes):
                noted(failures, name, judge.fill, n)
            rows.append({"case": name, **counts, **vars(judge.tally)})
            print(f"{name}: {rows[-1]} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    table.loc[len(table)] = ["all", *table.iloc[:, 1:].sum()]
    print(table.to_string(index=False))
    print("\n\n".join(failures) or "nothing lost, nothing wrong")
    sys.exit(bool(failures))


def noted(failures: list[str], name: str, judge: Callable[..., bool], *arguments: Any) -> None:
    """Judge; a failure is noted, and the others are judged as well."""
    try:
        judge(*arguments)
    except AssertionError as error:
        failures.append(f"{name}, {arguments[0]}: {error}")
        print(failures[-1], file=sys.stderr, flush=True)


def _share(n: int, i: int, parts: int) -> int:
    """The i-th of n things dealt out to so many parts."""
    return n // parts + (i < n % parts)


if __name__ == "__main__":
    main()
