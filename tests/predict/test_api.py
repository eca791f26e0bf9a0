"""The Python interface: video generators, asynchronous programs, drawing and interchange."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import types
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.predict import PersonDetector, poses_of_video, stream
from hrnet_deploy.predict.frames import Frame
from hrnet_deploy.runtime.pose import PoseEstimator, Poses, instance_scores
from tests.predict import detectors
from tests.predict.videos import SIZE_WH, write_video


def whole(frame: Frame) -> list[list[float]]:
    return [[0, 0, *SIZE_WH]]


def test_a_video_is_a_generator_of_poses(tiny_onnx: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=9)
    with PoseEstimator.from_pretrained(tiny_onnx, batch_size=4) as estimator:
        results = list(poses_of_video(estimator, path, whole, every=2, smooth=True))
        assert [r.frame.number for r in results] == [0, 2, 4, 6, 8]
        assert all(r.ids is not None and len(r.poses) == 1 for r in results)
        detector = PersonDetector(detectors.yolox(tmp_path / "d.onnx"))
        assert len(list(poses_of_video(estimator, path, detector))) == 9


def test_an_asynchronous_program_is_not_held_up(tiny_onnx: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=6)

    async def work() -> list[int | None]:
        with PoseEstimator(tiny_onnx) as estimator:
            results = stream(poses_of_video(estimator, path, whole))
            return [predicted.frame.number async for predicted in results]

    assert asyncio.run(work()) == list(range(6))


def test_an_error_surfaces_in_the_asynchronous_program(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")

    async def work() -> None:
        with PoseEstimator(tiny_onnx) as estimator:
            async for _ in stream(poses_of_video(estimator, tmp_path / "a.mp4", whole)):
                pass

    with pytest.raises(InputError, match="is not a video"):
        asyncio.run(work())


def poses(count: int) -> Poses:
    keypoints = np.arange(count * 6, dtype=np.float32).reshape(count, 3, 2) + 10
    scores = np.full((count, 3), 0.9, np.float32)
    boxes = np.tile([5.0, 5.0, 60.0, 50.0], (count, 1))
    names = ("left_<eye>", "right_eye", "nose")
    return Poses(keypoints, scores, boxes, instance_scores(scores), names, ((0, 1), (1, 2)))


@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_notebooks_get_a_drawing_and_a_table(count: int) -> None:
    tree = ElementTree.fromstring(poses(count)._repr_html_().replace("&#9679;", "o"))
    assert tree.text is not None
    assert tree.text.startswith(f"{count} person")
    assert len(tree.findall(".//tr")) == (min(count, 8) + 1 if count else 0)
    assert len(tree.findall(".//line")) == 2 * min(count, 8)


def test_poses_draw_themselves() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    assert poses(1).draw(image).any()
    assert not image.any()
    assert not poses(0).draw(image).any()
    with pytest.raises(InputError, match="image_bgr"):
        poses(1).draw(np.zeros((60, 80), np.uint8))


@dataclasses.dataclass
class _KeyPoints:
    """The fields of supervision's class from 0.20 on."""

    xy: Any
    class_id: Any = None
    confidence: Any = None
    data: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _NewKeyPoints:
    """The same with confidences of keypoints told apart from those of detections."""

    xy: Any
    class_id: Any = None
    keypoint_confidence: Any = None
    data: dict[str, Any] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize("kind", [_KeyPoints, _NewKeyPoints, None])
def test_there_and_back_through_supervision(
    kind: type | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind is None:
        pytest.importorskip("supervision")
    else:
        module = types.ModuleType("supervision")
        module.KeyPoints = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "supervision", module)
    before = poses(2)
    key_points = before.to_supervision()
    after = Poses.from_supervision(key_points, before.keypoint_names, before.skeleton)
    for field in dataclasses.fields(Poses):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    with pytest.raises(InputError, match=r"expected \(N, 2, 2\)"):
        Poses.from_supervision(key_points, ("one", "two"))
    bare = (
        Poses.from_supervision(kind(before.keypoints_px), before.keypoint_names) if kind else None
    )
    assert bare is None or bare.scores.min() == 1


def test_supervision_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(EnvironmentFault, match=r"hrnet-deploy\[supervision\]"):
        poses(1).to_supervision()
