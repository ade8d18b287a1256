"""Processes that are killed while they write: a small part of benchmarks/kills.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("needs fork and limits on the size of files", allow_module_level=True)

SOURCE = Path(__file__).parents[1] / "benchmarks" / "kills.py"


@pytest.fixture(scope="module")
def kills():
    spec = importlib.util.spec_from_file_location("kills", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["kills"]


@pytest.fixture(scope="module")
def cases(kills):
    return kills.cases()


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("save with cells over another with cells", 3),
        ("generate to .h5ad", 1),
        ("train VSC, checkpoints", 5),
        ("latentcell embed", 2),
    ],
)
def test_whenever_it_is_killed_nothing_is_lost_or_wrong(kills, cases, name, step, tmp_path):
    """The judge asserts that what is left is what was or what is to be, and goes on with it."""
    judge = kills.Judge(cases[name], tmp_path / "case")
    assert judge.after != judge.before
    calls = range(judge.calls, 0, -step)
    assert len(calls) >= 3
    for k in calls:
        assert judge.kill(f"call {k}")
    assert judge.tally.resumed == judge.tally.kills == len(calls)
    largest = judge.sizes[-1]
    assert judge.kill("half a file", kills.beyond_size(largest // 2))
    assert judge.fill(largest // 2)


def test_a_judge_sees_what_is_wrong(kills, tmp_path):
    """A writer that is not whole at any time is found out: text that is written in place."""

    def write(folder):
        with open(folder / "a.txt", "w") as file:
            file.write("half of ")
            file.flush()
            with open(folder / "b.txt", "w") as other:
                other.write("b")
            file.write("it")

    judge = kills.Judge(kills.Case(lambda folder: None, write, kills.look), tmp_path / "case")
    assert judge.kill("call 1")
    with pytest.raises(AssertionError, match="wrong: {'a.txt'"):
        judge.kill("call 2")
    assert not judge.kill("call 3")  # there is none
    with pytest.raises(AssertionError, match="File too large"):
        judge.fill(4)
