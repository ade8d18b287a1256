"""How much is said while a verb trains is scanpy's to decide: ``sc.settings.verbosity``."""

import io
import re

import numpy as np
import pytest
import scanpy as sc

import latentcell as lc

VERBS = {
    "ae": ["'X_ae' (adata.obsm)", "'ae' (adata.uns)"],
    "vsc": [
        "'X_vsc' (adata.obsm)",
        "'vsc' (adata.uns)",
        "'vsc_hard' (adata.obsm)",
        "'vsc_inclusion' (adata.obsm)",
        "'vsc_loadings' (adata.varm)",
    ],
    "saucie": ["'X_saucie' (adata.obsm)", "'saucie_clusters' (adata.obs)", "'saucie' (adata.uns)"],
    "desc": [
        "'X_desc' (adata.obsm)",
        "'desc_probabilities' (adata.obsm)",
        "'desc_clusters' (adata.obs)",
        "'desc_confidence' (adata.obs)",
        "'desc' (adata.uns)",
    ],
    "scvis": ["'X_scvis' (adata.obsm)", "'scvis_log_likelihood' (adata.obs)", "'scvis' (adata.uns)"],
    "vasc": ["'X_vasc' (adata.obsm)", "'vasc_dropout' (adata.var)", "'vasc' (adata.uns)"],
    "gan": ["'X_gan' (adata.obsm)", "'gan' (adata.uns)"],
    "denoise": ["'denoised' (adata.layers)", "'denoised' (adata.uns)"],
}


def make_cells():
    adata = lc.datasets.simulate_groups(seed=0)[:, :30].copy()
    adata.X = adata.X.round()
    return adata


@pytest.fixture
def log(monkeypatch):
    """Scanpy's log, with its settings as they were afterwards."""
    before, file = sc.settings.verbosity, sc.settings.logfile
    text = io.StringIO()
    sc.settings.logfile = text
    yield text
    sc.settings.logfile, sc.settings.verbosity = file, before


@pytest.mark.parametrize(
    ("verbosity", "bar", "lines"), [(0, False, 0), (1, True, 0), (2, True, 2), (3, True, 5)]
)
def test_what_is_said(verbosity, bar, lines, log, capsys):
    sc.settings.verbosity = verbosity
    lc.tl.ae(make_cells(), max_epochs=1, n_latent=2, hidden=(4,))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("Training AE" in captured.err) == bar
    said = log.getvalue().splitlines()
    assert len(said) == lines
    if lines:
        assert said[0] == "training AE on 90 cells x 30 genes"
        assert re.fullmatch(r" +finished \(0:00:\d\d\)", said[1])


@pytest.mark.parametrize(("verbosity", "progress"), [(0, True), (3, False)])
def test_who_asks_for_the_bar_gets_it(verbosity, progress, log, capsys):
    sc.settings.verbosity = verbosity
    lc.tl.ae(make_cells(), max_epochs=1, n_latent=2, hidden=(4,), progress=progress)
    assert ("Training AE" in capsys.readouterr().err) == progress


@pytest.mark.parametrize("verbosity", [0, 1])
def test_a_sweep(verbosity, log, capsys):
    sc.settings.verbosity = verbosity
    options = {"max_epochs": 1, "n_latent": 2, "hidden": (4,)}
    lc.tl.sweep(make_cells(), lc.model.VAE, {"beta": [1]}, seeds=[0], **options)
    assert ("Sweep of VAE" in capsys.readouterr().err) == bool(verbosity)


@pytest.mark.parametrize("verb", VERBS)
def test_all_that_is_written_is_said(verb, log):
    sc.settings.verbosity = 3
    adata = make_cells()
    there = {slot: set(getattr(adata, slot)) for slot in ("obs", "var", "obsm", "varm", "layers", "uns")}
    getattr(lc.tl, verb)(adata, max_epochs=4 if verb == "desc" else 1, progress=False)
    said = re.findall(r"^--> added|'\w+' \(adata\.\w+\)", log.getvalue(), flags=re.MULTILINE)
    written = {f"'{key}' (adata.{slot})" for slot in there for key in set(getattr(adata, slot)) - there[slot]}
    assert {line for line in said if line.startswith("'")} == written == set(VERBS[verb])


def many_genes(n_genes):
    adata = lc.datasets.simulate_groups(n_genes=n_genes, seed=0)
    adata.X = adata.X.round()
    return adata


TINY = {"max_epochs": 1, "n_latent": 2, "hidden": (4,), "progress": False}


@pytest.mark.parametrize(("verbosity", "times"), [(0, 0), (1, 0), (2, 0), (3, 1)])
def test_very_many_genes_that_nobody_chose_are_hinted_at_once(verbosity, times, log):
    sc.settings.verbosity = verbosity
    lc.tl.vae(many_genes(5001), **TINY)
    assert log.getvalue().count("--> all 5001 genes are modelled") == times
    assert log.getvalue().count("sc.pp.highly_variable_genes(adata, n_top_genes=2000)") == times


def test_the_hint_is_silent_where_genes_are_few_or_chosen(log):
    sc.settings.verbosity = 3
    adata = many_genes(5001)
    lc.tl.vae(adata, mask_var=None, **TINY)
    lc.tl.vae(adata, mask_var=np.ones(5001, dtype=bool), **TINY)
    adata.var["highly_variable"] = True
    lc.tl.vae(adata, **TINY)
    lc.tl.vae(many_genes(5000), **TINY)
    assert log.getvalue().count("training VAE") == 4
    assert "genes are modelled" not in log.getvalue()


def test_what_the_hint_says_works():
    adata = many_genes(5001)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000)
    assert len(lc.tl.vae(adata, **TINY).spec.genes) == 2000


def test_genes_of_dimensions_are_said_to_be_written(log):
    adata = make_cells()
    model = lc.tl.ae(adata, max_epochs=1, n_latent=2, hidden=(4,), progress=False)
    sc.settings.verbosity = 3
    lc.tl.rank_latent_genes(adata, model)
    assert "'rank_latent_genes' (adata.uns)" in log.getvalue()
    assert "'ae_effects' (adata.varm)" in log.getvalue()
