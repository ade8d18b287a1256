"""Genes of latent dimensions: known ones are found, scanpy reads the table, gene sets are enriched."""

import sys

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from sklearn.metrics import roc_auc_score

import latentcell as lc
from latentcell._errors import DataError

PROGRAMMES = np.arange(60).reshape(10, 6).T[:3]
"""Genes of the three programmes: every sixth, from 0, 1 and 2."""


@pytest.fixture(scope="module")
def source():
    """240 cells x 60 genes: three programmes of 10 genes, each on in a third of the cells; log1p in X."""
    rng = np.random.default_rng(0)
    usage = np.zeros((240, 3))
    usage[np.arange(240), np.arange(240) % 3] = rng.uniform(0.5, 1.5, 240)
    effect = np.zeros((3, 60))
    for programme, genes in enumerate(PROGRAMMES):
        effect[programme, genes] = 1.6
    counts = rng.poisson(rng.lognormal(0.3, 0.8, 60) * np.exp(usage @ effect)).astype(np.float32)
    counts[:, 59] += 1
    adata = ad.AnnData(np.log1p(1e4 * counts / counts.sum(1, keepdims=True)).astype(np.float32))
    adata.layers["counts"] = counts
    adata.obs_names = [f"cell{i}" for i in range(240)]
    adata.var_names = [f"gene{j}" for j in range(60)]
    adata.obsm["usage"] = usage
    return adata


@pytest.fixture(scope="module")
def ranked(source):
    """The cells with a trained VAE's table of all genes."""
    adata = source.copy()
    model = lc.tl.vae(adata, layer="counts", n_latent=3, hidden=(16,), max_epochs=40, progress=False)
    lc.tl.rank_latent_genes(adata, model)
    return adata, model


def programme_aurocs(adata, key, pick):
    """How well the genes of each programme are found by the dimension that goes along with it."""
    for programme, genes in enumerate(PROGRAMMES):
        r = np.array(
            [np.corrcoef(code, adata.obsm["usage"][:, programme])[0, 1] for code in adata.obsm[key].T]
        )
        dim = np.argmax(pick(r))
        group = f"dim_{dim}" if r[dim] > 0 else f"dim_{dim}_down"
        table = sc.get.rank_genes_groups_df(adata, group, key="rank_latent_genes")
        yield roc_auc_score(table["names"].isin(adata.var_names[genes]), table["scores"])


def test_known_genes_of_counts_are_found_in_both_directions(ranked):
    assert min(programme_aurocs(ranked[0], "X_vae", np.abs)) >= 0.9


def test_known_genes_are_found_by_sparse_codes(source):
    adata = source.copy()
    model = lc.tl.vsc(adata, n_latent=4, hidden=(16,), max_epochs=80, progress=False)
    lc.tl.rank_latent_genes(adata, model)
    assert min(programme_aurocs(adata, "X_vsc", lambda r: r)) >= 0.9


def test_a_gene_that_is_hardly_expressed_does_not_win_by_noise(source):
    """Counted in four cells, all of one programme: its log rate is steep there, its expression is not."""
    adata = source.copy()
    adata.layers["counts"][:, 5] = 0
    adata.layers["counts"][[0, 3, 6, 9], 5] = 1
    model = lc.tl.vae(adata, layer="counts", n_latent=3, hidden=(16,), max_epochs=40, progress=False)
    lc.tl.rank_latent_genes(adata, model)
    names = adata.uns["rank_latent_genes"]["names"]
    assert not any("gene5" in names[group][:10] for group in names.dtype.names)


