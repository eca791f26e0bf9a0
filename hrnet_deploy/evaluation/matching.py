"""Which detection finds which person, by COCO's rules for keypoints, for all pictures at once.

The rules are those of pycocotools (``COCOeval.evaluateImg``): detections choose in the order of
their scores, each the most similar person that is left and similar enough. Operations follow its
order, so that similarities are equal to the last bit and ties fall alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.truth import Bools, Floats, Indices, Truth, outside_ranges

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""OKS from which a person counts as found (pycocotools, ``Params.iouThrs``)."""

MAX_DETECTIONS = 20
"""The best detections of a picture that count (pycocotools, ``Params.maxDets``)."""

_HIGHEST = 1 - 1e-10
"""A threshold of 1 is met by what rounding leaves of equality, as in pycocotools."""


@dataclass(frozen=True, eq=False)
class CategoryMatches:
    """One category: P persons and the D detections that count, A ranges of areas, T thresholds.

    ``persons`` (P,) and ``detections`` (D,) are indices in what was given, ``person_image`` and
    ``detection_image`` those of their pictures. Persons stand by picture, detections by falling
    ``scores`` (D,). ``person_ignored`` (A, P) says who need not be found, ``found_by`` (A, T, P)
    by which of the D a person was found, -1 where by none. ``matched`` (A, T, D) says whether a
    detection found anybody, ``ignored`` (A, T, D) whether it is neither right nor wrong. ``best``
    (P,) is the OKS of the detection that is most like each person, 0 without any.
    """

    persons: Indices
    person_image: Indices
    person_ignored: Bools
    found_by: Indices
    best: Floats
    detections: Indices
    detection_image: Indices
    scores: Floats
    matched: Bools
    ignored: Bools


@dataclass(frozen=True, eq=False)
class Matching:
    """The matches of each category over ``image_ids`` (rising) at the OKS ``thresholds`` (T,).

    Ranges of areas are those of ``truth.AREA_RANGES``, in their order.
    """

    image_ids: tuple[int, ...]
    thresholds: tuple[float, ...]
    categories: tuple[CategoryMatches, ...]


