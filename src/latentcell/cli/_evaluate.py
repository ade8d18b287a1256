"""``latentcell evaluate``: how good generated cells are, as a table and as a page."""

import argparse
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcell import __version__, _keys
from latentcell._errors import DataError
from latentcell.tl._page.html import number
from latentcell.tl._page.scores import ALL, SCORES, known_scores

from ._arguments import Commands, add_overwrite, add_seed, positive
from ._files import Steps, check_file, check_free, given, read, replacing
from ._report import Report

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_DESCRIPTION = """\
Compare generated cells (NEW) with real ones (REAL) that the model was not trained on.

Prints each score of NEW beside what other real cells score in their place (real), and what real cells score
whose genes were shuffled one by one (chance). Genes that not all files have are left out.
"""
_EXAMPLES = """\
examples:
  latentcell evaluate held_out.h5ad new.h5ad
  latentcell evaluate held_out.h5ad new.h5ad --groupby cell_type --html report.html
  latentcell evaluate held_out.h5ad new.h5ad --reference train.h5ad --layer counts --csv scores.csv
  latentcell evaluate few.h5ad new.h5ad --basis others.h5ad --n-trees 300
"""
_LIBRARIES = ("anndata", "numpy", "scanpy", "scikit-learn", "scipy")


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "evaluate",
        evaluate,
        summary="score generated cells beside real ones",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("real", type=Path, metavar="REAL.h5ad")
    parser.add_argument("new", type=Path, metavar="NEW.h5ad")
    parser.add_argument(
        "--groupby", metavar="COLUMN", help="column of obs of all files: scores per group, too"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="TRAIN.h5ad",
        help="cells that the model was trained on: are they copied?",
    )
    parser.add_argument(
        "--basis",
        type=Path,
        metavar="BASIS.h5ad",
        help="other real cells, unseen, that genes and components are fitted on (default: a part of REAL)",
    )
    parser.add_argument(
        "--n-trees",
        type=positive,
        metavar="N",
        help="trees of every classifier; scores with unlike numbers do not compare (default: 100)",
    )
    parser.add_argument(
        "--layer", metavar="KEY", help="layer of real cells that NEW is compared with (default: X)"
    )
    parser.add_argument("--csv", type=Path, metavar="TABLE.csv", help="write the table")
    parser.add_argument(
        "--html", type=Path, metavar="REPORT.html", help="write a page with table and figures"
    )
    add_seed(parser)
    add_overwrite(parser, "TABLE.csv and REPORT.html")


def evaluate(args: argparse.Namespace) -> None:
    """Score generated cells; print the table, and write it and the page if asked."""
    for path in (args.csv, args.html):
        if path is not None:
            check_free(path, overwrite=args.overwrite)
            check_file(path)
    say = Steps(args.quiet)
    files = {"real": args.real, "generated": args.new}
    files |= given(reference=args.reference, basis=args.basis)
    sets = {name: read(path) for name, path in files.items()}
    sizes = {name: adata.n_vars for name, adata in sets.items()}
    sets = _with_shared_genes(sets, files)
    for name, adata in sets.items():
        say(f"{files[name]}: {adata.n_obs} cells x {sizes[name]} genes, {adata.n_vars} of them in all files")
    say("scoring")
    import latentcell as lc

    real, new = sets["real"], sets["generated"]
    table = lc.metrics.fidelity(
        real,
        new,
        args.groupby,
        sets.get("reference"),
        **given(basis=sets.get("basis"), n_trees=args.n_trees),
        layer=args.layer,
        seed=args.seed,
    )
    if args.csv is not None:
        with replacing(args.csv) as path:
            table.to_csv(path, index=False)
    if args.html is not None:
        say("drawing")
        from ._figures import pictures

        scored = table.attrs["fidelity"]["n_cells"]
        report = Report(
            facts=_facts(sets, files, sizes, args) | {"Cells scored": f"{scored[ALL]:,} of each kind"},
            groups=_group_sizes(real, new, args.groupby, scored),
            table=table,
            pictures=pictures(real, new, args.groupby, layer=args.layer, seed=args.seed),
            provenance=_provenance(new),
            versions={"latentcell": __version__, "Python": platform.python_version()}
            | {name: version(name) for name in _LIBRARIES},
        )
        with replacing(args.html) as path:
            path.write_text(report.to_html(), encoding="utf-8")
    say("done")
    print(_text(table))
    if args.csv is not None:
        print(f"table   {args.csv}")
    if args.html is not None:
        print(f"report  {args.html}")


def _with_shared_genes(sets: dict[str, "AnnData"], files: Mapping[str, Path]) -> dict[str, "AnnData"]:
    """All sets with the genes that all of them have, in the order of the real cells'."""
    for name, adata in sets.items():
        if not adata.var_names.is_unique:
            twice = adata.var_names[adata.var_names.duplicated()][0]
            raise DataError(f"{files[name]}: gene names must be unique, {twice!r} is there more than once")
    genes = sets["real"].var_names
    for adata in sets.values():
        genes = genes[genes.isin(adata.var_names)]
    if not len(genes):
        raise DataError(
            f"{', '.join(map(str, files.values()))} have no gene in common; compare their var_names"
        )
    return {name: adata[:, genes].copy() for name, adata in sets.items()}


def _facts(
    sets: Mapping[str, "AnnData"],
    files: Mapping[str, Path],
    sizes: Mapping[str, int],
    args: argparse.Namespace,
) -> dict[str, str]:
    """What was compared, in words."""
    words = {"real": "Real cells", "generated": "Generated cells", "reference": "Training cells (reference)"}
    words["basis"] = "Cells that genes and components are fitted on (basis)"
    facts = {
        words[name]: f"{files[name]}: {adata.n_obs:,} cells, {sizes[name]:,} genes"
        for name, adata in sets.items()
    }
    facts["Genes compared"] = f"{sets['real'].n_vars:,}, which all files have"
    facts["Values of real cells"] = "X" if args.layer is None else f"layer {args.layer}"
    facts["Groups"] = "none" if args.groupby is None else f"column {args.groupby} of obs"
    if args.n_trees is not None:
        facts["Trees of every classifier"] = f"{args.n_trees:,}"
    facts["Seed"] = str(args.seed)
    return facts


def _group_sizes(
    real: "AnnData", new: "AnnData", groupby: str | None, scored: Mapping[str, int]
) -> dict[str, tuple[int, int, int]]:
    """Real, generated and scored cells of each group; those of the real cells first."""
    if groupby is None:
        return {}
    sizes = [adata.obs[groupby].astype(str).value_counts() for adata in (real, new)]
    names = dict.fromkeys([*sorted(sizes[0].index), *sorted(sizes[1].index)])
    return {
        name: (int(sizes[0].get(name, 0)), int(sizes[1].get(name, 0)), scored.get(name, 0)) for name in names
    }


def _provenance(new: "AnnData") -> dict[str, str]:
    """What generated cells say of their making."""
    found: Any = new.uns.get(_keys.UNS, {})
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _text(table: "pd.DataFrame") -> str:
    """The table as lines of text, all cells first and then group by group."""
    parts = []
    for group in dict.fromkeys(table["group"]):
        title = "all cells" if group == ALL else f"group {group}"
        rows = known_scores(table, group)
        if rows.empty:
            parts.append(f"{title}: too few cells for any score\n")
            continue
        block = rows.set_index("metric")[[*SCORES, "better"]].rename_axis(index=None)
        block[SCORES] = block[SCORES].map(number)
        parts.append(f"{title}\n{block.to_string()}\n")
    return "\n".join(parts)
