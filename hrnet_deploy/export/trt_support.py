"""Which operators and types TensorRT's ONNX parsers take, and whether a model keeps to them.

Sources: onnx-tensorrt, ``docs/operators.md`` for TensorRT 8.5 (the list of opset 17, which 8.6
took over and widened, ``docs/Changelog.md``) and for 10.15; for 11 the opset guide of the TensorRT
documentation, whose parser only added operators. Only what our graphs may use is listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hrnet_deploy.engines.build import OPSETS
from hrnet_deploy.errors import require

if TYPE_CHECKING:
    import onnx

_FLOATS = frozenset({"FLOAT", "FLOAT16"})
_NUMBERS_8 = _FLOATS | {"INT32"}
_NUMBERS = _NUMBERS_8 | {"INT64"}
_BOOL = frozenset({"BOOL"})

OPERATORS_8: dict[str, frozenset[str]] = {
    "Abs": _NUMBERS_8,
    "Add": _NUMBERS_8,
    "And": _BOOL,
    "ArgMax": _NUMBERS_8,
    "AveragePool": _NUMBERS_8,
    "Cast": _NUMBERS_8 | _BOOL,
    "Concat": _NUMBERS_8 | _BOOL,
    "Conv": _FLOATS,
    "DequantizeLinear": frozenset({"INT8"}),
    "Div": _NUMBERS_8,
    "Gather": _NUMBERS_8 | _BOOL,
    "GatherElements": _NUMBERS_8 | _BOOL,
    "Greater": _NUMBERS_8,
    "Identity": _NUMBERS_8 | _BOOL,
    "Less": _NUMBERS_8,
    "Log": _FLOATS,
    "Max": _NUMBERS_8,
    "Mod": _NUMBERS_8,
    "Mul": _NUMBERS_8,
    "QuantizeLinear": _FLOATS,
    "ReduceMax": _FLOATS,
    "Relu": _FLOATS,
    "Reshape": _NUMBERS_8 | _BOOL,
    "Resize": _FLOATS,
    "Sign": _NUMBERS_8,
    "Sub": _NUMBERS_8,
    "Transpose": _NUMBERS_8 | _BOOL,
    "Where": _NUMBERS_8 | _BOOL,
}
"""Operators with the types of their data, TensorRT 8.6."""

OPERATORS_10: dict[str, frozenset[str]] = {
    **{
        name: types | ({"INT64"} if "INT32" in types else set())
        for name, types in OPERATORS_8.items()
    },
    "AveragePool": _FLOATS,
    "DequantizeLinear": frozenset({"INT8", "FLOAT8E4M3FN"}),
    "ReduceMax": _NUMBERS,
    "Relu": _NUMBERS,
}
"""The same for TensorRT 10 and 11; INT64 has a type of its own there."""

_QUANTISING = ("QuantizeLinear", "DequantizeLinear")

_DATA_INPUT = {"Where": 1}
"""The input that holds an operator's data, 0 where nothing is said."""

_RESIZE = {
    "mode": ("nearest", "linear"),
    "coordinate_transformation_mode": (
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    ),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
}


def trt_problems(model: onnx.ModelProto, major: int) -> Iterator[str]:
    """One sentence for everything that TensorRT ``major`` (8, 10, 11) does not take."""
    require("onnx", extra="export", purpose="checking a graph for TensorRT")
    low, high = OPSETS[major]
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield f"the operator set '{entry.domain}'"
        elif not low <= entry.version <= high:
            yield f"opset {entry.version} (it reads {low} to {high})"
    kinds = _types(model)
    inputs = {value.name for value in model.graph.input}
    constants = {constant.name for constant in model.graph.initializer}
    # An 8-bit weight is a constant too, behind the operator that gives it its scale.
    weights = constants | {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    for node in model.graph.node:
        yield from _node_problems(node, major, kinds, inputs, weights)
    yield from _quantisation_problems(model, constants)


def _node_problems(
    node: onnx.NodeProto,
    major: int,
    kinds: dict[str, str],
    inputs: set[str],
    constants: set[str],
) -> Iterator[str]:
    table = OPERATORS_8 if major == 8 else OPERATORS_10
    if node.op_type not in table:
        yield f"the operator {node.op_type} ({node.name})"
        return
    data = node.input[_DATA_INPUT.get(node.op_type, 0)]
    kind = kinds.get(data, "an unknown type")
    if major == 8 and kind == "INT64":  # the parser narrows it
        kind = "INT32"
    # uint8 exists at the border of the network only: an input, and the cast that reads it.
    uint8_cast = kind == "UINT8" and node.op_type == "Cast" and data in inputs
    if kind not in table[node.op_type] and not uint8_cast:
        yield f"{node.op_type} of {kind} ({node.name})"
    if node.op_type == "Resize":
        yield from _resize_problems(node, constants)
    if node.op_type == "Conv" and major == 8 and node.input[1] not in constants:
        yield f"a convolution whose weights are no constant ({node.name})"


def _quantisation_problems(model: onnx.ModelProto, constants: set[str]) -> Iterator[str]:
    """TensorRT quantises symmetrically, with zero points that are 0, by constant scales."""
    from onnx import numpy_helper

    zeros = {
        constant.name
        for constant in model.graph.initializer
        if constant.name in _zero_points(model)
        and not numpy_helper.to_array(constant).astype(np.float32).any()
    }
    for node in model.graph.node:
        if node.op_type not in _QUANTISING:
            continue
        if node.input[1] not in constants:
            yield f"{node.op_type} by a scale that is no constant ({node.name})"
        if len(node.input) < 3 or node.input[2] not in zeros:
            yield f"{node.op_type} with a zero point other than 0 ({node.name})"


def _zero_points(model: onnx.ModelProto) -> set[str]:
    return {
        node.input[2]
        for node in model.graph.node
        if node.op_type in _QUANTISING and len(node.input) > 2
    }


def _resize_problems(node: onnx.NodeProto, constants: set[str]) -> Iterator[str]:
    for attribute in node.attribute:
        value = attribute.s.decode() if attribute.s else None
        if attribute.name in _RESIZE and value not in _RESIZE[attribute.name]:
            yield f"Resize with {attribute.name} {value} ({node.name})"
        if attribute.name == "antialias" and attribute.i:
            yield f"Resize with antialiasing ({node.name})"
    if any(name and name not in constants for name in node.input[1:]):
        yield f"Resize by a factor that is no constant ({node.name})"


def _types(model: onnx.ModelProto) -> dict[str, str]:
    """The element type of every tensor, by ONNX's name of it."""
    from onnx import TensorProto, shape_inference

    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {constant.name: constant.data_type for constant in model.graph.initializer}
    return {name: TensorProto.DataType.Name(kind) for name, kind in kinds.items()}
