"""Odd AnnData through every public function: a right answer, or an error that says what is wrong.

Right is: finite, of the stated shape, the input as it was, and the same as for the canonical form of the same
numbers (float32, csr, sorted, without stored zeros). A function that is public and not in the tables here
fails the test.
"""

import inspect
import tempfile
import warnings
from functools import cache
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import latentcell as lc
from latentcell._errors import LatentcellError

pytestmark = [  # of anndata and scvi-tools, on the data
    pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*has fewer than 3 cells:UserWarning"),
]

GENES = [f"g{j}" for j in range(6)]
DTYPES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "float16",
    "float32",
    "float64",
]
FORMATS = ["dense", "fortran", "csr", "csc", "csr_array", "csc_array"]
VALUES = [
    "counts",
    "counts",
    "counts",
    "log",
    "unit",
    "real",
    "tiny",
    "huge",
    "giant",
    "nan",
    "inf",
    "negative",
    "zeros",
]
NAMES = ["plain", "plain", "plain", "shuffled", "more", "doubled", "fewer", "integers", "odd"]
LABELS = ["categorical", "object", "numbers", "booleans", "missing", "one", "unused", "odd", "none"]
ODD = ["é 日本", "../../x", "a/b", " ", "", "1", "1.0", "nan", "None", "$x_1$", "\u202e"]


def numbers(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Values of a kind (float64), mostly with zeros among them."""
    counts = rng.poisson(1.5, size=shape).astype(float)
    found = {
        "log": np.log1p(counts),
        "unit": counts / max(counts.max(initial=1), 1),
        "real": rng.normal(size=shape) * (counts > 0),
        "tiny": counts * 1e-40,
        "huge": counts * 1e30,
        "giant": counts * 1e200,
        "zeros": np.zeros(shape),
    }.get(kind, counts)
    if found.size and kind in ("nan", "inf", "negative"):
        found.flat[rng.integers(found.size)] = {"nan": np.nan, "inf": np.inf, "negative": -1.0}[kind]
    return found


def as_format(dense: np.ndarray, how: str, index: str, rng: np.random.Generator, untidy: bool):
    """The numbers in some form: unsorted, doubled and zero entries if `untidy`, other types of indices."""
    if how in ("dense", "fortran"):
        return np.asfortranarray(dense) if how == "fortran" else dense
    make = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}.get(how) or getattr(sparse, how)
    matrix = make(dense)
    if untidy and matrix.nnz:
        coo = sparse.coo_matrix(matrix)
        half = coo.data // 2 if coo.data.dtype.kind in "iu" else coo.data
        rest = coo.data - half if coo.data.dtype.kind in "iuf" else coo.data & False
        order = rng.permutation(2 * coo.nnz)
        row, col = (np.concatenate([part, part])[order] for part in (coo.row, coo.col))
        data = np.concatenate([half, rest])[order]
        major, minor, n = (row, col, dense.shape[0]) if "csr" in how else (col, row, dense.shape[1])
        by_major = np.argsort(major, kind="stable")
        pointers = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=n))])
        matrix = make((data[by_major], minor[by_major], pointers), shape=dense.shape)
    matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
    return matrix


def labels(kind: str, n: int, rng: np.random.Generator):
    """A column of obs."""
    codes = np.arange(n) % 2
    text = np.array(["T", "B"], dtype=object)[codes]
    return {
        "categorical": pd.Categorical(text),
        "object": text,
        "numbers": codes * 10,
        "booleans": codes.astype(bool),
        "missing": pd.Categorical(np.where(np.arange(n) == n - 1, None, text)),
        "one": np.repeat("T", n).astype(object),
        "unused": pd.Categorical(text, categories=["Z", "T", "B", "A"]),
        "odd": np.array(ODD, dtype=object)[rng.integers(len(ODD), size=n)],
    }[kind]


@st.composite
def cells(draw):
    """An AnnData of any kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n = draw(st.sampled_from([12, 30, 30, 30, 2, 1, 0]))
    names = list(GENES)
    kind = draw(st.sampled_from(NAMES))
    if kind == "shuffled":
        names = [str(name) for name in rng.permutation(names)]
    elif kind == "more":
        names = ["é", *names, "x/y"]
    elif kind == "doubled":
        names[1] = names[0]
    elif kind == "fewer":
        names = names[: draw(st.integers(0, 4))]
    elif kind == "integers":
        names = [str(i) for i in range(6)]
    elif kind == "odd":
        names = ODD[:6]
    dtype = draw(st.sampled_from(DTYPES))
    dense = numbers(draw(st.sampled_from(VALUES)), (n, len(names)), rng)
    with np.errstate(all="ignore"):
        dense = dense.astype(dtype)
    how, index = draw(st.sampled_from(FORMATS)), draw(st.sampled_from(["int32", "int64"]))
    matrix = as_format(dense, how if dtype != "float16" else "dense", index, rng, draw(st.booleans()))
    obs_names = [f"c{i}" for i in range(n)] if draw(st.integers(0, 4)) else [str(i) for i in range(n)]
    if n > 1 and draw(st.integers(0, 6)) == 0:
        obs_names[0] = obs_names[1]
    obs = pd.DataFrame(index=pd.Index(obs_names, dtype=str))
    label = draw(st.sampled_from(LABELS))
    if label != "none":
        obs["label"] = labels(label, n, rng)
    obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(n) // 2 % 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's, on names that are there twice
        adata = ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(names, dtype=str)))
    adata.layers["other"] = matrix.copy()
    adata.obsm["X_code"] = rng.normal(size=(n, 3)).astype(np.float32)
    adata.obsm["X_umap"] = rng.normal(size=(n, 2))
    if n and draw(st.integers(0, 5)) == 0:
        adata = adata[:: draw(st.sampled_from([-1, 1]))]
    return adata


