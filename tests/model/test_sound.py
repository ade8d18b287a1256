"""Saved models that lie, with checksums that fit: refused before memory is asked for or anything is drawn."""

import hashlib
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import latentcell as lc
from latentcell._errors import DataError, ModelFileError
from latentcell.model import _record, _sound


def cells() -> ad.AnnData:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(3.0, size=(40, 8)).astype(np.float32) + 1)
    adata.obs_names, adata.var_names = [f"c{i}" for i in range(40)], [f"g{i}" for i in range(8)]
    adata.obs["label"] = pd.Categorical(np.array(["T", "B"])[np.arange(40) % 2])
    return adata


ARGUMENTS = {
    "VAE": {"n_latent": 2, "hidden": (4,)},
    "VSC": {"n_latent": 2, "hidden": (4,)},
    "GaussianCopula": {},
    "PCAGaussian": {"n_components": 3},
}


@pytest.fixture(scope="module")
def models():
    """Trained models by class. Not to be changed."""
    found = {}
    for name, arguments in ARGUMENTS.items():
        adata, Model = cells(), getattr(lc.model, name)
        Model.setup_anndata(adata, labels_key="label")
        found[name] = Model(adata, **arguments)
        epochs = {"max_epochs": 1} if "hidden" in arguments else {}
        found[name].train(**epochs, enable_progress_bar=False)
    return found


@pytest.fixture
def lie(models, tmp_path):
    """Save a model of a class with another record or other weights, and load it."""

    def try_it(name, record=None, weights=None):
        folder = tmp_path / "model"
        models[name].save(folder)
        (path,) = folder.glob("*.safetensors")
        values, text = load_file(path), json.loads((folder / "model.json").read_text())
        if weights is not None:
            weights(values)
            save_file({key: value.contiguous() for key, value in values.items()}, path)
        if record is not None:
            record(text)
        text |= {"format": 1, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        text.pop("checksum", None)
        (folder / "model.json").write_text(json.dumps(text))
        return lc.model.load(folder)

    return try_it


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_truth_is_taken(lie, models, name):
    np.testing.assert_array_equal(
        np.asarray(lie(name).generate(5, seed=1).X.sum()),
        np.asarray(models[name].generate(5, seed=1).X.sum()),
    )


def nested(depth):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["params"].update(n_latent=10**9), "do not fit weights of"),
        (lambda r: r["params"].update(hidden=[10**7, 10**7]), "do not fit weights of"),
        (lambda r: r["params"].update(hidden=[1] * 10**5), "do not fit weights of"),
        (lambda r: r["params"].update(n_latent=True), "must be positive whole numbers"),
        (lambda r: r["train_defaults"].update(lr="x"), "is no argument of train"),
        (lambda r: r["train_defaults"].update(colour=1), "train has no 'colour'"),
        (lambda r: r["registry"].update(x=nested(900)), "damaged"),
        (lambda r: r["registry"]["setup_args"].update(layer=[1]), "a key is not a name"),
    ],
)
def test_records(lie, change, message):
    with pytest.raises(ModelFileError, match=message):
        lie("VAE", record=change)


def test_a_record_of_no_model_is_not_read(lie, monkeypatch):
    """Reading a thousand million bytes of JSON, and its checksum, has no end to speak of."""
    monkeypatch.setattr(_record, "MOST_BYTES", 10_000)
    with pytest.raises(ModelFileError, match="no record of a model is so large"):
        lie("VAE", record=lambda r: r.update(x="x" * 10_000))


def field(name, **entries):
    return lambda r: r["registry"]["field_registries"][name]["state_registry"].update(entries)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (field("X", column_names={"array": ["g0"] * 8}), "genes are named twice"),
        (field("X", column_names={"array": [{"a": 1}] * 8}), "genes are no names"),
        (field("labels", categorical_mapping={"array": ["T", "T"]}), "labels are named twice"),
        (field("labels", categorical_mapping={"array": [1.5, float("nan")]}), "NaN is no number"),
    ],
)
@pytest.mark.parametrize("name", ["VAE", "PCAGaussian"])
def test_registries(lie, name, change, message):
    with pytest.raises(ModelFileError, match=message):
        lie(name, record=change)


@pytest.mark.parametrize("size", [0, -1, 10**6 + 1, 10**30])
@pytest.mark.parametrize("name", ["VAE", "DCA", "GAN"])
def test_layers_that_cannot_be_built_are_refused(name, size):
    """Torch speaks of an overflow, or of memory, and names no argument."""
    adata, Model = cells(), getattr(lc.model, name)
    Model.setup_anndata(adata)
    for arguments in ({"n_latent": size, "hidden": (4,)}, {"n_latent": 2, "hidden": (4, size)}):
        with pytest.raises(DataError, match=rf"must be positive, and at most 1,000,000, got .*{size}"):
            Model(adata, **arguments)


