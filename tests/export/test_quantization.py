"""Weights in 8 bit: how far off they may be, and that no step is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("ml_dtypes")
pytest.importorskip("onnx")

from hrnet_deploy.export.quantization import LARGEST, EightBit, quantize_weight


def spread_weight(seed: int) -> NDArray[np.float64]:
    """Channels of very different size, some of them zero."""
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.uniform(-4, 2, (6, 1, 1, 1))
    weight: NDArray[np.float64] = rng.normal(size=(6, 3, 3, 3)) * spread
    return weight * (rng.random((6, 1, 1, 1)) > 0.2)


@given(st.integers(0, 2**32 - 1))
def test_weights_are_at_most_half_a_step_off(seed: int) -> None:
    weight = spread_weight(seed)
    levels, scales = quantize_weight(weight)
    restored = levels * scales[:, None, None, None].astype(np.float64)
    half = 0.5001 * scales[:, None, None, None]
    assert (np.abs(restored - weight) <= half).all()
    assert np.abs(levels.astype(int)).max(initial=0) <= LARGEST["int8"]


@given(st.integers(0, 2**32 - 1))
def test_fp8_weights_are_at_most_a_sixteenth_off(seed: int) -> None:
    """Three bits of fraction, down to a step of 2^-9 below 2^-6; ranges fill all 448."""
    weight = spread_weight(seed)
    levels, scales = quantize_weight(weight, "fp8", np.float16)
    step = scales[:, None, None, None].astype(np.float64)
    restored = levels.astype(np.float64) * step
    # A step that half precision has to round up or down moves the largest value off 448.
    allowed = np.maximum(np.abs(weight) / 16, step * 2.0**-10) + 1e-3 * np.abs(weight) + 6e-8 * 448
    assert np.isfinite(restored).all()
    assert (np.abs(restored - weight) <= allowed).all()


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_no_step_of_a_half_vanishes(kind: EightBit) -> None:
    weight = np.full((1, 1, 1, 1), 1e-9)
    levels, scales = quantize_weight(weight, kind, np.float16)
    assert scales.dtype == np.float16
    assert scales[0] > 0
    assert np.isfinite(levels.astype(np.float32)).all()
