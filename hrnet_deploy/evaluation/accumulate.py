"""COCO's accumulation over matches that are at hand, with every picture counted as often as wanted.

Who is matched with whom depends on one picture alone. A resampled set is therefore the same matches
with each picture counted as often as it was drawn, and gives exactly what pycocotools gives on a
set in which drawn pictures stand several times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.matching import CategoryMatches, Matching
from hrnet_deploy.evaluation.truth import AREA_RANGES

RECALLS = np.linspace(0.0, 1.00, 101)
"""COCO reads precision at these recalls (pycocotools, ``Params.recThrs``)."""


@dataclass(frozen=True)
class Matched:
    """Matches of one category in one range of areas: D detections, T thresholds, N pictures.

    The detections stand by falling score: ``image_of`` (D,) is the index of the picture, ``true``
    and ``false`` (T, D) say at each threshold whether it counts as found or as wrong (neither:
    ignored). ``persons`` (N,) is how many persons of each picture are to be found.
    """

    image_of: NDArray[np.intp]
    true: NDArray[np.bool_]
    false: NDArray[np.bool_]
    persons: NDArray[np.int64]


def tables_of(matching: Matching, *, first: int = 0) -> dict[str, tuple[Matched, ...]]:
    """The matches of each category by the range of areas, from threshold number ``first`` on."""
    images = len(matching.image_ids)
    return {
        name: tuple(_table(category, area, images, first) for category in matching.categories)
        for area, name in enumerate(AREA_RANGES)
    }


def _table(category: CategoryMatches, area: int, images: int, first: int) -> Matched:
    wanted = category.person_image[~category.person_ignored[area]]
    matched, counts = category.matched[area, first:], ~category.ignored[area, first:]
    return Matched(
        category.detection_image,
        matched & counts,
        ~matched & counts,
        np.bincount(wanted, minlength=images),
    )


def precision_and_recall(
    matches: Matched, weights: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Precision (T, 101) at ``RECALLS`` and final recall (T,), picture i standing ``weights[i]``
    times (N,); None where no person is to be found.

    Equal scores within one picture keep their order, copies of a detection stay together.
    """
    persons = float(weights @ matches.persons)
    if persons == 0:
        return None
    counts = weights[matches.image_of]
    precision, recall = np.zeros((len(matches.true), len(RECALLS))), np.zeros(len(matches.true))
    for row, (true, false) in enumerate(zip(matches.true, matches.false, strict=True)):
        # Recall rises only where a person is found, and precision is never higher than there.
        places = np.flatnonzero(true & (counts > 0))
        if not len(places):
            continue
        found, wrong = np.cumsum(counts[places]), np.cumsum(counts * false)[places]
        exact = found / (wrong + found + np.spacing(1))
        falling = np.maximum.accumulate(exact[::-1])[::-1]
        first = np.searchsorted(found / persons, RECALLS, side="left")
        reached = first < len(places)
        precision[row, reached] = falling[first[reached]]
        recall[row] = found[-1] / persons
    return precision, recall
