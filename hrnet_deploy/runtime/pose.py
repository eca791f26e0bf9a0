"""The poses of persons in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.checks import checked_boxes, checked_image
from hrnet_deploy.runtime.display import poses_html
from hrnet_deploy.runtime.draw import SCORE_THRESHOLD, draw_poses
from hrnet_deploy.runtime.interchange import from_supervision, to_supervision

KEYPOINT_THRESHOLD = 0.2
"""Keypoints scored lower do not count for a person's score (official HRNet, ``in_vis_thre``)."""


REPR_SCORES = 8
"""Persons whose scores ``repr`` shows."""


@dataclass(frozen=True, eq=False)
class Poses:
    """The poses of N persons in one picture; N may be 0.

    ``keypoints_px`` (N, K, 2) float32 x and y in pixels of the picture, ``scores`` (N, K) float32,
    ``boxes_xyxy`` (N, 4) float64 as they were given, ``instance_scores`` (N,) float32, the names
    of the K keypoints, and the pairs of them that are drawn as limbs.
    """

    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float64]
    instance_scores: NDArray[np.float32]
    keypoint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.keypoints_px)

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.2f}" for score in self.instance_scores[:REPR_SCORES])
        more = ", ..." if len(self) > REPR_SCORES else ""
        joints = len(self.keypoint_names)
        return f"Poses(persons={len(self)}, keypoints={joints}, scores=[{scores}{more}])"

    def draw(
        self,
        image_bgr: NDArray[np.uint8],
        *,
        threshold: float = SCORE_THRESHOLD,
        boxes: bool = False,
    ) -> NDArray[np.uint8]:
        """A copy of ``image_bgr`` (H, W, 3) uint8 with every person on it.

        Keypoints scored below ``threshold`` are left out; ``boxes`` adds the boxes.
        """
        checked = checked_image(image_bgr)
        return draw_poses(checked, self, self.skeleton, threshold=threshold, boxes=boxes)

    def to_array(self) -> NDArray[np.float32]:
        """Keypoints and scores in one array (N, K, 3) float32: x, y in pixels, and score."""
        return np.concatenate([self.keypoints_px, self.scores[:, :, None]], axis=2)

    @staticmethod
    def from_array(
        keypoints_nk3: ArrayLike,
        keypoint_names: Sequence[str],
        skeleton: Sequence[tuple[int, int]] = (),
        *,
        boxes_xyxy: ArrayLike | None = None,
    ) -> Poses:
        """Poses of an array (N, K, 3): x, y in pixels, and score; N may be 0.

        Without ``boxes_xyxy`` (N, 4) the boxes are those around the keypoints. InputError where
        K is not the number of names, or a value is not finite.
        """
        values = _checked_values(keypoints_nk3, len(keypoint_names))
        keypoints_px, scores = values[:, :, :2].copy(), values[:, :, 2].copy()
        boxes = _around(keypoints_px) if boxes_xyxy is None else checked_boxes(boxes_xyxy)
        if len(boxes) != len(values):
            problem = f"has {len(boxes)} boxes for {len(values)} persons"
            raise InputError("boxes_xyxy", problem, "Give one box for each person")
        total = instance_scores(scores)
        return Poses(keypoints_px, scores, boxes, total, tuple(keypoint_names), tuple(skeleton))

    def to_supervision(self) -> Any:
        """The same as ``supervision.KeyPoints``; needs the supervision library."""
        return to_supervision(self)

    @staticmethod
    def from_supervision(
        key_points: Any,
        keypoint_names: tuple[str, ...],
        skeleton: tuple[tuple[int, int], ...] = (),
    ) -> Poses:
        """Poses of a ``supervision.KeyPoints``, whose keypoints have these names.

        Boxes and scores come from its data, else from the keypoints; without confidences every
        keypoint has score 1. InputError where K is not the number of names.
        """
        values = from_supervision(key_points, len(keypoint_names))
        boxes, total = values.boxes_xyxy, values.instance_scores
        return Poses(
            values.keypoints_px,
            values.scores,
            _around(values.keypoints_px) if boxes is None else boxes,
            instance_scores(values.scores) if total is None else total,
            keypoint_names,
            skeleton,
        )

    def _repr_html_(self) -> str:
        """A drawing and a table, which notebooks show."""
        return poses_html(self)


def instance_scores(
    scores: NDArray[np.float32], box_scores: ArrayLike = 1.0
) -> NDArray[np.float32]:
    """Score (N,) of each person: box score times the mean of keypoint scores (N, K) above 0.2.

    Zero where no keypoint reaches that.
    """
    counted = scores > KEYPOINT_THRESHOLD
    total = np.where(counted, scores, 0).sum(axis=1, dtype=np.float64)
    mean = total / np.maximum(counted.sum(axis=1), 1)
    product: NDArray[np.float32] = (mean * np.asarray(box_scores)).astype(np.float32)
    return product


def _checked_values(keypoints_nk3: ArrayLike, joints: int) -> NDArray[np.float32]:
    """Keypoints and scores (N, K, 3) if they are that and finite."""
    expected = f"expected (N, {joints}, 3)"
    try:
        values = np.asarray(keypoints_nk3, np.float32)
    except (TypeError, ValueError) as error:
        problem = f"{expected} numbers, got {type(keypoints_nk3).__name__}"
        raise InputError("keypoints_nk3", problem, "Give rows of x, y and score") from error
    if values.size == 0:
        values = values.reshape(0, joints, 3)
    if values.ndim != 3 or values.shape[1:] != (joints, 3):
        problem = f"{expected}, got {values.shape}"
        raise InputError("keypoints_nk3", problem, "Give x, y and score of each named keypoint")
    if not np.isfinite(values).all():
        person = int(np.argwhere(~np.isfinite(values))[0][0])
        problem = f"person {person} has a value that is not finite"
        raise InputError("keypoints_nk3", problem, "Give score 0 to what was not found")
    return values


def _around(keypoints_px: NDArray[np.float32]) -> NDArray[np.float64]:
    """The smallest boxes (N, 4) that hold all keypoints (N, K, 2)."""
    corners = [keypoints_px.min(axis=1), keypoints_px.max(axis=1)]
    return np.concatenate(corners, axis=1).astype(np.float64)
