"""The HRNet body as ONNX nodes, with batch norm folded into the convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.export.architecture import HRNetArchitecture, StageArchitecture
from hrnet_deploy.export.graph import GraphWriter
from hrnet_deploy.export.quantization import Quantization

BATCH_NORM_EPSILON = 1e-5
"""PyTorch's default, which the official network leaves as it is."""

Weights = Mapping[str, NDArray[Any]]


@dataclass
class HRNetWriter:
    """Writes one network into ``graph``; convolutions and activations are of type ``dtype``.

    ``weights`` are the official state dict as numpy arrays. ``reverse_input`` permutes the first
    convolution instead of the pixels, so that a network trained on RGB takes BGR images.
    ``quantization`` names the convolutions that compute in 8 bit; ``dtype`` is that of the others.
    """

    graph: GraphWriter
    weights: Weights
    dtype: type[np.generic]
    source: Subject
    reverse_input: bool
    quantization: Quantization | None = None

    def heatmaps(self, images: str, architecture: HRNetArchitecture) -> str:
        """From normalised images (B, 3, h, w) to heatmaps (B, K, h/4, w/4), both float32."""
        x = images
        if self.dtype is not np.float32:
            x = self.graph.cast(images, self.dtype, "network.input")
        x = self._conv(x, "conv1", "bn1", stride=2, relu=True)
        x = self._conv(x, "conv2", "bn2", stride=2, relu=True)
        for index in range(architecture.layer1_blocks):
            x = self._bottleneck(x, f"layer1.{index}")
        branches = [x]
        for number, stage in enumerate(architecture.stages, start=1):
            last = number == len(architecture.stages)
            branches = self._transition(branches, f"transition{number}", stage)
            for index in range(stage.modules):
                only_highest = last and index == stage.modules - 1
                prefix = f"stage{number + 1}.{index}"
                branches = self._module(branches, prefix, stage, only_highest=only_highest)
        return self._final(branches[0], architecture.final_kernel)

    def _final(self, x: str, kernel: int) -> str:
        """The last convolution stays float32, so that flat peaks do not tie at half precision."""
        if self.dtype is not np.float32:
            x = self.graph.cast(x, np.float32, "final_layer.input")
        weight = self.weights["final_layer.weight"].astype(np.float32)
        bias = self.weights["final_layer.bias"].astype(np.float32)
        inputs = [
            x,
            self.graph.constant("final_layer.weight", weight),
            self.graph.constant("final_layer.bias", bias),
        ]
        return self.graph.node("Conv", inputs, "final_layer", **_window(kernel, 1))

    def _bottleneck(self, x: str, prefix: str) -> str:
        y = self._conv(x, f"{prefix}.conv1", f"{prefix}.bn1", relu=True)
        y = self._conv(y, f"{prefix}.conv2", f"{prefix}.bn2", relu=True)
        y = self._conv(y, f"{prefix}.conv3", f"{prefix}.bn3")
        if f"{prefix}.downsample.0.weight" in self.weights:
            identity = self._conv(x, f"{prefix}.downsample.0", f"{prefix}.downsample.1")
        else:
            identity = self._identity(x, prefix)
        return self._sum_relu([y, identity], prefix)

    def _basic(self, x: str, prefix: str) -> str:
        y = self._conv(x, f"{prefix}.conv1", f"{prefix}.bn1", relu=True)
        y = self._conv(y, f"{prefix}.conv2", f"{prefix}.bn2")
        return self._sum_relu([y, self._identity(x, prefix)], prefix)

    def _identity(self, x: str, prefix: str) -> str:
        """What the sum of a block adds: its input as the block's first convolution reads it.

        In 8 bit where that convolution is, since the value then need not exist in float as well.
        """
        if self.quantization is None or f"{prefix}.conv1" not in self.quantization.convolutions:
            return x
        return self.quantization.activation(self.graph, x)

    def _transition(self, before: list[str], prefix: str, stage: StageArchitecture) -> list[str]:
        """Branches for ``stage``: kept, adapted in width, or opened from the lowest one."""
        after = []
        for index in range(len(stage.widths)):
            name = f"{prefix}.{index}"
            if index >= len(before):
                after.append(
                    self._conv(before[-1], f"{name}.0.0", f"{name}.0.1", stride=2, relu=True)
                )
            elif f"{name}.0.weight" in self.weights:
                after.append(self._conv(before[index], f"{name}.0", f"{name}.1", relu=True))
            else:
                after.append(before[index])
        return after

    def _module(
        self, inputs: list[str], prefix: str, stage: StageArchitecture, *, only_highest: bool
    ) -> list[str]:
        """Residual blocks on every branch, then each output sums all branches."""
        features = []
        for branch, x in enumerate(inputs):
            for block in range(stage.blocks[branch]):
                x = self._basic(x, f"{prefix}.branches.{branch}.{block}")
            features.append(x)
        targets = 1 if only_highest else len(features)
        return [
            self._fuse(features, f"{prefix}.fuse_layers.{target}", target)
            for target in range(targets)
        ]

    def _fuse(self, features: list[str], prefix: str, target: int) -> str:
        terms = []
        for source, x in enumerate(features):
            name = f"{prefix}.{source}"
            if source > target:
                x = self._conv(x, f"{name}.0", f"{name}.1")
                x = self._upsample(x, f"{name}.2", 1 << (source - target))
            for step in range(target - source):
                last = step == target - source - 1
                conv = f"{name}.{step}"
                x = self._conv(x, f"{conv}.0", f"{conv}.1", stride=2, relu=not last)
            terms.append(x)
        return self._sum_relu(terms, prefix)

    def _upsample(self, x: str, name: str, factor: int) -> str:
        """Nearest neighbour by an integer factor, as nn.Upsample does it."""
        scales = np.array([1, 1, factor, factor], np.float32)
        constant = self.graph.constant(f"upsample_{factor}", scales)
        return self.graph.node(
            "Resize",
            [x, "", constant],
            name,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _sum_relu(self, terms: list[str], prefix: str) -> str:
        """Add left to right, in the order of the official code, then rectify."""
        total = terms[0]
        for index, term in enumerate(terms[1:], start=1):
            total = self.graph.node("Add", [total, term], f"{prefix}.add{index}")
        return self.graph.node("Relu", [total], f"{prefix}.relu")

    def _conv(self, x: str, conv: str, norm: str, *, stride: int = 1, relu: bool = False) -> str:
        weight, bias = fold_batch_norm(self.weights, conv, norm)
        if conv == "conv1" and self.reverse_input:
            weight = weight[:, ::-1]
        inputs = [
            *self._operands(x, conv, weight),
            self.graph.constant(f"{conv}.bias", self._typed(bias, conv)),
        ]
        y = self.graph.node("Conv", inputs, conv, **_window(weight.shape[2], stride))
        return self.graph.node("Relu", [y], f"{conv}.relu") if relu else y

    def _operands(self, x: str, conv: str, weight: NDArray[np.float64]) -> list[str]:
        """Input and weight of a convolution, in 8 bit where the quantisation says so."""
        if self.quantization is None or conv not in self.quantization.convolutions:
            return [x, self.graph.constant(f"{conv}.weight", self._typed(weight, conv))]
        x = self.quantization.activation(self.graph, x)
        return [x, self.quantization.weight(self.graph, conv, weight)]

    def _typed(self, value: NDArray[np.float64], name: str) -> NDArray[Any]:
        """Round once, from double to the graph's type; a weight that overflows it is refused."""
        with np.errstate(over="ignore"):
            typed = value.astype(self.dtype)
        if not np.isfinite(typed).all():
            problem = f"the folded weights of {name} overflow {np.dtype(self.dtype).name}"
            raise InputError(
                self.source,
                problem,
                "Write it in float32: export --precision fp32, quantize --float fp32",
            )
        return typed


def fold_batch_norm(
    weights: Weights, conv: str, norm: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight (O, I, k, k) and bias (O,) in double of a convolution with its batch norm."""
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    weight = weights[f"{conv}.weight"].astype(np.float64) * factor[:, None, None, None]
    return weight, beta - mean * factor


def _window(kernel: int, stride: int) -> dict[str, list[int]]:
    """Convolution attributes with the padding that keeps odd kernels centred."""
    return {
        "kernel_shape": [kernel, kernel],
        "strides": [stride, stride],
        "pads": [kernel // 2] * 4,
    }
