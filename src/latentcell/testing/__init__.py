"""The contract that every model keeps, for models of your own: :func:`check_model`; loaded on first use.

A check is a plain function of a :class:`Case` that raises an `AssertionError` naming the promise that is
broken. :func:`check_model` runs all that apply to a model class; a test suite runs them one by one::

    case = lc.testing.Case(MyModel)


    @pytest.mark.parametrize("check", lc.testing.checks_of(case), ids=lambda check: check.__name__)
    def test_contract(check):
        check(case)
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "CHECKS": "_suite",
    "Case": "_case",
    "ContractError": "_suite",
    "check_model": "_suite",
    "checks_of": "_suite",
    "make_cells": "_cells",
}

__all__ = ["Case", "ContractError", "check_model", "checks_of", "make_cells"]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    if name.startswith("check_"):
        for check in import_module(f"{__name__}._suite").CHECKS:
            if check.__name__ == name:
                return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
