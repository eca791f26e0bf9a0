"""Ranges of activations: histograms and their limits."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.export import calibration
from hrnet_deploy.export.calibration import Histogram, calibrate
from hrnet_deploy.export.cpu_session import CpuSession


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


def test_calibration_keeps_to_the_threads(
    small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[CpuSession] = []

    class Noted(CpuSession):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            opened.append(self)

    monkeypatch.setattr(calibration, "CpuSession", Noted)
    model = small.small_model(flip_test=False, shift_heatmap=False)
    limits = calibrate(model, np.zeros((1, *small.SIZE_HW, 3), np.uint8), threads=3)
    assert min(limits.values()) > 0
    assert opened[0]._session.get_session_options().intra_op_num_threads == 3


def test_what_onnx_runtime_cannot_run_is_said_in_one_line(small: ModuleType) -> None:
    model = small.small_model(flip_test=False, shift_heatmap=False)
    crops = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(EnvironmentFault, match=r"w32\.pth: ONNX Runtime failed \(.*dimensions"):
        calibrate(model, crops, source="w32.pth")
