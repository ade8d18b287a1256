"""How a check says that a promise is broken."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from latentcell._errors import DataError

from ._cells import dense

Check = TypeVar("Check", bound=Callable[..., None])


def needs(*capabilities: str) -> Callable[[Check], Check]:
    """Mark a check as one for models that can all of this; see ``CAPABILITIES`` in :mod:`._case`."""

    def mark(check: Check) -> Check:
        check.needs = capabilities  # type: ignore[attr-defined]
        return check

    return mark


@contextmanager
def few_cells() -> Iterator[None]:
    """Silence what scvi-tools says of batches of less than 3 cells."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Category .* has fewer than 3 cells")
        yield


def promise(held: Any, broken: str) -> None:
    """Raise an `AssertionError` that says what is broken, unless it held."""
    if not held:
        raise AssertionError(broken)


def same(found: Any, expected: Any, broken: str) -> None:
    """Two matrices have the same bits."""
    found, expected = dense(found), dense(expected)
    promise(found.shape == expected.shape, f"{broken}: shape {found.shape} instead of {expected.shape}")
    promise(found.dtype == expected.dtype, f"{broken}: {found.dtype} instead of {expected.dtype}")
    if not np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"):
        raise AssertionError(f"{broken}: {_difference(found, expected)}")


def close(found: Any, expected: Any, broken: str, *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Two matrices agree up to rounding."""
    found, expected = dense(found), dense(expected)
    promise(found.shape == expected.shape, f"{broken}: shape {found.shape} instead of {expected.shape}")
    if not np.allclose(found, expected, rtol=rtol, atol=atol):
        raise AssertionError(f"{broken}: {_difference(found, expected)}")


def finite(values: Any, broken: str) -> None:
    """Nothing is NaN or infinite."""
    promise(np.isfinite(dense(values)).all(), f"{broken}: NaN or infinite values")


def refused(
    call: Callable[[], Any],
    *words: str,
    broken: str,
    error: type[Exception] | tuple[type[Exception], ...] = DataError,
) -> None:
    """The call raises `error`, and its message holds all the words."""
    names = error.__name__ if isinstance(error, type) else " or ".join(e.__name__ for e in error)
    wanted = f"{names} that names {', '.join(words)}" if words else names
    try:
        call()
    except error as found:
        missing = [word for word in words if word not in str(found)]
        if missing:
            raise AssertionError(
                f"{broken}: wanted {wanted}; the message does not say {missing}: {found}"
            ) from found
        return
    except Exception as found:
        raise AssertionError(f"{broken}: wanted {wanted}, got {type(found).__name__}: {found}") from found
    raise AssertionError(f"{broken}: wanted {wanted}, nothing was raised")


def _difference(found: np.ndarray, expected: np.ndarray) -> str:
    if found.dtype.kind not in "fiub" or expected.dtype.kind not in "fiub":
        return f"{found.tolist()[:3]} instead of {expected.tolist()[:3]}"
    gap = np.abs(found.astype(float) - expected.astype(float))
    return f"{int((gap > 0).sum())} of {gap.size} values differ, by up to {np.nanmax(gap, initial=0.0):.3g}"
