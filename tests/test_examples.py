"""Every public example can be pasted into a notebook after ``adata = lc.datasets.pbmc68k()``.

That an example runs and is right is shown where all docstrings are run; there it sees the names of its
module. Here it sees ``lc``, ``np``, ``sc`` and ``adata`` alone.
"""

import builtins
import doctest
import inspect
import symtable
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module

import numpy as np
import pytest
import scanpy as sc

import latentcell as lc

ROOMS = ["datasets", "metrics", "model", "pl", "pp", "testing", "tl"]
PASTED = {"lc", "np", "sc", "adata"}
WITHOUT = {"model.LatentJacobian", "testing.ContractError"}
"""What is given and never made by users: a result, an error."""


def documented() -> Iterator[tuple[str, str]]:
    """Name and docstring of everything public, methods of classes included."""
    for room in ROOMS:
        module = import_module(f"latentcell.{room}")
        for name in module.__all__:
            thing = getattr(module, name)
            yield f"{room}.{name}", inspect.getdoc(thing) or ""
            if inspect.isclass(thing):
                for member, value in inspect.getmembers(thing):
                    own = "latentcell" in (getattr(value, "__module__", None) or "")
                    if own and not member.startswith("_") and callable(value):
                        yield f"{room}.{name}.{member}", inspect.getdoc(value) or ""


EXAMPLES = {
    name: found
    for name, text in documented()
    if (found := doctest.DocTestParser().get_doctest(text, {}, name, None, 0)).examples
}
OF_NAMES = {name: example for name, example in EXAMPLES.items() if name.count(".") == 1}


def test_every_public_name_has_an_example():
    names = {name for name, _ in documented() if name.count(".") == 1}
    assert names - set(EXAMPLES) == WITHOUT


def unknown_names(code: str) -> set[str]:
    """Names that code uses and that neither it nor what was pasted before it makes."""
    top = symtable.symtable(code, "<example>", "exec")
    tables, used = [top], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table is top):
                used.add(symbol.get_name())
    made = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return used - made - PASTED - set(dir(builtins))


def test_names_that_nothing_made_are_found():
    assert unknown_names(
        "import os\nx = [os.sep + y for y in z]\ndef f(a): return a + b\nf(lc.tl, len(x))"
    ) == {"z", "b"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_makes_all_that_it_uses(name):
    assert unknown_names("".join(example.source for example in EXAMPLES[name].examples)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_NAMES)
def test_an_example_runs_in_a_fresh_notebook(name):
    test = OF_NAMES[name]
    test.globs = {"lc": lc, "np": np, "sc": sc, "adata": lc.datasets.pbmc68k()}
    for example in test.examples:  # what it prints is compared where all docstrings are run
        if example.options.get(doctest.SKIP):
            continue
        raises = nullcontext() if example.exc_msg is None else pytest.raises(Exception)  # noqa: PT011
        with raises:
            exec(compile(example.source, f"<{name}>", "single"), test.globs)
