"""8-bit convolutions in the graph: which ones, with what steps, written as Q/DQ pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import require
from hrnet_deploy.export.graph import GraphWriter

EightBit = Literal["int8", "fp8"]

LARGEST: dict[EightBit, int] = {"int8": 127, "fp8": 448}
"""The largest magnitude of each type.

int8 is symmetric, as TensorRT wants it, so that -128 is not used. fp8 is E4M3 without infinities,
``float8e4m3fn`` in ONNX.
"""

NEVER = ("conv1", "final_layer")
"""They read the pixels and write the heatmaps, and are few: never in 8 bit."""

FP8_CHANNELS = 16
"""TensorRT's FP8 convolutions read and write multiples of it (NVIDIA ModelOpt, ``fp8.py``)."""


@dataclass(frozen=True)
class Quantization:
    """Which convolutions compute in 8 bit, and the range of what they read.

    ``limits`` are the largest magnitudes that still have a level, by the name of the value in the
    graph; whatever lies beyond is clipped. ``convolutions`` are official names. ``dtype`` is the
    type of everything around the pairs, and so of their scales.
    """

    limits: Mapping[str, float]
    convolutions: frozenset[str]
    kind: EightBit = "int8"
    dtype: type[np.generic] = np.float32

    def activation(self, graph: GraphWriter, value: str) -> str:
        """``value`` through 8 bit and back; several readers share one pair."""
        name = f"{value}.dequantized"
        if not graph.has(name):
            step = np.array(self.limits[value] / LARGEST[self.kind])
            scale = graph.constant(f"{value}.scale", _representable(step, self.dtype))
            zero = graph.constant("zero_point", np.zeros((), storage(self.kind)))
            levels = graph.node("QuantizeLinear", [value, scale, zero], f"{value}.quantized")
            graph.node("DequantizeLinear", [levels, scale, zero], name)
        return name

    def weight(self, graph: GraphWriter, conv: str, weight_oihw: NDArray[np.float64]) -> str:
        """The weight of ``conv`` in 8 bit, one step for each output channel, and its way back."""
        levels, scales = quantize_weight(weight_oihw, self.kind, self.dtype)
        inputs = [
            graph.constant(f"{conv}.weight.{self.kind}", levels),
            graph.constant(f"{conv}.weight.scale", scales),
            graph.constant(f"{conv}.weight.zero_point", np.zeros(len(scales), levels.dtype)),
        ]
        return graph.node("DequantizeLinear", inputs, f"{conv}.weight", axis=0)


def may_be_quantized(conv: str, weight_oihw: NDArray[Any], kind: EightBit) -> bool:
    """Whether a convolution of this name and weight is one to compute in ``kind``."""
    if conv in NEVER:
        return False
    return kind != "fp8" or not any(count % FP8_CHANNELS for count in weight_oihw.shape[:2])


def quantize_weight(
    weight_oihw: NDArray[Any], kind: EightBit = "int8", dtype: type[np.generic] = np.float32
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Levels (O, I, k, k) of ``kind`` and steps (O,) of ``dtype``; a channel of zeros has step 1.

    The levels are those of the rounded steps.
    """
    largest = np.abs(weight_oihw).max(axis=(1, 2, 3))
    scales = _representable(np.where(largest > 0, largest / LARGEST[kind], 1.0), dtype)
    levels = weight_oihw / scales.astype(np.float64)[:, None, None, None]
    if kind == "int8":
        levels = np.rint(levels)
    return np.clip(levels, -LARGEST[kind], LARGEST[kind]).astype(storage(kind)), scales


def _representable(steps: NDArray[np.float64], dtype: type[np.generic]) -> NDArray[Any]:
    """``steps`` in ``dtype``, none of them rounded to zero or infinity."""
    limits: Any = np.finfo(dtype)
    clipped: NDArray[Any] = np.clip(steps, limits.smallest_subnormal, limits.max).astype(dtype)
    return clipped


def storage(kind: EightBit) -> np.dtype[Any]:
    """The numpy type that holds the levels of ``kind``."""
    if kind == "int8":
        return np.dtype(np.int8)
    types = require("ml_dtypes", extra="export", purpose="fp8")
    eight_bit: np.dtype[Any] = np.dtype(types.float8_e4m3fn)
    return eight_bit
