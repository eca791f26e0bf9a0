"""Every graph that we write keeps to what TensorRT 8.6, 10 and 11 parse."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from hrnet_deploy.export.model import build_model  # noqa: E402
from hrnet_deploy.export.trt_support import trt_problems  # noqa: E402

MAJORS = [8, 10, 11]


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("decode", ["quarter", "dark", "none"])
@pytest.mark.parametrize("flip_test", [True, False])
def test_our_graphs(
    small: ModuleType, major: int, precision: str, decode: str, flip_test: bool
) -> None:
    model = small.small_model(precision=precision, decode=decode, flip_test=flip_test)
    assert list(trt_problems(model, major)) == []


@pytest.mark.parametrize("major", MAJORS)
def test_static_and_without_heatmaps(small: ModuleType, major: int) -> None:
    model = small.small_model(static_batch=3, has_heatmaps=False)
    assert list(trt_problems(model, major)) == []


@pytest.mark.parametrize("major", MAJORS)
def test_graphs_that_swap_the_channels_themselves(small: ModuleType, major: int) -> None:
    """As for adopted networks, whose first convolution is not ours to permute."""

    def write(graph: Any, images: str) -> str:
        weight = np.zeros((17, 3, 4, 4), np.float32)
        inputs = [images, graph.constant("w", weight)]
        return str(graph.node("Conv", inputs, "conv", strides=[4, 4], kernel_shape=[4, 4]))

    model = build_model(small.small_spec(), write, reverse_channels=True)
    assert list(trt_problems(model, major)) == []


def changed(small: ModuleType, change: Any) -> onnx.ModelProto:
    model = small.small_model()
    change(model)
    return model


def node(model: onnx.ModelProto, operator: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == operator)


def renamed(operator: str, other: str) -> Any:
    def change(model: onnx.ModelProto) -> None:
        node(model, operator).op_type = other

    return change


def resized(name: str, value: str) -> Any:
    def change(model: onnx.ModelProto) -> None:
        for attribute in node(model, "Resize").attribute:
            if attribute.name == name:
                attribute.s = value.encode()

    return change


def with_opset(version: int) -> Any:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def in_double(model: onnx.ModelProto) -> None:
    cast = next(n for n in model.graph.node if n.name == "decode.x.cell")
    helper = onnx.helper
    extra = helper.make_node("Cast", [cast.input[0]], ["wide"], to=onnx.TensorProto.DOUBLE)
    extra.name = "wide"
    model.graph.node.extend([extra, helper.make_node("Relu", ["wide"], ["out"], name="odd")])


def of_pixels(model: onnx.ModelProto) -> None:
    extra = onnx.helper.make_node("Transpose", ["crops"], ["t"], perm=[0, 3, 1, 2], name="raw")
    model.graph.node.extend([extra])


@pytest.mark.parametrize(
    ("change", "major", "message"),
    [
        (with_opset(18), 8, r"opset 18 \(it reads 9 to 17\)"),
        (renamed("Sign", "IsInf"), 8, r"the operator IsInf \(decode.x.sign\)"),
        (resized("mode", "cubic"), 11, "Resize with mode cubic"),
        (resized("nearest_mode", "round_up"), 10, "Resize with nearest_mode round_up"),
        (in_double, 11, "Relu of DOUBLE"),
        (of_pixels, 8, "Transpose of UINT8"),
        (of_pixels, 11, "Transpose of UINT8"),
    ],
)
def test_what_it_does_not_take_is_named(
    small: ModuleType, change: Any, major: int, message: str
) -> None:
    model = changed(small, change)
    assert re.search(message, next(trt_problems(model, major)))
