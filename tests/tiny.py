"""A hand-made engine file: heatmaps are the crop's colour planes, pooled four by four."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hrnet_deploy.spec import METADATA_KEY, ModelSpec

SIZE_HW = (64, 48)
JOINTS = 3


def tiny_spec(**changes: Any) -> ModelSpec:
    spec = ModelSpec(
        architecture="tiny",
        input_size_hw=SIZE_HW,
        heatmap_size_hw=(SIZE_HW[0] // 4, SIZE_HW[1] // 4),
        keypoint_set="colours",
        keypoint_names=("blue", "green", "red"),
        flip_pairs=(),
        sigmas=None,
        skeleton=(),
        flip_test=False,
        shift_heatmap=False,
        source_sha256="0" * 64,
        decode="none",
    )
    return dataclasses.replace(spec, **changes)


def tiny_model(spec: ModelSpec, *, poison: bool = False) -> onnx.ModelProto:
    """The graph for ``spec``; with ``poison`` a crop of white corners gives NaN scores."""
    height, width = spec.heatmap_size_hw
    batch = spec.static_batch or "N"
    constants = [
        numpy_helper.from_array(np.array([width], np.int64), "width"),
        numpy_helper.from_array(np.array([0, JOINTS, -1], np.int64), "flat_shape"),
        numpy_helper.from_array(np.array([-1, JOINTS], np.int64), "scores_shape"),
        numpy_helper.from_array(np.array(1 / 255, np.float32), "grey"),
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "grey"], ["scaled"]),
        helper.make_node(
            "AveragePool", ["scaled"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]
        ),
    ]
    if poison:  # 0 / 0 where a pooled value is one
        constants.append(numpy_helper.from_array(np.array(1.0, np.float32), "one"))
        nodes += [
            helper.make_node("Sub", ["one", "pooled"], ["below"]),
            helper.make_node("Div", ["below", "below"], ["unit"]),
            helper.make_node("Mul", ["pooled", "unit"], ["heatmaps"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["pooled"], ["heatmaps"]))
    nodes += [
        helper.make_node("Reshape", ["heatmaps", "flat_shape"], ["flat"]),
        helper.make_node("ArgMax", ["flat"], ["peak"], axis=2, keepdims=1),
        helper.make_node("ReduceMax", ["flat"], ["maximum"], axes=[2], keepdims=1),
        helper.make_node("Div", ["peak", "width"], ["row"]),
        helper.make_node("Mod", ["peak", "width"], ["column"]),
        helper.make_node("Concat", ["column", "row"], ["place"], axis=2),
        helper.make_node("Cast", ["place"], ["keypoints"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["maximum", "scores_shape"], ["scores"]),
    ]
    float_value, byte_value = TensorProto.FLOAT, TensorProto.UINT8
    outputs = [
        helper.make_tensor_value_info("keypoints", float_value, [batch, JOINTS, 2]),
        helper.make_tensor_value_info("scores", float_value, [batch, JOINTS]),
    ]
    if spec.has_heatmaps:
        shape = [batch, JOINTS, height, width]
        outputs.append(helper.make_tensor_value_info("heatmaps", float_value, shape))
    crops = helper.make_tensor_value_info("crops", byte_value, [batch, *spec.input_size_hw, 3])
    graph = helper.make_graph(nodes, "tiny", [crops], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_tiny_onnx(
    path: Path, *, metadata: str | None = "", poison: bool = False, **changes: Any
) -> Path:
    """Write the tiny engine; ``metadata`` replaces the spec's JSON, None leaves it out."""
    spec = tiny_spec(**changes)
    model = tiny_model(spec, poison=poison)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata or spec.to_json()})
    path.write_bytes(model.SerializeToString())
    return path
