"""Broken models, broken files of cells and odd command lines, thousands of them.

    python benchmarks/fuzz.py [--cases 1000] [--seed 0] [--minutes M] [--workers 1] [--kind NAME]
    python benchmarks/fuzz.py --only KIND NUMBER

Small models of every class and a small file of cells are made once, broken in memory case by case
(``fuzz_cases.py``), and given to ``load`` and to the command line in worker processes. A case is right if it
is refused with a clear error or answered with a finite, well-formed result. It is a finding if

* anything else is raised (``error``),
* it takes more than ``--limit`` seconds (``hang``) or kills its process (``crash``),
* it runs code, starts a process, connects to anything or writes outside its folder (``escape``; by Python's
  audit events, and by what lies beside the folder afterwards, as HDF5 opens files without one).

Memory of a worker is limited. A case is a function of ``--seed``, its kind and its number: ``--only`` runs
one again in this process, with its traceback. Ends with exit code 1 if there were findings.
"""

import argparse
import collections
import contextlib
import json
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_cases import CANARY, KINDS, Pristine, clean, prepare, read_pristine

from latentcell.cli import _cells

SHARES = {"model folder": 0.97, "cells file": 0.02, "command line": 0.01}
MEMORY = 6 * 2**30
PER_WORKER = 4000
GRACE = 20.0


class Hang(BaseException):
    """A case took too long."""


# --- what a case must not do ---

FORBIDDEN = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.startfile",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "socket.bind",
    "ctypes.dlopen",
    "pty.spawn",
    "webbrowser.open",
}
CHANGES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LIBRARIES = tuple(
    {
        os.path.realpath(sys.prefix),
        os.path.realpath(sys.base_prefix),
        str(Path(np.__file__).parents[1]),
        "<frozen",
        "libnvidia-ml",  # by which builds of torch for GPUs look for one
    }
)


class Guard:
    """Watches audit events while a case runs; what it sees is told after the case, even if it was caught."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.active, self.seen = False, []
        sys.addaudithook(self._look)

    def _look(self, event: str, args: tuple) -> None:
        if not self.active:
            return
        if event == "ctypes.dlopen" and str(args[0]).startswith(LIBRARIES):
            return  # libraries count their threads
        if event in FORBIDDEN or (event in ("exec", "compile") and not _is_library(event, args)):
            self.seen.append(f"{event} {str(args)[:200]}")
        elif event == "open" and isinstance(args[0], str | bytes) and args[2] and args[2] & WRITES:
            self._inside(event, args[0])
        elif event in CHANGES:
            for path in args[1:2] if event == "os.symlink" else args[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._inside(event, path)

    def _inside(self, event: str, path: Any) -> None:
        real = os.path.realpath(os.fsdecode(path))
        if "__pycache__" in real and real.startswith(LIBRARIES):
            return  # compiled functions that numba keeps
        if not (real == self.folder or real.startswith(self.folder + os.sep) or real == os.devnull):
            self.seen.append(f"{event} {real}")


def _is_library(event: str, args: tuple) -> bool:
    """Whether code is that of an installed library: an import, or a class that one of them makes."""
    here = Path(__file__).parents[1]
    name = getattr(args[0], "co_filename", "") if event == "exec" else str(args[1] or "")
    if CANARY in str(args[0]):
        return False
    if os.path.isabs(name) or name.startswith("<frozen"):
        return name.startswith((*LIBRARIES, str(here)))
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(LIBRARIES)


# --- workers ---


def run_case(
    kind: str, number: int, seed: int, pristine: Pristine, work: Path, guard: Guard, limit: float
) -> tuple[str, str]:
    """Run one case in the empty folder `work`; what came of it, and details of a finding."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
    clean(work)
    os.chdir(work)
    guard.seen.clear()
    outcome, detail = "error", ""
    signal.setitimer(signal.ITIMER_REAL, limit)
    guard.active = True
    try:
        outcome = KINDS[kind](rng, pristine, work)
    except Hang:
        outcome, detail = "hang", traceback.format_exc()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        detail = traceback.format_exc()
    finally:
        guard.active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    outside = [path.name for path in work.parent.iterdir() if path != work]
    if guard.seen or outside or any(work.rglob(CANARY)):
        outcome, detail = "escape", f"{guard.seen} {outside}\n{detail}"
    return outcome, detail


def worker(
    pipe: Any, beat: mmap.mmap, cases: list[tuple[str, int]], seed: int, folder: Path, limit: float
) -> None:
    """Run cases and send what came of them; `beat` says which one is on since when."""
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (_size() + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _ring)
    pristine, work = read_pristine(folder), _work_folder(folder)
    guard = Guard(work)
    for i, (kind, number) in enumerate(cases):
        beat[:] = struct.pack("<qd", i, time.monotonic())
        outcome, detail = run_case(kind, number, seed, pristine, work, guard, limit)
        pipe.send((i, outcome, detail))
    beat[:] = struct.pack("<qd", len(cases), time.monotonic())
    os.chdir(folder)
    clean(work.parent)
    os._exit(0)


def _ring(*_: Any) -> None:
    raise Hang


def _size() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _work_folder(folder: Path) -> Path:
    """A working folder deep enough that ``../../x`` is still ours."""
    work = folder / "work" / f"{os.getpid()}" / "in" / "here"
    work.mkdir(parents=True)
    return work


