"""Small mistakes put into the source, one at a time: do the tests see them?

    python benchmarks/mutants.py [--sample 160] [--seed 0] [--results FILE]
    python benchmarks/mutants.py --again FILE

A mutant is the package with one change in ``nn/`` or ``metrics/``: a comparison, an operator, a sign, a
number, a condition or a truth value is another one, or an argument by name or a returned value is missing.
It is ``killed`` if a test fails, also by taking too long (``timeout``), and has ``survived`` if none does.
Texts, type hints and what is raised stay as they are.

The tests are those of ``tests/nn``, ``tests/metrics`` and ``tests/properties`` and the examples of the two
folders. They are run once with coverage; a mutant is then given the tests that execute its line, quick ones
first (all tests of its file, where the line runs at import or in compiled code). Each is run in a fork of
this process, into which all libraries are loaded; nothing is written to the source. ``--again`` runs those
that an earlier run did not see killed again.
"""

import argparse
import ast
import collections
import copy
import importlib
import importlib.machinery
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import numba
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src/latentcell/nn", "src/latentcell/metrics")
TESTS = ("tests/nn", "tests/metrics", "tests/properties/test_maths.py", *FOLDERS)
LIBRARIES = ("anndata", "ot", "pandas", "scanpy", "scipy.stats", "scvi", "sklearn", "torch")
PATIENCE, GRACE = 5.0, 60.0
OUTCOMES = {0: "survived", 1: "killed", 2: "killed"}
"""By exit code of pytest: 2 is a mutant that cannot be imported; one that crashes is killed as well. The rest
is an error of ours."""

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


class Mutant(NamedTuple):
    """A change: the file, the node by its number in the walk through the tree, and which of its changes."""

    file: str
    node: int
    change: int
    line: int
    text: str


# --- what can be changed ---


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a tree in order, without type hints, decorators, texts and what is raised."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params") or isinstance(node, ast.Raise):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from walk(child)


def changes(node: ast.AST) -> list[ast.AST]:
    """Nodes to put in the place of one."""
    found: list[ast.AST] = []
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            found.append(_with(node, ops=[COMPARISONS[type(op)]()]))
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in OPERATORS:
            found.append(_with(node, op=OPERATORS[type(op)]()))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            found.append(operand)
        case ast.Constant(value=bool(value)):
            found.append(ast.Constant(not value))
        case ast.Constant(value=int(value) | float(value)):
            found += [ast.Constant(value + 1), ast.Constant(value - 1)]
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            found.append(_with(node, test=ast.UnaryOp(ast.Not(), test)))
        case ast.Return(value=ast.AST()):
            found.append(ast.Return(ast.Constant(None)))
        case ast.Call(keywords=keywords):
            for i, keyword in enumerate(keywords):
                if keyword.arg is not None:
                    found.append(_with(node, keywords=keywords[:i] + keywords[i + 1 :]))
    return found


