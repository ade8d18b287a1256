"""The parser of a command, and what arguments may be."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

# Kept here, as the libraries that define them are not loaded for --help; the tests compare them.
MODELS = {
    "ae": "AE",
    "vae": "VAE",
    "vsc": "VSC",
    "cvae": "CVAE",
    "dca": "DCA",
    "saucie": "SAUCIE",
    "desc": "DESC",
    "disentangledvae": "DisentangledVAE",
    "scgen": "ScGen",
    "vasc": "VASC",
    "scvis": "SCVIS",
    "gan": "GAN",
    "conditionalgan": "ConditionalGAN",
}
OF_VALUES = ("vasc", "scvis")
ALL_CELLS = ("gan", "conditionalgan")
NEED_LABELS = ("cvae", "conditionalgan")
LIKELIHOODS = ("normal", "student_t", "bernoulli", "poisson", "nb", "zinb", "relu", "identity")
COUNT_LIKELIHOODS = ("nb", "zinb", "poisson")
SCALES = ("counts", "cp10k", "log1p")
SOURCES = ("posterior", "prior", "mixture")
OUTPUTS = ("sample", "counts", "mean")


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
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")


def add_batch_key(parser: argparse.ArgumentParser) -> None:
    """Give a command the column of batches."""
    parser.add_argument(
        "--batch-key", metavar="COLUMN", help="column of obs with batches, given to the decoder"
    )


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    """Give a command leave to replace what is there."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}")


class LabelCounts(argparse.Action):
    """Collects ``NAME=NUMBER`` of an option that may be repeated; names may hold ``=``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add one name and its number."""
        name, equals, number = values.rpartition("=")
        if not (name and equals and number.isascii() and number.isdigit() and int(number)):
            parser.error(f"{option_string}: {values!r} is not NAME=NUMBER with a number of cells above 0")
        found = getattr(namespace, self.dest) or {}
        if name in found:
            parser.error(f"{option_string}: {name!r} is given twice")
        setattr(namespace, self.dest, found | {name: int(number)})


def positive(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def share(text: str) -> float:
    """A number above 0, at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of cells: a number above 0, at most 1")
    return value


def seed(text: str) -> int:
    """A whole number that every library takes for a seed."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {2**32 - 1}")
    return value


def key(text: str) -> str:
    """The name of a slot, which a file can hold."""
    if not text.strip(". ") or "/" in text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a slot: use letters and digits, no /")
    return text


def mask(text: str) -> str | None:
    """The name of a column of var, or None for ``none``: all genes."""
    return None if text == "none" else text


def names(text: str) -> list[str]:
    """Names separated by commas."""
    found = [name.strip() for name in text.split(",")]
    if "" in found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names separated by commas")
    return found


def gene_names(text: str) -> list[str]:
    """Names in the lines of a file if there is one of this name, else separated by commas."""
    if not os.path.isfile(text):  # False, too, of what is too long for the name of a file
        return names(text)
    try:
        found = [line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text} is no text file with a gene in each line") from error
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from error
    return [name for name in found if name]


def library_size(text: str) -> float | Literal["sample"]:
    """``sample`` or a number above 0."""
    if text == "sample":
        return "sample"
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of counts above 0")
    return value


def cells_path(text: str) -> Path:
    """A path to write cells to."""
    path = Path(text)
    if path.suffix not in (".h5ad", ".zarr"):
        raise argparse.ArgumentTypeError(f"{text} must end in .h5ad or .zarr")
    return path
