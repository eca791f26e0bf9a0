"""From a picture and its boxes to poses, in three calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.runtime.checks import checked_boxes, checked_image, checked_path
from hrnet_deploy.runtime.geometry import UNIT_PX, CropGeometry

KEYPOINT_THRESHOLD = 0.2
"""Keypoints scored lower do not count for a person's score (official HRNet, ``in_vis_thre``)."""

FIXED_POINT_REACH = 2**20
"""``cv2.warpAffine`` counts in 1/1024 px in 32 bits; half of their range is kept as a margin."""


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

    def draw(
        self, image_bgr: NDArray[np.uint8], *, threshold: float = 0.2, boxes: bool = False
    ) -> NDArray[np.uint8]:
        """A copy of ``image_bgr`` (H, W, 3) uint8 with every person on it.

        Keypoints scored below ``threshold`` are left out; ``boxes`` adds the boxes.
        """
        from hrnet_deploy.runtime.draw import draw_poses

        checked = checked_image(image_bgr)
        return draw_poses(checked, self, self.skeleton, threshold=threshold, boxes=boxes)

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


class PoseEstimator(Closing):
    """Keypoints of persons in boxes: ``PoseEstimator("w32.onnx")(image_bgr, boxes_xyxy)``.

    Takes the path of an engine file, which it closes again, or a loaded engine, which it leaves
    open. ``batch_size`` bounds the memory for crops. A context manager. May be called from
    several threads at once where its engine may.
    """

    def __init__(
        self,
        engine: Engine | Subject,
        *,
        device: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError("batch_size", f"is {batch_size!r}", "Give a whole number from 1 on")
        self.batch_size = batch_size
        self._owns_engine = not isinstance(engine, Engine)
        if isinstance(engine, Engine):
            self.engine = engine
        else:
            self.engine = load_engine(checked_path(engine), device=device, threads=threads)

    @classmethod
    def from_pretrained(
        cls,
        path: Subject,
        *,
        device: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
    ) -> PoseEstimator:
        """Load an engine file (.onnx or .plan) by its path; the same as calling the class."""
        engine = checked_path(path)
        return cls(engine, device=device, threads=threads, batch_size=batch_size)

    def __call__(self, image_bgr: NDArray[np.uint8], boxes_xyxy: ArrayLike) -> Poses:
        """Poses of the persons in ``boxes_xyxy`` (N, 4), edges in pixels of ``image_bgr``.

        The picture is (H, W, 3) uint8 BGR as OpenCV decodes it. Boxes may reach outside of it.
        No boxes give no poses.
        """
        return self.predict_many([image_bgr], [boxes_xyxy])[0]

    def predict_many(
        self, images_bgr: Sequence[NDArray[np.uint8]], boxes_xyxy: Sequence[ArrayLike]
    ) -> list[Poses]:
        """The same for several pictures, whose persons share batches; one result a picture."""
        if len(images_bgr) != len(boxes_xyxy):
            problem = f"has {len(boxes_xyxy)} entries for {len(images_bgr)} images"
            raise InputError("boxes_xyxy", problem, "Give one array of boxes for each image")
        images = [checked_image(image) for image in images_bgr]
        boxes = [checked_boxes(boxes) for boxes in boxes_xyxy]
        spec = self.engine.spec
        geometries = [
            CropGeometry.from_boxes_xyxy(b, spec.input_size_wh, padding=spec.box_padding)
            for b in boxes
        ]
        keypoints = [np.zeros((0, spec.joints, 2), np.float32)]
        scores = [np.zeros((0, spec.joints), np.float32)]
        for crops in self._batches(images, geometries):
            output = self.engine.run(crops)
            keypoints.append(output.keypoints_heatmap)
            scores.append(output.scores)
        return self._split(np.concatenate(keypoints), np.concatenate(scores), boxes, geometries)

    def _batches(
        self, images: list[NDArray[np.uint8]], geometries: list[CropGeometry]
    ) -> Iterator[NDArray[np.uint8]]:
        """Full batches of crops (n, h, w, 3) over all pictures, all in the same buffer."""
        total = sum(len(geometry) for geometry in geometries)
        size = min(self.batch_size, total)
        buffer = np.empty((size, *self.engine.spec.input_size_hw, 3), np.uint8)
        filled = 0
        for image, geometry in zip(images, geometries, strict=True):
            done = 0
            while done < len(geometry):
                count = min(size - filled, len(geometry) - done)
                crop_into(image, geometry[done : done + count], buffer[filled : filled + count])
                done, filled = done + count, filled + count
                if filled == size:
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]

    def _split(
        self,
        keypoints: NDArray[np.float32],
        scores: NDArray[np.float32],
        boxes: list[NDArray[np.float64]],
        geometries: list[CropGeometry],
    ) -> list[Poses]:
        """Results of all persons in a row, cut at the pictures and moved into their pixels."""
        spec = self.engine.spec
        poses, start = [], 0
        for boxes_xyxy, geometry in zip(boxes, geometries, strict=True):
            own = slice(start, start + len(geometry))
            start += len(geometry)
            poses.append(
                Poses(
                    geometry.to_image(keypoints[own], spec.heatmap_size_wh),
                    scores[own],
                    boxes_xyxy,
                    instance_scores(scores[own]),
                    spec.keypoint_names,
                    spec.skeleton,
                )
            )
        return poses

    def close(self) -> None:
        """Close the engine if it was loaded here."""
        if self._owns_engine:
            self.engine.close()


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


def crop_into(
    image_bgr: NDArray[np.uint8], geometry: CropGeometry, crops_nhwc: NDArray[np.uint8]
) -> None:
    """Cut the crops of ``geometry`` into ``crops_nhwc`` (N, h, w, 3) uint8, C-contiguous.

    Bilinear, black outside of the picture, grey levels as in the official evaluation.
    """
    if not crops_nhwc.flags.c_contiguous:  # OpenCV would write into a copy of its own
        raise InputError("crops_nhwc", "is not contiguous", "Give a batch in memory order")
    height, width = image_bgr.shape[:2]
    outside = out_of_reach(geometry, (width, height))
    for affine, crop, empty in zip(geometry.image_to_input, crops_nhwc, outside, strict=True):
        if empty:
            crop[...] = 0
        else:
            cv2.warpAffine(
                image_bgr, affine, geometry.input_size_wh, dst=crop, flags=cv2.INTER_LINEAR
            )


def out_of_reach(geometry: CropGeometry, image_size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Crops (N,) wholly outside of the picture and so far away that OpenCV would miscount.

    Nearer ones are left to OpenCV, which fills them with black, and boxes without extent too,
    whose crops have the colour of the first pixel: both as in the official evaluation.
    """
    half = np.abs(geometry.scale) * np.float32(UNIT_PX / 2)
    if (np.abs(geometry.center) + half).max(initial=0) < FIXED_POINT_REACH:
        return np.zeros(len(geometry), np.bool_)
    low, high = geometry.center - half, geometry.center + half
    away: NDArray[np.bool_] = np.any((high < 0) | (low > np.asarray(image_size_wh)), axis=1)
    extended: NDArray[np.bool_] = np.any(geometry.scale != 0, axis=1)
    return away & extended
