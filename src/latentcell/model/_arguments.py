"""Arguments of a model's constructor: collected, and held against the kinds that it is annotated with."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from latentcell._errors import DataError

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    Sequence: "a sequence of whole numbers",
    Callable: "a schedule of latentcell.nn.schedules",
    NoneType: "None",
}
_MOST = 2**63
"""Whole numbers from here on are none that PyTorch can hold."""


def own_params(scope: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a model's constructor, from its ``locals()``; refused if of a wrong kind (`DataError`)."""
    params = {k: v for k, v in scope.items() if k not in ("self", "adata", "registry", "__class__")}
    # the class whose constructor this is: one that inherits from it may name other kinds
    check_arguments(scope.get("__class__", type(scope["self"])), params)
    return params


def check_arguments(model_class: type, given: Mapping[str, Any]) -> None:
    """Refuse arguments of another kind than the constructor's annotations name, before anything is built.

    Whether a value of the right kind makes sense is for the model to say.

    Parameters
    ----------
    model_class
        The class. Arguments without an annotation, or with one that is a string, are not looked at.
    given
        Arguments of its constructor by name.

    Raises
    ------
    DataError
        Naming the argument, what was given and what to pass.
    """
    known: dict[str, Any] = {}
    for owner in reversed(model_class.__mro__):  # a subclass may hand its arguments on by **kwargs
        known |= getattr(vars(owner).get("__init__"), "__annotations__", {})
    for name, value in given.items():
        kinds = _kinds(known.get(name))
        if isinstance(value, str) and all(isinstance(kind, tuple) or kind is NoneType for kind in kinds):
            continue  # which names there are, the model says
        if kinds and not any(_is(value, kind) for kind in kinds):
            told = " or ".join(dict.fromkeys(_told(kind) for kind in kinds))
            raise DataError(f"{name} must be {told}, got {_short(value)}{_fix(name, value, kinds)}")
        if float in kinds and not all(math.isfinite(number) for number in _numbers(value)):
            raise DataError(f"{name} must be finite, got {_short(value)}")
        if Callable in kinds and any(number < 0 for number in _numbers(value)):
            raise DataError(f"{name} must be 0 or more throughout training, got {_short(value)}")
    if isinstance(seed := given.get("seed"), Integral) and not 0 <= int(seed) < _MOST:
        raise DataError(f"seed must be 0 or more, and below 2**63, got {seed}")


@contextmanager
def refusing() -> Iterator[None]:
    """Parts of a network know no errors of this package: what they refuse becomes a :class:`DataError`."""
    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from error


def _kinds(annotation: Any) -> list[Any]:
    """What an annotation allows: types, or the tuple of values of a Literal; nothing if that is not known."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        parts = [_kinds(part) for part in get_args(annotation)]
        return [kind for part in parts for kind in part] if all(parts) else []
    if origin is Literal:
        return [get_args(annotation)]
    if Sequence in (origin, annotation):
        return [Sequence] if get_args(annotation) == (int,) else []
    found = annotation if origin is None else origin
    return [found] if found in _WORDS else []


def _is(value: Any, kind: Any) -> bool:
    """Whether the value is of the kind; a tuple is the choices of a Literal."""
    if isinstance(kind, tuple):
        return isinstance(value, str) and value in kind
    if kind is Sequence:
        several = value.ndim == 1 if isinstance(value, np.ndarray) else isinstance(value, Sequence)
        return several and not isinstance(value, str | bytes) and all(_is(item, int) for item in value)
    if kind is Callable:
        return callable(value)
    if kind is bool:
        return isinstance(value, bool | np.bool_) or (_is(value, int) and value in (0, 1))
    if kind in (int, float):
        wanted = Integral if kind is int else Real
        plain = isinstance(value, wanted) and not isinstance(value, bool | np.bool_)
        return plain and (kind is int or not isinstance(value, Integral) or abs(int(value)) < _MOST)
    return isinstance(value, kind)


def _numbers(value: Any) -> list[float]:
    """The value of a number; those of a schedule at both ends of training and halfway."""
    if callable(value):
        return [value(progress) for progress in (0.0, 0.5, 1.0)]
    return [float(value)] if isinstance(value, Real) else []


def _told(kind: Any) -> str:
    if isinstance(kind, tuple):
        return " or ".join(map(repr, kind))
    return _WORDS[kind]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fix(name: str, value: Any, kinds: Sequence[Any]) -> str:
    """What to pass instead, where that can be guessed."""
    if Sequence in kinds and _is(value, int):
        return f"; pass {name}=({value},)"
    if value is None:
        return f"; leave {name} out for its default"
    wanted = next((kind for kind in (int, float) if kind in kinds), None)
    if wanted is None or not isinstance(value, str | float | np.floating):
        return ""
    try:
        number = wanted(value)
    except (ValueError, OverflowError):
        return ""
    return f"; pass {name}={number}" if number == float(value) else ""
