"""Pictures with their persons on the way to poses, whoever cuts the crops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import NonFiniteOutput
from hrnet_deploy.errors import DeployError
from hrnet_deploy.runtime.geometry import CropGeometry


@dataclass(frozen=True, eq=False)
class ImageJob:
    """A picture and its persons; ``key`` is the caller's own, such as an image id.

    ``geometry`` may have no persons: the file is not read then.
    """

    key: object
    path: Path
    geometry: CropGeometry


@dataclass(frozen=True, eq=False)
class ImagePoses:
    """The result of a job: ``keypoints_px`` (n, K, 2) in pixels of the picture, ``scores`` (n, K).

    With an ``error`` (the picture cannot be read, or the engine gave NaN for one of its persons)
    both are empty. ``second_passes`` counts the persons whose mirror image was looked at too, in
    an adaptive flip-test.
    """

    job: ImageJob
    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    error: DeployError | None = None
    second_passes: int = 0


class PictureInWork:
    """A job and what is known of its persons so far; ``unfinished`` counts those that are not."""

    def __init__(self, job: ImageJob, joints: int) -> None:
        persons = len(job.geometry)
        self.job = job
        self.keypoints_heatmap = np.zeros((persons, joints, 2), np.float32)
        self.scores = np.zeros((persons, joints), np.float32)
        self.not_finite: list[int] = []
        self.error: DeployError | None = None
        self.unfinished = persons
        self.second_passes = 0

    def result(self, heatmap_size_wh: tuple[int, int]) -> ImagePoses:
        """The poses in pixels of the picture, or the error that it met."""
        error = self.error
        if error is None and self.not_finite:
            bad = np.array(sorted(self.not_finite), np.intp)
            error = NonFiniteOutput(self.job.path, bad, len(self.scores))
        if error is not None:
            return ImagePoses(self.job, self.keypoints_heatmap[:0], self.scores[:0], error)
        keypoints_px = self.job.geometry.to_image(self.keypoints_heatmap, heatmap_size_wh)
        return ImagePoses(self.job, keypoints_px, self.scores, None, self.second_passes)
