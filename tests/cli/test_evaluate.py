"""``latentcell evaluate``: the table is the library's, files are whole, and what is asked is answered."""

import re
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import latentcell as lc
from latentcell import cli
from latentcell.tl._page.explanations import EXPLANATIONS
from latentcell.tl._page.html import number

COLUMNS = ["group", "metric", "value", "real", "chance", "best", "better"]


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


def cells_of(rates: np.ndarray, n_cells: int, seed: int) -> ad.AnnData:
    """Counts of two types, half each, with depths that differ."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 2
    depth = rng.lognormal(0, 0.3, size=(n_cells, 1))
    adata = ad.AnnData(rng.poisson(rates[kind] * depth).astype(np.float32))
    adata.var_names = [f"gene{i}" for i in range(rates.shape[1])]
    adata.obs["cell_type"] = pd.Categorical(np.array(["T", "<B>"])[kind])
    return adata


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Real cells, generated ones with genes in another order and one gene less, and training cells."""
    folder = tmp_path_factory.mktemp("evaluate")
    rates = np.random.default_rng(0).gamma(1.0, 2.0, size=(2, 40)) + 0.5
    sets = {
        name: cells_of(rates, n, seed)
        for seed, (name, n) in enumerate({"real": 120, "new": 80, "train": 100}.items())
    }
    for name, adata in sets.items():
        adata.obs_names = [f"{name}{i}" for i in range(adata.n_obs)]
    sets["new"] = sets["new"][:, ::-1][:, 1:].copy()
    sets["new"].obs["is_generated"] = True
    sets["new"].uns["latentcell"] = {"model": "VSC", "seed": 7}
    sets["real"].layers["raw"] = sets["real"].X.copy()
    sets["train"].layers["raw"] = sets["train"].X.copy()
    for name, adata in sets.items():
        adata.write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.fixture
def asked(monkeypatch):
    """In place of the library's scores, some that take no time; what they were asked."""
    calls = []

    def fidelity(
        real, generated, groupby=None, reference=None, *, basis=None, layer=None, n_trees=100, seed=0
    ):
        calls.append(
            {
                "real": real,
                "generated": generated,
                "groupby": groupby,
                "reference": reference,
                "basis": basis,
                "layer": layer,
                "n_trees": n_trees,
                "seed": seed,
            }
        )
        groups = ["all"] if groupby is None else ["all", *sorted(set(real.obs[groupby].astype(str)))]
        rows = [(group, "coverage", 0.8, 0.9, 0.1, 1.0, "higher") for group in groups]
        table = pd.DataFrame(rows, columns=COLUMNS)
        table.attrs["fidelity"] = {"n_cells": dict.fromkeys(groups, 17)}
        return table

    monkeypatch.setattr(lc.metrics, "fidelity", fidelity, raising=False)
    return calls


def test_it_scores_the_genes_that_all_files_have(files, asked, capsys):
    assert run("evaluate", files / "real.h5ad", files / "new.h5ad") == 0
    captured = capsys.readouterr()
    assert "real.h5ad: 120 cells x 40 genes, 39 of them in all files" in captured.err
    assert "new.h5ad: 80 cells x 39 genes, 39 of them in all files" in captured.err
    assert captured.out == (
        "all cells\n"
        "          value   real chance   best  better\n"
        "coverage  0.800  0.900  0.100  1.000  higher\n\n"
    )
    (call,) = asked
    assert (
        list(call["real"].var_names) == list(call["generated"].var_names) == [f"gene{i}" for i in range(39)]
    )
    new = ad.read_h5ad(files / "new.h5ad")
    np.testing.assert_array_equal(call["generated"].X, new[:, call["real"].var_names].X)
    assert (call["groupby"], call["reference"], call["layer"], call["seed"]) == (None, None, None, 0)
    assert (call["basis"], call["n_trees"]) == (None, 100)


