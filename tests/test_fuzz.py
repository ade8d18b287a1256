"""A small run of benchmarks/fuzz.py: no case may end in anything but a clear error or a right answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
def test_broken_models_files_and_commands_are_refused_or_answered():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(FUZZ), "--cases", "150", "--seed", "7", "--limit", "120"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    numbers = [int(n) for n in re.search(r"^all +([\d ,]+)$", done.stdout, flags=re.MULTILINE)[1].split()]
    assert numbers[-1] == 150
    assert numbers[0] > 50
    assert numbers[1] > 10
