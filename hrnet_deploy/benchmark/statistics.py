"""Figures of repeated measurements, and whether two sets of them differ beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Bootstrap resamples; the ends of a 95 % interval then rest on 50 of them each."""

_SEED = 0


@dataclass(frozen=True)
class Summary:
    """Distribution of repeated times; ``spread`` is the interquartile range over the median."""

    rounds: int
    median: float
    p5: float
    p95: float
    p99: float
    spread: float


@dataclass(frozen=True)
class Ratio:
    """How many times larger something is, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 1."""
        return self.low > 1 or self.high < 1


def summarise(values: Sequence[float]) -> Summary:
    """Median, percentiles and spread of at least one value."""
    p5, p25, median, p75, p95, p99 = np.percentile(values, [5, 25, 50, 75, 95, 99]).tolist()
    spread = (p75 - p25) / median if median > 0 else 0.0
    return Summary(len(values), median, p5, p95, p99, spread)


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Median of ``slow / fast`` over the rounds, in which both were measured one after another."""
    ratios = np.asarray(slow, np.float64) / np.asarray(fast, np.float64)
    medians = np.median(_resampled(ratios), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5]).tolist()
    return Ratio(float(np.median(ratios)), low, high)


def unpaired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Ratio of the medians ``second / first`` of two separate runs."""
    rng = np.random.default_rng(_SEED)
    medians = [
        np.median(_resampled(np.asarray(values, np.float64), rng), axis=1)
        for values in (first, second)
    ]
    low, high = np.percentile(medians[1] / medians[0], [2.5, 97.5]).tolist()
    return Ratio(float(np.median(second) / np.median(first)), low, high)


def rank_test(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of Mann and Whitney's test (normal approximation with ties)."""
    n, m = len(first), len(second)
    joined = np.concatenate([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    _, inverse, counts = np.unique(joined, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    statistic = float(ranks[:n].sum()) - n * (n + 1) / 2
    total = n + m
    ties = float((counts**3 - counts).sum()) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - ties)
    if variance <= 0:
        return 1.0
    distance = max(0.0, abs(statistic - n * m / 2) - 0.5)
    return math.erfc(distance / math.sqrt(2 * variance))


def _resampled(
    values: NDArray[np.float64], rng: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """Bootstrap resamples (RESAMPLES, n) of ``values`` (n,); the same on every call."""
    rng = rng or np.random.default_rng(_SEED)
    chosen = rng.integers(0, len(values), (RESAMPLES, len(values)))
    resampled: NDArray[np.float64] = values[chosen]
    return resampled
