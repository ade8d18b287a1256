"""Command line: ``latentcell demo``, ``train``, ``embed`` and ``denoise``.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 the input cannot be
used (one line says what to do), 2 wrong usage, 130 interrupted. Libraries are imported by the commands, so
that ``--help`` is instant.
"""

import argparse
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcell import __version__, _keys
from latentcell._errors import DataError, LatentcellError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MODELS = {"ae": "AE", "vae": "VAE", "vsc": "VSC", "cvae": "CVAE", "dca": "DCA"}
DEMO_MODELS = ("ae", "vae", "vsc")  # those that embed cells of any kind, without labels
LIKELIHOODS = ("normal", "student_t", "bernoulli", "poisson", "nb", "zinb")
COUNT_LIKELIHOODS = ("nb", "zinb", "poisson")
SCALES = ("counts", "cp10k", "log1p")
N_TOP_GENES = 2000

_DEMO = """\
Embed real cells with an autoencoder (AE), a variational autoencoder (VAE) and a variational sparse coder
(VSC), beside PCA; cluster and draw them, and score how well clusters agree with known labels.

Writes OUT/demo.h5ad (codes, neighbour graphs, Leiden clusters, UMAP and t-SNE of each), OUT/scores.csv and
OUT/figures/*.png.
"""
_DEMO_EXAMPLES = """\
examples:
  latentcell demo                                   700 blood cells that come with Scanpy; no download
  latentcell demo --dataset pbmc3k --out pbmc3k     2,700 blood cells; downloads them at first use
  latentcell demo --dataset cells.h5ad --groupby louvain --seed 1
"""
_TRAIN_EXAMPLES = """\
examples:
  latentcell train cells.h5ad --model vsc -o vsc_model
  latentcell train cells.h5ad --model vae --layer counts --likelihood nb --batch-key donor -o vae_model
  latentcell train cells.h5ad --model cvae --labels-key cell_type -o cvae_model
"""
_EMBED_EXAMPLES = """\
examples:
  latentcell embed vsc_model cells.h5ad -o embedded.h5ad
  latentcell embed vsc_model new_cells.h5ad -o embedded.h5ad --key-added X_reference
"""
_DENOISE = """\
Denoise the counts of FILE with a deep count autoencoder (DCA) that is trained on them.

Writes a copy of FILE with expected counts in layers["denoised"], or with --genes a column per gene in
obsm["denoised"]. X and all else stay as they are.
"""
_DENOISE_EXAMPLES = """\
examples:
  latentcell denoise cells.h5ad -o denoised.h5ad
  latentcell denoise cells.h5ad -o denoised.h5ad --layer counts --scale log1p --batch-key donor
  latentcell denoise cells.h5ad -o denoised.h5ad --genes CD3D,CD8A,MS4A1
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments after the program's name; by default those of the process.

    Returns
    -------
    Exit code: 0 done, 1 the input cannot be used, 130 interrupted. Wrong usage leaves by
    `SystemExit` with code 2.

    Examples
    --------
    >>> from latentcell.cli import main
    >>> main(["embed", "no_model", "no_cells.h5ad", "-o", "out.h5ad"])
    1
    """
    if argv is None:
        # a process of our own: torch's threads shall sleep while they wait, not take the cores from others
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            if not args.debug:
                # what libraries tell the authors of other libraries
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                # scanpy's neighbour graph of cells with the same code, such as all zeros
                warnings.filterwarnings("ignore", "Changing the sparsity structure")
            args.command(args)
    except KeyboardInterrupt:
        print("latentcell: interrupted", file=sys.stderr)
        return 130
    except (LatentcellError, OSError) as error:
        if args.debug:
            traceback.print_exc()
        else:
            print(f"latentcell: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latentcell",
        description="Latent spaces of single cells: demonstrate, train, embed, denoise.",
        epilog="latentcell COMMAND --help says more and gives examples.",
    )
    parser.add_argument("--version", action="version", version=f"latentcell {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="no progress")
    common.add_argument(
        "--debug", action="store_true", help="show the full trace of an error, and all warnings"
    )

    def add(
        name: str, command: Any, summary: str, description: str, examples: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=examples,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        return sub

    demo = add("demo", _demo, "all models on real cells, with figures and scores", _DEMO, _DEMO_EXAMPLES)
    demo.add_argument(
        "--dataset",
        default="pbmc68k",
        metavar="pbmc68k|pbmc3k|FILE.h5ad",
        help="bundled data, or a file with counts or log-normalised expression in X (default: pbmc68k)",
    )
    demo.add_argument("--out", type=Path, default=Path("demo_out"), metavar="DIR", help="default: demo_out")
    demo.add_argument(
        "--groupby",
        metavar="COLUMN",
        help=(
            "column of obs with known labels (default: cell_type if there is one; without labels, no scores)"
        ),
    )
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    demo.add_argument(
        "--epochs", type=_positive, metavar="N", help="train for fewer epochs: faster and worse"
    )

    train = add(
        "train", _train, "train a model and save it", "Train a model on FILE and save it.", _TRAIN_EXAMPLES
    )
    train.add_argument("file", type=Path, metavar="FILE.h5ad")
    train.add_argument("--model", required=True, choices=tuple(MODELS))
    train.add_argument("-o", "--out", type=Path, required=True, metavar="MODEL_DIR")
    train.add_argument("--layer", metavar="KEY", help="layer to model (default: X)")
    train.add_argument(
        "--batch-key", metavar="COLUMN", help="column of obs with batches, given to the decoder"
    )
    train.add_argument(
        "--labels-key", metavar="COLUMN", help="column of obs with labels, kept with the model; cvae needs it"
    )
    train.add_argument(
        "--likelihood",
        choices=LIKELIHOODS,
        help="of continuous data, of values from 0 to 1, of counts (default: by the data)",
    )
    train.add_argument("--n-latent", type=_positive, metavar="N", help="dimensions of the code")
    train.add_argument("--epochs", type=_positive, metavar="N")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    train.add_argument("--overwrite", action="store_true", help="replace MODEL_DIR")

    embed = add(
        "embed", _embed, "write a model's codes of cells", "Embed the cells of FILE.", _EMBED_EXAMPLES
    )
    embed.add_argument("model", type=Path, metavar="MODEL_DIR")
    embed.add_argument("file", type=Path, metavar="FILE.h5ad")
    embed.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT.h5ad", help="FILE with the codes in obsm"
    )
    embed.add_argument("--key-added", metavar="KEY", help="key of obsm (default: by the model, e.g. X_vsc)")

    denoise = add("denoise", _denoise, "write denoised counts of cells", _DENOISE, _DENOISE_EXAMPLES)
    denoise.add_argument("file", type=Path, metavar="FILE.h5ad")
    denoise.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT.h5ad", help="FILE with the denoised values"
    )
    denoise.add_argument("--layer", metavar="KEY", help="layer of the counts (default: X)")
    denoise.add_argument(
        "--batch-key", metavar="COLUMN", help="column of obs with batches, given to the decoder"
    )
    denoise.add_argument("--likelihood", choices=COUNT_LIKELIHOODS, help="default: nb")
    denoise.add_argument(
        "--scale",
        choices=SCALES,
        help="counts at the cell's depth, per 10,000 counts, or log(1 + cp10k) (default: counts)",
    )
    denoise.add_argument(
        "--genes",
        type=_names,
        metavar="GENE,...",
        help="write these genes only (default: all, which takes cells x genes x 4 bytes of memory)",
    )
    denoise.add_argument("--epochs", type=_positive, metavar="N")
    denoise.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names separated by commas")
    return names


