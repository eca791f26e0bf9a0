"""Skeletons drawn over a picture, for any keypoint set and any size of person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hrnet_deploy.runtime.pose import Poses

LEFT_BGR = (80, 220, 60)
RIGHT_BGR = (60, 140, 255)
MIDDLE_BGR = (255, 200, 90)
OUTLINE_BGR = (30, 30, 30)
BOX_BGR = (200, 200, 200)
"""The person's left is green, the right orange, what has no side blue; a dark rim keeps every
line readable on any background."""

SCORE_THRESHOLD = 0.2
"""Keypoints scored lower are left out; the official code counts them as not seen."""

SUBPIXEL_BITS = 4
LINE_PER_PERSON = 1 / 90
"""Line width as a share of the person's larger side, at least one pixel."""

Colour = tuple[int, int, int]


def draw_poses(
    image_bgr: NDArray[np.uint8],
    poses: Poses,
    skeleton: tuple[tuple[int, int], ...],
    *,
    threshold: float = SCORE_THRESHOLD,
    boxes: bool = False,
) -> NDArray[np.uint8]:
    """A copy of ``image_bgr`` (H, W, 3) uint8 with every person's limbs and keypoints.

    ``skeleton`` pairs keypoint indices (``ModelSpec.skeleton``). Keypoints with a score below
    ``threshold`` and their limbs are left out; ``boxes`` adds the persons' boxes.
    """
    canvas = image_bgr.copy()
    for person in range(len(poses)):
        _draw_person(canvas, poses, person, skeleton, threshold, boxes)
    return canvas


def _draw_person(
    canvas: NDArray[np.uint8],
    poses: Poses,
    person: int,
    skeleton: tuple[tuple[int, int], ...],
    threshold: float,
    boxes: bool,
) -> None:
    box = poses.boxes_xyxy[person]
    width = max(1, round(float(max(box[2] - box[0], box[3] - box[1])) * LINE_PER_PERSON))
    points = poses.keypoints_px[person]
    seen = poses.scores[person] >= threshold
    colours = [_colour(name) for name in poses.keypoint_names]
    if boxes:
        cv2.rectangle(
            canvas, _fixed(box[:2]), _fixed(box[2:]), BOX_BGR, 1, cv2.LINE_AA, SUBPIXEL_BITS
        )
    limbs = [(a, b) for a, b in skeleton if seen[a] and seen[b]]
    for rim in (True, False):
        for a, b in limbs:
            colour = OUTLINE_BGR if rim else _limb_colour(colours[a], colours[b])
            thickness = width + 2 if rim else width
            start, end = _fixed(points[a]), _fixed(points[b])
            cv2.line(canvas, start, end, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    for k in np.flatnonzero(seen):
        for radius, colour in ((width + 2, OUTLINE_BGR), (width + 1, colours[k])):
            fixed_radius = radius << SUBPIXEL_BITS
            centre = _fixed(points[k])
            cv2.circle(canvas, centre, fixed_radius, colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _fixed(point_xy: NDArray[np.floating]) -> tuple[int, int]:
    """Fixed-point coordinates; far outside is clipped, since OpenCV takes 32-bit integers."""
    scaled = np.clip(point_xy, -1e5, 1e5) * (1 << SUBPIXEL_BITS)
    return round(float(scaled[0])), round(float(scaled[1]))


def _colour(name: str) -> Colour:
    words = name.lower().replace("-", "_").split("_")
    if "left" in words:
        return LEFT_BGR
    return RIGHT_BGR if "right" in words else MIDDLE_BGR


def _limb_colour(a: Colour, b: Colour) -> Colour:
    """A limb between two sides, or from a side to the middle, has none."""
    return a if a == b else MIDDLE_BGR