def matched(
    annotations: Sequence[Mapping[str, Any]],
    detections: Detections,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    sigmas: Sequence[float],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Matching:
    """Match ``detections`` with the entries of a COCO file's ``annotations`` over ``image_ids``.

    What is of other pictures or categories does not count. Unlike in pycocotools the ids of
    annotations play no part: one with id 0 can be found.
    """
    ids = tuple(sorted(set(image_ids)))
    position = {image_id: index for index, image_id in enumerate(ids)}
    image_of_person = _positions((entry["image_id"] for entry in annotations), position)
    image_of_detection = _positions(detections.image_ids.tolist(), position)
    category_of_person = np.array([entry["category_id"] for entry in annotations])
    categories = []
    for category in sorted(set(category_ids)):
        persons = np.flatnonzero((image_of_person >= 0) & (category_of_person == category))
        persons = persons[np.argsort(image_of_person[persons], kind="stable")]
        chosen = (image_of_detection >= 0) & (detections.category_ids == category)
        found = np.flatnonzero(chosen)
        found = found[_best_first(image_of_detection[found], detections.scores[found])]
        categories.append(
            _match(
                Truth.of([annotations[index] for index in persons.tolist()], len(sigmas)),
                detections[found],
                (persons, found),
                (image_of_person[persons], image_of_detection[found]),
                np.asarray(sigmas, np.float64),
                np.asarray(thresholds, np.float64),
            )
        )
    return Matching(ids, tuple(map(float, thresholds)), tuple(categories))


def _positions(image_ids: Iterable[Any], position: Mapping[Any, int]) -> Indices:
    """The index of each picture, -1 for those that do not count."""
    return np.array([position.get(image_id, -1) for image_id in image_ids], np.intp)


def _best_first(image_of: Indices, scores: Floats) -> Indices:
    """Indices of the best detections of each picture, all by falling score, ties by picture."""
    by_picture = np.lexsort((-scores, image_of))
    kept = by_picture[_rank(image_of[by_picture]) < MAX_DETECTIONS]
    return kept[np.argsort(-scores[kept], kind="stable")]


def _rank(groups: Indices) -> Indices:
    """The place (N,) of each entry among those of its group, in the order in which they stand."""
    order = np.argsort(groups, kind="stable")
    rank = np.empty(len(groups), np.intp)
    rank[order] = np.arange(len(groups)) - np.searchsorted(groups[order], groups[order])
    return rank


def _match(
    truth: Truth,
    found: Detections,
    indices: tuple[Indices, Indices],
    image_of: tuple[Indices, Indices],
    sigmas: Floats,
    thresholds: Floats,
) -> CategoryMatches:
    """One category; ``indices`` and ``image_of`` are those of its persons and its detections."""
    poses = np.asarray(found.keypoints[..., :2], np.float64)
    person, detection = _pairs(*image_of)
    similar = truth.similarities(poses, person, detection, sigmas)
    best = np.zeros(len(indices[0]))
    np.maximum.at(best, person, similar)
    outside = outside_ranges(np.ptp(poses, axis=1).prod(axis=1))
    shape = len(outside), len(thresholds)
    matches = CategoryMatches(
        persons=indices[0],
        person_image=image_of[0],
        person_ignored=truth.ignored,
        found_by=np.full((*shape, len(indices[0])), -1, np.intp),
        best=best,
        detections=indices[1],
        detection_image=image_of[1],
        scores=found.scores,
        matched=np.zeros((*shape, len(found)), np.bool_),
        ignored=np.repeat(outside[:, None], len(thresholds), axis=1),
    )
    _choose(matches, truth.crowd, person, detection, similar, thresholds)
    return matches


def _pairs(person_image: Indices, detection_image: Indices) -> tuple[Indices, Indices]:
    """Every person with every detection of the same picture, by detection and then person."""
    first = np.searchsorted(person_image, detection_image)
    counts = np.searchsorted(person_image, detection_image, side="right") - first
    detection = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first[detection] + place, detection


def _choose(
    matches: CategoryMatches,
    crowd: Bools,
    person: Indices,
    detection: Indices,
    similar: Floats,
    thresholds: Floats,
) -> None:
    """Fill in who found whom: the best detection of every picture chooses, then the second, ...

    ``person``, ``detection`` and ``similar`` (N,) are the pairs, ``crowd`` (P,) who can be found
    again and again.
    """
    wanted = np.minimum(thresholds, _HIGHEST)
    near = np.flatnonzero(similar >= wanted.min())
    rank = _rank(matches.detection_image)
    # A detection takes the most similar, of equal ones the last: the last in this order.
    order = near[np.lexsort((similar[near], detection[near], rank[detection[near]]))]
    person, detection, count = person[order], detection[order], len(order)
    enough = similar[order] >= wanted[:, None]
    # Ignored persons come into question where no other does.
    place = np.arange(count) + count * ~matches.person_ignored[:, person]
    for start, end in pairwise(np.searchsorted(rank[detection], np.arange(MAX_DETECTIONS + 1))):
        here = slice(start, end)
        if start == end:
            continue
        left = (matches.found_by[:, :, person[here]] < 0) | crowd[person[here]]
        places = np.where(left & enough[:, here], place[:, None, here], -1)
        edges = np.flatnonzero(np.diff(detection[here], prepend=-1))
        chosen = np.maximum.reduceat(places, edges, axis=2)
        area, threshold, which = np.nonzero(chosen >= 0)
        pair = chosen[area, threshold, which] % count
        found, finder = person[pair], detection[pair]
        matches.found_by[area, threshold, found] = finder
        matches.matched[area, threshold, finder] = True
        matches.ignored[area, threshold, finder] = matches.person_ignored[area, found]
