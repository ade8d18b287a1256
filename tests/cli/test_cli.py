"""The command line does what it says, on real and simulated cells, and fails in one line."""

import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import latentcell as lc
from latentcell import cli
from latentcell.cli import _arguments
from latentcell.cli._files import MODEL_FILE, replacing
from latentcell.model._record import RECORD


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


# --- usage ---


@pytest.mark.parametrize("command", ["demo", "train", "embed", "generate", "evaluate", "denoise", "report"])
def test_help_gives_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"\n  latentcell {command}" in out.split("examples:")[1]


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"latentcell {cli.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["train", "cells.h5ad", "-o", "m"],
        ["train", "cells.h5ad", "--model", "oracle", "-o", "m"],
        ["train", "cells.h5ad", "--model", "vae", "-o", "m", "--epochs", "0"],
        ["train", "cells.h5ad", "--model", "vae", "-o", "m", "--n-latent", "two"],
        ["embed", "m"],
        ["denoise", "cells.h5ad"],
        ["denoise", "cells.h5ad", "-o", "d.h5ad", "--likelihood", "normal"],
        ["denoise", "cells.h5ad", "-o", "d.h5ad", "--scale", "cpm"],
        ["denoise", "cells.h5ad", "-o", "d.h5ad", "--genes", "gene1,,gene2"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert "usage: latentcell" in capsys.readouterr().err


@pytest.mark.parametrize("n_genes", [40, 2000], ids=["longer than a name", "longer than a path"])
def test_a_list_of_genes_may_be_longer_than_a_path(n_genes):
    genes = [f"gene{i}" for i in range(n_genes)]
    assert _arguments.gene_names(",".join(genes)) == genes


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("genes.bin", "genes.bin is no text file with a gene in each line"),
        ("/proc/self/mem", "/proc/self/mem cannot be read: Input/output error"),
    ],
)
def test_a_file_of_genes_that_cannot_be_read_is_exit_code_2(path, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("genes.bin").write_bytes(b"gene1\n\xff\xfe")
    if not Path(path).is_file():
        pytest.skip("there is no such file here")
    with pytest.raises(SystemExit) as stop:
        run("generate", "model", "-o", "new.h5ad", "--genes", path)
    assert stop.value.code == 2
    assert f"argument --genes: {words}" in capsys.readouterr().err


def test_the_installed_program_starts():
    done = subprocess.run(
        [sys.executable, "-m", "latentcell.cli", "embed", "no_model", "no.h5ad", "-o", "out.h5ad"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("latentcell: no_model is not a folder")


# --- errors ---


def one_line(capsys) -> str:
    """The message on standard error, which must be all there is, but for lines of progress."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert lines[0].startswith("latentcell: ")
    return lines[0]


def test_missing_file(tmp_path, capsys):
    assert run("train", tmp_path / "none.h5ad", "--model", "ae", "-o", tmp_path / "m") == 1
    assert "none.h5ad: no such file" in one_line(capsys)


def test_debug_shows_the_trace(tmp_path, capsys):
    assert run("train", tmp_path / "none.h5ad", "--model", "ae", "-o", tmp_path / "m", "--debug") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "FileNotFoundError" in err


def test_file_that_is_no_h5ad(tmp_path, capsys):
    path = tmp_path / "cells.h5ad"
    path.write_text("genes,cells")
    assert run("train", path, "--model", "ae", "-o", tmp_path / "m") == 1
    assert "cells.h5ad cannot be read as .h5ad" in one_line(capsys)


def test_existing_model_is_kept_without_overwrite(cells, tmp_path, capsys):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "mine.txt").write_text("precious")
    assert run("train", cells, "--model", "ae", "-o", folder) == 1
    assert "--overwrite" in one_line(capsys)
    assert (folder / "mine.txt").read_text() == "precious"


def test_overwrite_replaces_models_only_and_says_so_before_training(cells, tmp_path, capsys, monkeypatch):
    assert MODEL_FILE == RECORD
    trained = []
    monkeypatch.setattr(lc.model.AE, "train", lambda *args, **kwargs: trained.append(args))
    folder, file = tmp_path / "m", tmp_path / "file"
    folder.mkdir()
    for path in (folder / "mine.txt", file):
        path.write_text("precious")
    for out in (folder, file):
        assert run("train", cells, "--model", "ae", "-o", out, "--epochs", 1, "--quiet", "--overwrite") == 1
        assert f"{out} exists and is not a saved model" in one_line(capsys)
    assert run("train", tmp_path / "none.h5ad", "--model", "ae", "-o", folder, "--overwrite") == 1
    assert "is not a saved model" in one_line(capsys)  # nothing was read before
    assert (folder / "mine.txt").read_text() == file.read_text() == "precious"
    assert trained == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "none"], "none"),
        (["--batch-key", "donor"], "donor"),
        (["--labels-key", "kind"], "kind"),
        (["--likelihood", "nb"], "fractional"),
        (["--likelihood", "bernoulli"], "above 1"),
    ],
)
def test_data_that_do_not_fit(cells, tmp_path, capsys, arguments, message):
    assert run("train", cells, "--model", "vae", "-o", tmp_path / "m", "--quiet", *arguments) == 1
    assert message in one_line(capsys)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", _arguments.NEED_LABELS)
def test_a_model_of_labels_needs_their_column(name, cells, tmp_path, capsys):
    assert run("train", cells, "--model", name, "-o", tmp_path / "m", "--quiet") == 1
    assert "--labels-key" in one_line(capsys)
    assert not (tmp_path / "m").exists()


def test_a_model_of_counts_takes_no_other_likelihood(cells, tmp_path, capsys):
    arguments = ["--layer", "counts", "--likelihood", "normal", "--quiet"]
    assert run("train", cells, "--model", "dca", "-o", tmp_path / "m", *arguments) == 1
    assert "gene_likelihood must be one of ('nb', 'zinb', 'poisson'), got 'normal'" in one_line(capsys)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "fractional values where counts are needed"),
        (["--layer", "none"], "layers has no 'none'; there are ['counts']"),
        (["--layer", "counts", "--batch-key", "donor"], "obs has no 'donor'"),
        (["--layer", "counts", "--genes", "gene1,CD3D"], "not in adata.var_names: ['CD3D']"),
    ],
    ids=str,
)
def test_counts_that_cannot_be_denoised(cells, tmp_path, capsys, arguments, message):
    assert run("denoise", cells, "-o", tmp_path / "new" / "d.h5ad", "--quiet", *arguments) == 1
    assert message in one_line(capsys)
    assert not (tmp_path / "new").exists()


def test_what_was_there_is_kept_when_denoising_fails(cells, tmp_path, capsys):
    (tmp_path / "d.h5ad").write_text("precious")
    assert run("denoise", cells, "-o", tmp_path / "d.h5ad", "--quiet") == 1
    one_line(capsys)
    assert (tmp_path / "d.h5ad").read_text() == "precious"
    assert run("denoise", tmp_path / "none.h5ad", "-o", tmp_path / "d.h5ad") == 1
    assert "none.h5ad: no such file" in one_line(capsys)


def test_folder_that_is_no_model(cells, tmp_path, capsys):
    assert run("embed", tmp_path, cells, "-o", tmp_path / "out.h5ad") == 1
    assert "is not a saved model" in one_line(capsys)


def test_interruption(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli._demo, "demo", interrupted)
    assert run("demo") == 130
    assert capsys.readouterr().err == "latentcell: interrupted\n"


def test_bugs_are_not_dressed_up_as_user_errors(monkeypatch):
    def broken(args):
        raise ZeroDivisionError

    monkeypatch.setattr(cli._demo, "demo", broken)
    with pytest.raises(ZeroDivisionError):
        run("demo")


# --- files ---


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with replacing(path) as temporary:
        temporary.write_text("old")

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


# --- train and embed ---


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ae", []),
        ("vae", []),
        ("vsc", []),
        ("cvae", ["--labels-key", "cell_type"]),
        ("dca", ["--layer", "counts"]),
        ("scgen", ["--labels-key", "cell_type"]),
        ("vasc", []),
        ("scvis", []),
    ],
)
def test_train_then_embed(name, arguments, cells, tmp_path, capsys):
    import latentcell as lc

    model, out = tmp_path / "model", tmp_path / "new" / "out.h5ad"
    arguments = [*arguments, "--n-latent", 3, "--epochs", 2, "--quiet"]
    assert run("train", cells, "--model", name, "-o", model, *arguments) == 0
    captured = capsys.readouterr()
    assert captured.out == f"model   {model}\n"
    assert captured.err == ""
    assert run("embed", model, cells, "-o", out, "--quiet") == 0
    assert f"obsm['X_{name}']: 60 cells x 3 dimensions" in capsys.readouterr().out

    before, after = ad.read_h5ad(cells), ad.read_h5ad(out)
    loaded = lc.model.load(model)
    assert type(loaded).__name__.lower() == name
    np.testing.assert_array_equal(after.obsm[f"X_{name}"], loaded.get_latent_representation(before))
    # nothing else was added or changed
    assert list(after.obsm) == [f"X_{name}"]
    assert list(after.obs) == list(before.obs)
    np.testing.assert_array_equal(after.X.toarray(), before.X.toarray())


@pytest.mark.parametrize(
    ("name", "arguments"), [("gan", []), ("conditionalgan", ["--labels-key", "cell_type"])]
)
def test_train_then_generate_by_a_model_without_an_encoder(name, arguments, cells, tmp_path, capsys):
    import latentcell as lc

    model, out = tmp_path / "model", tmp_path / "new.h5ad"
    arguments = [*arguments, "--layer", "counts", "--likelihood", "poisson", "--n-latent", 3, "--epochs", 2]
    assert run("train", cells, "--model", name, "-o", model, *arguments, "--quiet") == 0
    assert run("generate", model, "-n", 7, "--seed", 2, "-o", out, "--quiet") == 0
    expected = lc.model.load(model).generate(7, seed=2)
    np.testing.assert_array_equal(ad.read_h5ad(out).X.toarray(), expected.X.toarray())
    capsys.readouterr()
    assert run("embed", model, cells, "-o", tmp_path / "out.h5ad", "--quiet") == 1
    assert "which has no encoder" in one_line(capsys)


def test_same_seed_same_model(cells, tmp_path):
    codes = []
    for seed, folder in ((0, "a"), (0, "b"), (1, "c")):
        arguments = ["--n-latent", 3, "--epochs", 2, "--seed", seed, "--quiet"]
        assert run("train", cells, "--model", "vae", "-o", tmp_path / folder, *arguments) == 0
        assert run("embed", tmp_path / folder, cells, "-o", tmp_path / f"{folder}.h5ad", "--quiet") == 0
        codes.append(ad.read_h5ad(tmp_path / f"{folder}.h5ad").obsm["X_vae"])
    np.testing.assert_array_equal(codes[0], codes[1])
    assert not np.allclose(codes[0], codes[2])


def test_counts_of_a_layer_and_genes_by_name(cells, counts, tmp_path):
    model = tmp_path / "model"
    arguments = [
        "--layer",
        "counts",
        "--likelihood",
        "nb",
        "--batch-key",
        "batch",
        "--labels-key",
        "cell_type",
    ]
    assert run("train", cells, "--model", "vsc", "-o", model, "--epochs", 2, "--quiet", *arguments) == 0
    shuffled = ad.read_h5ad(cells)[:, ::-1].copy()
    shuffled.write_h5ad(tmp_path / "shuffled.h5ad")
    for name, file in (("a", cells), ("b", tmp_path / "shuffled.h5ad")):
        out = tmp_path / f"{name}.h5ad"
        assert run("embed", model, file, "-o", out, "--key-added", "X_mine", "--quiet") == 0
    a, b = (ad.read_h5ad(tmp_path / f"{name}.h5ad").obsm["X_mine"] for name in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture
def marked(cells, tmp_path):
    """The cells as a file with every other gene marked as highly variable, and the first five in a column."""
    adata = ad.read_h5ad(cells)
    adata.var["highly_variable"] = np.arange(40) % 2 == 0
    adata.var["mine"] = np.arange(40) < 5
    adata.var["rank"] = np.arange(40)
    adata.write_h5ad(tmp_path / "marked.h5ad")
    return tmp_path / "marked.h5ad"


def test_marked_genes_are_those_trained_on(marked, cells, tmp_path, capsys):
    import latentcell as lc

    model, adata = tmp_path / "model", ad.read_h5ad(marked)
    genes = list(adata.var_names[adata.var["highly_variable"]])
    options = ["--layer", "counts", "--batch-key", "batch", "--epochs", 2]
    arguments = [marked, "--model", "vae", "-o", model, "--n-latent", 3, *options]
    assert run("train", *arguments) == 0
    assert "20 of 40 genes, those marked in var['highly_variable']" in capsys.readouterr().err
    keys = {"layer": "counts", "batch_key": "batch"}
    verb = lc.tl.vae(adata.copy(), n_latent=3, max_epochs=2, progress=False, **keys)
    loaded = lc.model.load(model)
    assert loaded.spec.genes == genes == verb.spec.genes

    # the whole file goes into every other command
    out, new = tmp_path / "out.h5ad", tmp_path / "new.h5ad"
    assert run("embed", model, marked, "-o", out, "--quiet") == 0
    np.testing.assert_array_equal(ad.read_h5ad(out).obsm["X_vae"], verb.get_latent_representation(adata))
    assert ad.read_h5ad(out).n_vars == 40
    assert run("generate", model, "-n", 30, "-o", new, "--data", marked, "--quiet") == 0
    drawn = ad.read_h5ad(new)
    assert list(drawn.var_names) == genes
    assert list(drawn.var["rank"]) == list(range(0, 40, 2))
    capsys.readouterr()
    assert run("evaluate", marked, new, "--layer", "counts", "--n-trees", 3) == 0
    assert f"{new}: 30 cells x 20 genes, 20 of them in all files" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert run("report", model, marked, "-o", page, "--basis", "pca", "--n-generated", 0, "--quiet") == 0
    assert "40 in the data; the model has 20, of which 20 are there" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("chosen", "n_genes"), [("none", 40), ("mine", 5), ("highly_variable", 20)])
def test_genes_are_chosen_by_a_column(marked, tmp_path, chosen, n_genes):
    import latentcell as lc

    model, options = tmp_path / "model", ["--epochs", 1, "--quiet", "--mask-var", chosen]
    assert run("train", marked, "--model", "ae", "-o", model, *options) == 0
    assert len(lc.model.load(model).spec.genes) == n_genes


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ("highly_varable", "Did you mean 'highly_variable'?"),
        ("rank", "var['rank'] (mask_var) must be one boolean per gene (40), got int64"),
    ],
)
def test_columns_that_mark_no_genes(marked, tmp_path, capsys, chosen, words):
    options = ["--quiet", "--mask-var", chosen]
    assert run("train", marked, "--model", "ae", "-o", tmp_path / "m", *options) == 1
    assert words in one_line(capsys)
    assert not (tmp_path / "m").exists()


def test_missing_genes_are_named(cells, tmp_path, capsys):
    assert run("train", cells, "--model", "ae", "-o", tmp_path / "m", "--epochs", 1, "--quiet") == 0
    ad.read_h5ad(cells)[:, 2:].copy().write_h5ad(tmp_path / "fewer.h5ad")
    capsys.readouterr()
    assert run("embed", tmp_path / "m", tmp_path / "fewer.h5ad", "-o", tmp_path / "out.h5ad", "--quiet") == 1
    assert "'gene0', 'gene1'" in one_line(capsys)
    assert not (tmp_path / "out.h5ad").exists()


# --- denoise ---


def test_denoise_adds_one_layer(cells, tmp_path, capsys):
    import latentcell as lc

    out = tmp_path / "new" / "denoised.h5ad"
    arguments = ["--layer", "counts", "--batch-key", "batch", "--epochs", 2, "--seed", 3, "--quiet"]
    assert run("denoise", cells, "-o", out, *arguments) == 0
    captured = capsys.readouterr()
    assert captured.out == f"cells   {out}   layers['denoised']: 60 cells x 40 genes\n"
    assert captured.err == ""
    assert list(out.parent.iterdir()) == [out]

    before, after = ad.read_h5ad(cells), ad.read_h5ad(out)
    assert set(after.layers) - {None} == {"counts", "denoised"}  # from anndata 0.13 on None is X
    assert list(after.uns) == ["denoised"]
    assert not len(after.obsm)
    np.testing.assert_array_equal(after.X.toarray(), before.X.toarray())
    np.testing.assert_array_equal(after.layers["counts"].toarray(), before.layers["counts"].toarray())
    pd.testing.assert_frame_equal(after.obs, before.obs)
    pd.testing.assert_frame_equal(after.var, before.var)
    # the same as the call it stands for
    lc.tl.denoise(before, layer="counts", batch_key="batch", max_epochs=2, seed=3, progress=False)
    np.testing.assert_array_equal(after.layers["denoised"], before.layers["denoised"])


def test_denoise_of_some_genes_on_another_scale(cells, tmp_path, capsys):
    found = {}
    for name, more in (("all", []), ("few", ["--genes", "gene7, gene2"])):
        out = tmp_path / f"{name}.h5ad"
        arguments = [
            "--layer",
            "counts",
            "--likelihood",
            "zinb",
            "--scale",
            "log1p",
            "--epochs",
            2,
            "--quiet",
        ]
        assert run("denoise", cells, "-o", out, *arguments, *more) == 0
        found[name] = ad.read_h5ad(out)
    assert capsys.readouterr().out.endswith("obsm['denoised']: 60 cells x 2 genes\n")
    few = found["few"].obsm["denoised"]
    assert few.columns.tolist() == ["gene7", "gene2"]
    assert "denoised" not in found["few"].layers
    np.testing.assert_array_equal(few, found["all"][:, ["gene7", "gene2"]].layers["denoised"])
    np.testing.assert_allclose(np.expm1(found["all"].layers["denoised"]).sum(1), 1e4, rtol=1e-3)
    assert found["all"].uns["denoised"]["gene_likelihood"] == "zinb"


def test_denoise_says_what_it_does(cells, tmp_path, capsys):
    out = tmp_path / "denoised.h5ad"
    assert run("denoise", cells, "-o", out, "--layer", "counts", "--epochs", 1) == 0
    err = capsys.readouterr().err
    for step in ("60 cells x 40 genes", "training DCA", "done"):
        assert step in err
    assert "Training DCA" in err


def test_choices_are_those_of_the_library():
    from typing import get_args

    from latentcell.model.dca import CountLikelihoodName
    from latentcell.tl._denoise import Scale

    assert set(_arguments.COUNT_LIKELIHOODS) == set(get_args(CountLikelihoodName))
    assert set(_arguments.SCALES) == set(get_args(Scale))


# --- demo ---


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demonstration on its bundled cells, with few epochs, as a process of its own."""
    out = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "latentcell.cli", "demo", "--out", str(out), "--epochs", "3", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, done


def test_demo_says_where_everything_is(demo):
    out, done = demo
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[-3].startswith(f"cells     {out / 'demo.h5ad'}   700 cells x 765 genes")
    assert lines[-2].startswith(f"figures   {out / 'figures'}")
    assert lines[-1] == f"table     {out / 'scores.csv'}"
    for name in ("PCA", "AE", "VAE", "VSC"):
        assert any(line.startswith(name) for line in lines)


def test_demo_table(demo):
    table = pd.read_csv(demo[0] / "scores.csv")
    assert list(table["embedding"].unique()) == ["PCA", "AE", "VAE", "VSC"]
    assert set(table["protocol"]) == {"kmeans_tsne", "leiden"}
    scores = table[table["metric"].isin(["nmi", "ari", "homogeneity", "completeness"])]
    assert len(scores) == 4 * 2 * 4
    assert scores["value"].between(-0.5, 1).all()
    # three epochs are better than chance, but for the sparse coder, whose gates have not opened yet
    dense = scores["embedding"] != "VSC"
    assert (scores.loc[dense & (scores["metric"] == "ari"), "value"] > 0.1).all()


def test_demo_cells(demo):
    adata = ad.read_h5ad(demo[0] / "demo.h5ad")
    names = ["pca", "ae", "vae", "vsc"]
    assert {f"X_{name}{suffix}" for name in names for suffix in ("", "_umap", "_tsne")} <= set(adata.obsm)
    assert {f"leiden_{name}" for name in names} <= set(adata.obs)
    assert {f"neighbors_{name}" for name in names} <= set(adata.uns)
    assert all(np.isfinite(adata.obsm[key]).all() for key in adata.obsm)


def test_demo_figures(demo):
    figures = {path.name: path.read_bytes() for path in (demo[0] / "figures").iterdir()}
    expected = {"umap", "tsne_kmeans", "scores", "codes_vsc", "genes_vsc"}
    expected |= {f"{kind}_{name}" for kind in ("history", "architecture") for name in ("ae", "vae", "vsc")}
    assert set(figures) == {f"{name}.png" for name in expected}
    for png in figures.values():
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5000


def test_demo_of_counts_without_labels(counts, tmp_path, capsys):
    adata = counts.copy()
    del adata.obs["cell_type"]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    out = tmp_path / "out"
    assert run("demo", "--dataset", tmp_path / "cells.h5ad", "--out", out, "--epochs", 2, "--quiet") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("No labels, hence no scores")
    assert not (out / "scores.csv").exists()
    assert not (out / "figures" / "scores.png").exists()
    written = ad.read_h5ad(out / "demo.h5ad")
    np.testing.assert_array_equal(written.layers["counts"].toarray(), adata.X.toarray())
    np.testing.assert_allclose(np.expm1(written.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)


def test_demo_of_a_missing_column(cells, tmp_path, capsys):
    assert run("demo", "--dataset", cells, "--out", tmp_path / "out", "--groupby", "louvain", "--quiet") == 1
    assert "--groupby louvain: no such column; obs has cell_type, batch" in one_line(capsys)


@pytest.mark.slow
@pytest.mark.data
def test_demo_of_pbmc3k(data_dir, tmp_path):
    arguments = ["--dataset", "pbmc3k", "--out", tmp_path, "--epochs", 20, "--quiet"]
    assert run("demo", *arguments) == 0
    table = pd.read_csv(tmp_path / "scores.csv").set_index(["embedding", "protocol", "metric"])["value"]
    assert table["PCA", "leiden", "nmi"] > 0.7
    assert ad.read_h5ad(tmp_path / "demo.h5ad").shape == (2638, 2000)


def test_the_package_itself_can_be_run():
    ran = subprocess.run([sys.executable, "-m", "latentcell", "--version"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, f"latentcell {cli.__version__}")
