"""Object keypoint similarity, and the suppression of persons that are found twice.

Operations follow the order of the official HRNet code (``lib/nms/nms.py``), so that the
similarities are equal to the last bit; only the loops over persons and keypoints are gone.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

KEYPOINT_THRESHOLD = 0.2
"""Keypoints must score above this to count in a person's score (official ``IN_VIS_THRE``)."""

NMS_THRESHOLD = 0.9
"""Persons more similar than this are one (official ``OKS_THRE``)."""

SOFT_NMS_PERSONS = 20
"""Soft suppression keeps at most this many persons of a picture (official ``max_dets``)."""

Nms = Literal["hard", "soft", "none"]
Floats = NDArray[Any]
"""Any floating type: differences are taken in the type of the keypoints, as officially."""

_PAIRS = 1 << 15
"""Pairs compared at a time: bounds memory and stays in the cache."""

_ROUNDING = 1e-9
"""More than rounding moves a similarity."""


def oks_matrix(
    keypoints_a: Floats,
    keypoints_b: Floats,
    areas_a: ArrayLike,
    areas_b: ArrayLike,
    sigmas: ArrayLike,
) -> NDArray[np.float64]:
    """Similarity (N, M) of each of N persons with each of M.

    Keypoints are (N, K, 2 or more) and (M, K, 2 or more) in pixels, areas (N,) and (M,) in square
    pixels, ``sigmas`` (K,). All keypoints count, whatever their score. N or M may be 0.
    """
    dx = keypoints_b[None, :, :, 0] - keypoints_a[:, None, :, 0]
    dy = keypoints_b[None, :, :, 1] - keypoints_a[:, None, :, 1]
    mean_area = (np.asarray(areas_a)[:, None] + np.asarray(areas_b)[None, :]) / 2
    return _mean(keypoint_similarity(dx**2 + dy**2, mean_area, sigmas))


def keypoint_similarity(
    squared_distances: Floats, areas: NDArray[Any], sigmas: ArrayLike
) -> NDArray[np.float64]:
    """COCO's term of each keypoint, exp(-d^2 / (2 area (2 sigma)^2)), (..., K); NaN stays NaN.

    ``squared_distances`` (..., K) and ``areas`` (...) in square pixels, ``sigmas`` (K,). The order
    of operations is that of pycocotools (``COCOeval.computeOks``) and of the official code alike.
    """
    terms: NDArray[np.float64] = squared_distances / (np.asarray(sigmas, np.float64) * 2) ** 2
    terms /= (areas + np.spacing(1))[..., None]
    terms /= 2
    np.negative(terms, out=terms)
    return np.exp(terms, out=terms)


