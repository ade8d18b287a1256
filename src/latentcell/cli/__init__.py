"""``latentcell demo``, ``train``, ``embed``, ``generate``, ``evaluate``, ``denoise``, ``report``.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 the input cannot be
used (one line says what to do), 2 wrong usage, 130 interrupted. Libraries are imported by the commands, so
that ``--help`` is instant.
"""

import argparse
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from latentcell import __version__
from latentcell._errors import LatentcellError

from . import _demo, _denoise, _evaluate, _generate, _model_report, _train
from ._arguments import Commands


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
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be valid text
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
    except (LatentcellError, OSError, MemoryError) as error:
        if args.debug:
            traceback.print_exc()
        else:
            said = "not enough memory" if isinstance(error, MemoryError) else str(error)
            print(f"latentcell: {' '.join(said.split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latentcell",
        description=(
            "Latent spaces of single cells: demonstrate, train, embed, generate, evaluate, denoise, report."
        ),
        epilog="latentcell COMMAND --help says more and gives examples.",
    )
    parser.add_argument("--version", action="version", version=f"latentcell {__version__}")
    commands = Commands(parser)
    for command in (_demo, _train, _generate, _evaluate, _denoise, _model_report):
        command.add_to(commands)
    return parser
