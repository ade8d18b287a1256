"""The page on a model says what the library's functions say, trusts no name, and is whole or not there."""

import base64
import hashlib
import json
import re
from functools import partial
from html.parser import HTMLParser

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError, NotTrainedError
from latentcell.metrics.fidelity import fidelity
from latentcell.tl._page import judge
from latentcell.tl._page.html import number

HOSTILE = "</script><b>\"T'&\u2028 Zürich 细胞"
GROUPS = [HOSTILE, "B", "NK"]


def make_cells(n=150, seed=0):
    """Counts of three groups in two batches, beside values that follow from them."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    rate = np.random.default_rng(99).gamma(1.0, 2.0, size=(3, 30)) + 0.3
    counts = rng.poisson(rate[kind]).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(counts)), layers={"counts": sparse.csr_matrix(counts)})
    adata.obs_names = [f"cell<{i}>" for i in range(n)]
    adata.var_names = [f"gene{i}" for i in range(29)] + ["<i>gene"]
    adata.obs["kind"] = pd.Categorical([GROUPS[k] for k in kind], categories=GROUPS)
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[rng.integers(0, 2, n)])
    adata.obs["age"] = rng.normal(50, 10, n)
    adata.uns["kind_colors"] = ["#112233", "#445566", "#778899"]
    return adata


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr(judge, "fidelity", partial(fidelity, n_trees=3))


@pytest.fixture(scope="module")
def cells():
    return make_cells()


def train(adata, name="CVAE", layer="counts", labels_key="kind", batch_key="batch", args=None, **options):
    model_class = getattr(lc.model, name)
    model_class.setup_anndata(adata, layer=layer, labels_key=labels_key, batch_key=batch_key)
    model = model_class(adata, **(args or {}))
    if hasattr(model, "module"):
        model.train(max_epochs=2, enable_progress_bar=False, **options)
    else:
        model.train()
    return model


@pytest.fixture(scope="module")
def model(cells):
    return train(cells, train_size=0.6, args={"n_latent": 4, "hidden": (8,)})


class Page(HTMLParser):
    """Elements with their attributes, the rows of tables, text by section, and what the script is given."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.rows, self.sections, self.open, self.remarks = [], [], {}, [], []
        self.payload, self.section = "", "head"
        self.feed(html)
        self.data = json.loads(self.payload)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag == "h2":
            self.section = attrs.get("id", "versions")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        while self.open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        if self.open and self.open[-1][1].get("id") == "payload":
            self.payload += text
            return
        if self.open and self.open[-1][0] in ("script", "style"):
            return
        self.sections[self.section] = self.sections.get(self.section, "") + text
        if any(tag == "tr" for tag, _ in self.open):
            self.rows[-1][-1] += text

    def codes(self, name, coloring):
        """Codes of the cells of a set."""
        packed = self.data["sets"][name]["codes"][str(coloring)]
        return np.frombuffer(base64.b64decode(packed["data"]), "<u2" if packed["bytes"] == 2 else "u1")

    def places(self, name):
        found = self.data["sets"][name]
        return np.stack([np.frombuffer(base64.b64decode(found[axis]), "<u2") for axis in "xy"], axis=1)


def written(tmp_path, adata, model, **options):
    options = {"basis": "pca", "n_generated": 60} | options
    return lc.tl.report(adata, model, tmp_path / "page.html", **options).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(cells, model, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "fidelity", partial(fidelity, n_trees=3))
        return written(tmp_path_factory.mktemp("page"), cells, model)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


# --- safe and alone ---


