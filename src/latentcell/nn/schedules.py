"""Schedules: pure functions of training progress.

A schedule maps progress, the share of optimiser steps done (0 at the first step, 1 at the last), to a value.
It never knows how many cells or epochs there are, so it reaches its target on data of any size; the trainer
supplies the length. Schedules are frozen dataclasses: they compare, print and are saved as plain JSON.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any, ClassVar


@dataclass(frozen=True)
class Constant:
    """The same value throughout.

    Examples
    --------
    >>> Constant(2.0)(0.3)
    2.0
    """

    value: float

    def __call__(self, progress: float) -> float:
        """Value at `progress`."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` to `stop` between two points of training, flat outside them.

    Parameters
    ----------
    start, stop
        Values before `begin` and after `end`.
    begin, end
        Progress (0 to 1) at which the line begins and ends.

    Examples
    --------
    >>> warm_up = Linear(0.0, 1.0, end=0.5)
    >>> warm_up(0.0), warm_up(0.25), warm_up(0.9)
    (0.0, 0.5, 1.0)
    """

    start: float
    stop: float
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_span(self.begin, self.end)

    def __call__(self, progress: float) -> float:
        """Value at `progress`."""
        return self.start + (self.stop - self.start) * _position(progress, self.begin, self.end)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave from `start` to `stop` between two points of training, flat outside them.

    Parameters
    ----------
    start, stop
        Values before `begin` and after `end`.
    begin, end
        Progress (0 to 1) at which the curve begins and ends.

    References
    ----------
    Loshchilov and Hutter, SGDR, ICLR 2017, `arXiv:1608.03983 <https://arxiv.org/abs/1608.03983>`__.

    Examples
    --------
    >>> decay = Cosine(1.0, 0.0)
    >>> decay(0.0), round(decay(0.5), 6), decay(1.0)
    (1.0, 0.5, 0.0)
    """

    start: float
    stop: float
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_span(self.begin, self.end)

    def __call__(self, progress: float) -> float:
        """Value at `progress`."""
        share = 0.5 * (1.0 - cos(pi * _position(progress, self.begin, self.end)))
        return self.start + (self.stop - self.start) * share


@dataclass(frozen=True)
class Exponential:
    """From `start` to `stop` by the same factor at every step, between two points of training.

    Parameters
    ----------
    start, stop
        Values before `begin` and after `end`, both positive.
    begin, end
        Progress (0 to 1) at which the curve begins and ends.

    Examples
    --------
    >>> decay = Exponential(1.0, 0.01)
    >>> decay(0.0), round(decay(0.5), 6), decay(1.0)
    (1.0, 0.1, 0.01)
    """

    start: float
    stop: float
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_span(self.begin, self.end)
        if not (self.start > 0 and self.stop > 0):
            raise ValueError(f"an exponential needs positive values, got {self.start} and {self.stop}")

    def __call__(self, progress: float) -> float:
        """Value at `progress`."""
        return self.start * (self.stop / self.start) ** _position(progress, self.begin, self.end)


Schedule = Callable[[float], float]
_NAMES: dict[str, type] = {kind.__name__: kind for kind in (Constant, Linear, Cosine, Exponential)}


class ScheduleJSON:
    """Write schedules as JSON objects and read them back.

    Examples
    --------
    >>> record = ScheduleJSON.encode(Linear(50, 200))
    >>> record
    {'schedule': 'Linear', 'start': 50, 'stop': 200, 'begin': 0.0, 'end': 1.0}
    >>> ScheduleJSON.decode(record)
    Linear(start=50, stop=200, begin=0.0, end=1.0)
    """

    KEY: ClassVar[str] = "schedule"

    @classmethod
    def encode(cls, schedule: Any) -> dict[str, Any]:
        """A dict of plain numbers and strings; a `TypeError` for what :meth:`decode` could not read back."""
        if type(schedule) not in _NAMES.values():
            raise TypeError(f"{schedule!r} is none of the schedules {sorted(_NAMES)}")
        return {cls.KEY: type(schedule).__name__, **asdict(schedule)}

    @classmethod
    def decode(cls, record: dict[str, Any]) -> Any:
        """The schedule that :meth:`encode` wrote; an unknown name is a `ValueError`."""
        values = dict(record)
        name = values.pop(cls.KEY)
        if name not in _NAMES:
            raise ValueError(f"unknown schedule {name!r}; known are {sorted(_NAMES)}")
        return _NAMES[name](**values)


def as_schedule(value: "float | Schedule") -> "Schedule":
    """A schedule as it is, or a number as a constant one.

    Examples
    --------
    >>> as_schedule(1)(0.7)
    1.0
    """
    return value if callable(value) else Constant(float(value))


def times(value: "float | Schedule", factor: float) -> "Schedule":
    """A number or schedule, times a factor.

    Examples
    --------
    >>> times(Linear(0.0, 1.0), 10.0)(0.5)
    5.0
    """
    schedule = as_schedule(value)
    return lambda progress: factor * schedule(progress)


def _check_span(begin: float, end: float) -> None:
    if not 0.0 <= begin < end <= 1.0:
        raise ValueError(f"a schedule needs 0 <= begin < end <= 1, got begin={begin}, end={end}")


def _position(progress: float, begin: float, end: float) -> float:
    return min(max((progress - begin) / (end - begin), 0.0), 1.0)
