"""COCO keypoint AP and AR, equal to pycocotools' to the last digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.accumulate import Matched, precision_and_recall, tables_of
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import Matching, matched

STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""The ten figures of COCO's keypoint summary, in its order."""

Stats = dict[str, float | None]

_AREAS = {"": "all", "m": "medium", "l": "large"}


@dataclass(frozen=True)
class Matches:
    """The matches of an evaluation: N pictures, T OKS thresholds, by range of areas and category.

    ``image_ids`` (N,) are sorted; weights of pictures are in that order.
    """

    image_ids: tuple[int, ...]
    thresholds: tuple[float, ...]
    tables: dict[str, tuple[Matched, ...]]


def matches_of(matching: Matching, *, first: int = 0) -> Matches:
    """What the figures are made from, from threshold number ``first`` of ``matching`` on."""
    tables = tables_of(matching, first=first)
    return Matches(matching.image_ids, matching.thresholds[first:], tables)


def coco_stats(
    annotations: Sequence[Mapping[str, Any]],
    detections: Detections,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    sigmas: Sequence[float],
) -> Stats:
    """The figures of ``STATS`` in 0 to 1 over ``image_ids``, None where COCO prints -1.

    ``annotations`` are entries of a COCO file. Without detections everything that is defined is 0;
    without labelled persons nothing is defined.
    """
    matching = matched(
        annotations,
        detections,
        image_ids=image_ids,
        category_ids=category_ids,
        sigmas=sigmas,
    )
    return figures(matches_of(matching))


def figures(matches: Matches, weights: NDArray[np.int64] | None = None) -> Stats:
    """COCO's ten figures with picture i counted ``weights[i]`` times; None: once each."""
    if weights is None:
        weights = np.ones(len(matches.image_ids), np.int64)
    stats: Stats = dict.fromkeys(STATS)
    for suffix, name in _AREAS.items():
        curves = [
            curve
            for table in matches.tables[name]
            if (curve := precision_and_recall(table, weights)) is not None
        ]
        if not curves:
            continue
        precision = np.stack([curve[0] for curve in curves], axis=-1)
        recall = np.stack([curve[1] for curve in curves], axis=-1)
        stats[f"AP{suffix}"] = float(precision.mean())
        stats[f"AR{suffix}"] = float(recall.mean())
        if not suffix:
            for percent in (50, 75):
                row = matches.thresholds.index(percent / 100)
                stats[f"AP{percent}"] = float(precision[row].mean())
                stats[f"AR{percent}"] = float(recall[row].mean())
    return stats