def test_the_page_needs_nothing_else(html, page):
    assert {tag for tag, _ in page.elements}.isdisjoint({"iframe", "object", "base", "img"})
    for _, attrs in page.elements:
        assert "src" not in attrs
        assert attrs.get("href", "#").startswith(("#", "data:,"))
        assert not any(name.startswith("on") for name in attrs)
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttp|import\(", html)


def test_only_its_own_script_may_run(html, page):
    (policy,) = (attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs)
    own = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert len(re.findall("<script", html)) == len(re.findall("</script", html)) == 2


def test_names_are_text(html, page):
    assert '<b>"T' not in html
    assert "<i>gene" not in html
    assert "cell<0>" not in html
    assert "\u2028" not in html.split('id="payload"')[1]
    assert page.data["colorings"][0]["labels"] == GROUPS
    assert page.data["sets"]["real"]["names"][3] == "cell<3>"
    assert HOSTILE in page.sections["data"]
    assert {tag for tag, _ in page.elements} >= {"nav", "canvas", "noscript"}


# --- facts ---


def test_cells_and_genes_are_counted(page, cells):
    said = page.sections["data"]
    assert "30 in the data; the model has 30, of which 30 are there" in said
    assert "whole numbers, 0 or more: counts; sparse (csr), float32" in said
    share = cells.layers["counts"].nnz / np.prod(cells.shape)
    assert f"{share:.1%}" in said
    median = np.median(np.asarray(cells.layers["counts"].sum(axis=1)).ravel())
    assert f"median {median:,.0f}," in said or f"median {median:.3g}," in said
    assert "3 in column kind" in said
    assert "2 in column batch" in said


def test_held_out_cells_are_found_and_counted(page, model, cells):
    held = set(model.validation_indices_.tolist())
    assert len(held) == 60
    assert "60 of these cells were held out" in page.sections["data"]
    for name in GROUPS:
        of_group = np.flatnonzero((cells.obs["kind"] == name).to_numpy())
        assert [name, "50", str(len(held & set(of_group.tolist())))] in page.rows
    assert "the 60 cells that were held out in training" in page.sections["fidelity"]
    assert "flatters" not in page.sections["fidelity"]


def test_scores_are_those_of_the_library(page, model, cells):
    unseen = model.validation_indices_
    seen = model.train_indices_
    shares = cells.obs["kind"].iloc[unseen].value_counts()
    drawn = judge.draw(model, cells[unseen].copy(), "kind", 60, None, 0)
    assert drawn.obs["kind"].value_counts().to_dict() == shares.to_dict()
    real, reference = cells[unseen].copy(), cells[seen].copy()
    table = fidelity(real, drawn, "kind", reference, layer="counts", n_trees=3, max_cells=60, seed=0)
    rows = table[table["group"] == "all"].set_index("metric")
    titles = {"wasserstein2": "Wasserstein distance", "exact_copies": "Exact copies"}
    for metric, title in (titles | {"label_f1": "Labels recognised (F1)"}).items():
        shown = next(row for row in page.rows if row[0] == title)
        assert shown[2:6] == [number(rows.loc[metric, name]) for name in ("value", "real", "chance", "best")]
        words = {"good": "good", "fair": "fair", "poor": "poor", "none": "not lit"}
        assert shown[1] == words[judge.light_of(rows.loc[metric].to_dict())]


def test_groups_are_as_frequent_as_among_the_judged_cells(cells, model):
    real = cells[:90][cells.obs["kind"][:90] != "NK"].copy()
    new = judge.draw(model, real, "kind", 60, None, 0)
    assert new.obs["kind"].value_counts().to_dict() == {HOSTILE: 30, "B": 30, "NK": 0}


def test_dimensions_are_those_of_the_library(page, model, cells):
    adata = cells.copy()
    adata.obsm["X_cvae"] = model.get_latent_representation(adata)
    adata.uns["cvae"] = {"unit_prior": True}
    lc.tl.rank_latent_genes(adata, model, n_genes=6)
    table = lc.tl.describe_latent(adata, "X_cvae", "kind", n_genes=6, layer="counts")
    active = table[table["active"]]
    shown = {row[0]: row for row in page.rows if row[0].startswith("dim_") and len(row) == 7}
    assert list(shown) == list(active.index)
    for name, row in active.iterrows():
        assert shown[name][1] == f"{row['on_fraction']:.0%}"
        assert shown[name][3] == number(row["auroc"])
        assert shown[name][5] == row["genes_up"]
    heat = {row[0]: row[1:] for row in page.rows if row[0].startswith("dim_") and len(row) == 4}
    columns = [column for column in table if column.startswith("on: ")]
    for name, row in active.iterrows():
        assert heat[name] == [f"{100 * row[column]:.0f}" for column in columns]


def test_the_map_is_of_the_codes_and_its_colours_those_of_the_data(page, model, cells):
    from sklearn.decomposition import PCA

    codes = model.get_latent_representation()
    expected = PCA(2, svd_solver="full").fit_transform(codes)
    for axis in range(2):
        assert abs(np.corrcoef(page.places("real")[:, axis], expected[:, axis])[0, 1]) > 0.99999
    first = page.data["colorings"][0]
    assert (first["name"], first["labels"], first["colors"]) == ("kind", GROUPS, cells.uns["kind_colors"])
    assert page.codes("real", 0).tolist() == cells.obs["kind"].cat.codes.tolist()
    assert page.data["group"] == 0
    names = [coloring["name"] for coloring in page.data["colorings"]]
    assert names[:3] == ["kind", "batch", "age"]
    age = page.data["colorings"][2]
    shown = age["low"] + page.codes("real", 2) / 254 * (age["high"] - age["low"])
    np.testing.assert_allclose(shown, cells.obs["age"], atol=(age["high"] - age["low"]) / 254 / 1.99)
    gene = next(i for i, coloring in enumerate(page.data["colorings"]) if coloring["unit"] == "layer counts")
    values = cells[:, names[gene]].layers["counts"].toarray().ravel()
    assert page.data["colorings"][gene]["high"] == values.max()
    order = page.codes("real", gene).astype(int)
    np.testing.assert_array_equal(order, np.round(values / values.max() * 254))


def test_generated_cells_have_labels_and_share_their_colours(page, cells, model):
    assert page.data["shared"] == [0, 1]
    assert len(page.data["sets"]["generated"]["names"]) == 60
    unseen = model.validation_indices_
    expected = judge.draw(model, cells[unseen].copy(), "kind", 60, None, 0).obs
    assert page.codes("generated", 0).tolist() == expected["kind"].cat.codes.tolist()
    assert page.codes("generated", 1).tolist() == expected["batch"].cat.codes.tolist()
    assert set(page.data["sets"]["generated"]["codes"]) == {"0", "1"}


def test_training_is_told(page, model):
    said = page.sections["model"] + page.sections["training"]
    assert "90 cells, 60 held out" in said
    curve = model.history["elbo_validation"]["elbo_validation"]
    assert f"validation: {curve.iloc[0]:.4g} → {curve.iloc[-1]:.4g}" in said
    assert "No cells were held out" not in said
    assert f"{sum(w.numel() for w in model.module.parameters()):,}" in said
    assert f"{model.trained_on_['seconds']:,.1f} s" in said


# --- what is asked for ---


def test_the_same_seed_gives_the_same_page(cells, model, html, tmp_path):
    before = cells.copy()
    assert written(tmp_path, cells, model) == html
    assert written(tmp_path, cells, model, seed=1, overwrite=True) != html
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert set(cells.uns) == set(before.uns)
    assert list(cells.obsm) == list(before.obsm)


def test_umap_of_all_cells_together(cells, model, tmp_path):
    page = Page(written(tmp_path, cells, model, basis="umap", n_generated=20))
    assert "UMAP of the codes of the CVAE (4 dimensions)" in page.sections["map"]
    both = np.concatenate([page.places("real"), page.places("generated")])
    assert both.min(axis=0).tolist() == [0, 0]
    assert both.max(axis=0).tolist() == [65535, 65535]


def test_a_map_of_the_data_and_no_generated_cells(cells, model, tmp_path):
    adata = cells.copy()
    adata.obsm["X_mine"] = np.arange(300.0).reshape(150, 2)[::-1]
    page = Page(
        written(tmp_path, adata, model, basis="X_mine", color=["age"], genes=["gene3"], n_generated=0)
    )
    assert page.places("real")[:, 0].tolist() == np.round(np.linspace(65535, 0, 150)).tolist()
    assert [coloring["name"] for coloring in page.data["colorings"]] == ["kind", "age", "gene3"]
    assert list(page.data["sets"]) == ["real"]
    assert "Left out: no generated cells were asked for" in page.sections["generated"]
    assert "Left out: no generated cells were asked for" in page.sections["fidelity"]


def test_a_map_of_the_data_has_no_room_for_generated_cells(cells, model, tmp_path):
    adata = cells.copy()
    adata.obsm["X_mine"] = np.arange(300.0).reshape(150, 2)
    page = Page(written(tmp_path, adata, model, basis="X_mine"))
    assert "new cells have no place in obsm['X_mine'] of the data" in page.sections["generated"]
    assert "Wasserstein distance" in page.sections["fidelity"]


def test_some_of_many_cells(cells, model, tmp_path):
    page = Page(written(tmp_path, cells, model, n_cells=100, n_generated=0))
    names = page.data["sets"]["real"]["names"]
    assert len(names) == len(set(names)) == 100
    unseen = set(cells.obs_names[model.validation_indices_])
    assert sum(name in unseen for name in names) == 50
    assert "100 of 150 cells, drawn at random" in page.sections["map"]
    assert "60 of these cells were held out" in page.sections["data"]


def test_cells_given_as_not_seen(cells, model, tmp_path):
    page = Page(written(tmp_path, cells, model, held_out=make_cells(90, seed=5)))
    assert "90 cells that were given as not seen in training" in page.sections["fidelity"]
    assert "Exact copies" in page.sections["fidelity"]


# --- warnings ---


def test_cells_trained_on_flatter(tmp_path):
    adata = make_cells()
    model = train(adata, args={"n_latent": 2, "hidden": (8,)})
    page = Page(written(tmp_path, adata, model))
    assert "The model was trained on all of these cells" in page.sections["data"]
    assert "This flatters the model" in page.sections["fidelity"]
    assert "Exact copies" not in page.sections["fidelity"]
    assert "No cells were held out" in page.sections["training"]
    other = Page(written(tmp_path, adata[::-1].copy(), model, overwrite=True, n_generated=0))
    assert (
        "These are not the 150 cells that the model was built with, or they are in another order"
        in other.sections["data"]
    )
    model.trained_on_ = None
    older = Page(written(tmp_path, adata, model, overwrite=True, n_generated=0))
    assert "does not say which cells it was trained on" in older.sections["data"]


def test_what_is_suspicious_is_said(model, tmp_path):
    adata = make_cells()
    counts = adata.layers["counts"].toarray()
    counts[0] *= 40
    counts[1] = 0
    counts[1, 5] = 1
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.obs["kind"] = adata.obs["kind"].astype(str)
    adata.obs.loc[adata.obs_names[90:], "kind"] = "B"
    adata.obs["batch"] = np.where(adata.obs["kind"] == "NK", "a", adata.obs["batch"].astype(str))
    adata = adata[:, [*range(2, 30)]].copy()
    page = Page(written(tmp_path, adata, model, n_generated=0))
    said = page.sections["data"]
    assert "2 of the model's 30 genes are missing and were taken as 0" in said
    assert "gene0, gene1. Codes are less sure" in said
    assert "28 in the data; the model has 30, of which 28 are there" in said
    assert "1 cells have more than 10 times the median counts: cell<0>" in said
    assert "In one batch only: NK" in said
    order = ["bad", "look", "good"]
    levels = [attrs["class"] for tag, attrs in page.elements if tag == "li" and attrs.get("class") in order]
    assert levels == sorted(levels, key=order.index)
    assert levels[0] == "bad"


@pytest.mark.parametrize("name", ["adata", "held_out"])
def test_cells_without_the_batches_of_the_model(cells, model, tmp_path, name):
    lacking = make_cells(60, seed=1)
    del lacking.obs["batch"]
    given = {"adata": lacking} if name == "adata" else {"adata": cells, "held_out": lacking}
    with pytest.raises(DataError) as caught:
        lc.tl.report(given.pop("adata"), model, tmp_path / "page.html", **given)
    said = str(caught.value)
    assert said.startswith(f"{name}.obs has no 'batch', the model's column of batches (batch_key)")
    assert "its columns are: kind, age" in said
    assert "Add one that holds the batch of every cell: 'a', 'b'" in said
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, pd.DataFrame, np.asarray], ids=str)
def test_missing_genes_beside_all_kinds_of_obsm(model, tmp_path, form):
    adata = make_cells()
    places = np.random.default_rng(1).normal(size=(150, 2))
    adata.obsm["X_map"] = places
    further = np.arange(450.0).reshape(150, 3) % 7
    options = {"index": adata.obs_names, "columns": list("abc")} if form is pd.DataFrame else {}
    adata.obsm["further"] = form(further, **options)
    page = Page(written(tmp_path, adata[:, 1:].copy(), model, basis="X_map", n_cells=100))
    assert "1 of the model's 30 genes are missing" in page.sections["data"]
    assert len(page.places("real")) == 100
    assert len(np.unique(page.places("real"), axis=0)) > 90


