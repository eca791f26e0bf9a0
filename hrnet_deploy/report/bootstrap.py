"""Confidence intervals of COCO figures by resampling pictures, without matching them again.

Who is matched with whom depends on one picture alone. A resampled set is therefore the same
matches with each picture counted as often as it was drawn, and COCO's accumulation over them gives
exactly what pycocotools gives on a set in which drawn pictures stand several times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.metric import STATS, Stats

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95
MIN_IMAGES = 2
"""A single picture says nothing about the spread between pictures."""

_AREAS = {"m": "medium", "l": "large"}


@dataclass(frozen=True)
class _Accumulated:
    """Matches of one category in one range of areas.

    The D detections stand by falling score: ``image_of`` (D,) is the index of the picture,
    ``true`` and ``false`` (T, D) say at each threshold whether it counts as found or as wrong.
    ``persons`` (N,) is how many persons of each picture are to be found.
    """

    image_of: NDArray[np.intp]
    true: NDArray[np.bool_]
    false: NDArray[np.bool_]
    persons: NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """The matches of an evaluation: N pictures, T OKS thresholds, by range of areas and category.

    ``image_ids`` (N,) are sorted; weights of pictures are in that order.
    """

    image_ids: tuple[int, ...]
    thresholds: tuple[float, ...]
    recalls: NDArray[np.float64]
    tables: dict[str, tuple[_Accumulated, ...]]


def matches_of(evaluation: Any, *, first: int = 0) -> Matches:
    """The matches in a ``COCOeval`` after ``evaluate``, from its threshold number ``first`` on."""
    parameters = evaluation.params
    images, areas = len(parameters.imgIds), list(parameters.areaRngLbl)
    tables: dict[str, list[_Accumulated]] = {name: [] for name in areas}
    for category in range(len(parameters.catIds)):
        for position, name in enumerate(areas):
            start = (category * len(areas) + position) * images
            tables[name].append(_accumulated(evaluation.evalImgs[start : start + images], first))
    return Matches(
        image_ids=tuple(int(image_id) for image_id in parameters.imgIds),
        thresholds=tuple(float(value) for value in parameters.iouThrs[first:]),
        recalls=np.asarray(parameters.recThrs, np.float64),
        tables={name: tuple(table) for name, table in tables.items()},
    )


def _accumulated(entries: list[dict[str, Any] | None], first: int) -> _Accumulated:
    persons = np.array([0 if e is None else np.sum(e["gtIgnore"] == 0) for e in entries], np.int64)
    there = [(index, entry) for index, entry in enumerate(entries) if entry is not None]
    if not there:
        nothing = np.zeros((0, 0), np.bool_)
        return _Accumulated(np.zeros(0, np.intp), nothing, nothing, persons)
    counts = [len(entry["dtScores"]) for _, entry in there]
    image_of = np.repeat([index for index, _ in there], counts).astype(np.intp)
    scores = np.concatenate([np.asarray(entry["dtScores"], np.float64) for _, entry in there])
    matched = np.concatenate([entry["dtMatches"][first:] for _, entry in there], axis=1) > 0
    ignored = np.concatenate([entry["dtIgnore"][first:] for _, entry in there], axis=1) > 0
    order = np.argsort(-scores, kind="mergesort")
    true, false = (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order]
    return _Accumulated(image_of[order], true, false, persons)


def figures(matches: Matches, weights: NDArray[np.int64] | None = None) -> Stats:
    """COCO's ten figures with picture i counted ``weights[i]`` times; None: once each.

    Equal scores within one picture keep their order, copies of a detection stay together.
    """
    if weights is None:
        weights = np.ones(len(matches.image_ids), np.int64)
    wanted: Stats = dict.fromkeys(STATS)
    for suffix in ("", "m", "l"):
        name = _AREAS.get(suffix, "all")
        curves = [
            curve
            for table in matches.tables[name]
            if (curve := _curves(table, weights, matches.recalls)) is not None
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


def _curves(
    table: _Accumulated, weights: NDArray[np.int64], recalls: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Precision (T, R) at the recall levels and final recall (T,); None without persons."""
    persons = int(weights @ table.persons)
    if persons == 0:
        return None
    counts = weights[table.image_of]
    drawn = counts > 0
    counts = counts[drawn]
    true = np.cumsum(table.true[:, drawn] * counts, axis=1)
    false = np.cumsum(table.false[:, drawn] * counts, axis=1)
    precision = np.zeros((len(true), len(recalls)))
    if true.shape[1] == 0:
        return precision, np.zeros(len(true))
    recall = true / persons
    exact = true / (false + true + np.spacing(1))
    falling = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
    for row in range(len(true)):
        places = np.searchsorted(recall[row], recalls, side="left")
        reached = places < recall.shape[1]
        precision[row, reached] = falling[row, places[reached]]
    return precision, recall[:, -1]


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
