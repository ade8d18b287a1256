"""Equally many cells of each set, over all and for each group."""

import numpy as np

from latentcell._errors import DataError
from latentcell.metrics._basis import Sample
from latentcell.metrics._cells import drawn

ALL = "all"
"""Name of the rows over all cells."""

Draws = dict[tuple[str, str], np.ndarray]
"""Rows that are compared, by set of cells and group."""


def draw(
    sets: dict[str, Sample], groups: list[str], min_cells: int, rng: np.random.Generator
) -> tuple[Draws, dict[str, int], dict[str, dict[str, int]]]:
    """Draw equally many judged, generated, fresh and permuted cells, over all and for each group.

    A group with too few judged or generated cells is not drawn; one with too few fresh cells is drawn from
    judged and generated cells only.

    Returns
    -------
    Rows; how many, for each group; and the cells of each set in those groups where one has too few.
    """
    draws: Draws = {}
    n_cells: dict[str, int] = {}
    too_few: dict[str, dict[str, int]] = {}
    for position, group in enumerate([ALL, *groups], start=-1):
        rows = {
            name: np.flatnonzero((sample.groups == position) | (group == ALL))
            for name, sample in sets.items()
        }
        found = {name: len(rows[name]) for name in ("judged", "generated", "fresh")}
        enough = [name for name in found if found[name] >= min_cells]
        if len(enough) < len(found):
            too_few[group] = found
        if group == ALL and too_few:
            told = ", ".join(f"{n} {name}" for name, n in found.items())
            raise DataError(f"There are too few cells; at least {min_cells} of each are needed: {told}.")
        if not {"judged", "generated"} <= set(enough):
            n_cells[group] = 0
            continue
        n_cells[group] = min(found[name] for name in enough)
        for name in [*enough, "chance"] if "fresh" in enough else enough:
            among = sets[name].groups[rows[name]]
            draws[name, group] = rows[name][drawn(among, len(among), n_cells[group], rng)]
    return draws, n_cells, too_few
