"""AP of resampled pictures: how sure a figure, and the difference of two, is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.00, 101)
"""COCO reads precision at these recalls (pycocotools, ``Params.recThrs``)."""

DRAWS = 500
LEVEL = 0.95
CELLS_AT_ONCE = 1 << 22
"""Bounds the memory of a bootstrap: drawings times thresholds times detections."""


@dataclass(frozen=True)
class Matches:
    """Which detections found a person, by picture: enough to compute AP of any choice of pictures.

    For each category: ``scores`` (D,) falling, ``image`` (D,) counting in the pictures, ``hit``
    and ``counted`` (T, D) for each of T thresholds, ``persons`` (I,) labelled persons of each
    picture. ``similarity_sum`` and ``similarity_count`` (I,) are the OKS of every labelled person
    with the detection that fits best, 0 where none does.
    """

    images: int
    categories: tuple[_Category, ...]
    similarity_sum: NDArray[np.float64]
    similarity_count: NDArray[np.float64]


@dataclass(frozen=True)
class _Category:
    scores: NDArray[np.float64]
    image: NDArray[np.intp]
    hit: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    persons: NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with the borders of its 95 % bootstrap interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        """The three numbers, rounded to what they can say."""
        return {
            name: None if number is None else round(number, 6)
            for name, number in (("value", self.value), ("low", self.low), ("high", self.high))
        }


def matches_of(evaluation: Any) -> Matches:
    """What ``metric.matched`` found, by picture (in the order of its sorted image ids)."""
    image_ids = list(evaluation.params.imgIds)
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    categories = []
    sums, counts = np.zeros(len(image_ids)), np.zeros(len(image_ids))
    areas = len(evaluation.params.areaRng)
    for number, category in enumerate(evaluation.params.catIds):
        start = number * areas * len(image_ids)
        entries = [e for e in evaluation.evalImgs[start : start + len(image_ids)] if e is not None]
        categories.append(_category(entries, position, len(evaluation.params.iouThrs)))
        for image_id in image_ids:
            persons = evaluation._gts[image_id, category]
            similar = np.asarray(evaluation.ious[image_id, category])
            for column, person in enumerate(persons):
                if person["ignore"]:
                    continue
                counts[position[image_id]] += 1
                if similar.size:
                    sums[position[image_id]] += similar[:, column].max()
    return Matches(len(image_ids), tuple(categories), sums, counts)


def _category(entries: list[Any], position: dict[int, int], thresholds: int) -> _Category:
    persons = np.zeros(len(position))
    scores, image, hit, counted = [], [], [np.zeros((thresholds, 0), bool)], []
    for entry in entries:
        index = position[entry["image_id"]]
        persons[index] += np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
        found = len(entry["dtScores"])
        scores.extend(entry["dtScores"])
        image.extend([index] * found)
        hit.append(np.asarray(entry["dtMatches"]).reshape(thresholds, found) != 0)
        counted.append(np.asarray(entry["dtIgnore"]).reshape(thresholds, found) == 0)
    order = np.argsort(-np.asarray(scores, np.float64), kind="mergesort")
    together = np.concatenate(hit, axis=1)
    valid = np.concatenate([np.zeros((thresholds, 0), bool), *counted], axis=1)
    return _Category(
        np.asarray(scores, np.float64)[order],
        np.asarray(image, np.intp)[order],
        together[:, order],
        valid[:, order],
        persons,
    )


def average_precision(matches: Matches) -> float | None:
    """COCO AP in 0 to 1, equal to pycocotools'; None where it is undefined."""
    return _number(resampled_ap(matches, np.ones((1, matches.images)))[0])


def resampled_ap(matches: Matches, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP (B,) where picture i stands ``drawn[b, i]`` times; NaN where it is undefined.

    With whole weights (B, I) it is pycocotools' AP of the pictures repeated so often.
    """
    values = np.full((len(matches.categories), len(drawn)), np.nan)
    for row, category in zip(values, matches.categories, strict=True):
        step = max(1, CELLS_AT_ONCE // max(1, category.hit.size))
        for start in range(0, len(drawn), step):
            row[start : start + step] = _precision(category, drawn[start : start + step])
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _precision(category: _Category, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP (B,) of one category, NaN where no labelled person was drawn."""
    total = drawn @ category.persons
    weight = drawn[:, None, category.image]
    right = np.cumsum((category.hit & category.counted) * weight, axis=2)
    wrong = np.cumsum((~category.hit & category.counted) * weight, axis=2)
    recall = right / np.maximum(total, 1)[:, None, None]
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    sums = np.zeros(len(drawn))
    for b, t in np.ndindex(*recall.shape[:2]):
        place = np.searchsorted(recall[b, t], RECALLS, side="left")
        sums[b] += precision[b, t, place[place < recall.shape[2]]].sum()
    return np.where(total > 0, sums / (recall.shape[1] * len(RECALLS)), np.nan)


def resampled_similarity(matches: Matches, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean OKS (B,) of the labelled persons with the detection that fits each best, or NaN."""
    count = drawn @ matches.similarity_count
    return np.where(count > 0, drawn @ matches.similarity_sum / np.maximum(count, 1), np.nan)


def draws_of(images: int, *, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """How often each of the pictures stands in each drawing with replacement: (draws + 1, images).

    The first row holds every picture once.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)
    return np.concatenate([np.ones((1, images)), drawn])


def interval_of(values: NDArray[np.float64]) -> Interval:
    """The first of ``values`` with the 95 % interval of the others; NaN are left out."""
    defined = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(defined):
        return Interval(_number(values[0]), None, None)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(values[0]), float(low), float(high))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