def test_a_unit_that_divides_nothing():
    _sound.check_unit("latent.unit", torch.tensor([0.1, 3.0]))
    _sound.check_unit("depth", torch.tensor([-1.0, 3.0]))
    for unit in (0.0, 1e-40, -1.0):
        with pytest.raises(ValueError, match="is no unit"):
            _sound.check_unit("depth", torch.tensor([0.1, unit]))


def enormous(prefix):
    def change(values):
        for name, value in values.items():
            if name.startswith(prefix) and name.endswith("weight"):
                value.fill_(3e38)

    return change


def first_of(prefix, value):
    def change(values):
        name = next(key for key in values if key.startswith(prefix) and "num_batches" not in key)
        values[name].view(-1)[0] = value

    return change


def last_of(name, value):
    return lambda values: values[name].__setitem__(-1, value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("VAE", first_of("encoder.", torch.nan), "encoder.* holds values that are not finite"),
        ("VAE", first_of("templates.covariates.labels", 7), "codes of categories that there are not"),
        ("VAE", first_of("templates.weight", -1.0), "cells weigh nothing"),
        ("VAE", first_of("templates.posterior.loc", torch.nan), "loc holds values that are not finite"),
        ("VAE", first_of("templates.posterior.scale", torch.inf), "scale holds values that are not finite"),
        ("VAE", lambda v: v.pop("templates.posterior.scale"), "scale"),
        ("VAE", lambda v: v.update({"templates.library": torch.ones(3)}), "weight has"),
        ("PCAGaussian", first_of("components", torch.nan), "components holds values that are not finite"),
        ("PCAGaussian", lambda v: v.update(center=v["center"][:-1]), "center is float64 of shape"),
        ("GaussianCopula", first_of("0.mean", -1.0), "negative mean or size"),
        ("GaussianCopula", first_of("0.genes", 99), "positions that there are not"),
        ("GaussianCopula", first_of("0.scores.indices", 10**6), "damaged"),
        ("GaussianCopula", last_of("0.scores.indptr", 0), "pointers"),
        ("GaussianCopula", first_of("0.mean", 2e307), "a mean beyond"),
        ("GaussianCopula", first_of("1.size", 1e-30), "a size beyond"),
        ("GaussianCopula", lambda v: v.update({"0.noise": v["0.noise"][:-1]}), "noise is float32 of shape"),
    ],
)
def test_weights(lie, name, change, message):
    with pytest.raises(ModelFileError, match=message):
        lie(name, weights=change)


@pytest.mark.parametrize("name", ["VAE", "VSC"])
def test_results_that_are_not_finite_are_not_given(lie, name):
    """Finite weights, so large that what comes out is not: the cell is named."""
    model = lie(name, weights=enormous("encoder."))
    with pytest.raises(DataError, match="what the model makes of cell 'c0' is NaN or infinite"):
        model.get_latent_representation(cells())


def test_new_cells_that_are_not_finite_are_not_given(lie):
    model = lie("VAE", weights=enormous("decoder."))
    with pytest.raises(DataError, match="a new cell is NaN or infinite"):
        model.generate(3)


def test_codes_that_their_unit_makes_infinite_are_not_given(lie):
    """Finite codes, finite units, and a quotient that is neither."""

    def change(values):
        values["latent.unit"].fill_(1e-29)
        for name in ("latent.heads.heads.mean.1.bias", "templates.posterior.loc"):
            values[name].fill_(1e15)
        values["templates.posterior.logits"].fill_(9.0)
        values["decoder.weight.mean"].fill_(-100.0)  # as good as 0

    model, adata = lie("VSC", weights=change), cells()
    for ask in ({}, {"hard": True}, {"give_mean": False}):
        with pytest.raises(DataError, match="what the model makes of cell 'c0' is NaN or infinite"):
            model.get_latent_representation(adata, **ask)
    with pytest.raises(DataError, match="what the model makes of a new cell is NaN or infinite"):
        model.generate(3, source="posterior")
    with pytest.raises(DataError, match="is NaN or infinite"):
        model.interpolate("T", "B", 2)


def test_the_first_bad_cell_is_named():
    values = torch.tensor([[1.0, 2.0], [3.0, torch.nan]])
    _sound.check_results(values[:1], ["a"])
    with pytest.raises(DataError, match="cell 'b'"):
        _sound.check_results(values, ["a", "b"])
    with pytest.raises(DataError, match="cannot be drawn"), _sound.drawing():
        torch.poisson(torch.tensor([-1.0]))
