"""8-bit files: what is written, what it costs, and which blocks stay float."""

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
from hrnet_deploy.errors import EnvironmentFault, InputError  # noqa: E402
from hrnet_deploy.export.calibration import (  # noqa: E402
    calibrate,
    convolution_inputs,
)
from hrnet_deploy.export.crops import seeded_crops  # noqa: E402
from hrnet_deploy.export.mixture import QuantizeSettings, fewest_kept  # noqa: E402
from hrnet_deploy.export.model import build_hrnet, float_dtype  # noqa: E402
from hrnet_deploy.export.parity import compare  # noqa: E402
from hrnet_deploy.export.quantization import (  # noqa: E402
    NEVER,
    EightBit,
    Quantization,
    may_be_quantized,
)
from hrnet_deploy.export.quantize import check_backend  # noqa: E402
from hrnet_deploy.export.sensitivity import blocks_of, measure_blocks  # noqa: E402
from hrnet_deploy.export.trt_support import trt_problems  # noqa: E402
from tests.small import skip_where_rounded_wrongly  # noqa: E402


class Small:
    """The small network with any of its convolutions in 8 bit, its ranges taken from crops."""

    def __init__(self, small: ModuleType, weights: dict[str, Any] | None = None) -> None:
        self.small, self.weights = small, weights or small.weights()
        self.limits: dict[str, float] = {}
        self.crops = seeded_crops(small.SIZE_HW, 8)
        self.limits = calibrate(self.build(flip_test=False, shift_heatmap=False), self.crops)

    def build(
        self,
        quantised: frozenset[str] = frozenset(),
        kind: EightBit = "int8",
        float_precision: str = "fp32",
        **changes: Any,
    ) -> onnx.ModelProto:
        spec = self.small.small_spec(precision="fp32", **changes)
        quantization = None
        if quantised:
            spec = dataclasses.replace(spec, precision=kind, float_precision=float_precision)
            quantization = Quantization(self.limits, quantised, kind, float_dtype(spec))
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

    def eligible(self, kind: EightBit) -> frozenset[str]:
        return frozenset(
            name
            for name in self.convolutions
            if may_be_quantized(name, self.weights[f"{name}.weight"], kind)
        )

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


def test_the_sum_of_a_block_reads_what_its_first_convolution_reads(network: Small) -> None:
    block = "stage2.0.branches.0.0"
    for quantised in (True, False):
        convolutions = network.convolutions if quantised else network.convolutions - {
            f"{block}.conv1", f"{block}.conv2"}  # fmt: skip
        nodes = {node.name: node for node in network.build(convolutions).graph.node}
        added = nodes[f"{block}.add1"].input[1]
        assert added == nodes[f"{block}.conv1"].input[0]
        assert (nodes[added].op_type == "DequantizeLinear") == quantised


KINDS: list[tuple[EightBit, str]] = [
    ("int8", "fp32"),
    ("int8", "fp16"),
    ("fp8", "fp16"),
    ("fp8", "fp32"),
]


@pytest.mark.parametrize("major", [8, 10, 11])
@pytest.mark.parametrize(("kind", "floats"), KINDS)
@pytest.mark.parametrize("decode", ["quarter", "dark"])
def test_tensorrt_takes_the_graph(
    network: Small, kind: EightBit, floats: str, decode: str, major: int
) -> None:
    model = network.build(network.eligible(kind), kind, floats, decode=decode)
    problems = list(trt_problems(model, major))
    if major > 8 or (kind, floats) == ("int8", "fp32"):
        assert problems == []
    else:
        assert "opset 19 (it reads 9 to 17)" in problems


@pytest.mark.parametrize(("kind", "floats"), KINDS)
def test_types_around_the_pairs(network: Small, kind: EightBit, floats: str) -> None:
    """Everything between the pairs is of the type of their scales; head and decoding are float."""
    eligible = network.eligible(kind)
    assert eligible < network.convolutions if kind == "fp8" else eligible == network.convolutions
    inferred = onnx.shape_inference.infer_shapes(network.build(eligible, kind, floats)).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
    kinds |= {c.name: c.data_type for c in inferred.initializer}
    wanted = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16}[floats]
    stored = {"int8": onnx.TensorProto.INT8, "fp8": onnx.TensorProto.FLOAT8E4M3FN}[kind]
    for node in inferred.node:
        if node.op_type == "QuantizeLinear":
            assert [kinds[name] for name in (*node.input[:2], node.output[0])] == [
                wanted, wanted, stored]  # fmt: skip
        if node.op_type == "Conv" and node.name != "final_layer":
            assert {kinds[name] for name in (*node.input, node.output[0])} == {wanted}
    assert kinds["final_layer"] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(("kind", "floats"), KINDS[1:])
