"""The parser of a command, and what arguments may be."""

import argparse
from collections.abc import Callable

# Kept here, as the libraries that define them are not loaded for --help; the tests compare them.
MODELS = {"ae": "AE", "vae": "VAE", "vsc": "VSC", "cvae": "CVAE", "dca": "DCA"}
LIKELIHOODS = ("normal", "student_t", "bernoulli", "poisson", "nb", "zinb")
COUNT_LIKELIHOODS = ("nb", "zinb", "poisson")
SCALES = ("counts", "cp10k", "log1p")


class Commands:
    """The commands of a parser; each is given what all commands have in common."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(metavar="COMMAND", required=True)
        self._common = argparse.ArgumentParser(add_help=False)
        self._common.add_argument("--quiet", action="store_true", help="no progress")
        self._common.add_argument(
            "--debug", action="store_true", help="show the full trace of an error, and all warnings"
        )

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], None],
        *,
        summary: str,
        description: str,
        examples: str,
    ) -> argparse.ArgumentParser:
        """The parser of a new command, which `run` carries out."""
        parser = self._commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=examples,
            parents=[self._common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=run)
        return parser


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Give a command its seed."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")


def add_batch_key(parser: argparse.ArgumentParser) -> None:
    """Give a command the column of batches."""
    parser.add_argument(
        "--batch-key", metavar="COLUMN", help="column of obs with batches, given to the decoder"
    )


def positive(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def names(text: str) -> list[str]:
    """Names separated by commas."""
    found = [name.strip() for name in text.split(",")]
    if "" in found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names separated by commas")
    return found