def canonical(adata: ad.AnnData) -> ad.AnnData:
    """The same numbers as float32 in sorted csr."""
    x = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
    with np.errstate(all="ignore"):
        x = x.astype(np.float32)
    plain = ad.AnnData(sparse.csr_matrix(x), obs=adata.obs.copy(), var=adata.var.copy())
    for key in adata.obsm:
        plain.obsm[key] = np.array(adata.obsm[key])
    plain.layers["other"] = plain.X.copy()
    return plain


# --- the public functions, each called with an AnnData ---

TINY = {"n_latent": 2, "hidden": (4,)}
QUICK = {"max_epochs": 1, "progress": False, **TINY}
CHANGE = {"stimulated": "T", "control": "B", "cell_type": "b"}


@cache
def trained(name: str):
    """A small model of a class, on plain cells. Not to be changed."""
    adata = plain_cells()
    Model = getattr(lc.model, name)
    Model.setup_anndata(adata, labels_key="label", batch_key="batch")
    if name in ("GeneShuffle", "GaussianCopula", "PCAGaussian"):
        model = Model(adata, **({"n_components": 2} if name == "PCAGaussian" else {}))
        model.train()
    else:
        model = Model(adata, **TINY)
        model.train(1, enable_progress_bar=False)
    return model


def plain_cells() -> ad.AnnData:
    rng = np.random.default_rng(5)
    counts = rng.poisson(2.0, size=(30, 6)).astype(np.float32)
    counts[:, 0] += 1
    adata = ad.AnnData(sparse.csr_matrix(counts))
    adata.var_names, adata.obs_names = GENES, [f"t{i}" for i in range(30)]
    adata.obs["label"] = pd.Categorical(np.array(["T", "B"])[np.arange(30) % 2])
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(30) // 2 % 2])
    return adata


@cache
def ranked() -> ad.AnnData:
    """Plain cells with what the verbs on latent dimensions write."""
    adata = plain_cells()
    adata.obsm["X_vae"] = trained("VAE").get_latent_representation(adata)
    lc.tl.rank_latent_genes(adata, trained("VAE"))
    return adata


@cache
def sweep_table() -> pd.DataFrame:
    adata = plain_cells()
    return lc.tl.sweep(
        adata,
        lc.model.VAE,
        {"beta": [1.0, 2.0]},
        seeds=(0,),
        groupby="label",
        max_epochs=1,
        progress=False,
        **TINY,
    )


