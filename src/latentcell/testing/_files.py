"""Saved models: no pickle, the same bits after loading, clear words on a broken one."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from latentcell._errors import DataError, ModelFileError, NotTrainedError

from ._case import Case
from ._cells import make_cells
from ._promises import needs, promise, refused, same
from ._training import same_weights

CATEGORIES: dict[str, Any] = {
    "digits": np.array(["10", "9", "8"], dtype=object),
    "integers": np.array([10, 9, 8]),
    "floats": np.array([0.5, 2.0, 1.0]),
    "booleans": np.array([True, False, True]),
    "ordered categories": pd.Categorical(["10", "9", "8"], categories=["9", "10", "8"]),
    "not ASCII": np.array(["é", "日本", "a b/c\n'\""], dtype=object),
}
"""Names of batches, labels and donors as users have them."""


@contextmanager
def _saved(model: Any) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        yield Path(folder) / "model"


def same_model(case: Case, found: Any, expected: Any, broken: str) -> None:
    """Two models say the same of new cells, and draw the same ones."""
    for method in ("get_latent_representation", "get_reconstruction"):
        if hasattr(case.model, method):
            ours, theirs = (getattr(model, method)(case.new_cells) for model in (found, expected))
            same(ours, theirs, f"{broken}: {method}")
    if case.can("generate"):
        _same_draws(found, expected, broken)


def _same_draws(found: Any, expected: Any, broken: str) -> None:
    try:
        new = found.generate(20, seed=5)
    except DataError as error:  # a generator that keeps no cells says that it needs them
        if "load(dir, adata)" not in str(error):
            raise
        return
    other = expected.generate(20, seed=5)
    same(new.X, other.X, f"{broken}: drawn cells")
    promise(new.obs.equals(other.obs), f"{broken}: obs of drawn cells")
    for key in other.obsm:
        same(new.obsm[key], other.obsm[key], f"{broken}: obsm[{key!r}] of drawn cells")


# --- round trip ---


def check_a_loaded_model_is_the_saved_one_without_data(case: Case) -> None:
    """Codes, reconstructions and draws to the bit, in a model of the same class."""
    with _saved(case.informed) as folder:
        loaded = case.model.load(folder)
    promise(type(loaded) is case.model, f"load() gives a {type(loaded).__name__}")
    same_model(case, loaded, case.informed, "a loaded model is not the saved one")
    same_weights(loaded, case.informed, "a loaded model is not the saved one")
    if case.can("encode"):
        refused(
            lambda: loaded.get_latent_representation(),
            "loaded without cells; pass adata=",
            broken="a model loaded without cells does not say that it has none",
        )


def check_a_loaded_model_takes_cells(case: Case) -> None:
    """``load(dir, adata)`` attaches them, without writing to them; genes may be in another order."""
    with _saved(case.informed) as folder:
        cells = make_cells()[:, ::-1].copy()
        loaded = case.model.load(folder, cells)
        promise(loaded.adata is cells, "load(dir, adata) does not attach the cells themselves")
        written = [key for key in (*cells.obs, *cells.uns, *cells.obsm) if str(key).startswith("_scvi")]
        promise(not written, f"load(dir, adata) writes {written}")
        same(case.outcome(loaded), case.outcome(case.informed), "a loaded model reads its cells differently")
        refused(
            lambda: case.model.load(folder, cells[:, :5].copy()),
            "genes are not in adata.var_names",
            broken="cells without the model's genes can be attached",
        )


def check_everything_else_survives_saving(case: Case) -> None:
    """Arguments, training defaults, what it wants of cells, history."""
    with _saved(case.informed) as folder:
        loaded = case.model.load(folder)
    for name in ("params", "train_defaults", "spec", "gene_likelihood", "is_trained"):
        if hasattr(case.informed, name):
            found, expected = getattr(loaded, name), getattr(case.informed, name)
            promise(found == expected, f"{name} does not survive saving: {found!r} instead of {expected!r}")
    if hasattr(case.model, "get_architecture"):
        promise(
            loaded.get_architecture() == case.informed.get_architecture(),
            "the architecture does not survive saving",
        )
    histories = (loaded.history or {}, case.informed.history or {})
    promise(histories[0].keys() == histories[1].keys(), "the curves of the history do not survive saving")
    for name, frame in histories[1].items():
        pd.testing.assert_frame_equal(histories[0][name], frame, obj=f"history[{name!r}] after saving")
    module = getattr(loaded, "module", None)
    promise(module is None or not module.training, "a loaded network is in training mode")


def check_a_loaded_model_can_be_saved_again(case: Case) -> None:
    """To the same bytes."""
    with _saved(case.informed) as folder, _saved(case.model.load(folder)) as again:
        names = sorted(path.name for path in folder.iterdir())
        promise(names == sorted(path.name for path in again.iterdir()), "saving again writes other files")
        for name in names:
            equal = (folder / name).read_bytes() == (again / name).read_bytes()
            promise(equal, f"saving a loaded model again writes another {name}")


def check_a_loaded_model_can_be_trained_further(case: Case) -> None:
    """On cells that are attached to it."""
    with _saved(case.informed) as folder:
        loaded = case.model.load(folder, make_cells())
    before = case.outcome(loaded)
    case.fit(loaded, 1)
    after = case.outcome(loaded)
    promise(np.isfinite(after).all(), "a loaded model that is trained further is spoilt")
    if case.can("epochs"):
        promise(not np.array_equal(before, after), "training a loaded model further does nothing")


def check_an_untrained_model_stays_untrained(case: Case) -> None:
    """After saving and loading; then it can be trained."""
    with _saved(case.build(make_cells())) as folder:
        loaded = case.model.load(folder, make_cells())
    promise(loaded.history is None, "an untrained model has a history after saving")
    refused(
        lambda: case.outcome(loaded),
        broken="an untrained model counts as trained after saving",
        error=NotTrainedError,
    )
    case.fit(loaded, 1)
    promise(np.isfinite(case.outcome(loaded)).all(), "a model loaded untrained cannot be trained")


@needs("any data")
def check_models_of_other_data_survive_saving(case: Case) -> None:
    """Values between 0 and 1, and any numbers."""
    for layer in case.layers[1:]:
        model = case.train(make_cells(), {"layer": layer}, max_epochs=1)
        with _saved(model) as folder:
            same_model(case, case.model.load(folder), model, f"a model of layers[{layer!r}] after saving")


def check_cells_are_saved_beside_the_model_if_asked(case: Case) -> None:
    """As ``adata.h5ad``; the loaded model reads them as its own."""
    with TemporaryDirectory() as there:
        folder = Path(there) / "model"
        case.informed.save(folder, save_anndata=True)
        promise((folder / "adata.h5ad").is_file(), "save_anndata=True writes no adata.h5ad")
        loaded = case.model.load(folder, ad.read_h5ad(folder / "adata.h5ad"))
        same(case.outcome(loaded), case.outcome(case.informed), "cells saved beside a model are not its own")


def check_categories_of_any_kind_survive_saving(case: Case) -> None:
    """Numbers, booleans, text that looks like numbers, names outside ASCII: with their type and order."""
    for kind, values in CATEGORIES.items():
        cells, broken = make_cells(), f"categories ({kind}) do not survive saving"
        for key in ("batch", "label", "donor"):
            column = pd.Series(values, index=cells.obs_names[:3]).take(np.arange(60) % 3).to_numpy()
            categories = values.categories if isinstance(values, pd.Categorical) else None
            cells.obs[key] = column if categories is None else pd.Categorical(column, categories=categories)
        model = case.train(cells, case.keys, max_epochs=2, fit={"lr": 0.02})
        with _saved(model) as folder:
            loaded = case.model.load(folder)
            attached = case.model.load(folder, cells)
        same(case.outcome(attached), case.outcome(model), broken)
        if hasattr(model, "spec"):
            promise(loaded.spec == model.spec, f"{broken}: spec")
            known = loaded.spec.batch
            promise(known is None or set(known) == set(values), f"{broken}: {known}")
        if case.can("reconstruct"):
            subset = cells[cells.obs["batch"] == values[1]].copy()
            same(loaded.get_reconstruction(subset), model.get_reconstruction(subset), broken)
        if case.can("generate"):
            new = attached.generate(40, seed=0)
            found, known = set(new.obs["batch"]), set(np.asarray(values).tolist())
            promise(found <= known, f"{broken}: drawn cells have {found}")
            kinds = {type(v) for v in new.obs["batch"]}
            promise(kinds <= {type(v) for v in cells.obs["batch"]}, f"{broken}: they come back as {kinds}")


# --- what is in the folder ---


def check_the_folder_holds_no_pickle(case: Case) -> None:
    """Neither pickle nor what ``torch.save`` writes nor anything that can be run; loading runs no code."""
    with _saved(case.informed) as folder:
        for file in folder.rglob("*"):
            head = file.read_bytes()[:9]
            # safetensors begin with the length of their JSON, whose first byte may be that of a pickle
            pickled = head[:1] == b"\x80" and head[8:] != b"{"
            unsafe = zipfile.is_zipfile(file) or pickled or os.access(file, os.X_OK)
            promise(not unsafe, f"{file.name} is a pickle, an archive or a program")


def check_an_existing_folder_is_replaced_only_if_asked(case: Case) -> None:
    """By ``overwrite=True``; what is not a model is never replaced."""
    with _saved(case.informed) as folder:
        refused(
            lambda: case.trained.save(folder),
            "pass overwrite=True",
            broken="save() replaces a model unasked",
            error=FileExistsError,
        )
        same_model(case, case.model.load(folder), case.informed, "a refused save() changes the model there")
        case.trained.save(folder, overwrite=True)
        cells = make_cells()
        found, expected = case.outcome(case.model.load(folder, cells)), case.outcome(case.trained)
        same(found, expected, "overwrite=True does not replace the model")
        left = [path.name for path in folder.parent.iterdir()]
        promise(left == ["model"], f"overwrite=True leaves {left}")
        thesis = folder.parent / "thesis"
        thesis.mkdir()
        (thesis / "chapter1.tex").write_text("In the beginning")
        refused(
            lambda: case.trained.save(thesis, overwrite=True),
            "not a saved model; it is left as it is",
            broken="save() replaces a folder that is no model",
            error=FileExistsError,
        )
        promise(
            [path.name for path in thesis.iterdir()] == ["chapter1.tex"], "save() writes among other files"
        )


# --- refusals ---


def check_another_class_is_refused_by_name(case: Case) -> None:
    """The error says which class was saved."""
    from latentcell.model import GeneShuffle, PCAGaussian

    other = PCAGaussian if case.name == "GeneShuffle" else GeneShuffle
    cells = make_cells()
    other.setup_anndata(cells)
    with _saved(other(cells)) as folder:
        refused(
            lambda: case.model.load(folder),
            f"holds a {other.__name__}, not a {case.name}",
            broken="a model of another class is loaded",
            error=ModelFileError,
        )


def check_what_is_not_a_model_is_refused(case: Case) -> None:
    """A folder that is not there, and an empty one."""
    with TemporaryDirectory() as there:
        for path in (Path(there) / "nowhere", Path(there)):
            refused(
                lambda path=path: case.model.load(path),  # type: ignore[misc]
                "is not a saved model",
                broken="a folder without a model is loaded",
                error=ModelFileError,
            )


def check_damaged_files_are_refused(case: Case) -> None:
    """A file that is cut, emptied, taken away, or has one bit changed."""
    with _saved(case.informed) as folder:
        for file in sorted(folder.iterdir()):
            whole = file.read_bytes()
            damages: dict[str, bytes | None] = {"cut": whole[: len(whole) // 2], "emptied": b"", "gone": None}
            if file.suffix != ".json":  # text may say the same with other bytes
                damages |= {"one bit": whole[:-1] + bytes([whole[-1] ^ 1]), "cut at the end": whole[:-4]}
            for how, damaged in damages.items():
                file.unlink() if damaged is None else file.write_bytes(damaged)
                refused(
                    lambda: case.model.load(folder),
                    broken=f"a model whose {file.name} is damaged ({how}) is loaded",
                    error=ModelFileError,
                )
                file.write_bytes(whole)
        case.model.load(folder)


CHECKS = (
    check_a_loaded_model_is_the_saved_one_without_data,
    check_a_loaded_model_takes_cells,
    check_everything_else_survives_saving,
    check_a_loaded_model_can_be_saved_again,
    check_a_loaded_model_can_be_trained_further,
    check_an_untrained_model_stays_untrained,
    check_models_of_other_data_survive_saving,
    check_cells_are_saved_beside_the_model_if_asked,
    check_categories_of_any_kind_survive_saving,
    check_the_folder_holds_no_pickle,
    check_an_existing_folder_is_replaced_only_if_asked,
    check_another_class_is_refused_by_name,
    check_what_is_not_a_model_is_refused,
    check_damaged_files_are_refused,
)