def test_small_groups_are_named(cells, model, tmp_path):
    adata = cells[np.r_[0:60:1][cells.obs["kind"][:60].to_numpy() != "NK"]].copy()
    adata.obs["part"] = ["tiny"] * 3 + ["rest"] * 37
    page = Page(written(tmp_path, adata, model, groupby="part"))
    assert "fewer than 20 cells in tiny (3)" in page.sections["data"]
    assert "scores by group: the model was not told of column part (labels_key=)" in page.sections["fidelity"]


# --- every class ---


CLASSES = [name for name in lc.model.__all__ if hasattr(getattr(lc.model, name), "setup_anndata")]
NO_CODES = {"GaussianCopula", "GeneShuffle", "PCAGaussian"}
SMALL = {"n_latent": 3, "hidden": (8,)}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_page(name, tmp_path):
    adata = make_cells(90)
    args = {} if name in NO_CODES else {"n_latent": 2} if name in ("SAUCIE", "SCVIS", "VASC") else SMALL
    model = train(adata, name, args=args)
    model.save(tmp_path / "m")
    page = Page(written(tmp_path, adata, lc.model.load(tmp_path / "m"), n_generated=30, overwrite=True))
    sections = ["data", "model", "training", "map", "dimensions", "generated", "fidelity"]
    assert list(page.sections) == ["head", *sections, "versions"]
    assert set(page.data["sets"]) == {"real", "generated"}
    assert "Gene means, Pearson" in page.sections["fidelity"]
    if name in NO_CODES:
        assert f"Left out: a {name} has no codes, hence no dimensions" in page.sections["dimensions"]
        assert f"Left out: a {name} is fitted in one step" in page.sections["training"]
    else:
        idle = "dimensions say nothing about these cells" in page.sections["dimensions"]
        assert idle or any(row[0].startswith("dim_") for row in page.rows)
        assert f"of the {name}" in page.sections["map"]
    assert ("has no decoder that can be asked" in page.sections["dimensions"]) == name.endswith("GAN")
    assert ("labels do not steer" in page.sections["fidelity"]) == (name == "GAN")


