"""The poses of persons in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.runtime.checks import checked_image

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
        self, image_bgr: NDArray[np.uint8], *, threshold: float = 0.2, boxes: bool = False
    ) -> NDArray[np.uint8]:
        """A copy of ``image_bgr`` (H, W, 3) uint8 with every person on it.

        Keypoints scored below ``threshold`` are left out; ``boxes`` adds the boxes.
        """
        from hrnet_deploy.runtime.draw import draw_poses

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
        from hrnet_deploy.runtime.interchange import from_array

        return from_array(keypoints_nk3, keypoint_names, skeleton, boxes_xyxy)

    def to_supervision(self) -> Any:
        """The same as ``supervision.KeyPoints``; needs the supervision library."""
        from hrnet_deploy.runtime.interchange import to_supervision

        return to_supervision(self)

    @staticmethod
    def from_supervision(
        key_points: Any,
        keypoint_names: tuple[str, ...],
        skeleton: tuple[tuple[int, int], ...] = (),
    ) -> Poses:
        """Poses of a ``supervision.KeyPoints``, whose keypoints have these names."""
        from hrnet_deploy.runtime.interchange import from_supervision

        return from_supervision(key_points, keypoint_names, skeleton)

    def _repr_html_(self) -> str:
        """A drawing and a table, which notebooks show."""
        from hrnet_deploy.runtime.display import poses_html

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
