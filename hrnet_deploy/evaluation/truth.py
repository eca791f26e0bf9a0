"""Annotated persons as arrays, and how similar poses are to them, by COCO's rules for keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.oks import keypoint_similarity

AREA_RANGES = {
    "all": (0.0, 1e5**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
"""Square pixels, both ends included (pycocotools, ``Params.setKpParams``)."""

_BLOCK = 1 << 18
"""Keypoints compared at a time: bounds memory and stays in the cache."""

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
Floats = NDArray[np.float64]


def outside_ranges(areas: Floats) -> Bools:
    """Which areas (N,) lie outside of each of the A ranges: (A, N)."""
    low, high = np.array(list(AREA_RANGES.values())).T[..., None]
    outside: Bools = (areas < low) | (areas > high)
    return outside


@dataclass(frozen=True, eq=False)
class Truth:
    """P annotated persons: ``keypoints`` (P, K, 2) in pixels, ``labelled`` (P, K),
    ``boxes_xywh`` (P, 4), ``areas`` (P,), ``crowd`` (P,).

    ``ignored`` (A, P) says who need not be found: crowds, persons without keypoints, and those
    whose area lies outside of a range.
    """

    keypoints: Floats
    labelled: Bools
    boxes_xywh: Floats
    areas: Floats
    crowd: Bools
    ignored: Bools

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]], joints: int) -> Truth:
        """The persons of a COCO file's annotations, which have ``joints`` keypoints each."""
        points = np.array([entry["keypoints"] for entry in entries], np.float64)
        points = points.reshape(-1, joints, 3)
        areas = np.array([entry["area"] for entry in entries], np.float64)
        crowd = np.array([bool(entry["iscrowd"]) for entry in entries], np.bool_)
        nothing = np.array([entry["num_keypoints"] == 0 for entry in entries], np.bool_)
        return cls(
            keypoints=points[..., :2],
            labelled=points[..., 2] > 0,
            boxes_xywh=np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4),
            areas=areas,
            crowd=crowd,
            ignored=crowd | nothing | outside_ranges(areas),
        )

    def similarities(self, poses: Floats, person: Indices, pose: Indices, sigmas: Floats) -> Floats:
        """OKS (N,) of N pairs: of ``person`` (N,) with ``pose`` (N,), both indices.

        ``poses`` are (D, K, 2) in pixels, ``sigmas`` (K,). Labelled keypoints count; without any
        it counts how far a pose reaches out of twice the person's box.
        """
        similar = np.empty(len(person))
        counts = self.labelled.sum(axis=1)[person]
        # Persons with equally many keypoints together: so each row is added up as officially.
        for count in np.unique(counts).tolist():
            pairs = np.flatnonzero(counts == count)
            for start in range(0, len(pairs), step := max(1, _BLOCK // len(sigmas))):
                block = pairs[start : start + step]
                terms = self._terms(poses[pose[block]], person[block], sigmas)
                if count:
                    terms = terms[self.labelled[person[block]]].reshape(-1, count)
                similar[block] = terms.sum(axis=1) / terms.shape[1]
        return similar

    def _terms(self, poses: Floats, person: Indices, sigmas: Floats) -> Floats:
        """Similarity of each keypoint (N, K) of ``poses`` (N, K, 2).

        Either all of the persons have labels or none has.
        """
        if self.labelled[person[0]].any():
            away = poses - self.keypoints[person]
        else:
            start, size = self.boxes_xywh[person, None, :2], self.boxes_xywh[person, None, 2:]
            low, high = start - size, start + size * 2
            away = np.maximum(0, low - poses) + np.maximum(0, poses - high)
        squared = away[..., 0] ** 2 + away[..., 1] ** 2
        return keypoint_similarity(squared, self.areas[person], sigmas)
