"""Nothing is written but scvi-tools' slots at set-up, and the cells can be used as before."""

from copy import deepcopy
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata as ad

from ._case import Case
from ._cells import fingerprint, make_cells
from ._promises import needs, promise, same

OURS = "_scvi"
"""Prefix of the slots that ``setup_anndata`` may write, as for every model of scvi-tools."""


def _unchanged(found: dict, expected: dict, who: str) -> None:
    wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    promise(not wrong, f"{who} changes the AnnData: {', '.join(wrong)}")


def check_set_up_writes_only_its_own_slots(case: Case) -> None:
    """``obs``, ``obsm`` and ``uns`` keys that begin with ``_scvi``; nothing that was there changes."""
    cells = make_cells()
    before = fingerprint(cells)
    case.model.setup_anndata(cells, **{**case.setup, **case.keys})
    _unchanged(fingerprint(cells, but=OURS), before, "setup_anndata")


def check_building_and_training_write_nothing(case: Case) -> None:
    """Neither a slot nor a value."""
    cells = make_cells()
    before = fingerprint(cells)
    model = case.build(cells, case.keys)
    _unchanged(fingerprint(cells, but=OURS), before, "building a model")
    slots = fingerprint(cells)
    held_out: dict[str, Any] = {"train_size": 0.8} if case.can("epochs") else {}
    case.fit(model, **held_out)
    _unchanged(fingerprint(cells), slots, "train()")


@needs("encode")
def check_looking_writes_nothing(case: Case) -> None:
    """At new cells, all or some."""
    cells = case.new_cells.copy()
    before = fingerprint(cells)
    for method in case.results:
        case.look(case.trained, method, cells)
        case.look(case.trained, method, cells, indices=[4, 2])
        _unchanged(fingerprint(cells), before, f"{method}()")


@needs("generate")
def check_generating_writes_nothing(case: Case) -> None:
    """New cells share nothing with the model's cells that could be changed through them."""
    model = case.train(make_cells(), case.keys)
    before = fingerprint(model.adata)
    new = model.generate(10)
    _unchanged(fingerprint(model.adata), before, "generate()")
    new.var["mark"] = 1
    new.obs["mark"] = 1
    new.X *= 0
    _unchanged(fingerprint(model.adata), before, "a change of new cells")


def check_the_cells_can_be_copied_pickled_and_written(case: Case) -> None:
    """After training, and what comes back has the same codes."""
    model = case.train(make_cells(), case.keys)
    if case.can("encode"):
        model.get_latent_representation()
    cells = model.adata
    expected = fingerprint(cells)
    with TemporaryDirectory() as folder:
        cells.write_h5ad(Path(folder) / "cells.h5ad")
        written = ad.read_h5ad(Path(folder) / "cells.h5ad")
    # what multiprocessing and joblib do with cells that another process is to see
    pickled = ForkingPickler.loads(ForkingPickler.dumps(cells))
    for how, other in (("copy()", cells.copy()), ("deepcopy", deepcopy(cells)), ("pickling", pickled)):
        _unchanged(fingerprint(other), expected, how)
    for how, other in (("pickling", pickled), ("writing and reading", written)):
        if case.can("encode"):
            found = model.get_latent_representation(other)
            same(found, model.get_latent_representation(), f"after {how} cells have other codes")
        again = case.train(other, case.keys)
        same(case.outcome(again), case.outcome(model), f"after {how} cells train another model")


CHECKS = (
    check_set_up_writes_only_its_own_slots,
    check_building_and_training_write_nothing,
    check_looking_writes_nothing,
    check_generating_writes_nothing,
    check_the_cells_can_be_copied_pickled_and_written,
)
