"""int8 files: what is written, what it costs, and which blocks stay in float32."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from hrnet_deploy.engines import load_engine  # noqa: E402
from hrnet_deploy.export.calibration import (  # noqa: E402
    Histogram,
    calibrate,
    convolution_inputs,
)
from hrnet_deploy.export.crops import seeded_crops  # noqa: E402
from hrnet_deploy.export.mixture import fewest_kept  # noqa: E402
from hrnet_deploy.export.model import build_hrnet  # noqa: E402
from hrnet_deploy.export.parity import compare  # noqa: E402
from hrnet_deploy.export.quantization import (  # noqa: E402
    LEVELS,
    NEVER,
    Quantization,
    quantize_weight,
)
from hrnet_deploy.export.sensitivity import blocks_of, measure_blocks  # noqa: E402
from hrnet_deploy.export.trt_support import trt_problems  # noqa: E402


class Small:
    """The small network with any of its convolutions in 8 bit, its ranges taken from crops."""

    def __init__(self, small: ModuleType, weights: dict[str, Any] | None = None) -> None:
        self.small, self.weights = small, weights or small.weights()
        self.limits: dict[str, float] = {}
        self.crops = seeded_crops(small.SIZE_HW, 8)
        self.limits = calibrate(self.build(flip_test=False, shift_heatmap=False), self.crops)

    def build(self, quantised: frozenset[str] = frozenset(), **changes: Any) -> onnx.ModelProto:
        spec = self.small.small_spec(precision="int8" if quantised else "fp32", **changes)
        quantization = Quantization(self.limits, quantised) if quantised else None
        return build_hrnet(
            spec,
            self.small.architecture(),
            self.weights,
            source="small.pth",
            quantization=quantization,
        )

    @property
    def convolutions(self) -> frozenset[str]:
        return frozenset(convolution_inputs(self.build())) - set(NEVER)

    def write(self, path: Path, **changes: Any) -> Path:
        path.write_bytes(self.build(**changes).SerializeToString())
        return path


@pytest.fixture(scope="module")
def network(small: ModuleType) -> Small:
    return Small(small)


@pytest.fixture(scope="module")
def int8_onnx(network: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "small.int8.onnx"
    return network.write(path, quantised=network.convolutions)


@given(st.integers(0, 2**32 - 1))
def test_weights_are_at_most_half_a_step_off(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.uniform(-4, 2, (6, 1, 1, 1))
    weight = rng.normal(size=(6, 3, 3, 3)) * spread * (rng.random((6, 1, 1, 1)) > 0.2)
    levels, scales = quantize_weight(weight)
    restored = levels * scales[:, None, None, None].astype(np.float64)
    half = 0.5001 * scales[:, None, None, None]
    assert (np.abs(restored - weight) <= half).all()
    assert np.abs(levels.astype(int)).max(initial=0) <= LEVELS


def test_the_range_of_a_histogram_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.exponential(scale, 5000).astype(np.float32) for scale in (0.01, 1, 30, 2)]
    counts, limits = [], []
    for order in (parts, parts[::-1]):
        histogram = Histogram()
        for part in order:
            histogram.add(part)
        counts.append(histogram.counts)
        limits.append(histogram.limit())
    assert np.array_equal(*counts)
    assert limits[0] == limits[1]


def test_a_lone_outlier_is_clipped_and_a_uniform_range_is_kept() -> None:
    rng = np.random.default_rng(0)
    uniform, outlier = Histogram(), Histogram()
    values = rng.uniform(-3, 3, 1_000_000).astype(np.float32)
    uniform.add(values)
    outlier.add(np.append(values, np.float32(12)))
    assert uniform.limit() == pytest.approx(3, rel=0.02)
    assert outlier.limit() < 6


def test_values_that_are_all_zero_have_a_limit() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32))
    assert histogram.limit() == 1


def test_pairs_stand_where_tensorrt_wants_them(network: Small) -> None:
    model = network.build(network.convolutions)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    producers = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.name not in network.convolutions:
            continue
        x, weight = (producers[name] for name in node.input[:2])
        assert (x.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert producers[x.input[0]].op_type == "QuantizeLinear"
        assert constants[x.input[1]].shape == ()
        assert constants[weight.input[1]].shape == (constants[weight.input[0]].shape[0],)
        zeros = [constants[pair.input[2]] for pair in (x, weight)]
        assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
        assert constants[node.input[2]].dtype == np.float32
    for name in NEVER:
        (node,) = (node for node in model.graph.node if node.name == name)
        assert producers[node.input[0]].op_type != "DequantizeLinear"


@pytest.mark.parametrize("major", [8, 10, 11])
def test_tensorrt_takes_the_graph(network: Small, major: int) -> None:
    assert list(trt_problems(network.build(network.convolutions), major)) == []


def test_a_zero_point_other_than_zero_is_refused_for_tensorrt(network: Small) -> None:
    model = network.build(network.convolutions)
    for constant in model.graph.initializer:
        if constant.name == "zero_point":
            constant.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.int8), "zero_point"))
    assert any("zero point" in problem for problem in trt_problems(model, 10))


def test_the_same_input_gives_the_same_bytes(small: ModuleType, network: Small) -> None:
    again = Small(small)
    assert again.limits == network.limits
    first, second = (n.build(n.convolutions).SerializeToString(deterministic=True)
                     for n in (network, again))  # fmt: skip
    assert first == second


def test_engines_agree_with_float32_and_with_each_other(
    network: Small, small_onnx: Path, int8_onnx: Path
) -> None:
    """In heatmaps: random weights make flat ones, whose maxima jump at the first rounding."""
    with load_engine(small_onnx) as reference, load_engine(int8_onnx) as candidate:
        report = compare(reference, candidate, network.crops)
        assert report.heatmap_relative is not None
        assert 0 < report.heatmap_relative < 0.1
        pytest.importorskip("openvino", reason="needs OpenVINO")
        with load_engine(int8_onnx, backend="openvino") as other:
            between = compare(candidate, other, network.crops)
            assert other.info.precision == "int8"
    assert between.heatmap_relative is not None
    assert between.heatmap_relative < 0.1


def test_openvino_runs_every_quantised_convolution_in_8_bit(
    network: Small, int8_onnx: Path, tmp_path: Path
) -> None:
    ov = pytest.importorskip("openvino", reason="needs OpenVINO")
    half = frozenset(sorted(network.convolutions)[::2])
    mixed = network.write(tmp_path / "mixed.onnx", quantised=half)
    for path, expected in ((int8_onnx, len(network.convolutions)), (mixed, len(half))):
        core = ov.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        kinds = Counter(
            info["runtimePrecision"].astype(str)
            for info in (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
            if info["layerType"].astype(str) == "Convolution"
        )
        assert kinds["u8"] + kinds["i8"] == expected
        with load_engine(path, backend="openvino") as engine:
            assert engine.info.precision == "int8"


def test_openvino_is_held_to_8_bit(small_onnx: Path) -> None:
    ov = pytest.importorskip("openvino", reason="needs OpenVINO")
    from hrnet_deploy.engines.openvino import check_precision
    from hrnet_deploy.errors import EnvironmentFault

    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(small_onnx), "CPU", settings)
    with pytest.raises(EnvironmentFault, match="OpenVINO would run it in f32, int8 was asked for"):
        check_precision(compiled, "int8", "small.int8.onnx", eight_bit=3)


def test_poses_that_jump_fail_the_gates_of_int8(small: ModuleType, tmp_path: Path) -> None:
    """Heatmaps that are sure of themselves, and the same ones moved by four pixels."""
    from hrnet_deploy.export.parity import INT8_P95_CELLS

    right, wrong = painted(small, 0), painted(small, 4)
    crops = seeded_crops(small.SIZE_HW, 4)
    assert compare(right, right, crops).passed
    report = compare(right, wrong, crops)
    assert any(f"> {INT8_P95_CELLS:g}" in failure for failure in report.failures)
    assert any("OKS of the confident keypoints" in failure for failure in report.failures)


def painted(small: ModuleType, shift: int) -> Any:
    """An engine whose heatmaps have one peak, ``shift`` pixels right of the centre."""
    from hrnet_deploy.engines import EngineInfo
    from hrnet_deploy.export.reference import ReferenceEngine

    class Painted(ReferenceEngine):
        def _forward(self, images_nchw: Any) -> Any:
            height, width = self.spec.heatmap_size_hw
            maps = np.zeros((len(images_nchw), self.spec.joints, height, width), np.float32)
            maps[..., height // 2, width // 2 + shift] = 1
            return maps

    spec = small.small_spec(precision="int8", flip_test=False, shift_heatmap=False)
    info = EngineInfo("painted", "cpu", "painted", "0" * 64, "int8")
    return Painted(spec, info, None)


def test_blocks_are_the_network_s_own() -> None:
    names = ["conv2", "layer1.0.conv1", "layer1.0.downsample.0", "transition1.0.0",
             "stage2.0.branches.1.0.conv2", "stage2.0.fuse_layers.0.1.0"]  # fmt: skip
    assert blocks_of(names) == {
        "conv2": ("conv2",),
        "layer1.0": ("layer1.0.conv1", "layer1.0.downsample.0"),
        "transition1": ("transition1.0.0",),
        "stage2.0.branches.1.0": ("stage2.0.branches.1.0.conv2",),
        "stage2.0.fuse_layers.0": ("stage2.0.fuse_layers.0.1.0",),
    }


def hard_to_quantise(weights: dict[str, Any], block: str, channel: int = 0) -> dict[str, Any]:
    """The same function, but one channel inside ``block`` is a thousand times the others."""
    changed = {name: value.copy() for name, value in weights.items()}
    for part in ("weight", "bias"):
        changed[f"{block}.bn1.{part}"][channel] *= 1000
    changed[f"{block}.conv2.weight"][:, channel] /= 1000
    return changed


def test_the_block_that_loses_most_comes_first(small: ModuleType) -> None:
    worst = "stage3.0.branches.0.0"
    network = Small(small, hard_to_quantise(small.weights(), worst))
    wanted = {worst, "layer1.0", "stage2.0.branches.1.0", "stage3.0.branches.1.0"}
    blocks = {k: v for k, v in blocks_of(sorted(network.convolutions)).items() if k in wanted}
    losses = measure_blocks(
        blocks,
        lambda quantised: network.build(quantised, flip_test=False, shift_heatmap=False),
        network.crops[:4],
    )
    assert {loss.block for loss in losses} == wanted
    assert losses[0].block == worst
    assert losses[0].heatmap_mean > 2 * losses[1].heatmap_mean


@given(st.integers(1, 200), st.integers(0, 200))
def test_the_fewest_blocks_are_kept(blocks: int, needed: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count >= needed

    assert fewest_kept(blocks, holds) == (needed if needed < blocks else None)
    assert asked[0] == 0
    assert len(asked) <= 2 + np.log2(blocks)


def test_the_spec_survives_its_json(small: ModuleType) -> None:
    spec = small.small_spec(precision="int8", tolerances={"ap_drop": 0.3})
    assert dataclasses.replace(type(spec).from_json(spec.to_json(), source="x")) == spec
