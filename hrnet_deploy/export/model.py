"""One self-describing ONNX model: crops in, keypoints, scores and heatmaps out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hrnet_deploy.errors import Subject
from hrnet_deploy.export.architecture import HRNetArchitecture
from hrnet_deploy.export.graph import OPSET, OPSET_TYPED_PAIRS, GraphWriter
from hrnet_deploy.export.network import HRNetWriter, Weights
from hrnet_deploy.export.pipeline import decode, merge_mirrored, normalise, with_mirrored
from hrnet_deploy.export.quantization import Quantization
from hrnet_deploy.spec import (
    HEATMAPS_NAME,
    INPUT_NAME,
    KEYPOINTS_NAME,
    SCORES_NAME,
    ModelSpec,
)

if TYPE_CHECKING:
    import onnx

DTYPES: dict[str, type[np.generic]] = {"fp32": np.float32, "fp16": np.float16}

WriteNetwork = Callable[[GraphWriter, str], str]
"""Writes a network from images (B, 3, h, w) float32 to heatmaps (B, K, h', w') float32."""


def float_dtype(spec: ModelSpec) -> type[np.generic]:
    """The type of the convolutions and activations that are not quantised."""
    return DTYPES[spec.float_precision if spec.is_quantized else spec.precision]


def opset_of(spec: ModelSpec) -> int:
    """The oldest opset that has all that a graph of ``spec`` needs."""
    return OPSET_TYPED_PAIRS if spec.has_typed_pairs else OPSET


def build_hrnet(
    spec: ModelSpec,
    architecture: HRNetArchitecture,
    weights: Weights,
    *,
    source: Subject,
    quantization: Quantization | None = None,
) -> onnx.ModelProto:
    """The ONNX model of an HRNet; ``weights`` are its official state dict as numpy arrays.

    ``source`` is named in errors. The channel order of the crops is absorbed by the first
    convolution. ``quantization`` says what computes in 8 bit.
    """

    def write(graph: GraphWriter, images: str) -> str:
        network = HRNetWriter(
            graph,
            weights,
            float_dtype(spec),
            source,
            reverse_input=spec.network_color_order != spec.color_order,
            quantization=quantization,
        )
        return network.heatmaps(images, architecture)

    return build_model(spec, write, reverse_channels=False)


def build_model(
    spec: ModelSpec, write_network: WriteNetwork, *, reverse_channels: bool
) -> onnx.ModelProto:
    """Surround any heatmap network with what ``spec`` says, up to keypoints and scores."""
    graph = GraphWriter(opset_of(spec))
    images = normalise(graph, INPUT_NAME, spec, reverse=reverse_channels)
    if spec.flip_test:
        raw = write_network(graph, with_mirrored(graph, images, spec))
        heatmaps = merge_mirrored(graph, raw, spec, HEATMAPS_NAME)
    else:
        raw = write_network(graph, images)
        heatmaps = graph.node("Identity", [raw], HEATMAPS_NAME)
    decode(graph, heatmaps, spec)
    return graph.finish(spec, *_signature(graph, spec))


def _signature(
    graph: GraphWriter, spec: ModelSpec
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Names, types and shapes of the inputs and outputs."""
    helper, kinds = graph.onnx.helper, graph.onnx.TensorProto
    batch: int | str = "N" if spec.static_batch is None else spec.static_batch
    crops = helper.make_tensor_value_info(INPUT_NAME, kinds.UINT8, [batch, *spec.input_size_hw, 3])
    shapes: dict[str, list[int | str]] = {
        KEYPOINTS_NAME: [batch, spec.joints, 2],
        SCORES_NAME: [batch, spec.joints],
    }
    if spec.has_heatmaps:
        shapes[HEATMAPS_NAME] = [batch, spec.joints, *spec.heatmap_size_hw]
    outputs = [
        helper.make_tensor_value_info(name, kinds.FLOAT, shape) for name, shape in shapes.items()
    ]
    return [crops], outputs
