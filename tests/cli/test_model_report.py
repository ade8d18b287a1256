"""``latentcell report`` writes the page of ``lc.tl.report``, whole or not at all, and fails in one line."""

import re

import pytest

import latentcell as lc
from latentcell import cli


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vae"
    options = ["--layer", "counts", "--labels-key", "cell_type", "--train-size", "0.8"]
    assert (
        run(
            "train",
            cells,
            "--model",
            "vae",
            "-o",
            folder,
            "--epochs",
            1,
            "--n-latent",
            3,
            "--quiet",
            *options,
        )
        == 0
    )
    return folder


def test_the_page_is_that_of_the_function(model, cells, tmp_path, capsys):
    import anndata as ad

    options = ["--basis", "pca", "--n-generated", 20, "--seed", 3, "--color", "batch", "--genes", "gene7"]
    out = tmp_path / "new" / "a.html"
    assert run("report", model, cells, "-o", out, *options) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(rf"report  {re.escape(str(out))}   0\.\d MB\n", captured.out)
    steps = [line.split("] ")[1] for line in captured.err.splitlines()]
    assert steps[1:] == [
        "looking at the data",
        "generating 20 cells",
        "encoding cells",
        "drawing the map",
        "describing dimensions",
        "scoring generated cells",
        "done",
    ]
    lc.tl.report(
        ad.read_h5ad(cells),
        lc.model.load(model),
        tmp_path / "b.html",
        basis="pca",
        n_generated=20,
        seed=3,
        color=["batch"],
        genes=["gene7"],
    )
    assert out.read_bytes() == (tmp_path / "b.html").read_bytes()
    assert "12 of these cells were held out" in out.read_text(encoding="utf-8")


def test_quiet_says_where_the_page_is(model, cells, tmp_path, capsys):
    options = ["--basis", "pca", "--n-generated", 0, "--groupby", "batch", "--held-out", cells, "--quiet"]
    assert run("report", model, cells, "-o", tmp_path / "a.html", *options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("report  ")
    assert "60 cells were given as not trained on" in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--groupby", "kind"], "'kind' is not a column"),
        (["--basis", "X_tsne"], "basis='X_tsne'"),
        (["--genes", "CD3D"], "'CD3D' is not a gene of the model"),
        (["--held-out", "none.h5ad"], "none.h5ad: no such file"),
        (["--source", "heaven"], "source must be one of"),
    ],
    ids=str,
)
def test_what_cannot_be_done(model, cells, tmp_path, message, options, words):
    assert run("report", model, cells, "-o", tmp_path / "new" / "a.html", "--quiet", *options) == 1
    assert words in message()
    assert not (tmp_path / "new").exists()


def test_cells_without_the_batches_of_the_model(counts, cells, tmp_path, message, capsys):
    folder, lacking = tmp_path / "vae", tmp_path / "lacking.h5ad"
    options = ["--layer", "counts", "--batch-key", "batch", "--epochs", 1, "--quiet"]
    assert run("train", cells, "--model", "vae", "-o", folder, *options) == 0
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    del adata.obs["batch"]
    adata.write_h5ad(lacking)
    capsys.readouterr()
    assert run("report", folder, lacking, "-o", tmp_path / "a.html", "--quiet") == 1
    said = message()
    assert "adata.obs has no 'batch', the model's column of batches" in said
    assert "Add one that holds the batch of every cell: 'a', 'b'" in said
    assert not (tmp_path / "a.html").exists()


def test_files_are_kept(model, cells, tmp_path, message):
    (tmp_path / "a.html").write_text("precious")
    assert run("report", model, cells, "-o", tmp_path / "a.html") == 1
    assert "--overwrite" in message()
    assert run("report", model, tmp_path / "no.h5ad", "-o", tmp_path / "a.html", "--overwrite") == 1
    assert "no.h5ad: no such file" in message()
    assert run("report", tmp_path / "no_model", cells, "-o", tmp_path / "a.html", "--overwrite") == 1
    assert "no_model is not a folder" in message()
    assert run("report", model, cells, "-o", tmp_path, "--overwrite") == 1
    assert "is a folder" in message()
    assert (tmp_path / "a.html").read_text() == "precious"


@pytest.mark.parametrize("text", ["-3", "some", "5.5"])
def test_wrong_numbers(text, capsys):
    with pytest.raises(SystemExit) as stop:
        run("report", "m", "c.h5ad", "-o", "a.html", f"--n-generated={text}")
    assert stop.value.code == 2
    assert "--n-generated" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "1.5", "most"])
def test_a_share_is_a_share(text, capsys):
    with pytest.raises(SystemExit) as stop:
        run("train", "c.h5ad", "--model", "vae", "-o", "m", f"--train-size={text}")
    assert stop.value.code == 2
    assert "--train-size" in capsys.readouterr().err


def test_gans_hold_out_no_cells(cells, tmp_path, message):
    assert run("train", cells, "--model", "gan", "-o", tmp_path / "m", "--train-size", "0.9") == 1
    assert "gan is trained on all cells: leave --train-size out" in message()
