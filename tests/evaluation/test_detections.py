from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hrnet_deploy.evaluation.detections import Detections


def made_up(count: int, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    return Detections(
        rng.integers(1, 9, count),
        np.ones(count, np.int64),
        rng.normal(100, 200, (count, 3, 3)).astype(np.float32),
        rng.uniform(0, 1, count),
        rng.uniform(0, 500, (count, 2)).astype(np.float32),
        rng.uniform(0, 3, (count, 2)).astype(np.float32),
    )


@pytest.mark.parametrize("count", [0, 1, 511, 512, 1100])
def test_json_holds_the_entries_to_the_last_bit(count: int) -> None:
    detections = made_up(count)
    assert [json.loads(line) for line in detections.as_json()] == list(detections.as_coco())


def test_entries_and_arrays_are_the_same() -> None:
    detections = made_up(20)
    again = Detections.from_coco(list(detections.as_coco()), 3)
    for field in dataclasses.fields(Detections):
        before, after = getattr(detections, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(before, after)
    assert len(detections[3:5]) == 2
    assert list(detections[3:5].as_coco()) == list(detections.as_coco())[3:5]


@pytest.mark.parametrize("name", ["keypoints", "scores", "center", "scale"])
def test_no_json_of_nan(name: str) -> None:
    detections = made_up(3)
    getattr(detections, name).flat[-1] = np.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        list(detections.as_json())


def test_where_the_crops_were_may_be_unknown() -> None:
    entry = {"image_id": 10**30, "category_id": 1, "keypoints": [1, 2, 0.5], "score": 1}
    detections = Detections.from_coco([entry], 1)
    assert detections.image_ids.tolist() == [10**30]
    assert np.isnan(detections.center).all()
    assert len(Detections.from_coco([], 17)) == 0
