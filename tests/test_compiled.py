"""Functions of single numbers, which loops are compiled with, against numpy in double precision."""

import numpy as np
import pytest

from latentcell._compiled import bits_of, compiled, exp32, log1p32, multiplies_bfloat16, number_of


@compiled
def exp_of(x, out):
    for i in range(len(x)):
        out[i] = exp32(x[i])


@compiled
def log1p_of(x, out):
    for i in range(len(x)):
        out[i] = log1p32(x[i])


@compiled
def there_and_back(x, bits, out):
    for i in range(len(x)):
        bits[i] = bits_of(x[i])
        out[i] = number_of(bits[i])


def test_exp_is_right_over_its_range():
    x = np.linspace(-87, 88, 1_000_003).astype(np.float32)
    out = np.empty_like(x)
    exp_of(x, out)
    np.testing.assert_allclose(out, np.exp(x.astype(float)), rtol=2.5e-7)


def test_exp_is_bounded_beyond_its_range():
    x = np.array([-np.inf, -1e30, 1e30, np.inf], dtype=np.float32)
    out = np.empty_like(x)
    exp_of(x, out)
    np.testing.assert_allclose(out, np.exp([-87.0, -87.0, 88.0, 88.0]), rtol=2.5e-7)


def test_log1p_is_right_from_the_smallest_to_the_largest():
    x = np.concatenate([np.logspace(-35, 38, 1_000_003), np.linspace(0, 3, 300_001), [0.0]]).astype(
        np.float32
    )
    out = np.empty_like(x)
    log1p_of(x, out)
    np.testing.assert_allclose(out, np.log1p(x.astype(float)), rtol=3.5e-7)


def test_bits_are_those_of_numpy():
    x = np.array([0.0, 1.0, -2.5, 1e-40, np.inf], dtype=np.float32)
    bits, out = np.empty(5, np.int32), np.empty(5, np.float32)
    there_and_back(x, bits, out)
    np.testing.assert_array_equal(bits, x.view(np.int32))
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize(
    ("features", "found"),
    [
        ({"avx2": True}, False),
        ({"avx512bf16": False}, False),
        ({"avx512bf16": True}, True),
        ({"bf16": True}, True),
    ],
)
def test_bfloat16_is_asked_of_the_processor(monkeypatch, features, found):
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    multiplies_bfloat16.cache_clear()
    try:
        assert multiplies_bfloat16() is found
    finally:
        multiplies_bfloat16.cache_clear()
