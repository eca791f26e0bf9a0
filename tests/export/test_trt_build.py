"""Every kind of file that we write is parsed and built by a real TensorRT, with our types kept."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX (extra rtx)")
# That of RTX keeps no timings; the calls do nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")

from hrnet_deploy.engines.build_settings import BuildSettings  # noqa: E402
from hrnet_deploy.engines.trt_ahead import AheadReport, build_ahead, load_ahead  # noqa: E402
from hrnet_deploy.engines.trt_kernels import Kernel  # noqa: E402
from hrnet_deploy.errors import EnvironmentFault  # noqa: E402
from hrnet_deploy.export.calibration import calibrate, convolution_inputs  # noqa: E402
from hrnet_deploy.export.crops import seeded_crops  # noqa: E402
from hrnet_deploy.export.model import build_hrnet, build_model, float_dtype  # noqa: E402
from hrnet_deploy.export.plan import fitted  # noqa: E402
from hrnet_deploy.export.quantization import (  # noqa: E402
    NEVER,
    Quantization,
    may_be_quantized,
)
from hrnet_deploy.keypoints import keypoint_set  # noqa: E402

PLAIN = {"flip_test": False, "shift_heatmap": False}
MPII = keypoint_set("mpii_16")
VARIANTS: dict[str, dict[str, Any]] = {
    "flip": {},
    "flip without shift": {"shift_heatmap": False},
    "plain": PLAIN,
    "dark": {"decode": "dark"},
    "no offset": {"decode": "none"},
    "no heatmaps": {"has_heatmaps": False},
    "plain dark without heatmaps": {**PLAIN, "decode": "dark", "has_heatmaps": False},
    "static": {"static_batch": 3},
    "bgr": {"network_color_order": "bgr"},
    "mpii": {
        "keypoint_set": MPII.name,
        "keypoint_names": MPII.names,
        "flip_pairs": MPII.flip_pairs,
        "sigmas": MPII.sigmas,
        "skeleton": MPII.skeleton,
    },
}


@pytest.fixture(scope="module")
def quantization(small: ModuleType) -> Quantization:
    """The whole small network in 8 bit, as far as it may be."""
    model = small.small_model(**PLAIN)
    limits = calibrate(model, seeded_crops(small.SIZE_HW, 4))
    return Quantization(limits, frozenset(convolution_inputs(model)) - set(NEVER))


@pytest.fixture(scope="module")
def build(small: ModuleType, quantization: Quantization) -> Any:
    """Write a variation of the small network and build it."""

    def build(target: str = "SM89", **changes: Any) -> AheadReport:
        spec = small.small_spec(**changes)
        model = build_hrnet(
            spec,
            small.architecture(len(spec.keypoint_names)),
            small.weights(len(spec.keypoint_names)),
            source="small.pth",
            quantization=fitting(quantization, spec, small) if spec.is_quantized else None,
        )
        return built(model, spec, target)

    return build


def fitting(quantization: Quantization, spec: Any, small: ModuleType) -> Quantization:
    """The same ranges in the types of ``spec``."""
    weights, kind = small.weights(), spec.precision
    convolutions = frozenset(
        name
        for name in quantization.convolutions
        if may_be_quantized(name, weights[f"{name}.weight"], kind)
    )
    return Quantization(quantization.limits, convolutions, kind, float_dtype(spec))


def built(model: onnx.ModelProto, spec: Any, target: str = "SM89") -> AheadReport:
    tensorrt = load_ahead(target, subject="the test")
    settings = fitted(BuildSettings(), spec)
    return build_ahead(tensorrt, model.SerializeToString(), spec, settings, subject="w.onnx")


def of_node(report: AheadReport, start: str) -> Iterator[Kernel]:
    """The kernels that compute nodes whose names begin so."""
    for kernel in report.kernels:
        if any(source.startswith(start) for source in kernel.sources):
            yield kernel


def of_convolutions(report: AheadReport) -> dict[str, str]:
    """The type of the weights of every convolution, by its node."""
    return {
        source: tensor.dtype
        for kernel in report.kernels
        for tensor in kernel.constants[:1]
        for source in kernel.sources
        if len(tensor.shape) == 4 and tensor.shape[0] > 1 and ".add" not in source
    }


@pytest.mark.parametrize(
    ("precision", "variant"),
    [
        *((precision, variant) for precision in ("fp32", "fp16") for variant in VARIANTS),
        *(("int8", variant) for variant in ("flip", "plain", "static")),
    ],
)
def test_is_built_without_a_warning(build: Any, precision: str, variant: str) -> None:
    report = build(precision=precision, **VARIANTS[variant])
    assert report.warnings == ()
    written = {tensor.name: tensor for kernel in report.kernels for tensor in kernel.outputs}
    outputs = ["keypoints", "scores"]
    if VARIANTS[variant].get("has_heatmaps", True):
        outputs.append("heatmaps")
    assert {written[name].dtype for name in outputs} == {"Float"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("target", ["SM80", "SM120"])
def test_other_gpus(build: Any, precision: str, target: str) -> None:
    assert build(target, precision=precision).warnings == ()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_that_swaps_the_channels_itself(small: ModuleType, precision: str) -> None:
    """As for adopted networks, whose first convolution is not ours to permute."""

    def write(graph: Any, images: str) -> str:
        inputs = [images, graph.constant("w", np.ones((17, 3, 4, 4), np.float32))]
        return str(graph.node("Conv", inputs, "conv", strides=[4, 4], kernel_shape=[4, 4]))

    spec = small.small_spec(precision=precision)
    assert built(build_model(spec, write, reverse_channels=True), spec).warnings == ()


def test_half_where_the_file_says_half_and_float_elsewhere(build: Any) -> None:
    report = build(precision="fp16")
    types = of_convolutions(report)
    assert types.pop("final_layer") == "Float"
    assert set(types.values()) == {"Half"}
    (normalise,) = of_node(report, "normalise")
    assert [tensor.dtype for tensor in normalise.inputs] == ["UInt8"]
    assert {tensor.dtype for tensor in normalise.constants if len(tensor.shape) == 4} == {"Float"}
    for name in ("flip.", "decode.", "keypoints"):
        for kernel in of_node(report, name):
            tensors = (*kernel.inputs, *kernel.constants, *kernel.outputs)
            assert "Half" not in {tensor.dtype for tensor in tensors}


def test_nothing_is_half_in_a_float_file(build: Any) -> None:
    for kernel in build(precision="fp32").kernels:
        tensors = (*kernel.inputs, *kernel.constants, *kernel.outputs)
        assert not {"Half", "BFloat16", "Int8"} & {tensor.dtype for tensor in tensors}


def test_convolutions_are_8_bit_where_the_pairs_say_so(
    build: Any, quantization: Quantization
) -> None:
    types = of_convolutions(build(precision="int8"))
    assert {types[name] for name in NEVER} == {"Float"}
    in_8_bit = {name for name, dtype in types.items() if dtype == "Int8"}
    assert quantization.convolutions <= in_8_bit


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_sum_of_a_residual_block_is_part_of_its_last_convolution(
    build: Any, precision: str
) -> None:
    report = build(precision=precision)
    (kernel,) = of_node(report, "stage4.0.branches.1.0.add1")
    assert "stage4.0.branches.1.0.conv2" in kernel.sources


TYPED = [("int8", "Int8"), ("fp8", "FP8")]
WIDENED = {
    f"(foreignNode) Converting conv {part} scales to fp32." for part in ("activation", "weight")
}
"""Scales are halves in the file, since opset 19 wants them of the type around the pair."""


@pytest.mark.parametrize("target", ["SM89", "SM120"])
@pytest.mark.parametrize(("kind", "dtype"), TYPED)
def test_8_bit_between_halves(
    build: Any, quantization: Quantization, small: ModuleType, kind: str, dtype: str, target: str
) -> None:
    """Convolutions compute in 8 bit, what is left of the network in halves, the rest in float."""
    report = build(target, precision=kind, float_precision="fp16")
    assert set(report.warnings) == WIDENED
    spec = small.small_spec(precision=kind, float_precision="fp16")
    types = of_convolutions(report)
    assert {types[name] for name in fitting(quantization, spec, small).convolutions} == {dtype}
    assert (types["conv1"], types["final_layer"]) == ("Half", "Float")


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_sum_reads_8_bit(build: Any, kind: str) -> None:
    """The identity of a block need not exist in float."""
    report = build(precision=kind, float_precision="fp16")
    (kernel,) = of_node(report, "stage4.0.branches.1.0.add1")
    assert {"Int8", "FP8"} & {tensor.dtype for tensor in kernel.inputs}


def test_fp8_needs_its_gpu(build: Any) -> None:
    with pytest.raises(EnvironmentFault, match="built no plan"):
        build("SM80", precision="fp8", float_precision="fp16")
