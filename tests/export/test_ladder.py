"""Differences of the ladder are paired; the whole of it is run in tests/cli."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from hrnet_deploy.evaluation.plan import SkippedImage
from hrnet_deploy.export.ladder import _minus


def figures(ap: float, *left_out: int) -> Any:
    skipped = [SkippedImage(image_id, f"{image_id}.jpg", "gives NaN") for image_id in left_out]
    return SimpleNamespace(skipped=skipped), np.full(501, ap)


def test_a_difference_needs_the_same_pictures_on_both_sides() -> None:
    found = _minus(figures(0.75, 7), figures(0.5, 7))
    assert found is not None
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)
    assert _minus(figures(0.75), None) is None
    assert _minus(figures(0.75), figures(0.5, 7)) is None
