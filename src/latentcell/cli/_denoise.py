"""``latentcell denoise``: expected counts of cells."""

import argparse
from pathlib import Path

from ._arguments import COUNT_LIKELIHOODS, SCALES, Commands, add_batch_key, add_seed, names, positive
from ._files import Steps, check_file, given, read, write

_DESCRIPTION = """\
Denoise the counts of FILE with a deep count autoencoder (DCA) that is trained on them.

Writes a copy of FILE with expected counts in layers["denoised"], or with --genes a column per gene in
obsm["denoised"]. X and all else stay as they are.
"""
_EXAMPLES = """\
examples:
  latentcell denoise cells.h5ad -o denoised.h5ad
  latentcell denoise cells.h5ad -o denoised.h5ad --layer counts --scale log1p --batch-key donor
  latentcell denoise cells.h5ad -o denoised.h5ad --genes CD3D,CD8A,MS4A1
"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "denoise",
        denoise,
        summary="write denoised counts of cells",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("file", type=Path, metavar="FILE.h5ad")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT.h5ad", help="FILE with the denoised values"
    )
    parser.add_argument("--layer", metavar="KEY", help="layer of the counts (default: X)")
    add_batch_key(parser)
    parser.add_argument("--likelihood", choices=COUNT_LIKELIHOODS, help="default: nb")
    parser.add_argument(
        "--scale",
        choices=SCALES,
        help="counts at the cell's depth, per 10,000 counts, or log(1 + cp10k) (default: counts)",
    )
    parser.add_argument(
        "--genes",
        type=names,
        metavar="GENE,...",
        help="write these genes only (default: all, which takes cells x genes x 4 bytes of memory)",
    )
    parser.add_argument("--epochs", type=positive, metavar="N")
    add_seed(parser)


def denoise(args: argparse.Namespace) -> None:
    """Write denoised counts of cells."""
    check_file(args.out)
    say = Steps(args.quiet)
    adata = read(args.file)
    say(f"{args.file}: {adata.n_obs} cells x {adata.n_vars} genes; loading libraries")
    import latentcell as lc

    say("training DCA")
    lc.tl.denoise(
        adata,
        layer=args.layer,
        batch_key=args.batch_key,
        **given(gene_likelihood=args.likelihood, scale=args.scale, genes=args.genes, max_epochs=args.epochs),
        seed=args.seed,
        progress=not args.quiet,
    )
    write(adata, args.out)
    say("done")
    slot = "layers" if args.genes is None else "obsm"
    n_genes = getattr(adata, slot)["denoised"].shape[1]
    print(f"cells   {args.out}   {slot}['denoised']: {adata.n_obs} cells x {n_genes} genes")
