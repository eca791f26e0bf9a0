"""COCO's accumulation over matches that are at hand, with every picture counted as often as wanted.

Who is matched with whom depends on one picture alone. A resampled set is therefore the same matches
with each picture counted as often as it was drawn, and gives exactly what pycocotools gives on a
set in which drawn pictures stand several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def matches_of_images(entries: Sequence[dict[str, Any] | None], *, first: int = 0) -> Matched:
    """Of N ``COCOeval.evalImgs`` in the order of the pictures, from threshold ``first`` on."""
    persons = np.array([0 if e is None else np.sum(e["gtIgnore"] == 0) for e in entries], np.int64)
    there = [(index, entry) for index, entry in enumerate(entries) if entry is not None]
    if not there:
        nothing = np.zeros((0, 0), np.bool_)
        return Matched(np.zeros(0, np.intp), nothing, nothing, persons)
    counts = [len(entry["dtScores"]) for _, entry in there]
    image_of = np.repeat([index for index, _ in there], counts).astype(np.intp)
    scores = np.concatenate([np.asarray(entry["dtScores"], np.float64) for _, entry in there])
    matched = np.concatenate([entry["dtMatches"][first:] for _, entry in there], axis=1) > 0
    ignored = np.concatenate([entry["dtIgnore"][first:] for _, entry in there], axis=1) > 0
    order = np.argsort(-scores, kind="mergesort")
    true, false = (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order]
    return Matched(image_of[order], true, false, persons)


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
    drawn = counts > 0
    counts = counts[drawn]
    true = np.cumsum(matches.true[:, drawn] * counts, axis=1)
    false = np.cumsum(matches.false[:, drawn] * counts, axis=1)
    precision = np.zeros((len(true), len(RECALLS)))
    if true.shape[1] == 0:
        return precision, np.zeros(len(true))
    recall = true / persons
    exact = true / (false + true + np.spacing(1))
    falling = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
    for row in range(len(true)):
        places = np.searchsorted(recall[row], RECALLS, side="left")
        reached = places < recall.shape[1]
        precision[row, reached] = falling[row, places[reached]]
    return precision, recall[:, -1]
