"""How many keypoints and persons are right, by how strictly one asks: PCK and OKS curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.report.errors import shares
from hrnet_deploy.report.persons import People

PCK_STEPS = tuple(round(0.005 * step, 3) for step in range(41))
"""Distances as shares of the longer side of the person's box, as in Yang & Ramanan 2013."""

OKS_STEPS = tuple(round(0.02 * step, 2) for step in range(51))
PCK_TABLE = (0.05, 0.1, 0.2)

Curve = list[float | None]


def pck_curve(people: People, steps: Sequence[float] = PCK_STEPS) -> Curve:
    """The share of labelled keypoints at most that far from their labels, for each step.

    A keypoint of a person without a pose is wrong at any distance. None without any label.
    """
    labelled = people.labelled
    distances = np.nan_to_num(normalised(people)[labelled], nan=np.inf)
    return [float((distances <= step).mean()) if len(distances) else None for step in steps]


def normalised(people: People) -> NDArray[np.float64]:
    """Distances (P, K) as shares of the longer side of the person's box; NaN where missing."""
    side = np.maximum(people.boxes_xywh[:, 2:].max(axis=1, initial=0), 1.0)
    distances: NDArray[np.float64] = people.distances_px / side[:, None]
    return distances


def oks_curve(people: People, steps: Sequence[float] = OKS_STEPS) -> Curve:
    """The share of persons whose pose is at least that similar; None without persons."""
    return [float((people.oks >= step).mean()) if len(people) else None for step in steps]


def keypoint_rows(
    people: People, kinds: NDArray[np.int8], names: Sequence[str]
) -> list[dict[str, Any]]:
    """One row for each keypoint: labels, error in pixels and in box sides, PCK, error kinds."""
    distances, shared = people.distances_px, normalised(people)
    rows = []
    for k, name in enumerate(names):
        labelled = people.labelled[:, k]
        there = np.isfinite(distances[:, k])
        median, p95 = (_percentile(distances[there, k], percent) for percent in (50, 95))
        near = np.nan_to_num(shared[labelled, k], nan=np.inf)
        rows.append(
            {
                "keypoint": name,
                "labelled": int(labelled.sum()),
                "error_px_median": median,
                "error_px_p95": p95,
                "error_of_box_mean": float(shared[there, k].mean()) if there.any() else None,
                "PCK@0.1": float((near <= 0.1).mean()) if len(near) else None,
                **shares(kinds[:, k]),
            }
        )
    return rows


def _percentile(values: NDArray[np.float64], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None
