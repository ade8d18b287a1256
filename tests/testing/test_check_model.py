"""How checks are found, chosen and run."""

import warnings

import pandas as pd
import pytest

import latentcell as lc
from latentcell.testing import _suite
from latentcell.testing._case import CAPABILITIES


def test_every_check_function_is_in_the_suite():
    rooms = [
        module for module in vars(_suite).values() if getattr(module, "CHECKS", None) and module != _suite
    ]
    written = {
        value
        for room in rooms
        for name, value in vars(room).items()
        if name.startswith("check_") and value.__module__ == room.__name__
    }
    assert len(lc.testing.CHECKS) == len(set(lc.testing.CHECKS)) > 80
    assert set(lc.testing.CHECKS) == written
    for check in lc.testing.CHECKS:
        assert check.__doc__
        assert set(getattr(check, "needs", ())) <= set(CAPABILITIES)
        assert getattr(lc.testing, check.__name__) is check


def test_capabilities_are_told_by_methods():
    table = {}
    for name in ("VAE", "AE", "GeneShuffle"):
        case = lc.testing.Case(getattr(lc.model, name))
        table[name] = [case.can(capability) for capability in ("encode", "posterior", "epochs")]
    assert table == {"VAE": [True] * 3, "AE": [True, False, True], "GeneShuffle": [False] * 3}
    assert (
        "get_normalized_expression" not in lc.testing.Case(lc.model.GeneShuffle).results
    )  # scvi-tools' stub


def test_failures_are_all_named():
    def check_one(case):
        raise AssertionError("a promise is broken")

    def check_two(case):
        raise KeyError("batch")

    def check_three(case):
        warnings.warn("nobody sees this", stacklevel=1)

    def check_four(case):
        raise AssertionError("never runs")

    check_four.needs = ("encode",)
    with pytest.raises(lc.testing.ContractError, match="GeneShuffle fails 2 of 3 checks") as caught:
        lc.testing.check_model(lc.model.GeneShuffle, checks=[check_one, check_two, check_three, check_four])
    assert isinstance(caught.value, AssertionError)
    assert "check_one: a promise is broken" in str(caught.value)
    assert "check_two: KeyError: 'batch'" in str(caught.value)
    expected = pd.DataFrame(
        {
            "check": ["check_one", "check_two", "check_three", "check_four"],
            "outcome": ["failed", "failed", "passed", "not applicable"],
            "message": ["a promise is broken", "KeyError: 'batch'", "", ""],
        }
    )
    pd.testing.assert_frame_equal(caught.value.table, expected)


def test_unknown_checks_and_names_are_refused():
    with pytest.raises(ValueError, match=r"no checks \['check_nothing'\]"):
        lc.testing.check_model(lc.model.GeneShuffle, checks=["check_nothing"])
    with pytest.raises(AttributeError, match="check_nothing"):
        lc.testing.check_nothing  # noqa: B018