def test_values_without_groups_layers_or_batches(tmp_path):
    adata = make_cells(90)
    model = train(adata, "AE", layer=None, labels_key=None, batch_key=None, args=SMALL)
    page = Page(written(tmp_path, adata, model))
    assert "Left out: groups in which they are on, as there are no two groups" in page.sections["dimensions"]
    assert page.data["group"] == -1
    assert "fractional numbers, 0 or more" in page.sections["data"]


def test_a_size_factor_and_covariates(tmp_path):
    adata = make_cells(90)
    adata.obs["depth"] = np.asarray(adata.layers["counts"].sum(axis=1)).ravel() + 1.0
    lc.model.VAE.setup_anndata(
        adata,
        layer="counts",
        size_factor_key="depth",
        categorical_covariate_keys=["batch"],
        continuous_covariate_keys=["age"],
    )
    model = lc.model.VAE(adata, **SMALL)
    model.train(max_epochs=1, enable_progress_bar=False)
    page = Page(written(tmp_path, adata, model, groupby="kind"))
    assert len(page.data["sets"]["generated"]["names"]) == 60


# --- refusals ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groupby": "knd"}, "groupby='knd' is not"),
        ({"color": ["aeg"]}, "'aeg' is not"),
        ({"genes": ["gene77"]}, "'gene77' is not"),
        ({"basis": "tsne"}, "basis='tsne' is none of"),
        ({"basis": "code"}, "needs codes of two dimensions"),
        ({"n_cells": 3}, "n_cells must be at least 10"),
        ({"n_generated": 5}, "n_generated must be 0"),
        ({"source": "heaven"}, "source must be one of"),
    ],
    ids=str,
)
def test_what_cannot_be_asked(cells, model, tmp_path, options, words):
    with pytest.raises(DataError, match=re.escape(words)):
        lc.tl.report(cells, model, tmp_path / "page.html", **options)
    assert list(tmp_path.iterdir()) == []


