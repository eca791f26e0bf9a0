"""The graph around the network against outputs of the official code and against numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from hrnet_deploy.export.graph import GraphWriter  # noqa: E402
from hrnet_deploy.export.pipeline import decode, merge_mirrored, normalise  # noqa: E402
from hrnet_deploy.keypoints import keypoint_set  # noqa: E402
from hrnet_deploy.runtime.decode import decode_heatmaps, flip_back, merge_flipped  # noqa: E402
from hrnet_deploy.runtime.geometry import CropGeometry  # noqa: E402
from hrnet_deploy.spec import ModelSpec  # noqa: E402

Run = Callable[..., list[np.ndarray]]
COCO = keypoint_set("coco_17")


def make_spec(heatmap_size_hw: tuple[int, int], **changes: Any) -> ModelSpec:
    spec = ModelSpec(
        architecture="decode",
        input_size_hw=(heatmap_size_hw[0] * 4, heatmap_size_hw[1] * 4),
        heatmap_size_hw=heatmap_size_hw,
        keypoint_set=COCO.name,
        keypoint_names=COCO.names,
        flip_pairs=COCO.flip_pairs,
        sigmas=COCO.sigmas,
        skeleton=COCO.skeleton,
        flip_test=True,
        shift_heatmap=True,
        source_sha256="0" * 64,
    )
    return dataclasses.replace(spec, **changes)


def run_graph(
    spec: ModelSpec, write: Callable[[GraphWriter], Any], value: np.ndarray, outputs: list[str]
) -> list[np.ndarray]:
    """Run the nodes that ``write`` adds on one input called ``value``."""
    graph = GraphWriter()
    write(graph)
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    source = onnx.helper.make_tensor_value_info("value", kind, ["N", *value.shape[1:]])
    shapes = {"keypoints": ["N", spec.joints, 2], "scores": ["N", spec.joints]}
    ends = [
        onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, shapes.get(name, [None] * 4)
        )
        for name in outputs
    ]
    model = graph.finish(spec, [source], ends)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: list[np.ndarray] = session.run(outputs, {"value": value})
    return result


def decoded(heatmaps: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray]:
    spec = make_spec(heatmaps.shape[2:], decode=rule)
    keypoints, scores = run_graph(
        spec, lambda graph: decode(graph, "value", spec), heatmaps, ["keypoints", "scores"]
    )
    return keypoints, scores


@pytest.mark.parametrize("size", ["64x48", "96x72"])
def test_decode_is_the_official_one(data: Path, size: str) -> None:
    """Person 0 holds the edge cases: negative, zero, constant, ties, peaks at every border."""
    golden = np.load(data / "decode.npz")
    heatmaps = golden[f"{size}/heatmaps"]
    height, width = heatmaps.shape[2:]
    keypoints, scores = decoded(heatmaps, "quarter")
    geometry = CropGeometry(
        golden[f"{size}/center"], golden[f"{size}/scale"], (width * 4, height * 4)
    )
    moved = geometry.to_image(keypoints, (width, height))
    np.testing.assert_array_equal(scores, golden[f"{size}/scores"][..., 0])
    np.testing.assert_allclose(moved, golden[f"{size}/keypoints_image"], atol=1e-3)
    plain, _ = decoded(heatmaps, "none")
    np.testing.assert_array_equal(plain, golden[f"{size}/argmax_xy"])


def test_every_official_case(shared: Path) -> None:
    """All persons of the full reference file, through graph and reference decoding alike."""
    golden = np.load(shared / "golden" / "decode.npz")
    for size in ("64x48", "96x72"):
        heatmaps = golden[f"{size}/heatmaps"]
        keypoints, scores = decoded(heatmaps, "quarter")
        expected, maxima = decode_heatmaps(heatmaps, "quarter")
        np.testing.assert_array_equal(keypoints, expected)
        np.testing.assert_array_equal(scores, maxima)
        np.testing.assert_array_equal(scores, golden[f"{size}/scores"][..., 0])


def test_flip_merge_is_the_official_one(data: Path) -> None:
    golden = np.load(data / "flip.npz")
    mirrored = golden["heatmaps_of_flipped_input"]
    straight = np.zeros_like(mirrored)
    for shift, expected in ((False, "flipped_back"), (True, "shifted")):
        spec = make_spec(mirrored.shape[2:], shift_heatmap=shift)
        merged = run_graph(
            spec,
            lambda graph, spec=spec: merge_mirrored(graph, "value", spec, "merged"),
            np.concatenate([straight, mirrored]),
            ["merged"],
        )[0]
        np.testing.assert_array_equal(2 * merged, golden[expected])


def test_reference_flip_back_is_the_official_one(data: Path) -> None:
    golden = np.load(data / "flip.npz")
    assert COCO.flip_pairs is not None
    turned = flip_back(golden["heatmaps_of_flipped_input"], COCO.flip_pairs)
    np.testing.assert_array_equal(turned, golden["flipped_back"])
    for shift, expected in ((False, "flipped_back"), (True, "shifted")):
        mirrored = golden["heatmaps_of_flipped_input"]
        merged = merge_flipped(np.zeros_like(mirrored), mirrored, COCO.flip_pairs, shift=shift)
        np.testing.assert_array_equal(2 * merged, golden[expected])


@given(seed=st.integers(0, 2**32 - 1), rule=st.sampled_from(["quarter", "none", "dark"]))
@settings(max_examples=25, deadline=None)
def test_graph_decodes_like_numpy(seed: int, rule: str) -> None:
    """Smooth random peaks, some at the border, some maps without a positive value."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :12].astype(np.float32)
    centre = rng.uniform(-1, 17, (2, 17, 2, 1, 1)).astype(np.float32)
    heatmaps = np.exp(-((x - centre[:, :, 0]) ** 2 + (y - centre[:, :, 1]) ** 2) / 8)
    heatmaps += rng.normal(0, 0.02, heatmaps.shape)
    heatmaps[:, rng.integers(17)] *= -1
    heatmaps = heatmaps.astype(np.float32)
    keypoints, scores = decoded(heatmaps, rule)
    expected, maxima = decode_heatmaps(heatmaps, rule)
    np.testing.assert_array_equal(scores, maxima)
    if rule != "dark":
        np.testing.assert_array_equal(keypoints, expected)
        return
    # DARK divides by second differences of logarithms: flat peaks amplify the last bit, and where
    # the divisor is nearly zero the keypoint is far out of the map.
    error, place = (np.abs(values).max(axis=2) for values in (keypoints - expected, expected))
    assert (error <= np.where(place > 16, 0.01 * place, 0.02)).all()


