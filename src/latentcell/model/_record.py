"""The record of a saved model: what JSON can hold of parameters and training curves, sealed by a checksum."""

import hashlib
import json
import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentcell import __version__
from latentcell._errors import DataError, ModelFileError
from latentcell.nn.schedules import ScheduleJSON

FORMAT = 2
FORMATS = (1, FORMAT)
"""What is read. Format 1 had no checksum of the record and one name for all weights."""
RECORD = "model.json"
MOST_BYTES = 2**26
"""Of a record: tens of times what 100,000 genes and as many categories take."""
MOST_DEPTH = 100
"""Of lists and objects in each other in a record that is read: whatever Python's own limit is."""
WEIGHTS = "model.safetensors"
WEIGHTS_NAME = re.compile(r"model(-[0-9a-f]{16})?\.safetensors")


def to_text(record: dict[str, Any]) -> bytes:
    """The record as it is written, with its checksum (`DataError`: so large that it would not be read)."""
    text = json.dumps(seal(record | {"format": FORMAT}), indent=1, allow_nan=False).encode()
    if len(text) > MOST_BYTES:
        raise DataError(
            f"the record of this model would have {len(text):,} bytes, and one above {MOST_BYTES:,} is "
            "not read: are names of cells or numbers set up as labels, batches or categories?"
        )
    return text


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a checksum over its canonical form, whatever its spaces and the order of its keys."""
    found = {name: value for name, value in record.items() if name != "checksum"}
    found = json.loads(json.dumps(found, allow_nan=False))  # what is read again: keys are texts, tuples lists
    return found | {"checksum": _checksum(found)}


def is_sealed(record: dict[str, Any]) -> bool:
    """Whether the record, as it was read, says what it said when its checksum was made."""
    try:
        return _checksum(record) == record.get("checksum")
    except RecursionError:
        return False


def _checksum(record: dict[str, Any]) -> str:
    own = {name: value for name, value in record.items() if name != "checksum"}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """The JSON record of a model's folder, checked for what every record must have."""
    path = folder / RECORD
    if not path.is_file():
        raise ModelFileError(f"{folder} is not a saved model: it has no {RECORD}")
    if path.stat().st_size > MOST_BYTES:
        raise ModelFileError(
            f"{path} is damaged: it has {path.stat().st_size:,} bytes, no record of a model is so large"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    if _is_deeper(record, MOST_DEPTH):
        raise ModelFileError(f"{path} is damaged: it is nested more than {MOST_DEPTH} deep")
    needed = {"format", "class", "params", "registry", "is_trained", "history", "train_defaults", "sha256"}
    if not isinstance(record, dict) or not needed <= set(record) or not isinstance(record["class"], str):
        raise ModelFileError(f"{path} is not the record of a model")
    if record["format"] not in FORMATS or isinstance(record["format"], bool | float):
        raise ModelFileError(
            f"{path} has format {record['format']!r}, this version of latentcell ({__version__}) reads "
            f"{' and '.join(map(str, FORMATS))}. "
            f"It was written by latentcell {record.get('latentcell', 'of unknown version')}; update."
        )
    if (record["format"] > 1 or "checksum" in record) and not is_sealed(record):
        raise ModelFileError(
            f"{path} is damaged or was edited: its checksum is not that of what it says. "
            "Copy the folder anew from where it came from"
        )
    weights = record.get("weights", WEIGHTS)
    if not isinstance(weights, str) or not WEIGHTS_NAME.fullmatch(weights):
        raise ModelFileError(f"{path} names no file of weights: {weights!r}")
    return record


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects lie in each other more than `depth` deep; no recursion."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            item
            for inside in level
            if isinstance(inside, dict | list)
            for item in (inside.values() if isinstance(inside, dict) else inside)
        ]
        if not level:
            return False
    return True


def encode(value: Any) -> Any:
    """Parameters as JSON: schedules become objects, sequences lists, what is numpy's plain."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [encode(item) for item in value]
    return ScheduleJSON.encode(value) if callable(value) else value


def decode(value: Any) -> Any:
    """Parameters that :func:`encode` wrote; lists come back as tuples."""
    if isinstance(value, dict):
        if ScheduleJSON.KEY in value:
            return ScheduleJSON.decode(value)
        return {key: decode(item) for key, item in value.items()}
    return tuple(decode(item) for item in value) if isinstance(value, list) else value


def history_to_json(history: dict[str, pd.DataFrame] | None) -> dict[str, Any] | None:
    """Training curves as lists."""
    if not history:
        return None
    epochs = next(iter(history.values())).index
    return {
        "epoch": [int(epoch) for epoch in epochs],
        # JSON has no NaN and no infinity: they are written as text
        **{
            name: [v if isfinite(v) else str(v) for v in map(float, frame[name])]
            for name, frame in history.items()
        },
    }


def history_from_json(record: dict[str, Any] | None) -> dict[str, pd.DataFrame] | None:
    """Training curves as scvi-tools keeps them: a frame with one column per name, indexed by epoch."""
    if record is None:
        return None
    index = pd.Index(record["epoch"], name="epoch")
    return {
        name: pd.DataFrame({name: [float(value) for value in values]}, index=index)
        for name, values in record.items()
        if name != "epoch"
    }


def _finite(text: str) -> float:
    """A number of JSON, which has no infinity and no NaN."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text} is no number")
    return value