def test_other_types_run_and_agree_with_float32(
    network: Small, small_onnx: Path, tmp_path: Path, kind: EightBit, floats: str
) -> None:
    skip_where_rounded_wrongly(kind, floats)
    path = network.write(tmp_path / "small.onnx", quantised=network.eligible(kind), kind=kind,
                         float_precision=floats)  # fmt: skip
    with load_engine(small_onnx) as reference, load_engine(path) as candidate:
        report = compare(reference, candidate, network.crops)
        assert candidate.info.precision == kind
    assert report.heatmap_relative is not None
    assert 0 < report.heatmap_relative < {"int8": 0.1, "fp8": 0.2}[kind]


@pytest.mark.parametrize(("kind", "floats"), KINDS)
def test_onnx_runtime_computes_what_the_file_says(
    small: ModuleType, tmp_path: Path, kind: EightBit, floats: str
) -> None:
    """Its rewritings change nothing; one bias is beyond what its own 8-bit form could hold."""
    weights = small.weights()
    weights["stage2.0.branches.0.0.bn1.bias"][0] = 40
    skip_where_rounded_wrongly(kind, floats)
    network = Small(small, weights)
    path = network.write(tmp_path / "small.onnx", quantised=network.eligible(kind), kind=kind,
                         float_precision=floats)  # fmt: skip
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["heatmaps"], {"crops": network.crops})
    with load_engine(path) as engine:
        got = engine.run(network.crops, heatmaps=True).heatmaps_nkhw
    assert got is not None
    assert np.abs(got - expected).mean() < 0.01 * np.abs(expected).mean()


def test_an_onnx_runtime_that_rounds_halves_wrongly_is_refused(
    network: Small, int8_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions before 1.30 cut them off, which moves every value by half a step."""
    path = network.write(
        tmp_path / "w.onnx", quantised=network.convolutions, float_precision="fp16"
    )
    monkeypatch.setattr("onnxruntime.__version__", "1.29.0")
    with pytest.raises(EnvironmentFault, match=r"which ONNX Runtime 1\.29\.0 rounds wrongly"):
        load_engine(path)
    with load_engine(int8_onnx) as engine:
        assert engine.info.precision == "int8"
    settings = QuantizeSettings(tmp_path, tmp_path / "persons.json", float_precision="fp16")
    with pytest.raises(EnvironmentFault, match=r"quantize --float fp16: .* rounds wrongly"):
        check_backend(settings)


def test_openvino_says_that_it_has_no_fp8(network: Small, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    path = network.write(tmp_path / "small.onnx", quantised=network.eligible("fp8"), kind="fp8")
    with pytest.raises(InputError, match="typed fp8, which OpenVINO would compute in float32"):
        load_engine(path, backend="openvino")
    with load_engine(path, backend="auto") as engine:
        assert engine.info.backend == "onnxruntime"


def test_a_zero_point_other_than_zero_is_refused_for_tensorrt(network: Small) -> None:
    model = network.build(network.convolutions)
    for constant in model.graph.initializer:
        if constant.name == "zero_point":
            constant.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.int8), "zero_point"))
    assert any("zero point" in problem for problem in trt_problems(model, 10))


@pytest.mark.parametrize(("kind", "floats"), KINDS)
def test_the_same_input_gives_the_same_bytes(
    small: ModuleType, network: Small, kind: EightBit, floats: str
) -> None:
    again = Small(small)
    assert again.limits == network.limits
    first, second = (
        n.build(n.eligible(kind), kind, floats).SerializeToString(deterministic=True)
        for n in (network, again)
    )
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
    typed = network.write(tmp_path / "typed.onnx", quantised=half, float_precision="fp16")
    full = len(network.convolutions)
    for path, expected in ((int8_onnx, full), (mixed, len(half)), (typed, len(half))):
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
    from hrnet_deploy.engines.openvino_model import check_precision
    from hrnet_deploy.errors import EnvironmentFault

    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(small_onnx), "CPU", settings)
    with pytest.raises(EnvironmentFault, match="OpenVINO would run it in f32, int8 was asked for"):
        check_precision(compiled, "int8", "small.int8.onnx", eight_bit=3)


def test_poses_that_jump_fail_the_gates_of_int8(small: ModuleType, tmp_path: Path) -> None:
    """Heatmaps that are sure of themselves, and the same ones moved by four pixels."""
    from hrnet_deploy.export.gates import POSE_P95_CELLS

    right, wrong = painted(small, 0), painted(small, 4)
    crops = seeded_crops(small.SIZE_HW, 4)
    assert compare(right, right, crops).passed
    report = compare(right, wrong, crops)
    assert any(f"> {POSE_P95_CELLS:g}" in failure for failure in report.failures)
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
    for precision, floats in (("int8", "fp32"), ("int8", "fp16"), ("fp8", "fp16")):
        spec = small.small_spec(
            precision=precision, float_precision=floats, tolerances={"ap_drop": 0.3}
        )
        assert dataclasses.replace(type(spec).from_json(spec.to_json(), source="x")) == spec
    wrong = small.small_spec(precision="fp32", float_precision="fp16")
    with pytest.raises(InputError, match="float_precision 'fp16'"):
        type(spec).from_json(wrong.to_json(), source="x")
