"""Ranges of activations: histograms and their limits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from hrnet_deploy.export.calibration import Histogram


def test_the_range_of_a_histogram_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.exponential(scale, 5000).astype(np.float32) for scale in (0.01, 1, 30, 2)]
    counts, limits = [], []
    for order in (parts, parts[::-1]):
        histogram = Histogram()
        for part in order:
            histogram.add(part)
        counts.append(histogram.counts)
        limits.append(histogram.limit())
    assert np.array_equal(*counts)
    assert limits[0] == limits[1]


def test_a_lone_outlier_is_clipped_and_a_uniform_range_is_kept() -> None:
    rng = np.random.default_rng(0)
    uniform, outlier = Histogram(), Histogram()
    values = rng.uniform(-3, 3, 1_000_000).astype(np.float32)
    uniform.add(values)
    outlier.add(np.append(values, np.float32(12)))
    assert uniform.limit() == pytest.approx(3, rel=0.02)
    assert outlier.limit() < 6


def test_fp8_clips_nothing() -> None:
    histogram = Histogram()
    values = np.append(np.full(1_000_000, 0.5, np.float32), np.float32(12))
    histogram.add(values)
    assert histogram.limit("int8") < 12
    assert histogram.limit("fp8") == pytest.approx(12, rel=0.01)


def test_values_that_are_all_zero_have_a_limit() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32))
    assert histogram.limit() == 1
