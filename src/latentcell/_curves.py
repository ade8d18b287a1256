"""Training curves sorted by what they are of: a quantity, and its split of the cells."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from latentcell._errors import DataError, nearest

_SPLIT = re.compile(
    r"^(?P<before>train|validation|val|test)_(?P<rest>.+)$|^(?P<name>.+)_(?P<after>train|validation|val|test)$"
)
SPLITS = ("train", "validation", "test")
_WORDS = {"kl": "KL", "elbo": "ELBO", "mmd": "MMD", "lr": "learning rate"}


@dataclass
class Panel:
    """One quantity and its curves by split; the split of a schedule or weight is ""."""

    quantity: str
    curves: list[tuple[str, pd.Series]] = field(default_factory=list)

    @property
    def is_schedule(self) -> bool:
        return all(split == "" for split, _ in self.curves)


def curves_of(history: Any) -> dict[str, pd.Series]:
    """The history as one series of finite length per key."""
    found = history if isinstance(history, Mapping) else getattr(history, "history", None)
    if not isinstance(found, Mapping):
        raise DataError(
            "history: expected a trained model with `.history`, or a mapping from keys to data frames; "
            f"got {type(history).__name__}. Train the model first: model.train()."
        )
    if not found:
        raise DataError("history: it is empty. Train the model first: model.train().")
    return {str(key): _series(str(key), value) for key, value in found.items()}


def _series(key: str, value: Any) -> pd.Series:
    if isinstance(value, pd.DataFrame):
        if value.shape[1] != 1:
            raise DataError(
                f"history[{key!r}] has {value.shape[1]} columns; a data frame of one column is expected."
            )
        value = value.iloc[:, 0]
    try:
        return pd.Series(value).astype(float).dropna()
    except (TypeError, ValueError) as error:
        raise DataError(f"history[{key!r}] holds what is not a number: {error}") from error


def _parse(key: str) -> tuple[str, str]:
    """Quantity, split of a key: ``"kl_local_train" -> ("kl_local", "train")``, ``"beta" -> ("beta", "")``."""
    step = key.endswith("_step")
    match = _SPLIT.match(key.removesuffix("_epoch").removesuffix("_step"))
    if match is None:
        return key, ""
    split = match["before"] or match["after"]
    quantity = match["rest"] or match["name"]
    return quantity + "_per_step" * step, "validation" if split == "val" else split


def panels_of(
    curves: Mapping[str, pd.Series], keys: str | Sequence[str] | None, *, first_only: bool
) -> list[Panel]:
    """The chosen curves grouped by quantity; by default the loss first and the schedules last."""
    parsed = {key: _parse(key) for key in curves}
    chosen = list(curves)
    if keys is not None:
        chosen = []
        for wanted in [keys] if isinstance(keys, str) else keys:
            matches = (
                [wanted] if wanted in curves else [key for key, (name, _) in parsed.items() if name == wanted]
            )
            if not matches:
                raise DataError(
                    f"keys: {wanted!r} is not in the history, which has: {', '.join(map(repr, curves))}."
                    f"{nearest(wanted, [*curves, *(name for name, _ in parsed.values())])}"
                )
            chosen += [key for key in matches if key not in chosen]
    panels: dict[str, Panel] = {}
    for key in chosen:
        quantity, split = parsed[key]
        panel = panels.setdefault(quantity, Panel(quantity))
        taken = any(split == other for other, _ in panel.curves)
        panel.curves.append((key if taken else split, curves[key]))
    ordered = list(panels.values())
    for panel in ordered:
        panel.curves.sort(key=lambda curve: SPLITS.index(curve[0]) if curve[0] in SPLITS else -1)
    if keys is None:
        ordered.sort(key=lambda panel: (panel.is_schedule, panel.quantity != "loss"))
    if not ordered:
        raise DataError("keys: name at least one key of the history, or leave it out to draw everything.")
    return ordered[:1] if first_only else ordered


def title_of(quantity: str) -> str:
    return " ".join(_WORDS.get(word.lower(), word) for word in re.split(r"[_\s]+", quantity))