def run_cases(
    cases: list[tuple[str, int]], seed: int, folder: Path, limit: float, until: float, workers: int
):
    """Yield (kind, number, outcome, detail) of every case that was run before the time is up."""
    fork = get_context("fork")
    waiting = [cases[i : i + PER_WORKER] for i in range(0, len(cases), PER_WORKER)][::-1]
    running: list[tuple[Any, Any, mmap.mmap, list]] = []
    while waiting or running:
        while waiting and len(running) < workers and time.monotonic() < until:
            part = waiting.pop()
            here, there = fork.Pipe(duplex=False)
            beat = mmap.mmap(-1, 16)
            beat[:] = struct.pack("<qd", 0, time.monotonic() + 60)  # time to start
            process = fork.Process(target=worker, args=(there, beat, part, seed, folder, limit))
            process.start()
            there.close()
            running.append((process, here, beat, part))
        if time.monotonic() >= until:
            waiting.clear()
        for entry in list(running):
            process, here, beat, part = entry
            at, since = struct.unpack("<qd", beat[:])
            hung = time.monotonic() - since > limit + GRACE
            over = time.monotonic() >= until
            if hung or over:
                process.kill()
                process.join()
            dead = not process.is_alive()
            with contextlib.suppress(EOFError):
                while here.poll(0 if dead else 0.1):
                    i, outcome, detail = here.recv()
                    yield *part[i], outcome, detail
            if dead:
                at = struct.unpack("<qd", beat[:])[0]
                running.remove(entry)
                if not over and at < len(part):
                    outcome = "hang" if hung else "crash"
                    yield *part[at], outcome, f"{outcome}: exit code {process.exitcode}"
                    if part[at + 1 :]:
                        waiting.append(part[at + 1 :])


def plan(n_cases: int, kind: str | None, start: int = 0) -> list[tuple[str, int]]:
    """Kinds and numbers of the cases, mixed."""
    if kind is not None:
        return [(kind, start + i) for i in range(n_cases)]
    numbers = {name: int(share * n_cases) for name, share in SHARES.items()}
    numbers["model folder"] += n_cases - sum(numbers.values())
    return [(name, start + i) for name, n in numbers.items() for i in range(n)]


def summary(counts: collections.Counter) -> str:
    """A table of outcomes by kind."""
    outcomes = ["refused", "answered", "error", "hang", "crash", "escape"]
    lines = [f"{'kind':14}" + "".join(f"{name:>10}" for name in outcomes) + f"{'all':>10}"]
    for kind in KINDS:
        row = [counts[kind, outcome] for outcome in outcomes]
        lines.append(f"{kind:14}" + "".join(f"{n:10,}" for n in row) + f"{sum(row):10,}")
    lines.append(
        f"{'all':14}"
        + "".join(f"{sum(counts[k, o] for k in KINDS):10,}" for o in outcomes)
        + f"{sum(counts.values()):10,}"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run cases; print the findings and a table. The number of findings decides the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first case of each kind")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds that a case may take")
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--only", nargs=2, metavar=("KIND", "INDEX"))
    parser.add_argument("--findings", type=Path, help="write the findings here, a JSON object per line")
    args = parser.parse_args(argv)
    before, here = os.environ.copy(), os.getcwd()
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    try:
        with tempfile.TemporaryDirectory(prefix="latentcell-fuzz-") as name:
            return _run(args, Path(name))
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(here)


def _run(args: argparse.Namespace, folder: Path) -> int:
    fork = get_context("fork")
    _cells._PATIENCE = args.limit / 3  # a file that HDF5 never ends with is a case that is refused
    first = fork.Process(target=prepare, args=(folder,))  # no threads in this process, which is forked
    first.start()
    first.join()
    if args.only:
        signal.signal(signal.SIGALRM, _ring)
        work = _work_folder(folder)
        found = run_case(
            args.only[0], int(args.only[1]), args.seed, read_pristine(folder), work, Guard(work), args.limit
        )
        print(*found, sep="\n")
        os.chdir("/")
        return 0
    counts: collections.Counter = collections.Counter()
    findings: dict[str, list[tuple]] = collections.defaultdict(list)
    start = time.monotonic()
    for kind, number, outcome, detail in run_cases(
        plan(args.cases, args.kind, args.start),
        args.seed,
        folder,
        args.limit,
        start + 60 * args.minutes,
        args.workers,
    ):
        counts[kind, outcome] += 1
        if outcome not in ("refused", "answered"):
            findings[f"{kind}: {outcome}: {_place(detail)}"].append((number, detail))
            if args.findings:
                with open(args.findings, "a", encoding="utf-8") as file:
                    print(json.dumps([kind, number, outcome, detail]), file=file)
        if sum(counts.values()) % 5000 == 0:
            took, n_found = time.monotonic() - start, sum(map(len, findings.values()))
            print(
                f"{sum(counts.values()):,} cases, {took:.0f} s, {n_found} findings",
                file=sys.stderr,
                flush=True,
            )
    for title, found in sorted(findings.items(), key=lambda item: -len(item[1])):
        print(f"{len(found)} x {title}\n    first: number {found[0][0]}")
    print(summary(counts))
    print(f"{time.monotonic() - start:.0f} s, seed {args.seed}")
    return 1 if findings else 0


def _place(detail: str) -> str:
    """The last line of a traceback, and the last place in our own code."""
    lines = detail.strip().splitlines()
    places = [
        line.strip()
        for line in lines
        if 'File "' in line and "latentcell" in line and "benchmarks" not in line
    ]
    place = places[-1].split("latentcell/")[-1] if places else ""
    return f"{lines[-1][:160] if lines else ''} @ {place}"


if __name__ == "__main__":
    sys.exit(main())
