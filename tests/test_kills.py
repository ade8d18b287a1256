"""Kills need a process of their own: a fork of one whose thread pools have begun may hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and limits on the size of files")
def test_whenever_a_process_is_killed_nothing_is_lost_or_wrong():
    tests = Path(__file__).with_name("kills_by_themselves.py")
    alone = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    alone = {name: value for name, value in alone.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "5 passed" in done.stdout
