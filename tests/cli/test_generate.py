"""``latentcell generate``: the cells are those of ``model.generate``, files are whole, names are names."""

from typing import get_args

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell import cli
from latentcell._errors import DataError
from latentcell.cli import _arguments, _generate


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def training(counts) -> ad.AnnData:
    """Labels with a ``=`` in one of them, three quarters and a quarter of the cells; batches 1 and 2."""
    adata = counts.copy()
    adata.obs["kind"] = pd.Categorical(np.where(np.arange(60) % 4 == 0, "CD4=low", "T cells"))
    adata.obs["run"] = pd.Categorical(np.arange(60) % 2 + 1)
    adata.var["chromosome"] = "X"
    return adata


@pytest.fixture(scope="module")
def folder(training, tmp_path_factory):
    """A saved CVAE, and a file of the cells it was trained on."""
    folder = tmp_path_factory.mktemp("generate")
    adata = training.copy()
    lc.model.CVAE.setup_anndata(adata, labels_key="kind", batch_key="run")
    model = lc.model.CVAE(adata, n_latent=3, gene_likelihood="nb")
    model.train(max_epochs=2, train_size=1.0, enable_progress_bar=False)
    model.save(folder / "cvae")
    training.write_h5ad(folder / "cells.h5ad")
    return folder


def assert_same_cells(a: ad.AnnData, b: ad.AnnData) -> None:
    np.testing.assert_array_equal(a.X.toarray(), b.X.toarray())
    pd.testing.assert_frame_equal(a.obs, b.obs, check_dtype=False, check_categorical=False)
    pd.testing.assert_frame_equal(a.var, b.var)
    np.testing.assert_array_equal(a.obsm["X_cvae"], b.obsm["X_cvae"])


@pytest.mark.parametrize("name", ["new.h5ad", "new.zarr"])
def test_cells_are_those_of_the_model(folder, tmp_path, capsys, name):
    out = tmp_path / "deep" / name
    assert run("generate", folder / "cvae", "-n", 30, "--seed", 4, "-o", out, "--quiet") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"cells   {out}   30 cells x 40 genes\n", "")
    assert list(out.parent.iterdir()) == [out]
    new = ad.read_h5ad(out) if out.suffix == ".h5ad" else ad.read_zarr(out)
    assert_same_cells(new, lc.model.load(folder / "cvae").generate(30, seed=4))
    assert sparse.issparse(new.X)
    assert new.X.sum() > 0
    np.testing.assert_array_equal(new.X.data, np.round(new.X.data))
    assert new.obs["is_generated"].all()
    assert new.uns["latentcell"]["model"] == "CVAE"
    assert new.uns["latentcell"]["seed"] == 4


def test_as_many_as_in_training_without_a_number(folder, tmp_path, capsys):
    assert run("generate", folder / "cvae", "-o", tmp_path / "new.h5ad", "--quiet") == 0
    assert capsys.readouterr().out.endswith("   60 cells x 40 genes\n")
    assert ad.read_h5ad(tmp_path / "new.h5ad").n_obs == 60


def test_numbers_by_label(folder, tmp_path):
    out = tmp_path / "new.h5ad"
    labels = ["--label", "CD4=low=7", "--label", "T cells=3"]
    assert run("generate", folder / "cvae", *labels, "-o", out, "--quiet") == 0
    new = ad.read_h5ad(out)
    assert new.obs["kind"].tolist() == ["CD4=low"] * 7 + ["T cells"] * 3
    assert_same_cells(
        new, lc.model.load(folder / "cvae").generate(labels={"CD4=low": 7, "T cells": 3}, seed=0)
    )


def test_the_others_are_as_in_training(folder, tmp_path):
    out = tmp_path / "new.h5ad"
    assert run("generate", folder / "cvae", "-n", 2000, "--label", "CD4=low=500", "-o", out, "--quiet") == 0
    sizes = ad.read_h5ad(out).obs["kind"].value_counts()
    assert sizes.sum() == 2000
    # 500, and a quarter of the 1,500 others: 375, with a standard deviation of 17
    assert abs(sizes["CD4=low"] - 875) < 5 * 17
    assert (
        run(
            "generate", folder / "cvae", "-n", 9, "--label", "CD4=low=9", "-o", tmp_path / "9.h5ad", "--quiet"
        )
        == 0
    )
    assert ad.read_h5ad(tmp_path / "9.h5ad").obs["kind"].tolist() == ["CD4=low"] * 9


def test_every_option_reaches_the_model(folder, tmp_path):
    (tmp_path / "genes.txt").write_text("gene7\n\n gene2 \n")
    options = {
        "batch": 2,
        "source": "prior",
        "library_size": 50.0,
        "temperature": 0.5,
        "genes": ["gene7", "gene2"],
        "output": "counts",
        "chunk_size": 8,
        "seed": 3,
    }
    given = {**options, "genes": tmp_path / "genes.txt"}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    found = {}
    for name, genes in (("file", []), ("list", ["--genes", "gene7,gene2"])):
        out = tmp_path / f"{name}.h5ad"
        assert run("generate", folder / "cvae", "-n", 20, *flags, *genes, "-o", out, "--quiet") == 0
        found[name] = ad.read_h5ad(out)
    expected = lc.model.load(folder / "cvae").generate(20, **options)
    assert_same_cells(found["file"], expected)
    assert_same_cells(found["list"], expected)
    assert list(expected.var_names) == ["gene7", "gene2"]
    assert set(found["file"].obs["run"]) == {2}  # the number, not its text
    assert (found["file"].obs["library_size"] == 50).all()


