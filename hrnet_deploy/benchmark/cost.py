"""What one person costs by the graph: multiplications, bytes that the convolutions move."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hrnet_deploy.errors import require

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Cost:
    """Of one crop, its mirrored pass included: ``gflop`` of the convolutions (2 for each
    multiplication with its addition), ``weight_mb`` of all constants and ``activation_mb`` that
    every node reads and writes if nothing stays in a cache, both in the types of the file.
    """

    gflop: float
    weight_mb: float
    activation_mb: float
    passes: int


@dataclass(frozen=True)
class Convolution:
    """One convolution of a graph; ``flop`` is for one crop and all its passes."""

    side: int
    channels: tuple[int, int]
    stride: int
    size_hw: tuple[int, int]
    flop: float


def graph_cost(content: bytes) -> Cost | None:
    """Count an engine's ONNX file, whose batch is set to one crop.

    None where the shape of some value cannot be told from the graph, as in some that were adopted.
    """
    model, shapes, crops = _one_crop(content)
    constants = {tensor.name for tensor in model.graph.initializer}
    values = [name for node in model.graph.node for name in (*node.input, *node.output) if name]
    if not shapes.keys() >= set(values):
        return None
    moved = sum(_bytes(shapes[name]) for name in values if name not in constants)
    weights = sum(_bytes(shapes[name]) for name in constants)
    images = [shapes[node.output[0]][0][0] for node in _convolution_nodes(model)]
    passes = max([1, *(count // crops for count in images)])
    flop = sum(one.flop for one in _convolutions(model, shapes, crops))
    return Cost(flop / 1e9, weights / 1e6, moved / crops / 1e6, passes)


def graph_convolutions(content: bytes) -> list[Convolution]:
    """Every convolution of an engine's ONNX file that ``graph_cost`` can count, in order."""
    return list(_convolutions(*_one_crop(content)))


def _one_crop(content: bytes) -> tuple[onnx.ModelProto, dict[str, Shape], int]:
    """The graph with its shapes and the crops in them: one where the file leaves that free."""
    onnx = require("onnx", extra="export", purpose="counting operations")
    model = onnx.load_from_string(content)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.ClearField("dim_param")
    crops = batch.dim_value or 1
    batch.dim_value = crops
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return model, _shapes(model), crops


def _convolution_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def _convolutions(
    model: onnx.ModelProto, shapes: dict[str, Shape], crops: int
) -> Iterator[Convolution]:
    for node in _convolution_nodes(model):
        output, weight = shapes[node.output[0]][0], shapes[node.input[1]][0]
        strides = [list(a.ints) for a in node.attribute if a.name == "strides"]
        yield Convolution(
            side=weight[2],
            channels=(weight[1], weight[0]),
            stride=strides[0][0] if strides else 1,
            size_hw=(output[2], output[3]),
            flop=2.0 * math.prod(output) * math.prod(weight[1:]) / crops,
        )


Shape = tuple[list[int], int]
"""Dimensions and bytes of an element."""


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    graph = model.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = [dim.dim_value for dim in kind.shape.dim]
        if all(dim.HasField("dim_value") for dim in kind.shape.dim):
            found[value.name] = (sizes, _item_size(kind.elem_type))
    for tensor in graph.initializer:
        found[tensor.name] = (list(tensor.dims), _item_size(tensor.data_type))
    return found


def _item_size(kind: int) -> int:
    from onnx import helper

    size: Any = helper.tensor_dtype_to_np_dtype(kind).itemsize
    return int(size)


def _bytes(shape: Shape) -> int:
    return math.prod(shape[0]) * shape[1]
