"""What an import loads: each question is asked of a fresh Python, so that no other test has a say."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = [
    "anndata",
    "lightning",
    "matplotlib",
    "numpy",
    "pandas",
    "scanpy",
    "scipy",
    "scvi",
    "sklearn",
    "torch",
]


def fresh(code: str) -> str:
    """Standard output of `code` in a Python of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(code: str) -> set[str]:
    """Which of the heavy libraries are loaded after `code`."""
    tail = f"\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    return set(json.loads(fresh(code + tail).splitlines()[-1]))


def test_the_package_loads_no_library():
    assert loaded_by("import latentcell") == set()


def test_the_command_line_loads_no_library():
    assert loaded_by("import latentcell.cli") == set()
    assert (
        loaded_by("from latentcell.cli import main\ntry: main(['demo', '--help'])\nexcept SystemExit: pass")
        == set()
    )


@pytest.mark.parametrize("name", ["datasets", "metrics", "pl", "pp"])
def test_rooms_without_networks_load_no_torch(name):
    # all public names, as some of them may be imported on first use
    loaded = loaded_by(f"import latentcell as lc\n[getattr(lc.{name}, n) for n in dir(lc.{name})]")
    assert loaded.isdisjoint({"torch", "lightning", "scvi"})


@pytest.mark.parametrize("name", ["model", "testing", "tl"])
def test_rooms_with_networks_are_reached_from_the_package(name):
    assert fresh(f"import latentcell as lc\nprint(lc.{name}.__name__)").strip() == f"latentcell.{name}"


def test_import_is_fast():
    def seconds(code: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            fresh(code)
            times.append(time.perf_counter() - start)
        return min(times)

    # the promise is 0.3 s; the bound leaves room for a machine that is busy with other things
    assert seconds("import latentcell") - seconds("pass") < 1.0


def test_import_changes_nothing_global():
    code = """
import logging, random, warnings
root = logging.getLogger()
before = (list(warnings.filters), list(root.handlers), root.level, random.getstate())
import latentcell
after = (list(warnings.filters), list(root.handlers), root.level, random.getstate())
print(before == after)
"""
    assert fresh(code).strip() == "True"


def test_public_names():
    import latentcell as lc

    assert set(lc.__all__) <= set(dir(lc))
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_the_kind'"):
        lc.nothing_of_the_kind  # noqa: B018
    assert lc.__version__.count(".") == 2