def halves(adata):
    return adata[: adata.n_obs // 2], adata[adata.n_obs // 2 :]


def of_labels(score, **arguments):
    return lambda adata: score(adata.obsm["X_code"], adata.obs["label"], **arguments)


def of_sets(score, **arguments):
    def call(adata):
        first, second = halves(adata)
        return score(first.X, second.X, **arguments)

    return call


def of_group(score):
    return lambda adata: score(adata.obsm["X_code"], adata.obs["label"], adata.obs["label"].iloc[0])


def into(verb, *arguments, **options):
    """A verb that writes to its AnnData, given a copy; the answer is what it has written."""

    def call(adata):
        own = adata.copy()
        verb(own, *arguments, **options)
        new = [own.obsm[key] for key in own.obsm if key not in adata.obsm]
        return new + [own.layers[key] for key in own.layers if key not in adata.layers]

    return call


METRICS = {
    **{
        name: of_labels(getattr(lc.metrics, name))
        for name in (
            "best_correlation",
            "matched_correlation",
            "mutual_information_gap",
            "modularity",
            "separated_attribute_predictability",
            "single_latent_accuracy",
            "dci",
            "dimension_scores",
        )
    },
    "disentanglement": of_labels(
        lc.metrics.disentanglement, metrics=["modularity", "mutual_information_gap"]
    ),
    "clustering": lambda adata: lc.metrics.clustering(adata.obs["label"], adata.obs["batch"]),
    "kmeans_tsne": of_labels(lc.metrics.kmeans_tsne, perplexity=3.0),
    "leiden": of_labels(lc.metrics.leiden, resolutions=(0.5,), n_neighbors=3),
    "total_correlation": lambda adata: lc.metrics.total_correlation(adata.obsm["X_code"]),
    "neighbor_purity": of_group(lc.metrics.neighbor_purity),
    "neighbor_average_precision": of_group(lc.metrics.neighbor_average_precision),
    **{
        name: of_sets(getattr(lc.metrics, name))
        for name in (
            "energy_distance",
            "exact_copies",
            "gene_marginals",
            "mmd",
            "rank_differential_genes",
            "wasserstein",
        )
    },
    "perturbation_response": lambda adata: lc.metrics.perturbation_response(
        *(part.X for part in halves(adata)), adata.X, n_top=[2]
    ),
    "classifier_auc": of_sets(lc.metrics.classifier_auc, n_trees=5),
    "manifold_overlap": of_sets(lc.metrics.manifold_overlap, n_neighbors=2),
    "neighbor_mixing": of_sets(lc.metrics.neighbor_mixing, n_neighbors=2),
    "nearer_to_training": lambda adata: lc.metrics.nearer_to_training(
        *np.array_split(adata.X.toarray() if sparse.issparse(adata.X) else adata.X, 3)
    ),
    "fidelity": lambda adata: lc.metrics.fidelity(
        *halves(adata), n_trees=5, n_comps=2, min_cells=2, controls=False
    ),
}
PP = {
    "check_counts": lc.pp.check_counts,
    "open_cells": lambda adata: lc.pp.open_cells([adata]).shape,  # values are not looked at
    "normalize_variance": lambda adata: lc.pp.normalize_variance(adata, copy=True).layers[
        "variance_normalized"
    ],
    "seurat": lambda adata: lc.pp.seurat(
        adata, min_genes=1, min_cells=1, max_pct_mt=None, n_top_genes=None, copy=True
    ).X,
}
TL = {
    **{
        name: into(getattr(lc.tl, name), **QUICK)
        for name in ("ae", "vae", "vsc", "disentangled_vae", "saucie", "desc", "vasc", "scvis")
    },
    "cvae": into(lc.tl.cvae, "label", **QUICK),
    "scgen": into(lc.tl.scgen, "label", **QUICK),
    "gan": into(lc.tl.gan, "label", critic_hidden=(4,), **QUICK),
    "denoise": into(lc.tl.denoise, max_epochs=1, progress=False, hidden=(4,)),
    "augment": lambda adata: lc.tl.augment(adata, trained("CVAE"), "label", n_cells=3).n_vars,
    "compare": lambda adata: lc.tl.compare(
        adata, {"code": "X_code"}, "label", protocol="leiden", seeds=(0,), resolutions=(0.5,), n_neighbors=3
    ),
    "describe_latent": lambda adata: lc.tl.describe_latent(adata, "X_code", "label"),
    "report": None,  # writes a page: tests/tl/test_report.py
    "rank_latent_genes": lambda adata: lc.tl.rank_latent_genes(adata.copy(), trained("VAE")),
    "latent_directions": lambda adata: lc.tl.latent_directions(
        adata.copy(), trained("VAE"), ["label", *adata.var_names[:1]]
    ),
    "move_along": lambda adata: lc.tl.move_along(adata, trained("VAE"), np.array([1.0, -2.0])).X,
    "interpolate": lambda adata: lc.tl.interpolate(
        adata, trained("VAE"), "T", "B", 3, groupby="label", batch="a"
    ).X,
    "rank_switches": lambda adata: lc.tl.rank_switches(
        lc.tl.interpolate(adata, trained("VAE"), "T", "B", 4, groupby="label", batch="a"), least_change=0.01
    ),
    "knock_down": lambda adata: lc.tl.knock_down(
        adata, trained("VAE"), adata.var_names[0], groupby="label", n_null=2, n_neighbors=2
    ),
    "perturb": lambda adata: [
        lc.tl.perturb(adata, model, "label", **CHANGE, labels_key="batch", n_comps=1).X
        for model in (trained("VAE"), "pca")
    ],
    "compare_perturbation": lambda adata: lc.tl.compare_perturbation(
        adata, None, "label", "batch", stimulated="T", control="B", min_cells=2, n_comps=1, n_top=[2]
    ),
    "enrich_latent_genes": lambda adata: lc.tl.enrich_latent_genes(
        ranked(), {str(i): adata.var_names[i:].tolist() for i in range(2)}, min_genes=1
    ),
    "sweep": lambda adata: lc.tl.sweep(
        adata.copy(),
        lc.model.VAE,
        {"beta": [1.0]},
        seeds=(0,),
        groupby="label",
        max_epochs=1,
        progress=False,
        **TINY,
    ),
}
PL = {
    "architecture": lambda adata: lc.pl.architecture(trained("VAE")),
    "augmentation": lambda adata: lc.pl.augmentation(
        lc.tl.augment(adata, trained("CVAE"), "label", n_cells=3)
    ),
    "denoised": lambda adata: lc.pl.denoised(
        adata, adata.var_names[0], adata.var_names[-1], layers=(None, "other")
    ),
    "disentanglement": lambda adata: lc.pl.disentanglement(
        lc.metrics.disentanglement(adata.obsm["X_code"], adata.obs["label"], metrics=["modularity"])
    ),
    "embedding": lambda adata: lc.pl.embedding(adata, "X_umap", "label"),
    "heatmap": lambda adata: lc.pl.heatmap(adata, "label"),
    "history": lambda adata: lc.pl.history(trained("VAE")),
    "latent_genes": lambda adata: lc.pl.latent_genes(ranked()),
    "latent_heatmap": lambda adata: lc.pl.latent_heatmap(adata, "X_code", "label"),
    "latent_traversal": lambda adata: lc.pl.latent_traversal(
        trained("VAE").traverse(0, [0.0, 1.0], batch="a"), genes=adata.var_names[:2].tolist()
    ),
    "mean_variance": lambda adata: lc.pl.mean_variance(adata, layers=(None, "other")),
    "path": lambda adata: lc.pl.path(
        lc.tl.interpolate(adata, trained("VAE"), "T", "B", 4, groupby="label", batch="a"),
        adata.var_names[:2].tolist(),
    ),
    "perturbation": lambda adata: lc.pl.perturbation(*halves(adata)),
    "rate_distortion": lambda adata: lc.pl.rate_distortion(sweep_table()),
    "scores": lambda adata: lc.pl.scores(
        lc.tl.compare(
            adata,
            {"code": "X_code"},
            "label",
            protocol="leiden",
            seeds=(0,),
            resolutions=(0.5,),
            n_neighbors=3,
        )
    ),
}
DATASETS = {
    "pbmc68k": None,  # no argument
    "pbmc3k": None,  # downloads
    "simulate_groups": lambda adata: lc.datasets.simulate_groups(
        2, n_cells=adata.n_obs, n_genes=adata.n_vars, n_markers=1, n_rare=0
    ),
    "simulate_factors": lambda adata: lc.datasets.simulate_factors(adata.n_obs, adata.n_vars, {"a": 2}),
    "DiscreteFactor": lambda adata: lc.datasets.DiscreteFactor(adata.n_vars),
    "ContinuousFactor": lambda adata: lc.datasets.ContinuousFactor(adata.n_vars / 6),
}
ROOMS = {"metrics": METRICS, "pp": PP, "tl": TL, "pl": PL, "datasets": DATASETS}


def code_of(model, adata):
    return model.get_latent_representation(adata)


BASELINES = ("GeneShuffle", "GaussianCopula", "PCAGaussian")


def model_is_baseline(model) -> bool:
    """The others are trained by lc.tl."""
    return type(model).__name__ in BASELINES


def trained_baseline(Model, adata):
    own = adata.copy()
    Model.setup_anndata(own, labels_key="label")
    model = Model(own)
    model.train()
    return model.generate(5).X


def save_and_load(model, adata):
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "m", save_anndata=False)
        return type(model).load(Path(folder) / "m", adata).spec.genes == GENES


