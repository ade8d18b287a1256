"""The results of a sweep: rows per setting and seed, in memory and in a file that is whole at any time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentcell._atomic import replacing
from latentcell._errors import DataError

Settings = dict[str, Any]
"""Values of a model's arguments."""
Rows = list[tuple[str, str, float]]
"""Metric, factor and value."""
COLUMNS = ["seed", "metric", "factor", "value"]
_HEAD = "# latentcell sweep "


class ResultTable:
    """Results of models.

    Parameters
    ----------
    names
        Arguments of the grid.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.path: Path | None = None
        self.head = _HEAD
        self.rows: dict[tuple, Rows] = {}

    def keep_in(self, path: Path, made_of: str) -> None:
        """Read the results in a file, if it is there, and write what is added to it.

        `made_of` is what the results hang on besides settings and seeds; a file that says another is refused.
        """
        if path.suffix != ".csv":
            raise DataError(f"path={str(path)!r} must end in .csv")
        if not path.parent.is_dir():
            raise DataError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
        self.path, self.head = path, f"{_HEAD}{made_of}"
        if path.exists():
            self.rows |= self._read(path)

    def has(self, one: Settings, seed: int) -> bool:
        """Whether this model's results are there."""
        return self._key(one, seed) in self.rows

    def add(self, one: Settings, seed: int, rows: Rows) -> None:
        """Take a model's results, and write the file anew."""
        self.rows[self._key(one, seed)] = rows
        if self.path is None:
            return
        if self.path.exists():  # another process may share the file
            self.rows = self._read(self.path) | self.rows
        with replacing(self.path) as new, new.open("w", encoding="utf-8", newline="") as file:
            file.write(f"{self.head}\n")
            self._frame(self.rows).to_csv(file, index=False)

    def of(self, settings: list[Settings], seeds: list[int]) -> pd.DataFrame:
        """The rows of these models, in this order, with the grid's own values."""
        wanted: dict[tuple, Rows] = {}
        for one in settings:
            for seed in seeds:
                wanted[(*(one[name] for name in self.names), seed)] = self.rows[self._key(one, seed)]
        return self._frame(wanted)

    def _key(self, one: Settings, seed: int) -> tuple:
        return (*(_text(one[name]) for name in self.names), str(seed))

    def _frame(self, rows: Mapping[tuple, Rows]) -> pd.DataFrame:
        flat = [(*key, *row) for key, found in rows.items() for row in found]
        return pd.DataFrame(flat, columns=[*self.names, *COLUMNS])

    def _read(self, path: Path) -> dict[tuple, Rows]:
        with path.open(encoding="utf-8") as file:
            head = file.readline().rstrip("\n")
            if head != self.head:
                raise DataError(
                    f"{path} holds "
                    + (
                        "a sweep of other cells, arguments, scores or versions"
                        if head.startswith(_HEAD)
                        else "something else"
                    )
                    + "; name another path, or remove it"
                )
            found = pd.read_csv(file, dtype=str, keep_default_na=False)
        rows: dict[tuple, Rows] = {}
        for *key, metric, factor, value in found.itertuples(index=False, name=None):
            rows.setdefault(tuple(key), []).append((metric, factor, float(value or "nan")))
        return rows


def _text(value: Any) -> str:
    """A value of the grid as the file spells it."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return str(float(value)) if is_number else str(value)