def test_files_are_kept(cells, model, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("precious")
    with pytest.raises(DataError, match="overwrite=True"):
        lc.tl.report(cells, model, path)
    with pytest.raises(DataError, match="is a folder"):
        lc.tl.report(cells, model, tmp_path)
    with pytest.raises(DataError, match="genes are not in"):
        lc.tl.report(cells[:, ::3].copy(), train(cells, "PCAGaussian"), path, overwrite=True)
    assert path.read_text() == "precious"
    assert [found.name for found in tmp_path.iterdir()] == ["page.html"]


def test_what_is_no_trained_model(cells, tmp_path):
    lc.model.VAE.setup_anndata(cells, layer="counts")
    with pytest.raises(NotTrainedError, match="call train"):
        lc.tl.report(cells, lc.model.VAE(cells), tmp_path / "page.html")
    with pytest.raises(DataError, match="a model of latentcell is needed, got str"):
        lc.tl.report(cells, "vae", tmp_path / "page.html")


# --- lights ---


@pytest.mark.parametrize(
    ("row", "light"),
    [
        # between chance 0.1 and real 0.9, best 1: 0.8 of the way is 0.74
        ({"value": 0.74, "real": 0.9, "chance": 0.1, "best": 1.0, "better": "higher"}, "good"),
        ({"value": 0.73, "real": 0.9, "chance": 0.1, "best": 1.0, "better": "higher"}, "fair"),
        ({"value": 0.42, "real": 0.9, "chance": 0.1, "best": 1.0, "better": "higher"}, "fair"),
        ({"value": 0.41, "real": 0.9, "chance": 0.1, "best": 1.0, "better": "higher"}, "poor"),
        ({"value": 0.05, "real": 0.1, "chance": 2.0, "best": 0.0, "better": "lower"}, "good"),
        ({"value": 1.9, "real": 0.1, "chance": 2.0, "best": 0.0, "better": "lower"}, "poor"),
        # near the best from either side
        ({"value": 0.45, "real": 0.52, "chance": 1.0, "best": 0.5, "better": "near best"}, "good"),
        ({"value": 0.95, "real": 0.52, "chance": 1.0, "best": 0.5, "better": "near best"}, "poor"),
        # chance is as good as real: how many times as far as real cells
        ({"value": 0.06, "real": 0.03, "chance": 0.03, "best": 0.0, "better": "lower"}, "good"),
        ({"value": 0.15, "real": 0.03, "chance": 0.03, "best": 0.0, "better": "lower"}, "fair"),
        ({"value": 0.16, "real": 0.03, "chance": 0.03, "best": 0.0, "better": "lower"}, "poor"),
        # copies: neither real nor chance has any
        ({"value": 0.2, "real": 0.0, "chance": 0.0, "best": 0.0, "better": "lower"}, "poor"),
        ({"value": 0.0, "real": 0.0, "chance": 0.0, "best": 0.0, "better": "lower"}, "good"),
        ({"value": float("nan"), "real": 0.9, "chance": 0.1, "best": 1.0, "better": "higher"}, "none"),
        ({"value": 0.9, "real": float("nan"), "chance": 0.1, "best": 1.0, "better": "higher"}, "none"),
    ],
)
def test_lights(row, light):
    assert judge.light_of(row) == light