def test_dark_finds_the_centre_of_a_gaussian() -> None:
    """The method's own claim: the exact sub-pixel centre of a Gaussian peak."""
    centre = np.array([20.37, 30.81])
    y, x = np.mgrid[:64, :48]
    peak = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 2.0**2))
    heatmaps = np.broadcast_to(peak.astype(np.float32), (1, 17, 64, 48)).copy()
    keypoints, _ = decoded(heatmaps, "dark")
    np.testing.assert_allclose(keypoints, np.broadcast_to(centre, (1, 17, 2)), atol=2e-3)


@pytest.mark.parametrize("reverse", [False, True])
def test_normalisation_equals_the_official_transform(reverse: bool) -> None:
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    spec = make_spec((16, 12))
    images = run_graph(
        spec,
        lambda graph: graph.node(
            "Identity", [normalise(graph, "value", spec, reverse=reverse)], "images"
        ),
        crops,
        ["images"],
    )[0]
    rgb = crops[..., ::-1].astype(np.float32) / 255
    expected = ((rgb - np.float32(spec.mean_rgb)) / np.float32(spec.std_rgb)).transpose(0, 3, 1, 2)
    if not reverse:
        expected = expected[:, ::-1]
    np.testing.assert_allclose(images, expected, atol=2e-6)