METHODS = {
    "setup_anndata": lambda model, adata: type(model).setup_anndata(adata.copy(), labels_key="label"),
    "attach": lambda model, adata: model._collect(adata, check=True) and None,
    "from_preset": None,  # trains at the size of the study; that it takes setup is tested with the models
    "train": lambda model, adata: trained_baseline(type(model), adata) if model_is_baseline(model) else None,
    "generate": lambda model, adata: model.generate(labels=adata.obs["label"].tolist()).X,
    "load": save_and_load,
    "save": save_and_load,
    "load_query_data": lambda model, adata: type(model).load_query_data(adata, model) and None,
    "prepare_query_anndata": lambda model, adata: type(model).prepare_query_anndata(adata, model).X,
    "decode": lambda model, adata: model.decode(
        np.asarray(adata.obsm["X_code"])[:, :2], labels="T", batch=adata.obs["batch"].tolist()
    ).X,
    "interpolate": lambda model, adata: model.interpolate("T", "B", 3, labels="T", batch="a").X,
    "traverse": lambda model, adata: model.traverse(0, [0.0, 1.0], labels="T", batch="a").X,
    "predict": lambda model, adata: model.predict(
        adata, condition_key="label", labels_key="batch", **CHANGE
    ).X,
    "get_shift": lambda model, adata: model.get_shift(
        adata, condition_key="label", labels_key="batch", **CHANGE
    ),
    "batch_removal": lambda model, adata: model.batch_removal(adata, batch_key="label", labels_key="batch").X,
    "project": lambda model, adata: model.project(adata, n_steps=3),
    "differential_expression": lambda model, adata: model.differential_expression(
        adata, groupby="label", n_samples_overall=20
    ),
    "get_architecture": lambda model, adata: model.get_architecture() and None,
    "get_loadings": lambda model, adata: model.get_loadings(),
    "get_latent_jacobian": lambda model, adata: model.get_latent_jacobian(adata).mean,
    "get_feature_correlation_matrix": lambda model, adata: model.get_feature_correlation_matrix(
        adata, n_samples=2
    ).fillna(0.0),
    "posterior_predictive_sample": lambda model, adata: model.posterior_predictive_sample(adata).todense(),
    "get_likelihood_parameters": lambda model, adata: list(model.get_likelihood_parameters(adata).values()),
    "get_marginal_ll": lambda model, adata: model.get_marginal_ll(adata, n_mc_samples=3),
    **{
        name: (lambda name: lambda model, adata: getattr(model, name)(adata))(name)
        for name in (
            "get_latent_representation",
            "get_reconstruction",
            "get_reconstruction_error",
            "get_elbo",
            "get_inclusion_probability",
            "get_cluster_probabilities",
            "get_clusters",
            "get_embedding",
            "get_dropout_probability",
            "get_log_likelihood",
            "get_denoised",
            "get_normalized_expression",
        )
    },
}
ROW_PER_CELL = {
    "get_latent_representation",
    "get_reconstruction",
    "get_inclusion_probability",
    "get_cluster_probabilities",
    "get_clusters",
    "get_embedding",
    "get_dropout_probability",
    "get_log_likelihood",
    "get_denoised",
    "get_normalized_expression",
    "prepare_query_anndata",
    "project",
}
SAME_AS_CANONICAL = ROW_PER_CELL | {
    "get_reconstruction_error",
    "get_elbo",
    "exact_copies",
    "gene_marginals",
    "mmd",
    "wasserstein",
    "manifold_overlap",
    "neighbor_mixing",
    "check_counts",
}
CLASSES = [name for name in lc.model.__all__ if hasattr(getattr(lc.model, name), "setup_anndata")]


