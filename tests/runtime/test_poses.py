"""Poses: their display, drawing, and the ways to other libraries and back."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.runtime.pose import Poses, instance_scores


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


def test_a_short_representation() -> None:
    assert repr(poses(0)) == "Poses(persons=0, keypoints=3, scores=[])"
    assert repr(poses(2)) == "Poses(persons=2, keypoints=3, scores=[0.90, 0.90])"
    assert repr(poses(9)).count("0.90") == 8


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


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_real_library_takes_and_gives_them(count: int) -> None:
    sv = pytest.importorskip("supervision")
    before = poses(count)
    key_points = before.to_supervision()
    after = Poses.from_supervision(key_points, before.keypoint_names, before.skeleton)
    for field in dataclasses.fields(Poses):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    if count:
        last = Poses.from_supervision(key_points[count - 1 : count], before.keypoint_names)
        np.testing.assert_array_equal(last.boxes_xyxy, before.boxes_xyxy[-1:])
        image = np.zeros((60, 80, 3), np.uint8)
        assert sv.VertexAnnotator().annotate(image.copy(), key_points).any()
    bare = sv.KeyPoints(xy=before.keypoints_px)
    assert (Poses.from_supervision(bare, before.keypoint_names).scores == 1).all()
    assert len(Poses.from_supervision(sv.KeyPoints.empty(), before.keypoint_names)) == 0


def test_supervision_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(EnvironmentFault, match=r"hrnet-deploy\[supervision\]"):
        poses(1).to_supervision()


def test_there_and_back_through_an_array() -> None:
    before = poses(2)
    array = before.to_array()
    assert (array.shape, array.dtype) == ((2, 3, 3), np.float32)
    after = Poses.from_array(
        array, before.keypoint_names, before.skeleton, boxes_xyxy=before.boxes_xyxy
    )
    for field in dataclasses.fields(Poses):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    around = Poses.from_array(array, before.keypoint_names)
    np.testing.assert_array_equal(around.boxes_xyxy[0], [10, 11, 14, 15])
    assert Poses.from_array([], before.keypoint_names).to_array().shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("values", "boxes", "message"),
    [
        (np.zeros((2, 3, 2)), None, r"keypoints_nk3: expected \(N, 3, 3\), got \(2, 3, 2\)"),
        (np.zeros((3, 3)), None, r"got \(3, 3\)"),
        ("text", None, r"expected \(N, 3, 3\) numbers, got str"),
        (np.full((1, 3, 3), np.nan), None, "person 0 has a value that is not finite"),
        (np.zeros((1, 3, 3)), [[0, 0, 9, 9]] * 2, "boxes_xyxy: has 2 boxes for 1 persons"),
    ],
)
def test_arrays_that_are_no_poses_are_named(values: Any, boxes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Poses.from_array(values, ("a", "b", "c"), boxes_xyxy=boxes)
