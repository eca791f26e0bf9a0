"""Confidence intervals of COCO's ten figures by resampling pictures, without matching again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.metric import STATS, Matches, figures

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95
MIN_IMAGES = 2
"""A single picture says nothing about the spread between pictures."""


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


def intervals(
    draws: NDArray[np.float64], *, level: float = LEVEL
) -> dict[str, tuple[float, float] | None]:
    """Percentile intervals of the ten figures, or of differences, from their ``draws`` (count, 10).

    None where they are mostly undefined.
    """
    ends = (50 * (1 - level), 50 * (1 + level))
    found: dict[str, tuple[float, float] | None] = {}
    for column, name in enumerate(STATS):
        values = draws[:, column]
        defined = values[~np.isnan(values)]
        if 2 * len(defined) <= len(values):
            found[name] = None
            continue
        low, high = np.percentile(defined, ends)
        found[name] = (float(low), float(high))
    return found