def own_methods(name: str) -> list[str]:
    """Public methods of a model class that latentcell defines."""
    cls = getattr(lc.model, name)
    found = []
    for method in dir(cls):
        owner = next(base for base in cls.__mro__ if method in vars(base))
        is_call = callable(getattr(cls, method)) and not inspect.isclass(getattr(cls, method))
        if not method.startswith("_") and owner.__module__.startswith("latentcell") and is_call:
            found.append(method)
    return found


# --- what must hold ---


def state(adata: ad.AnnData) -> list:
    """Everything of an AnnData that a call could change."""
    parts = [("X", adata.X), *adata.layers.items(), *adata.obsm.items()]
    found: list = [adata.is_view, tuple(adata.obs.columns), tuple(adata.uns), tuple(adata.var.columns)]
    found += [tuple(adata.obs_names), tuple(adata.var_names), adata.obs.to_csv()]
    for key, value in parts:
        arrays = [value.data, value.indices, value.indptr] if sparse.issparse(value) else [np.asarray(value)]
        found.append((key, type(value), [(array.dtype, array.tobytes()) for array in arrays]))
    return found


def check_finite(answer, where: str) -> None:
    """Arrays, tables and numbers within an answer are finite (tables may leave a score out: NaN)."""
    if isinstance(answer, list | tuple):
        for part in answer:
            check_finite(part, where)
    elif sparse.issparse(answer):
        assert np.isfinite(answer.data).all(), where
    elif isinstance(answer, np.ndarray) and answer.dtype.kind == "f":
        assert np.isfinite(answer).all(), where
    elif isinstance(answer, pd.DataFrame):
        assert not np.isinf(answer.select_dtypes("number").to_numpy(dtype=float)).any(), where


