"""The outputs of two engines on the same crops, and everything by which they differ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import EngineOutput
from hrnet_deploy.export.reference import decode_heatmaps
from hrnet_deploy.spec import ModelSpec


@dataclass(frozen=True)
class HeatmapError:
    """Absolute maximum and mean, and the reference's largest magnitude."""

    max: float
    mean: float
    peak: float

    @property
    def relative(self) -> float:
        """The maximum over the peak; 0 where all is zero."""
        return self.max / self.peak if self.peak > 0 else 0.0


@dataclass(frozen=True)
class Comparison:
    """What both engines gave for N crops of K keypoints, and the tolerance they have to meet.

    ``labels`` (N,) say where each crop is from. ``in_poses`` says that keypoints are judged, not
    heatmaps: one of the two computes in 8 bit.
    """

    reference: EngineOutput
    candidate: EngineOutput
    spec: ModelSpec
    tolerance: float
    labels: tuple[str, ...]
    in_poses: bool = False

    @cached_property
    def cells(self) -> NDArray[np.float32]:
        """By how much keypoints (N, K, 2) moved, in heatmap pixels."""
        return self.candidate.keypoints_heatmap - self.reference.keypoints_heatmap

    @cached_property
    def distance_px(self) -> NDArray[np.float64]:
        """How far apart keypoints (N, K) are, in input pixels."""
        stride = np.divide(self.spec.input_size_wh, self.spec.heatmap_size_wh)
        distance: NDArray[np.float64] = np.linalg.norm(self.cells * stride, axis=2)
        return distance

    @cached_property
    def similarity(self) -> NDArray[np.float64] | None:
        """The terms of OKS (N, K); the person's area is the unpadded crop. None without sigmas.

        The formula is the COCO one (cocodataset.org, keypoint evaluation).
        """
        if self.spec.sigmas is None:
            return None
        area = float(np.prod(self.spec.input_size_hw)) / self.spec.box_padding**2
        variance = (2 * np.array(self.spec.sigmas)) ** 2
        similarity: NDArray[np.float64] = np.exp(-(self.distance_px**2) / (2 * area * variance))
        return similarity

    @cached_property
    def score_max(self) -> float:
        """The largest difference of scores."""
        return float(np.abs(self.candidate.scores - self.reference.scores).max())

    @cached_property
    def heatmap(self) -> HeatmapError | None:
        """The error of the heatmaps; None where an engine has none."""
        reference, candidate = self.reference.heatmaps_nkhw, self.candidate.heatmaps_nkhw
        if reference is None or candidate is None:
            return None
        error = np.abs(candidate - reference)
        peak = float(np.abs(reference).max())
        return HeatmapError(float(error.max()), float(error.mean()), peak)

    @cached_property
    def limit(self) -> float:
        """The absolute bound on errors of heatmaps and scores."""
        heatmaps = self.reference.heatmaps_nkhw
        values = self.reference.scores if heatmaps is None else heatmaps
        return self.tolerance * max(1.0, float(np.abs(values).max()))

    @cached_property
    def argmax(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(N, K) where the reference's best cell is beyond doubt, and where both have the same."""
        reference, candidate = self.reference.heatmaps_nkhw, self.candidate.heatmaps_nkhw
        # Without heatmaps half a heatmap pixel is the same cell.
        near: NDArray[np.bool_] = np.abs(self.cells).max(axis=2) <= 0.5
        if reference is None:
            return np.ones_like(near), near
        flat = reference.reshape(*reference.shape[:2], -1)
        best = np.partition(flat, -2, axis=2)[..., -2:]
        gap = best[..., 1] - best[..., 0]
        if candidate is None:
            return (gap > 2 * self.limit) & (best[..., 1] > self.limit), near
        error = np.abs(candidate - reference).max(axis=(2, 3))
        equal = flat.argmax(axis=2) == candidate.reshape(flat.shape).argmax(axis=2)
        return gap > 2 * error, equal

    @cached_property
    def decode_px(self) -> float | None:
        """Largest distance, in heatmap pixels, from the official rule on the candidate's heatmaps.

        None where it gives no heatmaps.
        """
        heatmaps = self.candidate.heatmaps_nkhw
        if heatmaps is None:
            return None
        official, _ = decode_heatmaps(heatmaps, self.spec.decode)
        return float(np.abs(official - self.candidate.keypoints_heatmap).max())
