"""``latentcell generate``: new cells from a saved model."""

import argparse
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latentcell._errors import DataError

from ._arguments import (
    OUTPUTS,
    SOURCES,
    Commands,
    LabelCounts,
    add_overwrite,
    add_seed,
    cells_path,
    gene_names,
    library_size,
    positive,
)
from ._files import Steps, check_folder, check_free, given, read, replacing

_DESCRIPTION = """\
Draw new cells from a trained model and write them to OUT, marked in obs["is_generated"].

How many: -n cells with labels as frequent as in training, or numbers by label. With both, -n cells in all:
those of the named labels, and others as frequent as in training.
"""
_EXAMPLES = """\
examples:
  latentcell generate vae_model -n 1000 -o new.h5ad
  latentcell generate cvae_model --label "B cells=200" --label "Dendritic=500" -o new.h5ad
  latentcell generate cvae_model -n 1000 --label "B cells=200" --batch donor1 -o new.h5ad
  latentcell generate vae_model -n 1000000 -o many.zarr
"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "generate",
        generate,
        summary="write new cells",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("-o", "--out", type=cells_path, required=True, metavar="OUT.h5ad|OUT.zarr")
    parser.add_argument(
        "-n", "--n-cells", type=positive, metavar="N", help="cells in all (default: as many as in training)"
    )
    parser.add_argument(
        "--label",
        dest="labels",
        action=LabelCounts,
        metavar="NAME=NUMBER",
        help="so many cells of this label; may be given several times",
    )
    parser.add_argument("--batch", metavar="NAME", help="batch of all cells (default: as in training)")
    parser.add_argument("--source", choices=SOURCES, help="where codes come from (default: by the model)")
    parser.add_argument(
        "--library-size",
        type=library_size,
        metavar="sample|NUMBER",
        help="counts per cell (default: sample, those of real cells)",
    )
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="factor on the noise of codes (default: 1)"
    )
    parser.add_argument(
        "--genes",
        type=gene_names,
        metavar="GENE,...|FILE",
        help="write these genes only; a file holds one in each line",
    )
    parser.add_argument(
        "--output",
        choices=OUTPUTS,
        help="noisy cells, the same of models of counts only, or means without noise (default: sample)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="CELLS.h5ad",
        help="cells that the model was trained on: what their var says of genes goes with the new cells",
    )
    parser.add_argument("--chunk-size", type=positive, metavar="N", help="cells that are drawn at once")
    add_seed(parser)
    add_overwrite(parser, "OUT")


def generate(args: argparse.Namespace) -> None:
    """Draw new cells and write them chunk by chunk."""
    check_folder(args.model)
    check_free(args.out, overwrite=args.overwrite)
    say = Steps(args.quiet)
    adata = None if args.data is None else read(args.data)
    say(f"{args.model}: loading libraries")
    import latentcell as lc

    model = lc.model.load(args.model, adata)
    spec = model.spec
    labels = None if args.labels is None else {_known(spec.labels, k): n for k, n in args.labels.items()}
    wanted = labels
    if labels is not None and args.n_cells is not None:
        wanted = _filled_up(model, labels, args.n_cells, args.seed)
    options = given(
        batch=None if args.batch is None else _known(spec.batch, args.batch),
        source=args.source,
        library_size=args.library_size,
        temperature=args.temperature,
        genes=args.genes,
        output=args.output,
        chunk_size=args.chunk_size,
    )
    _check_options(model, options)
    n_cells = args.n_cells if wanted is None else None
    say(f"drawing cells of {type(model).__name__}")
    with replacing(args.out) as path:
        model.generate(n_cells, labels=wanted, **options, seed=args.seed, out=path)
    say("done")
    n_genes = len(spec.genes if args.genes is None else args.genes)
    print(f"cells   {args.out}   {_n_cells(model, n_cells, wanted)} cells x {n_genes} genes")


def _check_options(model: Any, options: Iterable[str]) -> None:
    """Refuse options that other models have, such as a source of codes where there are no codes."""
    known = inspect.signature(model.generate).parameters
    for name in options:
        if name not in known:
            raise DataError(f"{type(model).__name__} has no --{name.replace('_', '-')}; leave it out")


def _known(names: list | None, text: str) -> Any:
    """The label or batch that is written like this; the text itself if there is none."""
    return next((name for name in names or [] if str(name) == text), text)


def _filled_up(model: Any, labels: dict[Any, int], n_cells: int, seed: int) -> dict[Any, int]:
    """Numbers by label with more cells up to `n_cells`, of labels as frequent as in training."""
    n_more = n_cells - sum(labels.values())
    if n_more < 0:
        raise DataError(f"--label names {n_cells - n_more} cells, more than -n {n_cells}")
    names, templates = model.spec.labels, model.templates_
    if names is None or templates is None:
        return labels  # generate() says what is missing
    import numpy as np

    # the code after the last name is that of cells without a label
    share = np.bincount(templates.codes_of("labels"), templates.weight, len(names) + 1)[: len(names)]
    more = np.random.default_rng(seed).multinomial(n_more, share / share.sum())
    drawn = {name: int(number) for name, number in zip(names, more, strict=True)}
    return {name: labels.get(name, 0) + drawn.get(name, 0) for name in dict.fromkeys([*labels, *names])}


def _n_cells(model: Any, n_cells: int | None, labels: dict[Any, int] | None) -> int:
    """How many cells were asked for; without a number, as many as the model was trained on."""
    if labels is not None:
        return sum(labels.values())
    return round(model.templates_.weight.sum()) if n_cells is None else n_cells