def try_it(call, adata: ad.AnnData, where: str):
    """The answer, or None where it was refused clearly; the input is as it was in either case."""
    before = state(adata)
    try:
        answer = call(adata)
        if not where.endswith(".prepare_query_anndata"):  # which passes on what it is given
            check_finite(answer, where)
        refused = None
    except (LatentcellError, ImportError) as error:  # decoupler is optional
        assert len(str(error)) > 15, f"{where}: {error}"  # noqa: PT017
        answer, refused = None, error
    finally:
        plt.close("all")
    assert state(adata) == before, f"{where} changed its input"
    return answer, refused


def compare(call, adata: ad.AnnData, answer, where: str) -> None:
    """The canonical form of the same numbers gives the same."""
    plain = canonical(adata)
    if not np.isfinite(plain.X.data).all():
        return
    other, refused = try_it(call, plain, where)
    assert refused is None, f"{where}: answers, and refuses the same as float32 csr: {refused}"
    if answer is None:
        return

    def flat(found) -> np.ndarray:
        if isinstance(found, dict):
            found = list(found.values())
        if sparse.issparse(found):
            found = found.toarray()
        return np.asarray(found, dtype=float)

    np.testing.assert_allclose(flat(answer), flat(other), rtol=2e-3, atol=2e-3, err_msg=where)


def run_one(name: str, call, adata: ad.AnnData, where: str, outcomes) -> None:
    answer, refused = try_it(call, adata, where)
    outcomes[where, "refused" if refused else "answered"] += 1
    if refused is None and name in ROW_PER_CELL:
        assert answer.shape[0] == adata.n_obs, where
    if refused is None and name in SAME_AS_CANONICAL:
        compare(call, adata, answer, where)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_is_in_the_tables(room):
    assert sorted(ROOMS[room]) == sorted(getattr(lc, room).__all__)


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_is_in_the_table(name):
    assert set(own_methods(name)) <= set(METHODS)


def in_reach(adata: ad.AnnData, name: str) -> bool:
    """Whether the call can be written down: it names a label, a gene or a cell of the AnnData."""
    if name in ("denoised", "neighbor_purity", "neighbor_average_precision"):
        return adata.n_obs > 0 and adata.n_vars > 0 and "label" in adata.obs
    reads_labels = room_reads_labels(name)
    return "label" in adata.obs or not reads_labels


def room_reads_labels(name: str) -> bool:
    return name in METRICS or name in ("disentanglement", "generate")


@pytest.mark.parametrize(
    ("room", "name"), [(r, n) for r in ROOMS for n in ROOMS[r] if ROOMS[r][n] is not None]
)
def test_functions(room, name, outcomes, profile):
    call = ROOMS[room][name]

    @profile
    @given(cells())
    def check(adata):
        if in_reach(adata, name):
            run_one(name, call, adata, f"{room}.{name}", outcomes)

    check()


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name, outcomes, profile):
    model = trained(name)

    @profile
    @given(cells())
    def check(adata):
        for method in own_methods(name):
            call = METHODS[method]
            if call is not None and in_reach(adata, method):
                run_one(
                    method,
                    lambda given, call=call: call(model, given),
                    adata,
                    f"model.{name}.{method}",
                    outcomes,
                )

    check()