# --- commands ---


def _train(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.overwrite:
        raise DataError(f"{args.out} exists: choose another MODEL_DIR, or replace it with --overwrite")
    if args.model == "cvae" and args.labels_key is None:
        raise DataError("cvae needs labels: name their column of obs with --labels-key")
    say = _Steps(args.quiet)
    adata = _read(args.file)
    say(f"{args.file}: {adata.n_obs} cells x {adata.n_vars} genes; loading libraries")
    import latentcell as lc

    model_class = getattr(lc.model, MODELS[args.model])
    model_class.setup_anndata(adata, layer=args.layer, batch_key=args.batch_key, labels_key=args.labels_key)
    model = model_class(adata, **_given(n_latent=args.n_latent, gene_likelihood=args.likelihood))
    say(f"training {MODELS[args.model]}")
    model.train(**_given(max_epochs=args.epochs), seed=args.seed, enable_progress_bar=not args.quiet)
    model.save(args.out, overwrite=args.overwrite)
    say("done")
    print(f"model   {args.out}")


def _embed(args: argparse.Namespace) -> None:
    if not args.model.is_dir():
        raise DataError(f"{args.model} is not a folder: name one that `latentcell train -o` has written")
    say = _Steps(args.quiet)
    adata = _read(args.file)
    say(f"{args.file}: {adata.n_obs} cells x {adata.n_vars} genes; loading libraries")
    import latentcell as lc

    model = lc.model.load(args.model)
    key = args.key_added or _keys.latent(type(model).__name__.lower())
    adata.obsm[key] = model.get_latent_representation(adata)
    _write(adata, args.out)
    say("done")
    print(
        f"cells   {args.out}   obsm[{key!r}]: "
        f"{adata.obsm[key].shape[0]} cells x {adata.obsm[key].shape[1]} dimensions"
    )


def _denoise(args: argparse.Namespace) -> None:
    say = _Steps(args.quiet)
    adata = _read(args.file)
    say(f"{args.file}: {adata.n_obs} cells x {adata.n_vars} genes; loading libraries")
    import latentcell as lc

    say("training DCA")
    lc.tl.denoise(
        adata,
        layer=args.layer,
        batch_key=args.batch_key,
        **_given(gene_likelihood=args.likelihood, scale=args.scale, genes=args.genes, max_epochs=args.epochs),
        seed=args.seed,
        progress=not args.quiet,
    )
    _write(adata, args.out)
    say("done")
    slot = "layers" if args.genes is None else "obsm"
    n_genes = getattr(adata, slot)["denoised"].shape[1]
    print(f"cells   {args.out}   {slot}['denoised']: {adata.n_obs} cells x {n_genes} genes")


def _demo(args: argparse.Namespace) -> None:
    say = _Steps(args.quiet)
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
            **_given(max_epochs=args.epochs),
        )
    _embed_and_cluster(adata, args.seed, say)
    table = None
    if groupby is not None:
        say("scoring: k-means on t-SNE and Leiden, against the labels")
        keys = {name.upper(): _keys.latent(name) for name in ("pca", *DEMO_MODELS)}
        table = lc.tl.compare(adata, keys, groupby, seeds=(args.seed,))
        with _replacing(args.out / "scores.csv") as path:
            table.to_csv(path, index=False)
    say("drawing")
    n_figures = _draw(adata, groupby, models, table, figures)
    _write(adata, args.out / "demo.h5ad")
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