def _with(node: Any, **fields: Any) -> Any:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def mutants_of(file: str) -> list[Mutant]:
    """All mutants of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return [
        Mutant(file, i, j, node.lineno, f"{_short(node)}  ->  {_short(other)}")
        for i, node in enumerate(walk(tree))
        for j, other in enumerate(changes(node))
    ]


def found_again(mutant: Mutant) -> list[Mutant]:
    """A mutant of an earlier run in the file as it is now: the nearest of its text; none if it is gone."""
    same = [now for now in mutants_of(mutant.file) if now.text == mutant.text]
    return sorted(same, key=lambda now: abs(now.line - mutant.line))[:1]


def _short(node: ast.AST) -> str:
    lines = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} ..."


def code_of(mutant: Mutant) -> Any:
    """The compiled file with the change in it."""
    path = ROOT / mutant.file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next(node for i, node in enumerate(walk(tree)) if i == mutant.node)
    other = ast.copy_location(changes(node)[mutant.change], node)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, other)
            elif isinstance(value, list):
                value[:] = [other if child is node else child for child in value]
    return compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True)


# --- which tests see a line ---


class Seen(NamedTuple):
    """Tests by (file, line) and by file, and how long each takes."""

    by_line: dict[tuple[str, int], set[str]]
    by_file: dict[str, set[str]]
    seconds: dict[str, float]


def look(folder: Path) -> Seen:
    """What the tests execute; they are run once with coverage, if `folder` does not hold that yet."""
    data, report = folder / "coverage", folder / "report"
    if not data.exists():
        _run_all(data, report, folder / "rc")
    seconds: dict[str, float] = collections.Counter()
    for took, test in re.findall(r"^([\d.]+)s (?:call|setup) +(.*)$", report.read_text(), re.MULTILINE):
        seconds[test] += float(took)
    found, by_line, by_file = coverage.CoverageData(str(data)), {}, {}
    found.read()
    for path in found.measured_files():
        name = str(Path(path).relative_to(ROOT))
        for line, contexts in found.contexts_by_lineno(path).items():
            by_line[name, line] = {context.rpartition("|")[0] for context in contexts if context}
        by_file[name] = set().union(*(tests for (file, _), tests in by_line.items() if file == name))
    return Seen(by_line, by_file, seconds)


def _run_all(data: Path, report: Path, settings: Path) -> None:
    settings.write_text(f"[run]\ndata_file = {data}\n")
    command = [sys.executable, "-m", "pytest", *TESTS, "-q", "-n", "0", "-p", "no:cacheprovider"]
    options = ["--durations=0", "--durations-min=0", "-vv", "--cov-context=test", "--cov-report="]
    options += [f"--cov={ROOT / name}" for name in FOLDERS] + [f"--cov-config={settings}"]
    with open(report, "w", encoding="utf-8") as file:
        if subprocess.run(command + options, cwd=ROOT, stdout=file, stderr=file).returncode:
            sys.exit("tests fail without any change:\n" + report.read_text()[-3000:])


def tests_for(mutant: Mutant, seen: Seen) -> list[str]:
    """Tests that execute the changed line, or else anything of the file; quick ones first."""
    tests = seen.by_line.get((mutant.file, mutant.line)) or seen.by_file.get(mutant.file, set())
    return sorted(tests, key=lambda test: (seen.seconds[test], test))


# --- trying a mutant ---


def attempt(mutant: Mutant | None, tests: list[str], limit: float, folder: Path) -> str:
    """Run tests against a mutant, or the package as it is, in a fork of this process."""
    if not tests:
        return "survived"
    child = os.fork()
    if child == 0:
        code = 3
        try:
            code = _run(mutant, tests, folder)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return OUTCOMES.get(code, "killed" if code < 0 else "error")
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _run(mutant: Mutant | None, tests: list[str], folder: Path) -> int:
    out = os.open(folder / "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(ROOT)
    if mutant is not None:
        _change(mutant, folder)
    # files among the arguments would be rewritten, and read for that, by pytest
    return int(
        pytest.main(
            ["--assert=plain", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", *tests]
        )
    )


def _change(mutant: Mutant, folder: Path) -> None:
    """Let this process import the changed file in place of the one on disk."""
    if "compiled" in (ROOT / mutant.file).read_text(encoding="utf-8"):
        numba.config.CACHE_DIR = tempfile.mkdtemp(dir=folder)  # the usual one knows files, not changes
    path, code, get_code = (
        str(ROOT / mutant.file),
        code_of(mutant),
        importlib.machinery.SourceFileLoader.get_code,
    )

    def changed(self: Any, name: str) -> Any:
        return code if self.path == path else get_code(self, name)

    importlib.machinery.SourceFileLoader.get_code = changed  # type: ignore[method-assign]


def main(argv: list[str] | None = None) -> int:
    """Try a sample of mutants; print those that survived, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="write every mutant here, a JSON object per line")
    parser.add_argument(
        "--folder", type=Path, help="keep here, and take from here, which tests run which lines"
    )
    parser.add_argument("--again", type=Path, help="only those in this file of results that were not killed")
    args = parser.parse_args(argv)
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT / "src")}
    sys.path.insert(0, str(ROOT / "src"))
    for name in LIBRARIES:
        importlib.import_module(name)
    if args.again:
        results = [json.loads(line) for line in args.again.read_text(encoding="utf-8").splitlines()]
        chosen = [
            now for old, outcome, _ in results if outcome != "killed" for now in found_again(Mutant(*old))
        ]
    else:
        files = [
            str(path.relative_to(ROOT)) for name in FOLDERS for path in sorted((ROOT / name).glob("*.py"))
        ]
        known = [mutant for file in files for mutant in mutants_of(file)]
        rng = np.random.default_rng(args.seed)
        chosen = [
            known[i] for i in np.sort(rng.choice(len(known), min(args.sample, len(known)), replace=False))
        ]
        print(f"{len(known):,} mutants, {len(chosen)} of them tried", flush=True)
    with tempfile.TemporaryDirectory(prefix="latentcell-mutants-") as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        return _try_all(chosen, folder, args.results)


def _try_all(chosen: list[Mutant], folder: Path, results: Path | None) -> int:
    start = time.monotonic()
    seen = look(folder)
    quick = sorted(seen.seconds, key=lambda test: seen.seconds[test])[:20]
    if attempt(None, quick, GRACE + PATIENCE, folder) != "survived":
        sys.exit("tests fail in a fork without any change:\n" + (folder / "out").read_text()[-3000:])
    counts: collections.Counter = collections.Counter()
    for mutant in chosen:
        before, tests = time.monotonic(), tests_for(mutant, seen)
        limit = GRACE + PATIENCE * sum(seen.seconds[test] for test in tests)
        outcome = attempt(mutant, tests, limit, folder)
        counts[mutant.file.split("/")[2], outcome] += 1
        if outcome == "survived":
            print(f"{mutant.file}:{mutant.line}: {mutant.text}  ({len(tests)} tests)", flush=True)
        if results:
            with open(results, "a", encoding="utf-8") as file:
                print(json.dumps([mutant, outcome, round(time.monotonic() - before, 1)]), file=file)
    print(f"{'folder':10}" + "".join(f"{name:>10}" for name in ("killed", "timeout", "survived", "error")))
    for name in ("nn", "metrics"):
        print(
            f"{name:10}"
            + "".join(f"{counts[name, o]:10}" for o in ("killed", "timeout", "survived", "error"))
        )
    print(f"{time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