def test_scores_are_moderated_effects_per_deviation_of_the_code(ranked):
    adata, model = ranked
    found = model.get_latent_jacobian()
    normalised = np.log1p(1e4 * adata.layers["counts"] / adata.layers["counts"].sum(1, keepdims=True))
    deviation = normalised.std(0)
    for dim in range(3):
        effect = found.mean[:, dim] * adata.obsm["X_vae"][:, dim].std()
        score = effect / (deviation + np.median(deviation))
        for group, sign in ((f"dim_{dim}", 1), (f"dim_{dim}_down", -1)):
            table = sc.get.rank_genes_groups_df(adata, group, key="rank_latent_genes").set_index("names")
            assert table.index.tolist() == adata.var_names[np.argsort(-sign * score)].tolist()
            table = table.loc[adata.var_names]
            np.testing.assert_allclose(table["scores"], sign * score, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(table["logfoldchanges"], effect / np.log(2), rtol=1e-4, atol=1e-6)
            assert table[["pvals", "pvals_adj"]].isna().all(axis=None)
    np.testing.assert_allclose(adata.varm["vae_effects"], found.mean, rtol=1e-5)


def test_scanpy_reads_and_draws_the_table_also_from_a_file(ranked, tmp_path):
    ranked[0].write_h5ad(tmp_path / "cells.h5ad")
    adata = sc.read_h5ad(tmp_path / "cells.h5ad")
    every = sc.get.rank_genes_groups_df(adata, None, key="rank_latent_genes")
    groups = [f"dim_{dim}{side}" for dim in range(3) for side in ("", "_down")]
    assert list(every["group"].cat.categories) == groups
    assert every.groupby("group", observed=True).size().tolist() == [60] * 6
    strong = sc.get.rank_genes_groups_df(adata, "dim_1", key="rank_latent_genes", log2fc_min=0.1)
    assert 0 < len(strong) < 60
    axes = sc.pl.rank_genes_groups(adata, key="rank_latent_genes", n_genes=5, show=False)
    assert [ax.get_title() for ax in axes] == [f"{group} vs. unchanged" for group in groups]
    assert [text.get_text() for text in axes[2].texts] == list(
        adata.uns["rank_latent_genes"]["names"]["dim_1"][:5]
    )
    plt.close("all")


def test_arguments_choose_what_is_kept(ranked):
    adata, model = ranked[0].copy(), ranked[1]
    before = {*adata.uns}, {*adata.varm}
    lc.tl.rank_latent_genes(
        adata, model, key_added="few", use_rep="X_mine", n_genes=7, dims=[2], direction="down"
    )
    assert ({*adata.uns}, {*adata.varm}) == (before[0] | {"few"}, before[1] | {"mine_effects"})
    names = adata.uns["few"]["names"]
    assert names.dtype.names == ("dim_2_down",)
    np.testing.assert_array_equal(
        names["dim_2_down"], adata.uns["rank_latent_genes"]["names"]["dim_2_down"][:7]
    )
    np.testing.assert_array_equal(adata.varm["mine_effects"], adata.varm["vae_effects"])


@pytest.mark.parametrize("dims", [1, [1], [False, True, False]])
def test_a_table_of_some_dimensions_leaves_the_effects_of_the_others(ranked, dims):
    adata, model = ranked[0].copy(), ranked[1]
    before = adata.varm["vae_effects"].copy()
    assert (before != 0).any(axis=0).all()
    lc.tl.rank_latent_genes(adata, model, dims=dims, key_added="other")
    np.testing.assert_array_equal(adata.varm["vae_effects"], before)
    other, every = adata.uns["other"], adata.uns["rank_latent_genes"]
    assert other["names"].dtype.names == ("dim_1", "dim_1_down")
    for part in ("names", "scores", "logfoldchanges", "stds"):
        np.testing.assert_array_equal(other[part]["dim_1"], every[part]["dim_1"])


def test_codes_under_another_key_must_be_named(source):
    adata = source.copy()
    adata.obsm["X_pca"] = np.zeros((240, 2))
    model = lc.tl.vae(adata, n_latent=2, hidden=(4,), max_epochs=1, key_added="X_mine", progress=False)
    del adata.uns["mine"]  # nothing says whose codes these are
    with pytest.raises(DataError, match=r"no 'X_vae' \(there: .*X_pca, X_mine\).*use_rep="):
        lc.tl.rank_latent_genes(adata, model)
    assert (set(adata.uns), set(adata.varm)) == (set(), set())
    lc.tl.rank_latent_genes(adata, model, use_rep="X_mine")
    adata.obs["third"] = [f"p{i % 3}" for i in range(240)]
    assert "genes_up" in lc.tl.describe_latent(adata, "X_mine", "third")
    assert set(adata.varm) == {"mine_effects"}


def test_a_decoder_that_only_adds_has_no_falling_genes_and_its_loadings_are_kept(source):
    adata = source.copy()
    adata.var["highly_variable"] = np.arange(60) < 50
    model = lc.tl.vsc(adata, n_latent=4, hidden=(8,), max_epochs=3, progress=False)
    del adata.varm["vsc_loadings"]
    lc.tl.rank_latent_genes(adata, model)
    stored = adata.uns["rank_latent_genes"]
    assert stored["names"].dtype.names == ("dim_0", "dim_1", "dim_2", "dim_3")
    assert len(stored["names"]) == 50
    np.testing.assert_array_equal(adata.varm["vsc_loadings"][:50], model.get_loadings())
    assert (adata.varm["vsc_loadings"][50:] == 0).all()
    assert "vsc_effects" not in adata.varm


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dims": [9]}, "dimensions are 0 to 2"),
        ({"dims": [1, 1]}, "name each dimension once"),
        ({"direction": "left"}, "direction must be one of"),
        ({"n_genes": 0}, "n_genes must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(ranked, kwargs, message):
    with pytest.raises(DataError, match=message):
        lc.tl.rank_latent_genes(*ranked, **kwargs)


def test_views_and_models_without_codes_are_refused(ranked):
    adata, model = ranked[0].copy(), ranked[1]
    with pytest.raises(DataError, match="is a view"):
        lc.tl.rank_latent_genes(adata[:50], model)
    lc.model.GeneShuffle.setup_anndata(adata)
    shuffle = lc.model.GeneShuffle(adata)
    with pytest.raises(DataError, match="GeneShuffle has no decoder"):
        lc.tl.rank_latent_genes(adata, shuffle)


# --- gene sets ---


def sets_of(adata):
    found = {f"programme {p}": list(adata.var_names[genes]) for p, genes in enumerate(PROGRAMMES)}
    return found | {"others": [f"gene{j}" for j in range(3, 60, 6)], "too few": ["gene1", "gene2", "none"]}


@pytest.mark.parametrize("as_file", [False, True])
def test_programmes_are_enriched_where_their_genes_rise(ranked, as_file, tmp_path):
    pytest.importorskip("decoupler")
    from scipy.stats import linregress

    adata = ranked[0]
    sets = sets_of(adata)
    given = sets
    if as_file:
        given = tmp_path / "sets.gmt"
        given.write_text("".join("\t".join([name, "", *genes]) + "\n" for name, genes in sets.items()))
    table = lc.tl.enrich_latent_genes(adata, given)
    assert table.groupby("group", sort=False).size().to_dict() == {"dim_0": 4, "dim_1": 4, "dim_2": 4}
    assert set(table["n_genes"]) == {10}
    for row in table.itertuples():
        ranks = sc.get.rank_genes_groups_df(adata, row.group, key="rank_latent_genes")
        fit = linregress(ranks["names"].isin(sets[row.gene_set]).astype(float), ranks["scores"])
        np.testing.assert_allclose(row.score, fit.slope / fit.stderr, rtol=1e-3)
    strongest = table.groupby("group", sort=False)["score"].apply(lambda t: t.abs().is_monotonic_decreasing)
    assert strongest.all()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"A": ["x", "y"]}, "none of the 1 sets has 5 genes"),
        ({"A": [f"gene{j}" for j in range(60)]}, "holds all ranked genes"),
        ("nowhere.gmt", "there is no file"),
    ],
)
def test_gene_sets_that_do_not_fit_are_refused(ranked, sets, message):
    pytest.importorskip("decoupler")
    with pytest.raises(DataError, match=message):
        lc.tl.enrich_latent_genes(ranked[0], sets)