def test_it_passes_on_what_is_asked(files, asked, tmp_path, capsys):
    table = tmp_path / "new" / "table.csv"
    options = [
        "--groupby",
        "cell_type",
        "--reference",
        files / "train.h5ad",
        "--layer",
        "raw",
        "--seed",
        5,
        "--csv",
        table,
        "--quiet",
    ]
    assert run("evaluate", files / "real.h5ad", files / "new.h5ad", *options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.endswith(f"\ntable   {table}\n")
    assert [line for line in captured.out.splitlines() if line.startswith(("all", "group"))] == [
        "all cells",
        "group <B>",
        "group T",
    ]
    (call,) = asked
    assert (call["groupby"], call["layer"], call["seed"]) == ("cell_type", "raw", 5)
    assert list(call["reference"].obs_names) == [f"train{i}" for i in range(100)]
    assert list(call["reference"].var_names) == list(call["real"].var_names)
    pd.testing.assert_frame_equal(pd.read_csv(table), lc.metrics.fidelity(call["real"], None, "cell_type"))
    assert list(table.parent.iterdir()) == [table]


def test_basis_and_trees_are_passed_on_and_told(files, asked, tmp_path):
    page = tmp_path / "report.html"
    options = ["--basis", files / "train.h5ad", "--n-trees", 300, "--html", page, "--quiet"]
    assert run("evaluate", files / "real.h5ad", files / "new.h5ad", *options) == 0
    (call,) = asked
    assert list(call["basis"].obs_names) == [f"train{i}" for i in range(100)]
    assert list(call["basis"].var_names) == list(call["real"].var_names)  # of the genes that all files have
    assert (call["n_trees"], call["reference"]) == (300, None)
    html = page.read_text(encoding="utf-8")
    assert "<dt>Cells that genes and components are fitted on (basis)</dt>" in html
    assert "train.h5ad: 100 cells, 40 genes" in html
    assert "<dt>Trees of every classifier</dt><dd>300</dd>" in html


def test_scores_on_a_basis_are_those_of_the_library(files, tmp_path):
    real, new, basis = (ad.read_h5ad(files / f"{name}.h5ad") for name in ("real", "new", "train"))
    csv, genes = tmp_path / "table.csv", list(new.var_names[::-1])
    options = ["--basis", files / "train.h5ad", "--n-trees", 3, "--csv", csv, "--quiet"]
    assert run("evaluate", files / "real.h5ad", files / "new.h5ad", *options) == 0
    expected = lc.metrics.fidelity(real[:, genes], new[:, genes], basis=basis[:, genes], n_trees=3)
    np.testing.assert_allclose(pd.read_csv(csv)["value"], expected["value"])
    alone = lc.metrics.fidelity(real[:, genes], new[:, genes], n_trees=3)
    assert not np.allclose(alone["value"], expected["value"])


@pytest.mark.parametrize("number", ["0", "-3", "many"])
def test_trees_are_counted(files, asked, number, capsys):
    with pytest.raises(SystemExit) as stop:
        run("evaluate", files / "real.h5ad", files / "new.h5ad", "--n-trees", number)
    assert stop.value.code == 2
    assert "--n-trees" in capsys.readouterr().err
    assert asked == []


def test_the_page(files, asked, tmp_path, capsys):
    page = tmp_path / "report.html"
    options = ["--groupby", "cell_type", "--html", page, "--quiet"]
    assert run("evaluate", files / "real.h5ad", files / "new.h5ad", *options) == 0
    assert capsys.readouterr().out.endswith(f"\nreport  {page}\n")
    html = page.read_text(encoding="utf-8")
    for fact in (
        "real.h5ad: 120 cells, 40 genes",
        "new.h5ad: 80 cells, 39 genes",
        "39, which all files have",
        "column cell_type of obs",
        "17 of each kind",
        '<th scope="row">&lt;B&gt;</th><td>60</td><td>40</td><td>17</td>',
        "<dt>model</dt><dd>VSC</dd>",
        "<dt>latentcell</dt><dd>" + lc.__version__,
    ):
        assert fact in html
    assert re.findall(r"<figure><h3>(.*?)</h3>", html) == [
        "Principal components",
        "Heat map",
        "Means of genes",
        "Mean and variance of counts",
        "Library sizes and detected genes",
    ]
    assert "120 real and 80 generated cells (log1p CP10k)" in html
    assert "<script" not in html


def test_the_page_of_values_that_are_no_counts(files, asked, tmp_path):
    for name in ("real", "new"):
        adata = ad.read_h5ad(files / f"{name}.h5ad")
        adata.X = np.log1p(adata.X) - 0.5
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    page = tmp_path / "report.html"
    assert run("evaluate", tmp_path / "real.h5ad", tmp_path / "new.h5ad", "--html", page, "--quiet") == 0
    html = page.read_text(encoding="utf-8")
    assert re.findall(r"<figure><h3>(.*?)</h3>", html) == [
        "Principal components",
        "Heat map",
        "Means of genes",
    ]
    assert "(values as given)" in html


def test_names_of_genes_and_groups_are_only_names(files, asked, tmp_path):
    hostile = "<script>alert(1)</script> $\\frac{"
    for name in ("real", "new"):
        adata = ad.read_h5ad(files / f"{name}.h5ad")
        adata.var_names = [hostile if gene == "gene3" else gene for gene in adata.var_names]
        adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"T": hostile})
        adata.uns["latentcell"] = {"model": hostile, "labels": np.array([hostile])}
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    page = tmp_path / "report.html"
    options = ["--groupby", "cell_type", "--html", page, "--quiet"]
    assert run("evaluate", tmp_path / "real.h5ad", tmp_path / "new.h5ad", *options) == 0
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<summary>&lt;script&gt;alert(1)&lt;/script&gt; $\\frac{ <small>60 real, 40 generated" in html


def test_same_seed_same_page(files, asked, tmp_path):
    pages = []
    for name in ("a", "b"):
        page = tmp_path / f"{name}.html"
        assert run("evaluate", files / "real.h5ad", files / "new.h5ad", "--html", page, "--quiet") == 0
        pages.append(page.read_bytes())
    assert pages[0] == pages[1]


def test_large_sets_are_thinned_for_the_figures(files, asked, tmp_path, monkeypatch):
    from latentcell.cli import _figures

    monkeypatch.setattr(_figures, "MOST_CELLS", 50)
    page = tmp_path / "report.html"
    assert run("evaluate", files / "real.h5ad", files / "new.h5ad", "--html", page, "--quiet") == 0
    assert "50 real and 50 generated cells" in page.read_text(encoding="utf-8")
    assert asked[0]["real"].n_obs == 120


@pytest.mark.filterwarnings("ignore:The 'float_precision' argument is deprecated")  # pandas 3.1
def test_the_table_is_that_of_the_library(files, tmp_path, capsys, monkeypatch):
    """With the scores themselves, of small forests, and every metric that they have."""
    monkeypatch.setattr(lc.metrics, "fidelity", partial(lc.metrics.fidelity, n_trees=3))
    real, new, train = (ad.read_h5ad(files / f"{name}.h5ad") for name in ("real", "new", "train"))
    genes = list(new.var_names[::-1])
    options = ["--groupby", "cell_type", "--reference", files / "train.h5ad", "--seed", 2, "--quiet"]
    csv, page = tmp_path / "table.csv", tmp_path / "report.html"
    assert (
        run("evaluate", files / "real.h5ad", files / "new.h5ad", *options, "--csv", csv, "--html", page) == 0
    )
    expected = lc.metrics.fidelity(real[:, genes], new[:, genes], "cell_type", train[:, genes], seed=2)
    written = pd.read_csv(csv, float_precision="round_trip")
    pd.testing.assert_frame_equal(written, expected, check_exact=True, check_dtype=False)
    printed = capsys.readouterr().out
    html = page.read_text(encoding="utf-8")
    assert set(expected["metric"]) == set(EXPLANATIONS)
    for row in expected.to_dict("records"):
        line = [row["metric"], *(number(row[name]) for name in ("value", "real", "chance", "best"))]
        assert any(found.split()[:5] == line for found in printed.splitlines())
        title = EXPLANATIONS[row["metric"]][0]
        cells = "".join(f"<td>{text}</td>" for text in (f"<strong>{line[1]}</strong>", *line[2:]))
        assert f'<th scope="row">{title}</th>{cells}' in html


# --- refusals ---


@pytest.mark.parametrize("option", ["--csv", "--html"])
def test_what_is_there_is_kept(files, asked, tmp_path, message, option):
    path = tmp_path / "mine"
    path.write_text("precious")
    assert run("evaluate", files / "real.h5ad", files / "new.h5ad", option, path) == 1
    assert message() == f"latentcell: {path} exists: choose another name, or replace it with --overwrite"
    assert path.read_text() == "precious"
    assert asked == []
    assert (
        run("evaluate", files / "real.h5ad", files / "new.h5ad", option, path, "--overwrite", "--quiet") == 0
    )
    assert path.read_text(encoding="utf-8") != "precious"


def test_genes_in_common_are_needed(files, asked, tmp_path, message):
    adata = ad.read_h5ad(files / "new.h5ad")
    adata.var_names = [f"ENS{i}" for i in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "new.h5ad")
    assert run("evaluate", files / "real.h5ad", tmp_path / "new.h5ad", "--quiet") == 1
    assert "have no gene in common" in message()


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_genes_are_told_apart_by_name(files, asked, tmp_path, message):
    adata = ad.read_h5ad(files / "new.h5ad")
    adata.var_names = ["twice"] * adata.n_vars
    adata.write_h5ad(tmp_path / "new.h5ad")
    assert run("evaluate", files / "real.h5ad", tmp_path / "new.h5ad", "--quiet") == 1
    assert "gene names must be unique, 'twice' is there more than once" in message()


def test_a_missing_file(files, asked, message):
    assert run("evaluate", files / "real.h5ad", files / "none.h5ad") == 1
    assert "none.h5ad: no such file" in message()