def _mean(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """OKS (...) of terms (..., K), added up as officially."""
    similarity: NDArray[np.float64] = terms.sum(axis=-1) / terms.shape[-1]
    return similarity


def person_scores(
    box_scores: ArrayLike, keypoint_scores: Floats, *, threshold: float = KEYPOINT_THRESHOLD
) -> NDArray[np.float64]:
    """Score (N,) of each person: box score times the mean of its keypoint scores above a threshold.

    ``box_scores`` is (N,), ``keypoint_scores`` (N, K). A person without such a keypoint scores 0.
    """
    counted = keypoint_scores > threshold
    # A running sum adds in the order, and in the type, of the official loop; ``sum`` does not.
    running = np.cumsum(np.where(counted, keypoint_scores, 0), axis=1, dtype=keypoint_scores.dtype)
    means = running[:, -1] / np.maximum(counted.sum(axis=1), 1).astype(keypoint_scores.dtype)
    scores: NDArray[np.float64] = np.asarray(box_scores, np.float64) * means
    return scores


def suppress(
    keypoints: Floats,
    scores: Floats,
    areas: Floats,
    sigmas: ArrayLike,
    *,
    pictures: NDArray[np.intp] | None = None,
    kind: Nms = "hard",
    threshold: float = NMS_THRESHOLD,
) -> NDArray[np.intp]:
    """Indices of the persons that stay, by picture in the order in which they are chosen.

    ``keypoints`` (N, K, 2 or more) pixels, ``scores`` (N,), ``areas`` (N,) square pixels,
    ``pictures`` (N,) rising, None for a single one. "hard" drops whoever is more similar than
    ``threshold`` to a better one, "soft" lowers scores by a Gaussian of the similarity and keeps
    the best 20, "none" keeps all in the given order.
    """
    if kind == "none" or len(scores) == 0:
        return np.arange(len(scores))
    if pictures is None:
        pictures = np.zeros(len(scores), np.intp)
    order = _best_first(scores)
    order = order[np.argsort(pictures[order], kind="stable")]
    if kind == "hard":
        points = keypoints[order, :, :2]
        return order[_hard(points, areas[order], pictures[order], np.asarray(sigmas), threshold)]
    edges = np.flatnonzero(np.diff(pictures)) + 1
    return np.concatenate(
        [
            _soft(keypoints, scores, areas, np.asarray(sigmas), own, threshold)
            for own in np.split(order, edges)
        ]
    )


def _best_first(scores: Floats) -> NDArray[np.intp]:
    """Indices by falling score; of equal ones the last first, as officially."""
    return np.argsort(scores, kind="stable")[::-1]


def _hard(
    points: Floats,
    areas: Floats,
    pictures: NDArray[np.intp],
    sigmas: NDArray[Any],
    threshold: float,
) -> NDArray[np.bool_]:
    """Who stays (N,) of persons that stand by picture, the best first."""
    joints, persons = len(sigmas), np.arange(len(areas))
    enough = min(joints, 2 + int(2.5 * (1 - threshold) * joints))
    few = np.linspace(0, joints - 1, enough, dtype=np.intp)
    some = points[:, few]
    alive = np.ones(len(areas), bool)
    later = np.searchsorted(pictures, pictures, side="right") - persons - 1
    for rows in np.split(persons, np.flatnonzero(np.diff(np.cumsum(later) // _PAIRS)) + 1):
        one, other = _with_later(rows[alive[rows]], later)
        # A few keypoints rule most pairs out, even if all others were equal.
        loss = (1 - _oks_of_pairs(some, areas, one, other, sigmas[few])) * (len(few) / joints)
        near = ~(1 - loss <= threshold - _ROUNDING)
        one, other = one[near], other[near]
        alike = ~(_oks_of_pairs(points, areas, one, other, sigmas) <= threshold)
        for better, worse in zip(one[alike].tolist(), other[alike].tolist(), strict=True):
            if alive[better]:
                alive[worse] = False
    return alive


def _with_later(
    rows: NDArray[np.intp], later: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs of one of ``rows`` with one of the ``later[row]`` that follow it."""
    counts = later[rows]
    one = np.repeat(rows, counts)
    place = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
    return one, one + 1 + place


def _oks_of_pairs(
    points: Floats,
    areas: Floats,
    one: NDArray[np.intp],
    other: NDArray[np.intp],
    sigmas: NDArray[Any],
) -> NDArray[np.float64]:
    delta = points[other] - points[one]
    mean_area = (areas[one] + areas[other]) / 2
    squared = delta[..., 0] ** 2 + delta[..., 1] ** 2
    return _mean(keypoint_similarity(squared, mean_area, sigmas))


def _soft(
    keypoints: Floats,
    scores: Floats,
    areas: Floats,
    sigmas: NDArray[Any],
    order: NDArray[np.intp],
    threshold: float,
) -> NDArray[np.intp]:
    remaining = scores[order]
    chosen: list[int] = []
    while len(order) and len(chosen) < SOFT_NMS_PERSONS:
        best, order = order[0], order[1:]
        chosen.append(int(best))
        if not len(order):
            break
        one = slice(best, best + 1)
        similar = oks_matrix(keypoints[one], keypoints[order], areas[one], areas[order], sigmas)[0]
        remaining = remaining[1:] * np.exp(-(similar**2) / threshold)
        again = _best_first(remaining)
        order, remaining = order[again], remaining[again]
    return np.array(chosen, np.intp)
