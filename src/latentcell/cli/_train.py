"""``latentcell train`` and ``latentcell embed``: a model on disk, and its codes of cells."""

import argparse
from pathlib import Path

from latentcell import _keys
from latentcell._errors import DataError

from ._arguments import (
    ALL_CELLS,
    LIKELIHOODS,
    MODELS,
    NEED_LABELS,
    OF_VALUES,
    Commands,
    add_batch_key,
    add_seed,
    key,
    mask,
    positive,
    share,
)
from ._files import Steps, check_file, check_folder, check_model_folder, given, read, write

_TRAIN_EXAMPLES = """\
examples:
  latentcell train cells.h5ad --model vsc -o vsc_model
  latentcell train cells.h5ad --model vae --layer counts --likelihood nb --batch-key donor -o vae_model
  latentcell train cells.h5ad --model vae --mask-var none -o vae_of_all_genes
  latentcell train cells.h5ad --model cvae --labels-key cell_type -o cvae_model
  latentcell train cells.h5ad --model conditionalgan --labels-key cell_type -o gan_model
"""
_EMBED_EXAMPLES = """\
examples:
  latentcell embed vsc_model cells.h5ad -o embedded.h5ad
  latentcell embed vsc_model new_cells.h5ad -o embedded.h5ad --key-added X_reference
"""


def add_to(commands: Commands) -> None:
    """Add the two commands."""
    parser = commands.add(
        "train",
        train,
        summary="train a model and save it",
        description="Train a model on FILE and save it.",
        examples=_TRAIN_EXAMPLES,
    )
    parser.add_argument("file", type=Path, metavar="FILE.h5ad")
    parser.add_argument("--model", required=True, choices=tuple(MODELS))
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="MODEL_DIR")
    parser.add_argument("--layer", metavar="KEY", help="layer to model (default: X)")
    parser.add_argument(
        "--mask-var",
        type=mask,
        default="auto",
        metavar="KEY",
        help="column of var that marks the genes to model, or none: all genes "
        "(default: highly_variable if it is there, else all)",
    )
    add_batch_key(parser)
    parser.add_argument(
        "--labels-key",
        metavar="COLUMN",
        help="column of obs with labels, kept with the model; cvae and conditionalgan need it",
    )
    parser.add_argument(
        "--likelihood",
        choices=LIKELIHOODS,
        help="of continuous data, of values from 0 to 1, of counts, a GAN's of values (default: by the data)",
    )
    parser.add_argument("--n-latent", type=positive, metavar="N", help="dimensions of the code")
    parser.add_argument("--epochs", type=positive, metavar="N")
    parser.add_argument(
        "--train-size",
        type=share,
        metavar="SHARE",
        help="share of cells to train on, e.g. 0.9; the others are held out, to judge the model by",
    )
    add_seed(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the model in MODEL_DIR")

    parser = commands.add(
        "embed",
        embed,
        summary="write a model's codes of cells",
        description="Embed the cells of FILE.",
        examples=_EMBED_EXAMPLES,
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("file", type=Path, metavar="FILE.h5ad")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT.h5ad", help="FILE with the codes in obsm"
    )
    parser.add_argument(
        "--key-added", type=key, metavar="KEY", help="key of obsm (default: by the model, e.g. X_vsc)"
    )


def train(args: argparse.Namespace) -> None:
    """Train a model and save it."""
    check_model_folder(args.out, overwrite=args.overwrite)
    if args.model in NEED_LABELS and args.labels_key is None:
        raise DataError(f"{args.model} needs labels: name their column of obs with --labels-key")
    if args.model in OF_VALUES and args.likelihood is not None:
        raise DataError(f"{args.model} has a likelihood of its own: leave --likelihood out")
    if args.train_size is not None and args.model in ALL_CELLS:
        raise DataError(f"{args.model} is trained on all cells: leave --train-size out")
    say = Steps(args.quiet)
    adata = read(args.file)
    say(f"{args.file}: {adata.n_obs} cells x {adata.n_vars} genes; loading libraries")
    import latentcell as lc
    from latentcell.tl._fit import selection

    model_class = getattr(lc.model, MODELS[args.model])
    keys = {"batch_key": args.batch_key, "labels_key": args.labels_key}
    cells = selection(adata, args.layer, args.mask_var, keys)
    if cells.n_vars < adata.n_vars:
        marked = "highly_variable" if args.mask_var == "auto" else args.mask_var
        say(f"{cells.n_vars} of {adata.n_vars} genes, those marked in var[{marked!r}]")
    model_class.setup_anndata(cells, layer=args.layer, **keys)
    model = model_class(cells, **given(n_latent=args.n_latent, gene_likelihood=args.likelihood))
    say(f"training {MODELS[args.model]}")
    training = given(max_epochs=args.epochs, train_size=args.train_size)
    model.train(**training, seed=args.seed, enable_progress_bar=not args.quiet)
    model.save(args.out, overwrite=args.overwrite)
    say("done")
    print(f"model   {args.out}")


def embed(args: argparse.Namespace) -> None:
    """Write a model's codes of cells."""
    check_folder(args.model)
    check_file(args.out)
    say = Steps(args.quiet)
    adata = read(args.file)
    say(f"{args.file}: {adata.n_obs} cells x {adata.n_vars} genes; loading libraries")
    import latentcell as lc

    model = lc.model.load(args.model)
    if not hasattr(model, "get_latent_representation"):
        raise DataError(f"{args.model} holds a {type(model).__name__}, which has no encoder of cells")
    key = args.key_added or _keys.latent(type(model).__name__.lower())
    adata.obsm[key] = model.get_latent_representation(adata)
    write(adata, args.out)
    say("done")
    print(
        f"cells   {args.out}   obsm[{key!r}]: "
        f"{adata.obsm[key].shape[0]} cells x {adata.obsm[key].shape[1]} dimensions"
    )
