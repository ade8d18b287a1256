"""Loops over numpy arrays as machine code, and the functions that such loops may call on every element.

A loop is compiled to vector instructions only if everything in it can be: no call into the C library, no
check for a zero divisor, 32-bit integers throughout. :func:`exp32` and :func:`log1p32` are polynomials for
that reason, some ten times as fast there as ``math.exp`` and ``math.log1p``.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

_F, _I = np.float32, np.int32
_LOW, _HIGH = _F(-87.0), _F(88.0)  # exp of less is no normal number in single precision, of more is infinite
_LOG2_E = _F(1.4426950408889634)
_LN2, _LN2_HIGH, _LN2_LOW = _F(0.6931471805599453), _F(0.693359375), _F(-2.12194440e-4)
_ROUND = _F(12582912.0)  # 1.5 x 2^23: added to a number, it leaves its nearest integer in the last bits
_ROUND_BITS = _I(np.array(12582912.0, _F).view(_I))
_SQRT_HALF_BITS = _I(0x3F3504F3)
_E2, _E3, _E4, _E5, _E6 = (_F(1 / n) for n in (2, 6, 24, 120, 720))
_L3, _L5, _L7, _L9 = (_F(1 / n) for n in (3, 5, 7, 9))
_ONE, _TWO = _F(1.0), _F(2.0)


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies numbers in bfloat16 by instructions of its own.

    There, matrix products in bfloat16 take about a fifth of the time; elsewhere they are emulated and slower.
    """
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512bf16", "amx-bf16", "bf16"))


def compiled(function: Callable) -> Callable:
    """A loop over numpy arrays as machine code, compiled at its first call and kept on disk.

    Sums may be taken in another order; division by 0 gives infinity.
    """
    return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})(
        function
    )


def inlined(function: Callable) -> Callable:
    """The same for what compiled loops call: written out where it is called.

    Left to the compiler, the process that compiles may run another copy of such a function than those that
    find the loop on disk, and sums in another order.
    """
    return numba.njit(
        cache=True,
        nogil=True,
        forceinline=True,
        error_model="numpy",
        fastmath={"contract", "reassoc", "nsz"},
    )(function)


def _elementwise(function: Callable) -> Callable:
    # without reassociation, which would undo the rounding tricks below
    return numba.njit(cache=True, nogil=True, forceinline=True, error_model="numpy", fastmath={"contract"})(
        function
    )


def _bits_of(typingctx: Any, x: Any) -> Any:
    """The 32 bits of a single-precision number as an integer."""
    return types.int32(types.float32), _bitcast(types.int32)


def _number_of(typingctx: Any, bits: Any) -> Any:
    """The single-precision number that 32 bits stand for."""
    return types.float32(types.int32), _bitcast(types.float32)


bits_of: Any = intrinsic(_bits_of)
number_of: Any = intrinsic(_number_of)


def _bitcast(to: Any) -> Callable:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(to))

    return generate


@_elementwise
def exp32(x):  # pragma: no cover - compiled
    """exp(x) in single precision to 2e-7 of it; what is below -87 or above 88 counts as that."""
    x = _LOW if x < _LOW else x
    x = _HIGH if x > _HIGH else x
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = _E6 * r + _E5
    p = p * r + _E4
    p = p * r + _E3
    p = p * r + _E2
    p = p * r + _ONE
    p = p * r + _ONE
    power = _I(bits_of(shifted) - _ROUND_BITS)
    return p * number_of(_I((power + _I(127)) << _I(23)))


@_elementwise
def log1p32(u):  # pragma: no cover - compiled
    """log(1 + u) of u >= 0 in single precision to 3e-7 of it, also where u is far below 1."""
    w = _ONE + u
    shifted = _I(bits_of(w) - _SQRT_HALF_BITS)
    power = _I(shifted >> _I(23))
    mantissa = number_of(_I(_I(shifted & _I(0x007FFFFF)) + _SQRT_HALF_BITS))
    f = u if power == _I(0) else mantissa - _ONE
    s = f / (_TWO + f)
    z = s * s
    p = _L9 * z + _L7
    p = p * z + _L5
    p = p * z + _L3
    p = p * z + _ONE
    return _TWO * s * p + _F(power) * _LN2
