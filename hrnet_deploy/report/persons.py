"""Every labelled person of an evaluation beside the pose that was found for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import Matching
from hrnet_deploy.evaluation.oks import keypoint_similarity

MATCH_OKS = 0.1
"""From this similarity on a pose is one of the person (Ronchi & Perona 2017, section 3)."""

SIZES = ("small", "medium", "large")
SMALL_BELOW, LARGE_FROM = 32.0**2, 96.0**2
"""COCO's size classes, by the annotation's area in square pixels."""


@dataclass(frozen=True)
class People:
    """P labelled persons with K keypoints, in the order of the annotation file.

    ``truth`` (P, K, 3) is x, y and visibility, ``found`` (P, K, 3) x, y and score, NaN where no
    pose belongs to the person. ``oks`` (P,) is the similarity of the two, 0 without a pose.
    ``matched`` (P,) is false where it is below ``MATCH_OKS``: the pose is then the one whose crop
    lies on the person. ``others`` counts poses that match nobody, those among them.
    """

    index: NDArray[np.intp]
    image_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]
    truth: NDArray[np.float64]
    found: NDArray[np.float64]
    oks: NDArray[np.float64]
    matched: NDArray[np.bool_]
    others: int

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which keypoints are labelled, (P, K)."""
        return self.truth[..., 2] > 0

    @property
    def distances_px(self) -> NDArray[np.float64]:
        """How far each found keypoint is from its label, (P, K); NaN where either is missing."""
        distances = np.linalg.norm(self.found[..., :2] - self.truth[..., :2], axis=-1)
        return np.where(self.labelled, distances, np.nan)

    @property
    def sizes(self) -> list[str]:
        """COCO's size class of each person."""
        return [size_class(area) for area in self.areas.tolist()]


def size_class(area: float) -> str:
    """The size class, small, medium or large, by the area in square pixels."""
    if area < SMALL_BELOW:
        return "small"
    return "medium" if area < LARGE_FROM else "large"


def people_of(
    matching: Matching,
    annotations: Sequence[Mapping[str, Any]],
    detections: Detections,
    *,
    sigmas: Sequence[float],
) -> People:
    """Pair persons and poses by the first threshold of ``matching``.

    ``annotations`` and ``detections`` are those that it was made from.
    """
    joints = len(sigmas)
    pairs, free, others = _pairs(matching)
    persons = sorted(pairs)
    truth = _keypoints([annotations[index] for index in persons], joints)
    boxes = np.array([annotations[i]["bbox"] for i in persons], np.float64).reshape(-1, 4)
    areas = np.array([annotations[index]["area"] for index in persons], np.float64)
    image_ids = np.array([annotations[index]["image_id"] for index in persons], np.int64)
    matched = np.array([pairs[index] is not None for index in persons], np.bool_)
    _link_by_crop(pairs, persons, boxes, image_ids, free, detections)
    found = np.full((len(persons), joints, 3), np.nan)
    for row, index in enumerate(persons):
        if (detection := pairs[index]) is not None:
            found[row] = detections.keypoints[detection]
    oks = _own_oks(truth, found, areas, sigmas)
    return People(
        np.array(persons, np.intp), image_ids, boxes, areas, truth, found, oks, matched, others
    )


def _pairs(matching: Matching) -> tuple[dict[int, int | None], dict[int, list[int]], int]:
    """Detection of each person, free detections by image id, how many they are."""
    pairs: dict[int, int | None] = {}
    free: dict[int, list[int]] = {}
    for category in matching.categories:
        finders = category.found_by[0, 0]
        for row in np.flatnonzero(~category.person_ignored[0]).tolist():
            finder = finders[row]
            pairs[int(category.persons[row])] = (
                int(category.detections[finder]) if finder >= 0 else None
            )
        for row in np.flatnonzero(~category.matched[0, 0]).tolist():
            image_id = matching.image_ids[category.detection_image[row]]
            free.setdefault(image_id, []).append(int(category.detections[row]))
    return pairs, free, sum(map(len, free.values()))


def _link_by_crop(
    pairs: dict[int, int | None],
    persons: list[int],
    boxes_xywh: NDArray[np.float64],
    image_ids: NDArray[np.int64],
    free: dict[int, list[int]],
    detections: Detections,
) -> None:
    """Give persons without a match the free pose whose crop's centre is nearest, in their box."""
    for row, index in enumerate(persons):
        candidates = free.get(int(image_ids[row]), [])
        if pairs[index] is not None or not candidates:
            continue
        x, y, width, height = boxes_xywh[row].tolist()
        away = np.abs(detections.center[candidates] - (x + width / 2, y + height / 2))
        inside = (away <= np.array([width, height]) / 2 + 1).all(axis=1)
        if inside.any():
            nearest = int(np.argmin(np.where(inside, away.sum(axis=1), np.inf)))
            pairs[index] = candidates.pop(nearest)


def _keypoints(entries: list[Mapping[str, Any]], joints: int) -> NDArray[np.float64]:
    return np.array([entry["keypoints"] for entry in entries], np.float64).reshape(-1, joints, 3)


def _own_oks(
    truth: NDArray[np.float64],
    found: NDArray[np.float64],
    areas: NDArray[np.float64],
    sigmas: Sequence[float],
) -> NDArray[np.float64]:
    """OKS (P,) over the labelled keypoints, 0 without a pose or a label."""
    labelled = truth[..., 2] > 0
    squared = ((found[..., :2] - truth[..., :2]) ** 2).sum(axis=-1)
    similar = keypoint_similarity(squared, areas, sigmas)
    total = np.where(labelled, np.nan_to_num(similar), 0.0).sum(axis=1)
    oks: NDArray[np.float64] = total / np.maximum(labelled.sum(axis=1), 1)
    return oks
