"""``latentcell report``: a model and its cells on one web page."""

import argparse
from pathlib import Path

from ._arguments import Commands, add_overwrite, add_seed, gene_names, names, positive
from ._files import Steps, check_file, check_folder, check_free, given, read

_DESCRIPTION = """\
Write one web page on a saved model and its cells: the data and what is suspicious about them, training
curves, a map of the cells to point at and filter, the dimensions with their genes and groups, generated
cells beside real ones, and how real they are. The page loads nothing: it can be opened offline and sent.
"""
_EXAMPLES = """\
examples:
  latentcell report vae_model cells.h5ad -o report.html
  latentcell report cvae_model train.h5ad --held-out test.h5ad --groupby cell_type -o report.html
  latentcell report vsc_model cells.h5ad --basis pca --genes CD3D,MS4A1 --n-generated 0 -o quick.html
"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "report",
        report,
        summary="write a web page on a model and its cells",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("file", type=Path, metavar="DATA.h5ad", help="as a rule the cells it was trained on")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="REPORT.html")
    parser.add_argument(
        "--groupby",
        metavar="COLUMN",
        help="column of obs with groups (default: the model's labels, else cell_type if there is one)",
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="TEST.h5ad",
        help="real cells that the model was not trained on, to judge generated ones by",
    )
    parser.add_argument(
        "--basis",
        metavar="umap|pca|code|KEY",
        help="map of the cells: of the codes, codes of two dimensions, or a key of obsm (default: umap)",
    )
    parser.add_argument("--color", type=names, metavar="COLUMN,...", help="columns of obs to colour by")
    parser.add_argument(
        "--genes",
        type=gene_names,
        metavar="GENE,...|FILE",
        help="genes to colour by (default: by dimension)",
    )
    parser.add_argument(
        "--n-cells", type=positive, metavar="N", help="cells to look at, at most (default: 20000)"
    )
    parser.add_argument(
        "--n-generated", type=_number, metavar="N", help="cells to generate; 0: none (default: 1000)"
    )
    parser.add_argument("--source", metavar="NAME", help="where codes of new cells come from")
    add_seed(parser)
    add_overwrite(parser, "REPORT.html")


def report(args: argparse.Namespace) -> None:
    """Write the page."""
    check_folder(args.model)
    check_free(args.out, overwrite=args.overwrite)
    check_file(args.out)
    say = Steps(args.quiet)
    adata = read(args.file)
    held_out = None if args.held_out is None else read(args.held_out)
    say(f"{args.file}: {adata.n_obs} cells x {adata.n_vars} genes; loading libraries")
    import latentcell as lc

    model = lc.model.load(args.model)
    lc.tl.report(
        adata,
        model,
        args.out,
        groupby=args.groupby,
        held_out=held_out,
        overwrite=args.overwrite,
        progress=say,
        **given(
            basis=args.basis,
            color=args.color,
            genes=args.genes,
            n_cells=args.n_cells,
            n_generated=args.n_generated,
            source=args.source,
            seed=args.seed,
        ),
    )
    say("done")
    print(f"report  {args.out}   {args.out.stat().st_size / 1e6:.1f} MB")


def _number(text: str) -> int:
    """A whole number, 0 or more."""
    return 0 if text == "0" else positive(text)
