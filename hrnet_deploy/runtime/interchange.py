"""Poses to and from plain arrays and ``KeyPoints`` of the supervision library."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.errors import InputError, require
from hrnet_deploy.runtime.checks import checked_boxes
from hrnet_deploy.runtime.pose import Poses, instance_scores

BOXES, NAMES = "boxes_xyxy", "instance_scores"
"""Boxes, for which ``KeyPoints`` has no place, travel in its ``data``; scores do so as well, since
only newer versions have ``detection_confidence``."""
DETECTION = "detection_confidence"


def from_array(
    keypoints_nk3: ArrayLike,
    keypoint_names: Sequence[str],
    skeleton: Sequence[tuple[int, int]] = (),
    boxes_xyxy: ArrayLike | None = None,
) -> Poses:
    """Poses of x, y and score (N, K, 3), as ``Poses.to_array`` gives them."""
    expected = f"expected (N, {len(keypoint_names)}, 3)"
    try:
        values = np.asarray(keypoints_nk3, np.float32)
    except (TypeError, ValueError) as error:
        problem = f"{expected} numbers, got {type(keypoints_nk3).__name__}"
        raise InputError("keypoints_nk3", problem, "Give rows of x, y and score") from error
    if values.size == 0:
        values = values.reshape(0, len(keypoint_names), 3)
    if values.ndim != 3 or values.shape[1:] != (len(keypoint_names), 3):
        problem = f"{expected}, got {values.shape}"
        raise InputError("keypoints_nk3", problem, "Give x, y and score of each named keypoint")
    if not np.isfinite(values).all():
        person = int(np.argwhere(~np.isfinite(values))[0][0])
        problem = f"person {person} has a value that is not finite"
        raise InputError("keypoints_nk3", problem, "Give score 0 to what was not found")
    keypoints_px, scores = values[:, :, :2].copy(), values[:, :, 2].copy()
    boxes = _around(keypoints_px) if boxes_xyxy is None else checked_boxes(boxes_xyxy)
    if len(boxes) != len(values):
        problem = f"has {len(boxes)} boxes for {len(values)} persons"
        raise InputError("boxes_xyxy", problem, "Give one box for each person")
    total = instance_scores(scores)
    return Poses(keypoints_px, scores, boxes, total, tuple(keypoint_names), tuple(skeleton))


def _around(keypoints_px: NDArray[np.float32]) -> NDArray[np.float64]:
    """The smallest boxes (N, 4) that hold all keypoints (N, K, 2)."""
    corners = [keypoints_px.min(axis=1), keypoints_px.max(axis=1)]
    return np.concatenate(corners, axis=1).astype(np.float64)


def to_supervision(poses: Poses) -> Any:
    """``supervision.KeyPoints`` with ``xy`` (N, K, 2) and confidences (N, K)."""
    library = require("supervision", extra="supervision", purpose="Poses.to_supervision")
    values: dict[str, Any] = {
        "xy": poses.keypoints_px,
        "class_id": np.zeros(len(poses), int),
        _confidence_name(library.KeyPoints): poses.scores,
        "data": {BOXES: poses.boxes_xyxy, NAMES: poses.instance_scores},
    }
    if DETECTION in _fields(library.KeyPoints):
        values[DETECTION] = poses.instance_scores
    return library.KeyPoints(**values)


def from_supervision(
    key_points: Any,
    keypoint_names: tuple[str, ...],
    skeleton: tuple[tuple[int, int], ...] = (),
) -> Poses:
    """Poses of a ``KeyPoints``: boxes and scores from its data, else from the keypoints.

    Without confidences every keypoint has score 1. Raises InputError where the number of
    keypoints is not that of the names.
    """
    keypoints_px = np.asarray(key_points.xy, np.float32)
    if keypoints_px.size == 0:  # supervision's own empty ones have no keypoints either
        keypoints_px = keypoints_px.reshape(0, len(keypoint_names), 2)
    if keypoints_px.shape[1:] != (len(keypoint_names), 2):
        problem = f"has xy {keypoints_px.shape}, expected (N, {len(keypoint_names)}, 2)"
        raise InputError("key_points", problem, "Give the names of these keypoints")
    confidence = getattr(key_points, _confidence_name(type(key_points)), None)
    scores = np.ones(keypoints_px.shape[:2], np.float32)
    if confidence is not None:
        scores = np.asarray(confidence, np.float32).reshape(scores.shape)
    data = getattr(key_points, "data", None) or {}
    boxes = data.get(BOXES)
    if boxes is None:
        boxes = _around(keypoints_px)
    total = data.get(NAMES)
    if total is None:
        total = getattr(key_points, DETECTION, None)
    return Poses(
        keypoints_px,
        scores,
        np.asarray(boxes, np.float64).reshape(-1, 4),
        instance_scores(scores) if total is None else np.asarray(total, np.float32),
        keypoint_names,
        skeleton,
    )


def _confidence_name(kind: Any) -> str:
    """Newer versions tell the keypoints' confidence from the detection's."""
    return "keypoint_confidence" if "keypoint_confidence" in _fields(kind) else "confidence"


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}