def test_tables_and_files_that_do_not_fit_are_refused(ranked, tmp_path):
    pytest.importorskip("decoupler")
    adata = ranked[0].copy()
    with pytest.raises(DataError, match="uns has no 'none'"):
        lc.tl.enrich_latent_genes(adata, sets_of(adata), key="none")
    lc.tl.rank_latent_genes(adata, ranked[1], key_added="cut", n_genes=9)
    with pytest.raises(DataError, match="genes were cut off"):
        lc.tl.enrich_latent_genes(adata, sets_of(adata), key="cut")
    (tmp_path / "sets.gmt").write_text("gene1,gene2\n")
    with pytest.raises(DataError, match=r"is no \.gmt file"):
        lc.tl.enrich_latent_genes(adata, tmp_path / "sets.gmt")


def test_without_decoupler_the_message_says_how_to_install_it(ranked, monkeypatch):
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(ImportError, match=r"pip install \"latentcell\[enrich\]\""):
        lc.tl.enrich_latent_genes(ranked[0], sets_of(ranked[0]))


@pytest.fixture
def two_models(source):
    """Cells with codes of two models under one key after the other."""
    adata = source.copy()
    first, second = (
        lc.tl.vae(adata, layer="counts", n_latent=3, hidden=(16,), max_epochs=2, seed=seed, progress=False)
        for seed in (0, 1)
    )
    return adata, first, second


