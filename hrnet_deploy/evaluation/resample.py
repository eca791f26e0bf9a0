"""AP of resampled pictures: how sure a figure, and the difference of two, is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.accumulate import Matched, precision_and_recall, tables_of
from hrnet_deploy.evaluation.matching import Matching

DRAWS = 500
LEVEL = 0.95


@dataclass(frozen=True)
class PictureMatches:
    """Which detections found a person, by picture: enough to compute AP of any choice of pictures.

    ``categories`` holds the matches of each category; ``similarity_sum`` and ``similarity_count``
    (I,) are the OKS of every labelled person with the detection that fits best, 0 where none does.
    """

    images: int
    categories: tuple[Matched, ...]
    similarity_sum: NDArray[np.float64]
    similarity_count: NDArray[np.float64]


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


def picture_matches(matching: Matching) -> PictureMatches:
    """What ``matching.matched`` found, by picture (in the order of its image ids)."""
    images = len(matching.image_ids)
    sums, counts = np.zeros(images), np.zeros(images)
    for category in matching.categories:
        wanted = ~category.person_ignored[0]
        np.add.at(sums, category.person_image[wanted], category.best[wanted])
        np.add.at(counts, category.person_image[wanted], 1)
    return PictureMatches(images, tables_of(matching)["all"], sums, counts)


def average_precision(matches: PictureMatches) -> float | None:
    """COCO AP in 0 to 1, equal to pycocotools'; None where it is undefined."""
    return _number(resampled_ap(matches, np.ones((1, matches.images)))[0])


def resampled_ap(matches: PictureMatches, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP (B,) where picture i stands ``drawn[b, i]`` times; NaN where it is undefined.

    With whole weights (B, I) it is pycocotools' AP of the pictures repeated so often.
    """
    return np.array([_average_precision(matches, weights) for weights in drawn], np.float64)


def _average_precision(matches: PictureMatches, weights: NDArray[np.float64]) -> float:
    """AP of one drawing (I,): the mean over the categories that have persons, NaN without any."""
    curves = (precision_and_recall(category, weights) for category in matches.categories)
    values = [float(curve[0].mean()) for curve in curves if curve is not None]
    return float(np.mean(values)) if values else np.nan


def resampled_similarity(
    matches: PictureMatches, drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
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
