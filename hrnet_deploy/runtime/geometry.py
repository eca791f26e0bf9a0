"""Boxes to crops and back: one object holds the affine and its inverse, so they cannot drift apart.

Every rounding step follows the official HRNet code, which works on float32 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.spec import BOX_PADDING

UNIT_PX = 200.0
"""Scales are counted in units of 200 px (official HRNet, ``pixel_std``; from MPII)."""

UNPADDED_CENTER_X = -1.0
"""The official code leaves a box unpadded whose centre lies at x = -1 exactly, its mark for
"no annotation"; kept so that detector boxes there are evaluated the same way."""


@dataclass(frozen=True, eq=False)
class CropGeometry:
    """Where N crops lie in their picture.

    ``center`` (N, 2) float32 in picture pixels, ``scale`` (N, 2) float32 width and height of the
    padded box in units of 200 px; ``input_size_wh`` width and height of a crop in pixels.
    N may be 0.
    """

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    input_size_wh: tuple[int, int]

    @classmethod
    def from_boxes_xywh(
        cls, boxes_xywh: ArrayLike, input_size_wh: tuple[int, int], *, padding: float = BOX_PADDING
    ) -> CropGeometry:
        """Crops around boxes (N, 4): grown to the input's aspect ratio, then by ``padding``.

        Boxes are left, top, width and height in pixels; they may reach outside the picture and
        may have no width or height. No boxes give N = 0.
        """
        boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
        sizes_wh = boxes[:, 2:]
        center = (boxes[:, :2] + sizes_wh * 0.5).astype(np.float32)
        aspect = input_size_wh[0] / input_size_wh[1]
        width, height = sizes_wh[:, 0], sizes_wh[:, 1]
        grown_wh = np.stack(
            [
                np.where(width < aspect * height, height * aspect, width),
                np.where(width > aspect * height, width / aspect, height),
            ],
            axis=1,
        )
        scale = (grown_wh / UNIT_PX).astype(np.float32)
        padded = scale * np.float32(padding)
        scale = np.where(center[:, :1] == UNPADDED_CENTER_X, scale, padded)
        return cls(center, scale, input_size_wh)

    @classmethod
    def from_boxes_xyxy(
        cls, boxes_xyxy: ArrayLike, input_size_wh: tuple[int, int], *, padding: float = BOX_PADDING
    ) -> CropGeometry:
        """The same for boxes (N, 4) given as left, top, right and bottom edge in pixels."""
        boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
        boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        return cls.from_boxes_xywh(boxes_xywh, input_size_wh, padding=padding)

    @classmethod
    def concatenate(
        cls, parts: Sequence[CropGeometry], input_size_wh: tuple[int, int]
    ) -> CropGeometry:
        """All crops of ``parts`` in order; no parts give N = 0."""
        none = np.zeros((0, 2), np.float32)
        return cls(
            np.concatenate([none, *(part.center for part in parts)]),
            np.concatenate([none, *(part.scale for part in parts)]),
            input_size_wh,
        )

    def __len__(self) -> int:
        return len(self.center)

    def __getitem__(
        self, index: int | slice | NDArray[np.intp] | NDArray[np.bool_]
    ) -> CropGeometry:
        """The chosen crops; a single index gives a geometry of one crop."""
        if isinstance(index, (int, np.integer)):
            index = np.array([index], dtype=np.intp)
        return CropGeometry(self.center[index], self.scale[index], self.input_size_wh)

    @property
    def area(self) -> NDArray[np.float64]:
        """Area (N,) of the padded boxes in square pixels, multiplied in float32 as officially."""
        sizes = self.scale * np.float32(UNIT_PX)
        return (sizes[:, 0] * sizes[:, 1]).astype(np.float64)

    @cached_property
    def image_to_input(self) -> NDArray[np.float64]:
        """Affines (N, 2, 3) from picture pixels to crop pixels.

        A box without any extent gets the zero matrix (a crop of one colour), as officially.
        """
        # OpenCV's solver, not the closed form: the two differ by 1e-12, and where a sample lies
        # exactly between two of OpenCV's subpixel steps that changes the grey level.
        target = _target_points(self.input_size_wh)
        affines = np.empty((len(self), 2, 3))
        for index, source in enumerate(self._source_points):
            affines[index] = cv2.getAffineTransform(source, target)
        return affines

    def heatmap_to_image(self, heatmap_size_wh: tuple[int, int]) -> NDArray[np.float64]:
        """Affines (N, 2, 3) from heatmap pixels to picture pixels."""
        width, height = heatmap_size_wh
        points = self._source_points.astype(np.float64)
        half_extent = np.stack(
            [points[:, 1, 0] - points[:, 2, 0], points[:, 0, 1] - points[:, 1, 1]], 1
        )
        step = half_extent / (width * 0.5)
        affine = np.zeros((len(self), 2, 3))
        affine[:, (0, 1), (0, 1)] = step
        affine[:, :, 2] = self.center - step * np.array([width * 0.5, height * 0.5])
        return affine

    def to_image(
        self, keypoints_heatmap: NDArray[np.float32], heatmap_size_wh: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Move keypoints (N, K, 2) from heatmap pixels to picture pixels, float32."""
        affine = self.heatmap_to_image(heatmap_size_wh)[:, None]
        keypoints = keypoints_heatmap.astype(np.float64)
        moved = keypoints * affine[..., (0, 1), (0, 1)] + affine[..., 2]
        return moved.astype(np.float32)

    @cached_property
    def _source_points(self) -> NDArray[np.float32]:
        """Three picture points (N, 3, 2) that the official affine goes through, in float32.

        The centre, a point half the crop's width above it, and one as far to the left of that.
        """
        half = self.scale[:, 0] * np.float32(UNIT_PX) * np.float32(0.5)
        x, y = self.center[:, 0], self.center[:, 1]
        top = y - half
        left = x - (y - top)
        return np.stack([x, y, x, top, left, top], axis=1).reshape(-1, 3, 2)


def _target_points(size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """The same three points (3, 2) in the crop."""
    middle_x, middle_y = size_wh[0] * 0.5, size_wh[1] * 0.5
    top = middle_y - middle_x
    return np.array([[middle_x, middle_y], [middle_x, top], [0.0, top]], np.float32)
