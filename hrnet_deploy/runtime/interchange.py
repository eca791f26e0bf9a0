"""Poses to and from ``KeyPoints`` of the supervision library."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, require

if TYPE_CHECKING:
    from hrnet_deploy.runtime.pose import Poses

BOXES, SCORES = "boxes_xyxy", "instance_scores"
"""Boxes, for which ``KeyPoints`` has no place, travel in its ``data``; scores do so as well, since
only newer versions have ``detection_confidence``."""
DETECTION = "detection_confidence"


def to_supervision(poses: Poses) -> Any:
    """``supervision.KeyPoints`` with ``xy`` (N, K, 2) and confidences (N, K)."""
    library = require("supervision", extra="supervision", purpose="Poses.to_supervision")
    values: dict[str, Any] = {
        "xy": poses.keypoints_px,
        "class_id": np.zeros(len(poses), int),
        _confidence_name(library.KeyPoints): poses.scores,
        "data": {BOXES: poses.boxes_xyxy, SCORES: poses.instance_scores},
    }
    if DETECTION in _fields(library.KeyPoints):
        values[DETECTION] = poses.instance_scores
    return library.KeyPoints(**values)


@dataclass(frozen=True, eq=False)
class Values:
    """What a ``KeyPoints`` holds of N persons; None for what it says nothing about.

    ``keypoints_px`` (N, K, 2) and ``scores`` (N, K) float32, ``boxes_xyxy`` (N, 4) float64,
    ``instance_scores`` (N,) float32.
    """

    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float64] | None
    instance_scores: NDArray[np.float32] | None


def from_supervision(key_points: Any, joints: int) -> Values:
    """The values of a ``KeyPoints`` of ``joints`` keypoints; without confidences scores are 1.

    Raises InputError where it has another number of keypoints.
    """
    keypoints_px = np.asarray(key_points.xy, np.float32)
    if keypoints_px.size == 0:  # supervision's own empty ones have no keypoints either
        keypoints_px = keypoints_px.reshape(0, joints, 2)
    if keypoints_px.shape[1:] != (joints, 2):
        problem = f"has xy {keypoints_px.shape}, expected (N, {joints}, 2)"
        raise InputError("key_points", problem, "Give the names of these keypoints")
    confidence = getattr(key_points, _confidence_name(type(key_points)), None)
    scores = np.ones(keypoints_px.shape[:2], np.float32)
    if confidence is not None:
        scores = np.asarray(confidence, np.float32).reshape(scores.shape)
    data = getattr(key_points, "data", None) or {}
    boxes, total = data.get(BOXES), data.get(SCORES)
    if total is None:
        total = getattr(key_points, DETECTION, None)
    return Values(
        keypoints_px,
        scores,
        None if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4),
        None if total is None else np.asarray(total, np.float32),
    )


def _confidence_name(kind: Any) -> str:
    """Newer versions tell the keypoints' confidence from the detection's."""
    return "keypoint_confidence" if "keypoint_confidence" in _fields(kind) else "confidence"


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}