def test_genes_of_an_earlier_model_are_not_shown_for_new_codes(two_models):
    adata, _, second = two_models
    lc.tl.rank_latent_genes(adata, second)
    part = adata[:100].copy()
    assert "genes_up" in lc.tl.describe_latent(adata, "X_vae")
    assert "genes_up" in lc.tl.describe_latent(part, "X_vae")  # of the same model still
    lc.tl.vae(adata, layer="counts", n_latent=3, hidden=(16,), max_epochs=2, seed=2, progress=False)
    assert "genes_up" not in lc.tl.describe_latent(adata, "X_vae")
    with pytest.raises(DataError, match=r"is of an earlier model than the codes in adata\.obsm"):
        lc.tl.describe_latent(adata, "X_vae", genes_key="rank_latent_genes")


def test_the_codes_that_are_a_models_own_are_found_or_asked_for(two_models):
    adata, first, second = two_models
    lc.tl.rank_latent_genes(adata, second)
    assert adata.uns["rank_latent_genes"]["params"]["groupby"] == "X_vae"
    with pytest.raises(DataError, match=r"obsm\['X_vae'\] holds codes of another VAE than this one"):
        lc.tl.rank_latent_genes(adata, first)
    third = lc.tl.vae(
        adata, layer="counts", n_latent=3, hidden=(16,), max_epochs=2, key_added="X_vae_3", progress=False
    )
    lc.tl.rank_latent_genes(adata, third)
    assert adata.uns["rank_latent_genes"]["params"]["groupby"] == "X_vae_3"
    second.train(1, enable_progress_bar=False)
    with pytest.raises(DataError, match="another VAE than this one, as it is now"):
        lc.tl.rank_latent_genes(adata, second)


def test_directions_of_another_model_are_not_followed(two_models):
    adata, first, second = two_models
    adata.obs["on"] = adata.obsm["usage"][:, 0] > 0.1
    lc.tl.latent_directions(adata, second, by="on", use_rep="X_vae")
    name = adata.uns["latent_directions"]["names"][0]
    lc.tl.move_along(adata, second, name)
    with pytest.raises(DataError, match="are those of another model than this one"):
        lc.tl.move_along(adata, first, name)


def test_loadings_of_an_earlier_linear_decoder_go(source):
    adata = source.copy()
    for decoder, there in (("linear", True), ("mlp", False)):
        lc.tl.vsc(adata, layer="counts", n_latent=3, decoder=decoder, max_epochs=1, progress=False)
        assert ("vsc_loadings" in adata.varm) == there
