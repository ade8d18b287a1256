"""Profiles of hypothesis: few examples in the ordinary run, many with LATENTCELL_PROFILE=slow."""

import collections
import os

import pytest
from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("LATENTCELL_PROFILE", "ci")
MAX_EXAMPLES = {"ci": 4, "slow": 100}[PROFILE]
N_EXAMPLES: collections.Counter = collections.Counter()


@pytest.fixture(scope="session")
def profile():
    """Settings of hypothesis: the same examples at every ordinary run."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=MAX_EXAMPLES,
        deadline=None,
        derandomize=PROFILE == "ci",
        database=None,
        suppress_health_check=quiet,
    )


@pytest.fixture(scope="session")
def outcomes():
    """Counts of (function, outcome), which the profile ``slow`` tells at the end."""
    return N_EXAMPLES


def pytest_terminal_summary(terminalreporter):
    if PROFILE != "ci":
        groups: collections.Counter = collections.Counter()
        for (where, outcome), n in N_EXAMPLES.items():
            groups[
                ".".join(where.split(".")[:2]) if where.startswith("model") else where.split(".")[0], outcome
            ] += n
        for (group, outcome), n in sorted(groups.items()):
            terminalreporter.write_line(f"{group:30} {outcome:10} {n:8,}")
