"""Flip-test and decoding of heatmaps in numpy, as the official code does them.

The engines do this inside their graphs; here it stands apart, for what is compared with them.
"""

from __future__ import annotations

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
    scores = flat.max(axis=2)
    keypoints = np.stack([peak % width, peak // width], axis=2).astype(np.float32)
    keypoints[scores <= 0] = 0
    refine = {"quarter": _quarter, "dark": _dark, "none": None}[rule]
    if refine is not None:
        source = _log_smoothed(heatmaps_nkhw) if rule == "dark" else heatmaps_nkhw
        for n, k in np.ndindex(count, joints):
            x, y = keypoints[n, k].astype(int)
            keypoints[n, k] += refine(source[n, k], x, y)
    return keypoints, scores


def _quarter(heatmap: Heatmaps, x: int, y: int) -> NDArray[np.float64]:
    height, width = heatmap.shape
    if not (1 < x < width - 1 and 1 < y < height - 1):
        return np.zeros(2)
    slope = [heatmap[y, x + 1] - heatmap[y, x - 1], heatmap[y + 1, x] - heatmap[y - 1, x]]
    return np.sign(slope) * 0.25


def _dark(log_heatmap: Heatmaps, x: int, y: int) -> NDArray[np.float64]:
    height, width = log_heatmap.shape
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.zeros(2)
    h = log_heatmap
    gradient = 0.5 * np.array([h[y, x + 1] - h[y, x - 1], h[y + 1, x] - h[y - 1, x]])
    dxx = 0.25 * (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2])
    dyy = 0.25 * (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x])
    dxy = 0.25 * (h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1])
    if dxx * dyy - dxy**2 == 0:
        return np.zeros(2)
    step: NDArray[np.float64] = -np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]])) @ gradient
    return step


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