def _demo_data(args: argparse.Namespace, say: "_Steps") -> tuple["AnnData", str | None]:
    """Cells with log-normalised variable genes, and the column of their labels if they have any."""
    say(f"reading {args.dataset}")
    file = args.dataset not in ("pbmc68k", "pbmc3k")
    adata = _read(Path(args.dataset)) if file else None
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
        )
    say(
        f"{adata.n_obs} cells x {adata.n_vars} genes"
        + (f", labels in obs[{groupby!r}]" if groupby else ", no labels")
    )
    return adata, groupby


def _prepare(adata: "AnnData", say: "_Steps") -> "AnnData":
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


def _embed_and_cluster(adata: "AnnData", seed: int, say: "_Steps") -> None:
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
        with _replacing(folder / f"{name}.png") as path:
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


# --- files and messages ---


class _Steps:
    """Says on standard error what is being done and how many seconds have passed."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.start = time.monotonic()

    def __call__(self, text: str) -> None:
        if not self.quiet:
            print(f"[{time.monotonic() - self.start:5.1f} s] {text}", file=sys.stderr, flush=True)


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that were given: what is None is left to the library's default."""
    return {name: value for name, value in arguments.items() if value is not None}


def _read(path: Path) -> "AnnData":
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    import anndata as ad

    try:
        return ad.read_h5ad(path)
    except OSError as error:
        raise OSError(f"{path} cannot be read as .h5ad ({error})") from error


def _write(adata: "AnnData", path: Path) -> None:
    with _replacing(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it if all went well: `path` is whole, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
