"""``latentcell demo``: all models of cells without labels, beside PCA, on real cells."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcell import _keys
from latentcell._errors import DataError, nearest

from ._arguments import MODELS, Commands, add_seed, positive
from ._files import Steps, given, read, replacing, write

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

DEMO_MODELS = ("ae", "vae", "vsc")  # those that embed cells of any kind, without labels
N_TOP_GENES = 2000

_DESCRIPTION = """\
Embed real cells with an autoencoder (AE), a variational autoencoder (VAE) and a variational sparse coder
(VSC), beside PCA; cluster and draw them, and score how well clusters agree with known labels.

Writes OUT/demo.h5ad (codes, neighbour graphs, Leiden clusters, UMAP and t-SNE of each), OUT/scores.csv and
OUT/figures/*.png.
"""
_EXAMPLES = """\
examples:
  latentcell demo                                   700 blood cells that come with Scanpy; no download
  latentcell demo --dataset pbmc3k --out pbmc3k     2,700 blood cells; downloads them at first use
  latentcell demo --dataset cells.h5ad --groupby louvain --seed 1
"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "demo",
        demo,
        summary="all models on real cells, with figures and scores",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--dataset",
        default="pbmc68k",
        metavar="pbmc68k|pbmc3k|FILE.h5ad",
        help="bundled data, or a file with counts or log-normalised expression in X (default: pbmc68k)",
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"), metavar="DIR", help="default: demo_out")
    parser.add_argument(
        "--groupby",
        metavar="COLUMN",
        help=(
            "column of obs with known labels (default: cell_type if there is one; without labels, no scores)"
        ),
    )
    add_seed(parser)
    parser.add_argument(
        "--epochs", type=positive, metavar="N", help="train for fewer epochs: faster and worse"
    )


def demo(args: argparse.Namespace) -> None:
    """Embed, cluster, score and draw."""
    say = Steps(args.quiet)
    figures = args.out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    adata, groupby = _demo_data(args, say)
    import latentcell as lc

    models = {}
    for name in DEMO_MODELS:
        say(f"training {MODELS[name]}")
        call = getattr(lc.tl, name)
        models[name] = call(
            adata,
            key_added=_keys.latent(name),
            seed=args.seed,
            progress=not args.quiet,
            **given(max_epochs=args.epochs),
        )
    _embed_and_cluster(adata, args.seed, say)
    table = None
    if groupby is not None:
        say("scoring: k-means on t-SNE and Leiden, against the labels")
        keys = {name.upper(): _keys.latent(name) for name in ("pca", *DEMO_MODELS)}
        table = lc.tl.compare(adata, keys, groupby, seeds=(args.seed,))
        with replacing(args.out / "scores.csv") as path:
            table.to_csv(path, index=False)
    say("drawing")
    n_figures = _draw(adata, groupby, models, table, figures)
    write(adata, args.out / "demo.h5ad")
    say("done")
    if table is not None:
        print(_summary(table), end="\n\n")
    else:
        print(
            "No labels, hence no scores; name a column of obs with --groupby. "
            "Figures show Leiden clusters of VSC.\n"
        )
    print(f"cells     {args.out / 'demo.h5ad'}   {adata.n_obs} cells x {adata.n_vars} genes, codes in obsm")
    print(f"figures   {figures}{os.sep}   {n_figures} files")
    if table is not None:
        print(f"table     {args.out / 'scores.csv'}")


# --- parts of the demonstration ---


def _demo_data(args: argparse.Namespace, say: Steps) -> tuple["AnnData", str | None]:
    """Cells with log-normalised variable genes, and the column of their labels if they have any."""
    say(f"reading {args.dataset}")
    file = args.dataset not in ("pbmc68k", "pbmc3k")
    adata = read(Path(args.dataset)) if file else None
    import latentcell as lc

    if args.dataset == "pbmc68k":
        adata = lc.datasets.pbmc68k()
    elif args.dataset == "pbmc3k":
        adata = lc.datasets.pbmc3k()
        lc.pp.seurat(adata, n_top_genes=N_TOP_GENES, subset=True)
    else:
        assert adata is not None
        adata = _prepare(adata, say)
    groupby = args.groupby
    if groupby is None:
        groupby = "cell_type" if "cell_type" in adata.obs else None
    elif groupby not in adata.obs:
        raise DataError(
            f"--groupby {groupby}: no such column; obs has {', '.join(map(str, adata.obs.columns)) or 'none'}"
            f".{nearest(groupby, adata.obs)}"
        )
    say(
        f"{adata.n_obs} cells x {adata.n_vars} genes"
        + (f", labels in obs[{groupby!r}]" if groupby else ", no labels")
    )
    return adata, groupby


def _prepare(adata: "AnnData", say: Steps) -> "AnnData":
    """Log-normalise counts, leave other values as they are, and keep the most variable genes of many."""
    import scanpy as sc

    import latentcell as lc
    from latentcell._checks import matrix_kind

    kind = matrix_kind(adata.X, adata.obs_names, adata.var_names)
    if kind == "counts":
        n_genes = int((adata.X.sum(axis=0) > 0).sum())
        many = n_genes > N_TOP_GENES
        say("X holds counts: they are log-normalised, and kept in layers['counts']")
        lc.pp.seurat(
            adata,
            min_genes=1,
            max_genes=None,
            max_pct_mt=None,
            min_cells=1,
            n_top_genes=N_TOP_GENES if many else None,
            subset=many,
        )
    elif adata.n_vars > N_TOP_GENES and kind == "non-negative":
        say(
            "X holds no counts and is taken as log-normalised; "
            f"the {N_TOP_GENES} most variable genes are kept"
        )
        sc.pp.highly_variable_genes(adata, n_top_genes=N_TOP_GENES)
        adata = adata[:, adata.var["highly_variable"].to_numpy()].copy()
    return adata


def _embed_and_cluster(adata: "AnnData", seed: int, say: Steps) -> None:
    """PCA for comparison; then a neighbour graph, Leiden clusters, UMAP and t-SNE of every code."""
    import scanpy as sc

    n_comps = min(adata.obsm[_keys.latent("vsc")].shape[1], adata.n_obs - 1, adata.n_vars - 1)
    sc.pp.pca(adata, n_comps=n_comps, mask_var=None, random_state=seed)
    for name in ("pca", *DEMO_MODELS):
        say(f"neighbours, Leiden, UMAP and t-SNE of {name.upper()}")
        key, graph = _keys.latent(name), f"neighbors_{name}"
        sc.pp.neighbors(adata, use_rep=key, key_added=graph, random_state=seed)
        sc.tl.leiden(
            adata,
            neighbors_key=graph,
            key_added=f"leiden_{name}",
            flavor="igraph",
            n_iterations=2,
            directed=False,
            random_state=seed,
        )
        sc.tl.umap(adata, neighbors_key=graph, key_added=f"X_{name}_umap", random_state=seed)
        perplexity = min(40.0, (adata.n_obs - 1) / 3)
        sc.tl.tsne(adata, use_rep=key, perplexity=perplexity, key_added=f"X_{name}_tsne", random_state=seed)


def _draw(
    adata: "AnnData", groupby: str | None, models: dict[str, Any], table: "pd.DataFrame | None", folder: Path
) -> int:
    """Write the figures into `folder`; their number."""
    import matplotlib.pyplot as plt
    from anndata import AnnData

    import latentcell as lc

    plt.switch_backend("Agg")  # files, never windows
    color = groupby or "leiden_vsc"
    names = ("pca", *DEMO_MODELS)

    def draw_codes() -> Any:
        codes = AnnData(adata.obsm[_keys.hard(_keys.latent("vsc"))].copy(), obs=adata.obs[[color]].copy())
        codes.var_names = [f"VSC {i + 1}" for i in range(codes.n_vars)]
        if f"{color}_colors" in adata.uns:
            codes.uns[f"{color}_colors"] = adata.uns[f"{color}_colors"]
        axes: Any = lc.pl.heatmap(codes, color, genes=list(codes.var_names), unit="hard code")
        axes.set_title(f"{codes.n_obs} cells, {codes.n_vars} dimensions of the VSC")
        return axes

    drawings: dict[str, Callable[[], Any]] = {
        "umap": lambda: lc.pl.embedding(adata, [f"X_{name}_umap" for name in names], color, ncols=2),
        "tsne_kmeans": lambda: lc.pl.embedding(
            adata,
            [f"X_{name}_tsne" for name in names],
            color,
            clusters="kmeans",
            n_clusters=adata.obs[color].nunique(),
        ),
        "codes_vsc": draw_codes,
        "genes_vsc": lambda: lc.pl.heatmap(adata, color, genes=_programme_genes(adata), unit="expression"),
        **{f"history_{name}": partial(lc.pl.history, model) for name, model in models.items()},
        **{f"architecture_{name}": partial(lc.pl.architecture, model) for name, model in models.items()},
    }
    if table is not None:
        drawings["scores"] = partial(lc.pl.scores, _scores_only(table))
    for name, draw in drawings.items():
        figure = draw().figure
        with replacing(folder / f"{name}.png") as path:
            figure.savefig(path, dpi=150, format="png")
        plt.close(figure)
    return len(drawings)


def _programme_genes(adata: "AnnData", per_dimension: int = 3) -> list[str] | None:
    """The genes with the largest loadings of each VSC dimension; None where the decoder has no loadings."""
    key = _keys.loadings(_keys.latent("vsc"))
    if key not in adata.varm:
        return None
    order = abs(adata.varm[key]).argsort(axis=0)[::-1][:per_dimension]
    return list(dict.fromkeys(adata.var_names[order.T.ravel()]))


def _summary(table: "pd.DataFrame") -> str:
    """The table of scores, one line per embedding."""
    wide = _scores_only(table).pivot_table(
        index="embedding", columns=["protocol", "metric"], values="value", sort=False
    )
    wide.index.name = None
    return wide.rename_axis(columns=["", ""]).to_string(float_format="{:.3f}".format)


def _scores_only(table: "pd.DataFrame") -> "pd.DataFrame":
    """Without what the protocols say of themselves."""
    return table[~table["metric"].isin(["n_clusters", "resolution"])]
