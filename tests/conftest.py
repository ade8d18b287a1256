import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import settings

# a case that is slow once (machine code is compiled at the first call) is no error
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data named by LATENTCELL_DATA; tests that ask for it are skipped without it."""
    folder = os.environ.get("LATENTCELL_DATA")
    if not folder:
        pytest.skip("LATENTCELL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _agg() -> None:
    matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _no_figures_left() -> Iterator[None]:
    """Figures that a test leaves open would be those of the tests after it, in the end too many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Tests send Ctrl-C to themselves; a shell that started them in the background has it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