def test_means_have_no_noise(folder, tmp_path):
    out = tmp_path / "new.h5ad"
    arguments = ["-n", 5, "--temperature", 0, "--output", "mean", "--library-size", "sample", "-o", out]
    assert run("generate", folder / "cvae", *arguments, "--quiet") == 0
    x = ad.read_h5ad(out).X
    assert isinstance(x, np.ndarray)
    assert (x != np.round(x)).any()


def test_what_is_known_of_genes_comes_with_their_cells(folder, tmp_path):
    for name, data in (("with", ["--data", folder / "cells.h5ad"]), ("without", [])):
        out = tmp_path / f"{name}.h5ad"
        assert run("generate", folder / "cvae", "-n", 2, *data, "-o", out, "--quiet") == 0
    assert list(ad.read_h5ad(tmp_path / "with.h5ad").var) == ["chromosome"]
    assert list(ad.read_h5ad(tmp_path / "without.h5ad").var) == []


def test_it_says_what_it_does(folder, tmp_path, capsys):
    assert run("generate", folder / "cvae", "-n", 2, "-o", tmp_path / "new.h5ad") == 0
    steps = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()]
    assert steps == [f"{folder / 'cvae'}: loading libraries", "drawing cells of CVAE", "done"]


# --- what is there is kept ---


@pytest.mark.parametrize("name", ["new.h5ad", "new.zarr"])
def test_what_is_there_is_replaced_only_if_asked(folder, tmp_path, capsys, message, name):
    out = tmp_path / name
    assert run("generate", folder / "cvae", "-n", 2, "-o", out, "--quiet") == 0
    capsys.readouterr()
    assert run("generate", folder / "cvae", "-n", 3, "-o", out, "--quiet") == 1
    assert message() == f"latentcell: {out} exists: choose another name, or replace it with --overwrite"
    read = ad.read_h5ad if out.suffix == ".h5ad" else ad.read_zarr
    assert read(out).n_obs == 2
    # a run that fails leaves what is there
    assert run("generate", folder / "cvae", "--label", "B=1", "-o", out, "--overwrite", "--quiet") == 1
    assert "'B' unknown to the model; it knows ['CD4=low', 'T cells']" in message()
    assert read(out).n_obs == 2
    assert run("generate", folder / "cvae", "-n", 3, "-o", out, "--overwrite", "--quiet") == 0
    assert read(out).n_obs == 3
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_other_things_is_never_replaced(folder, tmp_path, message):
    out = tmp_path / "mine.zarr"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    assert run("generate", folder / "cvae", "-n", 3, "-o", out, "--overwrite", "--quiet") == 1
    assert "is a folder and no .zarr; it is left as it is" in message()
    assert (out / "thesis.txt").read_text() == "precious"


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label", "T cells"], "--label: 'T cells' is not NAME=NUMBER"),
        (["--label", "T cells=0"], "'T cells=0' is not NAME=NUMBER with a number of cells above 0"),
        (["--label", "T cells=-3"], "is not NAME=NUMBER"),
        (["--label", "=3"], "is not NAME=NUMBER"),
        (["--label", "T=3", "--label", "T=4"], "--label: 'T' is given twice"),
        (["-n", "0"], "0 is not a positive number"),
        (["--library-size", "-5"], "-5 is not a number of counts above 0"),
        (["--library-size", "nan"], "nan is not a number of counts above 0"),
        (["--library-size", "median"], "invalid library_size value: 'median'"),
        (["--genes", "gene1,,gene2"], "is not a list of names"),
        (["--source", "moon"], "invalid choice: 'moon'"),
        (["-o", "new.csv"], "new.csv must end in .h5ad or .zarr"),
    ],
    ids=str,
)
def test_wrong_usage(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        run("generate", "model", "-o", "new.h5ad", *arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label", "B cells=3"], "labels: 'B cells' unknown to the model"),
        (["-n", 10, "--label", "B cells=3"], "labels: 'B cells' unknown to the model"),
        (["-n", 10, "--label", "T cells=11"], "--label names 11 cells, more than -n 10"),
        (["--batch", "3"], "batch: '3' is not a batch; there are [1, 2]"),
        (["--genes", "CD3D"], "CD3D"),
        (["--temperature", "-1"], "temperature must be 0 or more"),
    ],
    ids=str,
)
def test_what_the_model_cannot_do(folder, tmp_path, message, arguments, words):
    out = tmp_path / "new" / "new.h5ad"
    assert run("generate", folder / "cvae", *arguments, "-o", out, "--quiet") == 1
    assert words in message()
    assert not out.exists()


def test_no_model(tmp_path, message):
    assert run("generate", tmp_path / "none", "-o", tmp_path / "new.h5ad") == 1
    assert "none is not a folder: name one that `latentcell train -o` has written" in message()
    assert run("generate", tmp_path, "-o", tmp_path / "new.h5ad", "--quiet") == 1
    assert "is not a saved model" in message()


def test_options_that_a_model_does_not_have():
    class Shuffle:
        def generate(self, n_cells=None, *, labels=None, genes=None): ...

    _generate._check_options(Shuffle(), ["genes"])
    with pytest.raises(DataError, match="Shuffle has no --library-size; leave it out"):
        _generate._check_options(Shuffle(), ["genes", "library_size"])


def test_choices_are_those_of_the_library():
    from latentcell.model._generation import Output, Source

    assert set(_arguments.SOURCES) == set(get_args(Source))
    assert set(_arguments.OUTPUTS) == set(get_args(Output))
