"""From a picture and its boxes to poses, in three calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.runtime.checks import checked_boxes, checked_image, checked_path
from hrnet_deploy.runtime.crops import run_persons
from hrnet_deploy.runtime.flip_choice import with_flip
from hrnet_deploy.runtime.geometry import CropGeometry

KEYPOINT_THRESHOLD = 0.2
"""Keypoints scored lower do not count for a person's score (official HRNet, ``in_vis_thre``)."""


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
    open. ``batch_size`` bounds the memory for crops. ``flip`` is "exact" or "off" to make sure of
    what the engine contains, or "adaptive": persons whose heatmaps are ambiguous are looked at a
    second time, mirrored, with an engine that was exported without flip-test; ``flip_threshold``
    says who, by default as ``hrnet-deploy calibrate-flip`` found. A context manager. May be called
    from several threads at once where its engine may.
    """

    def __init__(
        self,
        engine: Engine | Subject,
        *,
        device: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        flip: str | None = None,
        flip_threshold: float | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError("batch_size", f"is {batch_size!r}", "Give a whole number from 1 on")
        self.batch_size = batch_size
        self._owns_engine = not isinstance(engine, Engine)
        if isinstance(engine, Engine):
            self.engine = with_flip(engine, flip, threshold=flip_threshold)
            return
        loaded = load_engine(checked_path(engine), device=device, threads=threads)
        try:
            self.engine = with_flip(loaded, flip, threshold=flip_threshold)
        except BaseException:
            loaded.close()
            raise

    @classmethod
    def from_pretrained(
        cls,
        path: Subject,
        *,
        device: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        flip: str | None = None,
        flip_threshold: float | None = None,
    ) -> PoseEstimator:
        """Load an engine file (.onnx or .plan) by its path; the same as calling the class."""
        return cls(
            checked_path(path),
            device=device,
            threads=threads,
            batch_size=batch_size,
            flip=flip,
            flip_threshold=flip_threshold,
        )

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
        outputs = run_persons(self.engine, images, geometries, batch_size=self.batch_size)
        return [
            Poses(
                geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh),
                output.scores,
                boxes_xyxy,
                instance_scores(output.scores),
                spec.keypoint_names,
                spec.skeleton,
            )
            for boxes_xyxy, geometry, output in zip(boxes, geometries, outputs, strict=True)
        ]

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
