"""8-bit convolutions in the graph: which ones, with what steps, written as Q/DQ pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.export.graph import GraphWriter

LEVELS = 127
"""Steps on either side of zero: symmetric, as TensorRT wants it, so -128 is not used."""

NEVER = ("conv1", "final_layer")
"""They read the pixels and write the heatmaps, and are few: float32, always."""


@dataclass(frozen=True)
class Quantization:
    """Which convolutions compute in 8 bit, and the range of what they read.

    ``limits`` are the largest magnitudes that still have a level, by the name of the value in the
    graph; whatever lies beyond is clipped. ``convolutions`` are official names.
    """

    limits: Mapping[str, float]
    convolutions: frozenset[str]

    def activation(self, graph: GraphWriter, value: str) -> str:
        """``value`` through int8 and back; several readers share one pair."""
        name = f"{value}.dequantized"
        if not graph.has(name):
            scale = graph.constant(
                f"{value}.scale", np.array(self.limits[value] / LEVELS, np.float32)
            )
            zero = graph.constant("zero_point", np.array(0, np.int8))
            levels = graph.node("QuantizeLinear", [value, scale, zero], f"{value}.quantized")
            graph.node("DequantizeLinear", [levels, scale, zero], name)
        return name


def quantized_weight(graph: GraphWriter, conv: str, weight_oihw: NDArray[np.float64]) -> str:
    """The weight of ``conv`` as int8, one step for each output channel, and its way back."""
    levels, scales = quantize_weight(weight_oihw)
    inputs = [
        graph.constant(f"{conv}.weight.int8", levels),
        graph.constant(f"{conv}.weight.scale", scales),
        graph.constant(f"{conv}.weight.zero_point", np.zeros(len(scales), np.int8)),
    ]
    return graph.node("DequantizeLinear", inputs, f"{conv}.weight", axis=0)


def quantize_weight(weight_oihw: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Levels (O, I, k, k) int8 and steps (O,) float32; a channel of zeros has the step 1."""
    largest = np.abs(weight_oihw).max(axis=(1, 2, 3))
    scales = np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float32)
    levels = np.rint(weight_oihw / scales.astype(np.float64)[:, None, None, None])
    return np.clip(levels, -LEVELS, LEVELS).astype(np.int8), scales
