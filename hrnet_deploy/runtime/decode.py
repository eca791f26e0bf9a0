"""Flip-test and decoding of heatmaps in numpy, as the official code does them.

The engines do this inside their graphs; here it stands apart, for what is compared with them and
for flip-tests that are merged outside of a graph.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Heatmaps = NDArray[np.float32]


def flip_back(heatmaps_nkhw: Heatmaps, flip_pairs: tuple[tuple[int, int], ...]) -> Heatmaps:
    """Heatmaps (N, K, h, w) of mirrored images, turned back with left and right swapped."""
    turned = heatmaps_nkhw[..., ::-1].copy()
    for left, right in flip_pairs:
        turned[:, [left, right]] = turned[:, [right, left]]
    return turned


def merge_flipped(
    straight_nkhw: Heatmaps,
    mirrored_nkhw: Heatmaps,
    flip_pairs: tuple[tuple[int, int], ...],
    *,
    shift: bool,
) -> Heatmaps:
    """The flip-test average (N, K, h, w) of heatmaps and those of the mirrored images.

    With ``shift`` what is turned back moves right by one pixel, while column 0 keeps its own value
    (official HRNet, ``lib/core/function.py``).
    """
    turned = flip_back(mirrored_nkhw, flip_pairs)
    if shift:
        turned[..., 1:] = turned[..., :-1].copy()
    average: Heatmaps = (straight_nkhw + turned) * np.float32(0.5)
    return average


def decode_heatmaps(
    heatmaps_nkhw: Heatmaps, rule: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints (N, K, 2) in heatmap pixels and scores (N, K) by the official code's rules.

    ``rule`` is "quarter" (official HRNet, ``lib/core/inference.py``), "dark" (Zhang et al.,
    CVPR 2020) or "none". A maximum that is not positive gives (0, 0).
    """
    count, joints, _, width = heatmaps_nkhw.shape
    flat = heatmaps_nkhw.reshape(count, joints, -1)
    peak = flat.argmax(axis=2)
    scores = np.take_along_axis(flat, peak[..., None], axis=2)[..., 0]
    keypoints = np.stack([peak % width, peak // width], axis=2)
    keypoints[scores <= 0] = 0
    if rule == "none":
        return keypoints.astype(np.float32), scores
    source = _log_smoothed(heatmaps_nkhw) if rule == "dark" else heatmaps_nkhw
    steps = {"quarter": _quarter, "dark": _dark}[rule](source, keypoints)
    return (keypoints + steps).astype(np.float32), scores


class _Around:
    """The cells around peaks (N, K, 2), x and y; ``inside`` (N, K): far enough from the border."""

    def __init__(self, heatmaps_nkhw: Heatmaps, peaks_xy: NDArray[np.intp], margin: int) -> None:
        *_, height, width = heatmaps_nkhw.shape
        self._x, self._y = x, y = peaks_xy[..., 0], peaks_xy[..., 1]
        self.inside = (x > 1) & (x < width - margin) & (y > 1) & (y < height - margin)
        self._heatmaps = heatmaps_nkhw

    def at(self, dx: int, dy: int) -> Heatmaps:
        """The value (N, K) ``dx`` columns right of and ``dy`` rows below each peak."""
        persons, joints, height, width = self._heatmaps.shape
        n, k = np.ogrid[:persons, :joints]
        x, y = np.clip(self._x + dx, 0, width - 1), np.clip(self._y + dy, 0, height - 1)
        values: Heatmaps = self._heatmaps[n, k, y, x]
        return values

    def only_inside(self, dx: Any, dy: Any) -> NDArray[np.float64]:
        """Steps (N, K, 2), zero for the peaks at the border."""
        steps: NDArray[np.float64] = np.stack([dx, dy], axis=2) * self.inside[..., None]
        return steps


def _quarter(heatmaps_nkhw: Heatmaps, peaks_xy: NDArray[np.intp]) -> NDArray[np.float64]:
    around = _Around(heatmaps_nkhw, peaks_xy, margin=1)
    at = around.at
    dx, dy = np.sign(at(1, 0) - at(-1, 0)), np.sign(at(0, 1) - at(0, -1))
    return around.only_inside(0.25 * dx, 0.25 * dy)


def _dark(log_heatmaps_nkhw: Heatmaps, peaks_xy: NDArray[np.intp]) -> NDArray[np.float64]:
    """Minus the inverse Hessian times the gradient; zero where that is singular."""
    around = _Around(log_heatmaps_nkhw, peaks_xy, margin=2)
    at = around.at
    dx, dy = 0.5 * (at(1, 0) - at(-1, 0)), 0.5 * (at(0, 1) - at(0, -1))
    dxx = 0.25 * (at(2, 0) - 2 * at(0, 0) + at(-2, 0))
    dyy = 0.25 * (at(0, 2) - 2 * at(0, 0) + at(0, -2))
    dxy = 0.25 * (at(1, 1) - at(-1, 1) - at(1, -1) + at(-1, -1))
    determinant = (dxx * dyy - dxy**2).astype(np.float64)
    regular = determinant != 0
    divisor = np.where(regular, determinant, 1)
    step_x, step_y = (dxy * dy - dyy * dx) / divisor, (dxy * dx - dxx * dy) / divisor
    return around.only_inside(step_x * regular, step_y * regular)


def _log_smoothed(heatmaps_nkhw: Heatmaps) -> Heatmaps:
    """Smoothed by a Gaussian, scaled back to the old peak, and the logarithm taken (DARK)."""
    height = heatmaps_nkhw.shape[2]
    side = 17 if height >= 96 else 11
    result = np.empty_like(heatmaps_nkhw)
    for n, k in np.ndindex(*heatmaps_nkhw.shape[:2]):
        heatmap = heatmaps_nkhw[n, k]
        padded = np.pad(heatmap, side // 2)
        smooth = cv2.GaussianBlur(padded, (side, side), 0)
        smooth = smooth[side // 2 : -(side // 2), side // 2 : -(side // 2)]
        smooth = smooth * (heatmap.max() / smooth.max())
        result[n, k] = np.log(np.maximum(smooth, 1e-10))
    return result
