"""Resampled figures are those that pycocotools gives on the resampled set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools")

from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import matched
from hrnet_deploy.evaluation.metric import STATS, Matches, figures, matches_of
from hrnet_deploy.report.bootstrap import intervals, resampled, weights_of_resamples
from tests.coco_reference import reference_stats

SIGMAS = (0.1, 0.08, 0.12)
IMAGES = (4, 7, 9, 12, 30)
RICH = 0
"""The seed of a set with persons on every picture."""
CATEGORIES = (1, 3)


def made_up(seed: int, *, categories: tuple[int, ...] = (1,)) -> tuple[list[Any], list[Any]]:
    """Persons (crowds and unlabelled ones among them) and detections on ``IMAGES``."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image_id in IMAGES[: int(rng.integers(2, 6))]:
        for _ in range(int(rng.integers(0, 4))):
            side = float(rng.uniform(20, 160))
            points = rng.uniform(0, 300) + rng.uniform(0, side, (3, 2))
            category = int(rng.choice(categories))
            labels = rng.choice([0, 2], 3, p=[0.2, 0.8])
            shared = {"image_id": image_id, "category_id": category}
            flat = np.column_stack([points * (labels[:, None] > 0), labels]).ravel().tolist()
            annotations.append(
                {
                    **shared,
                    "bbox": [*points.min(axis=0).tolist(), side, side],
                    "area": side * side * 0.6,
                    "iscrowd": int(rng.random() < 0.15),
                    "keypoints": flat,
                    "num_keypoints": int((labels > 0).sum()),
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                away = points + rng.normal(0, side * 0.08, (3, 2))
                flat = np.column_stack([away, np.ones(3)]).ravel().tolist()
                score = float(rng.random())
                detections.append({**shared, "keypoints": flat, "score": score})
    return annotations, detections


def matches(annotations: list[Any], detections: list[Any], categories: Any = (1,)) -> Matches:
    matching = matched(
        annotations,
        Detections.from_coco(detections, len(SIGMAS)),
        image_ids=IMAGES,
        category_ids=categories,
        sigmas=SIGMAS,
    )
    return matches_of(matching)


def repeated(entries: list[Any], weights: np.ndarray) -> list[Any]:
    """``entries`` of the literally resampled set: picture i stands there ``weights[i]`` times."""
    return [
        {**entry, "image_id": 100 * image_id + copy}
        for image_id, weight in zip(IMAGES, weights, strict=True)
        for copy in range(weight)
        for entry in entries
        if entry["image_id"] == image_id
    ]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    weights=st.lists(st.integers(0, 3), min_size=5, max_size=5).filter(any),
    categories=st.sampled_from([(1,), CATEGORIES]),
)
def test_resampled_figures_are_those_of_pycocotools(
    seed: int, weights: list[int], categories: tuple[int, ...]
) -> None:
    annotations, detections = made_up(seed, categories=categories)
    counts = np.array(weights)
    expected = reference_stats(
        repeated(annotations, counts),
        repeated(detections, counts),
        image_ids=[100 * i + c for i, w in zip(IMAGES, weights, strict=True) for c in range(w)],
        category_ids=categories,
        sigmas=SIGMAS,
    )
    fast = figures(matches(annotations, detections, categories), counts)
    assert list(fast) == list(STATS)
    for name in STATS:
        if expected[name] is None:
            assert fast[name] is None
        else:
            assert fast[name] == pytest.approx(expected[name], abs=1e-12)


def test_the_figures_of_the_whole_set() -> None:
    annotations, detections = made_up(RICH)
    whole = {"image_ids": IMAGES, "category_ids": (1,), "sigmas": SIGMAS}
    expected = reference_stats(annotations, detections, **whole)
    assert 0 < expected["AP"] < 1
    assert figures(matches(annotations, detections)) == pytest.approx(expected, abs=1e-12)


def test_nobody_to_find_is_undefined_and_nobody_found_is_zero() -> None:
    annotations, _ = made_up(RICH)
    assert set(figures(matches([], [])).values()) == {None}
    assert figures(matches(annotations, []))["AP"] == 0
    nobody = np.zeros(len(IMAGES), np.int64)
    assert figures(matches(*made_up(RICH)), nobody)["AP"] is None


def test_draws_take_as_many_pictures_and_repeat_with_the_seed() -> None:
    first = [weights.tolist() for weights in weights_of_resamples(7, 5, seed=1)]
    assert all(sum(weights) == 7 for weights in first)
    assert len({tuple(weights) for weights in first}) > 1
    assert first == [weights.tolist() for weights in weights_of_resamples(7, 5, seed=1)]
    assert first != [weights.tolist() for weights in weights_of_resamples(7, 5, seed=2)]


def test_an_interval_is_where_the_draws_are() -> None:
    draws = resampled(matches(*made_up(RICH)), count=200)
    ap = draws[:, STATS.index("AP")]
    low, high = intervals(draws)["AP"] or (1.0, 0.0)
    assert low < np.median(ap) < high
    assert np.mean((ap >= low) & (ap <= high)) == pytest.approx(0.95, abs=0.02)
    wide = intervals(draws, level=0.99)["AP"]
    assert wide is not None
    assert wide[0] <= low < high <= wide[1]


def test_what_is_mostly_undefined_has_no_interval() -> None:
    annotations, detections = made_up(RICH)
    assert set(intervals(resampled(matches([], []), count=100)).values()) == {None}
    small = [{**entry, "area": 40.0**2} for entry in annotations]
    found = intervals(resampled(matches(small, detections), count=100))
    assert found["APl"] is None
    assert found["APm"] is not None


def test_one_picture_has_no_interval() -> None:
    annotations, detections = made_up(RICH)
    found = Detections.from_coco(detections, len(SIGMAS))
    one = matched(annotations, found, image_ids=IMAGES[:1], category_ids=(1,), sigmas=SIGMAS)
    assert set(intervals(resampled(matches_of(one), count=100)).values()) == {None}


def test_differences_are_paired_by_the_seed() -> None:
    """Two engines of which one is better on every picture differ surely, however AP varies."""
    annotations, detections = made_up(RICH)
    first = resampled(matches(annotations, detections), count=100)
    again = resampled(matches(annotations, detections), count=100)
    assert intervals(first - again)["AP"] == (0.0, 0.0)
    none = resampled(matches(annotations, []), count=100)
    assert intervals(first - none) == intervals(first)
