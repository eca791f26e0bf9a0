"""The gates of parity: by how much two engines may differ, and a sentence where they do more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.export.comparison import Comparison

HEATMAP_TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.25, "fp8": 0.25}
"""Largest heatmap error, times max(1, peak), by the lower of the two precisions.

A bfloat16 has three bits less than a half; what it costs has to be seen in the AP. In 8 bit it
counts only where the reference is sure of no keypoint; poses are judged otherwise.
"""

CONFIDENT_SCORE = 0.2
"""Reference scores above it are judged in 8 bit (official HRNet, ``lib/dataset/coco.py``)."""

POSE_P95_CELLS = 1.0
"""Heatmap pixels that 95 % of the confident keypoints stay within in 8 bit: one neighbour."""

POSE_OKS_MEAN = 0.9
"""Mean OKS of the confident keypoints in 8 bit; 0.99 is usual on persons, less on noise."""

DECODE_TOLERANCE_PX = {"quarter": 1e-4, "none": 1e-4, "dark": 0.05}
"""Heatmap pixels between a graph's own decoding and the official rule on its own heatmaps.

DARK divides by second differences of logarithms, which amplify the last bits of flat peaks.
"""


def failed_gates(found: Comparison) -> tuple[str, ...]:
    """One sentence for each gate that does not hold; NaN holds none.

    In 8 bit keypoints are judged, where the reference is sure of any.
    """
    confident = found.reference.scores > CONFIDENT_SCORE
    if found.in_poses and confident.any():
        sentences = _failed_poses(found, confident)
    else:
        sentences = _failed_tensors(found)
    away, allowed = found.decode_px, DECODE_TOLERANCE_PX[found.spec.decode]
    if away is not None and not away <= allowed:
        sentences.append(f"decoding is {away:.3g} px off the official rule, > {allowed:g}")
    return tuple(sentences)


def _failed_tensors(found: Comparison) -> list[str]:
    """The gates of heatmaps, scores and, but for 8 bit, the arg-max."""
    sentences = []
    limit = found.limit
    if found.heatmap is not None and not found.heatmap.max <= limit:
        sentences.append(f"heatmap error max diff {found.heatmap.max:.3g} > {limit:.3g}")
    if not found.score_max <= limit:
        sentences.append(f"score error max diff {found.score_max:.3g} > {limit:.3g}")
    decisive, equal = found.argmax
    moved = np.argwhere(decisive & ~equal)
    if len(moved) and not found.in_poses:
        crop, joint = moved[0]
        first = f"{found.spec.keypoint_names[joint]} of {found.labels[crop]}"
        sentences.append(f"arg-max differs for {len(moved)} keypoints, first {first}")
    return sentences


def _failed_poses(found: Comparison, confident: NDArray[np.bool_]) -> list[str]:
    """The gates of 8 bit, on the keypoints (N, K) that the reference is sure of."""
    sentences = []
    p95 = float(np.percentile(np.linalg.norm(found.cells, axis=2)[confident], 95))
    if not p95 <= POSE_P95_CELLS:
        sentences.append(
            f"95 % of the confident keypoints lie within {p95:.3g} heatmap pixels,"
            f" > {POSE_P95_CELLS:g}"
        )
    if found.similarity is not None:
        mean = float(found.similarity[confident].mean())
        if not mean >= POSE_OKS_MEAN:
            sentences.append(f"OKS of the confident keypoints is {mean:.3g} < {POSE_OKS_MEAN:g}")
    return sentences
