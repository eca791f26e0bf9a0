"""The exported file: its signature, its types, its bytes, and its poses."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from hrnet_deploy.engines import load_engine  # noqa: E402
from hrnet_deploy.errors import InputError  # noqa: E402
from hrnet_deploy.export.architecture import published_architecture  # noqa: E402
from hrnet_deploy.export.crops import seeded_crops  # noqa: E402
from hrnet_deploy.export.model import build_hrnet  # noqa: E402
from hrnet_deploy.export.network import fold_batch_norm  # noqa: E402
from hrnet_deploy.spec import METADATA_KEY, ModelSpec  # noqa: E402

FLOAT, HALF = 1, 10


def build(small: ModuleType, **changes: Any) -> onnx.ModelProto:
    spec = small.small_spec(**changes)
    return build_hrnet(spec, small.architecture(), small.weights(), source="small.pth")


def signature(values: Any) -> dict[str, tuple[int, list[int | str]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def test_signature_is_the_promised_one(small: ModuleType) -> None:
    model = build(small)
    assert signature(model.graph.input) == {"crops": (2, ["N", 96, 64, 3])}
    assert signature(model.graph.output) == {
        "keypoints": (FLOAT, ["N", 17, 2]),
        "scores": (FLOAT, ["N", 17]),
        "heatmaps": (FLOAT, ["N", 17, 24, 16]),
    }
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8


def test_no_heatmaps_and_static_batch(small: ModuleType) -> None:
    model = build(small, has_heatmaps=False, static_batch=4)
    assert signature(model.graph.input) == {"crops": (2, [4, 96, 64, 3])}
    assert list(signature(model.graph.output)) == ["keypoints", "scores"]


def test_metadata_is_the_spec(small: ModuleType) -> None:
    model = build(small, decode="dark")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    spec = ModelSpec.from_json(properties[METADATA_KEY], source="small.onnx")
    assert spec == small.small_spec(decode="dark")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_same_bytes_on_every_run(small: ModuleType, precision: str) -> None:
    first = build(small, precision=precision).SerializeToString(deterministic=True)
    second = build(small, precision=precision).SerializeToString(deterministic=True)
    assert first == second


def test_batch_norm_is_folded_and_no_shape_arithmetic_is_left(small: ModuleType) -> None:
    for precision in ("fp32", "fp16"):
        operators = {node.op_type for node in build(small, precision=precision).graph.node}
        assert not operators & {"BatchNormalization", "Shape", "Loop", "If", "Constant", "Range"}


def test_half_precision_ends_before_the_last_convolution(small: ModuleType) -> None:
    model = build(small, precision="fp16")
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name, kind in kinds.items():
        if name.endswith((".weight", ".bias")) and not name.startswith(("final_layer", "flip")):
            assert kind == HALF, name
    assert kinds["final_layer.weight"] == FLOAT
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    assert types["normalise"] == FLOAT
    assert types["conv1"] == HALF
    assert types["final_layer"] == FLOAT
    after = [node.output[0] for node in model.graph.node if node.name.startswith("decode.")]
    assert all(types.get(name) != HALF for name in after)


def test_a_weight_that_overflows_half_precision_is_named(small: ModuleType) -> None:
    weights = small.weights()
    weights["stage2.0.branches.0.0.bn1.weight"][0] = 1e9
    spec = small.small_spec(precision="fp16")
    with pytest.raises(InputError, match=r"small.pth: .*stage2\.0\.branches\.0\.0\.conv1.*float16"):
        build_hrnet(spec, small.architecture(), weights, source="small.pth")


def test_folding_equals_batch_norm_by_hand() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "c.weight": rng.normal(size=(5, 3, 1, 1)).astype(np.float32),
        "b.weight": rng.uniform(0.5, 1, 5).astype(np.float32),
        "b.bias": rng.normal(size=5).astype(np.float32),
        "b.running_mean": rng.normal(size=5).astype(np.float32),
        "b.running_var": rng.uniform(0.5, 2, 5).astype(np.float32),
    }
    x = rng.normal(size=3)
    weight, bias = fold_batch_norm(weights, "c", "b")
    plain = weights["c.weight"][..., 0, 0].astype(np.float64) @ x
    deviation = np.sqrt(weights["b.running_var"].astype(np.float64) + 1e-5)
    expected = (plain - weights["b.running_mean"]) / deviation
    expected = expected * weights["b.weight"] + weights["b.bias"]
    np.testing.assert_allclose(weight[..., 0, 0] @ x + bias, expected, rtol=1e-12)


def test_any_split_of_a_batch_gives_the_same_poses(small_onnx: Path) -> None:
    with load_engine(small_onnx) as engine:
        crops = seeded_crops(engine.spec.input_size_hw, 7)
        together = engine.run(crops)
        for sizes in ((1,) * 7, (3, 4), (5, 2)):
            ends = np.cumsum(sizes)
            parts = [engine.run(crops[e - n : e]) for n, e in zip(sizes, ends, strict=True)]
            scores = np.concatenate([part.scores for part in parts])
            np.testing.assert_allclose(scores, together.scores, atol=1e-5)


def test_flip_test_is_symmetric(small: ModuleType, tmp_path: Path) -> None:
    """Without the shift, mirrored crops give mirrored heatmaps with left and right swapped."""
    path = small.write_small_onnx(tmp_path / "s.onnx", shift_heatmap=False)
    with load_engine(path) as engine:
        crops = seeded_crops(engine.spec.input_size_hw, 3)
        straight = engine.run(crops, heatmaps=True).heatmaps_nkhw
        mirrored = engine.run(np.ascontiguousarray(crops[:, :, ::-1]), heatmaps=True).heatmaps_nkhw
    assert straight is not None
    assert mirrored is not None
    order = list(range(17))
    for left, right in small.small_spec().flip_pairs:
        order[left], order[right] = right, left
    np.testing.assert_allclose(mirrored[:, order, :, ::-1], straight, atol=2e-5)


def test_names_of_architectures(small: ModuleType) -> None:
    assert published_architecture(32, 17).name == "hrnet_w32"
    assert small.architecture().name == "hrnet_w8_m111"
