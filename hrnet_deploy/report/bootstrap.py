"""Confidence intervals of COCO's ten figures by resampling pictures, without matching again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.accumulate import (
    Matched,
    matches_of_images,
    precision_and_recall,
)
from hrnet_deploy.evaluation.metric import STATS, Stats

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95
MIN_IMAGES = 2
"""A single picture says nothing about the spread between pictures."""

_AREAS = {"m": "medium", "l": "large"}


@dataclass(frozen=True)
class Matches:
    """The matches of an evaluation: N pictures, T OKS thresholds, by range of areas and category.

    ``image_ids`` (N,) are sorted; weights of pictures are in that order.
    """

    image_ids: tuple[int, ...]
    thresholds: tuple[float, ...]
    tables: dict[str, tuple[Matched, ...]]


def matches_of(evaluation: Any, *, first: int = 0) -> Matches:
    """The matches in a ``COCOeval`` after ``evaluate``, from its threshold number ``first`` on."""
    parameters = evaluation.params
    images, areas = len(parameters.imgIds), list(parameters.areaRngLbl)
    tables: dict[str, list[Matched]] = {name: [] for name in areas}
    for category in range(len(parameters.catIds)):
        for position, name in enumerate(areas):
            start = (category * len(areas) + position) * images
            entries = evaluation.evalImgs[start : start + images]
            tables[name].append(matches_of_images(entries, first=first))
    return Matches(
        image_ids=tuple(int(image_id) for image_id in parameters.imgIds),
        thresholds=tuple(float(value) for value in parameters.iouThrs[first:]),
        tables={name: tuple(table) for name, table in tables.items()},
    )


def figures(matches: Matches, weights: NDArray[np.int64] | None = None) -> Stats:
    """COCO's ten figures with picture i counted ``weights[i]`` times; None: once each."""
    if weights is None:
        weights = np.ones(len(matches.image_ids), np.int64)
    wanted: Stats = dict.fromkeys(STATS)
    for suffix in ("", "m", "l"):
        name = _AREAS.get(suffix, "all")
        curves = [
            curve
            for table in matches.tables[name]
            if (curve := precision_and_recall(table, weights)) is not None
        ]
        if not curves:
            continue
        precision = np.mean([curve[0] for curve in curves], axis=0)
        recall = np.mean([curve[1] for curve in curves], axis=0)
        wanted[f"AP{suffix}"] = float(precision.mean())
        wanted[f"AR{suffix}"] = float(recall.mean())
        if not suffix:
            for percent in (50, 75):
                row = matches.thresholds.index(percent / 100)
                wanted[f"AP{percent}"] = float(precision[row].mean())
                wanted[f"AR{percent}"] = float(recall[row])
    return wanted


def weights_of_resamples(images: int, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each of ``images`` pictures is drawn, for ``count`` draws of as many pictures."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        drawn = rng.integers(0, images, images)
        yield np.bincount(drawn, minlength=images).astype(np.int64)


def resampled(matches: Matches, *, count: int = RESAMPLES, seed: int = SEED) -> NDArray[np.float64]:
    """The figures (count, 10) of resampled sets, in the order of ``STATS``; NaN where undefined.

    The same count and seed draw the same pictures: differences of two engines are paired.
    """
    images = len(matches.image_ids)
    if images < MIN_IMAGES:
        return np.full((count, len(STATS)), np.nan)
    rows = [
        list(figures(matches, weights).values())
        for weights in weights_of_resamples(images, count, seed)
    ]
    return np.array(rows, np.float64).reshape(count, len(STATS))


Interval = tuple[float, float]


def intervals(draws: NDArray[np.float64], *, level: float = LEVEL) -> dict[str, Interval | None]:
    """Percentile intervals of the ten figures, or of differences, from their ``draws`` (count, 10).

    None where they are mostly undefined.
    """
    ends = (50 * (1 - level), 50 * (1 + level))
    found: dict[str, Interval | None] = {}
    for column, name in enumerate(STATS):
        values = draws[:, column]
        defined = values[~np.isnan(values)]
        if 2 * len(defined) <= len(values):
            found[name] = None
            continue
        low, high = np.percentile(defined, ends)
        found[name] = (float(low), float(high))
    return found
