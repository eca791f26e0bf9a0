"""Track numbers that stay with a person, and smoothing with the lag that is stated."""

from __future__ import annotations

import math
from pathlib import PurePath

import numpy as np
import pytest

from hrnet_deploy.predict.frames import Boxes, Frame, Predicted
from hrnet_deploy.predict.smooth import OneEuroSmoother, lag_s
from hrnet_deploy.predict.track import OksTracker
from hrnet_deploy.runtime.pose import Poses, instance_scores

SIGMAS = (0.079, 0.079, 0.087, 0.089)
SHAPE = np.array([[0, -40], [0, 0], [-10, 40], [10, 40]], np.float64)
FPS = 25.0


def result(
    centers: list[tuple[float, float]],
    time_s: float,
    *,
    scores: list[float] | None = None,
    ids: list[int] | None = None,
) -> Predicted:
    """Persons of one shape at ``centers``."""
    middle = np.array(centers, np.float64).reshape(-1, 2)
    keypoints = (middle[:, None] + SHAPE).astype(np.float32)
    points = np.repeat(np.array(scores or [0.9] * len(centers))[:, None], 4, axis=1)
    boxes = np.concatenate([middle - [25, 50], middle + [25, 50]], axis=1)
    poses = Poses(keypoints, points, boxes, instance_scores(points), ("a", "b", "c", "d"))
    frame = Frame("v", PurePath("v"), None, number=round(time_s * FPS), time_s=time_s)
    numbers = None if ids is None else np.array(ids)
    return Predicted(frame, Boxes(boxes, np.ones(len(centers))), poses, numbers)


def test_numbers_follow_persons_who_walk_past_each_other() -> None:
    tracker = OksTracker(SIGMAS, 4)
    for frame in range(60):
        step = 5.0 * frame
        people = [(20 + step, 100.0), (315 - step, 112.0)]
        order = [0, 1] if frame % 2 else [1, 0]
        ids = tracker(result([people[i] for i in order], frame / FPS))
        if frame == 0:
            first = dict(zip(order, ids.tolist(), strict=True))
        assert dict(zip(order, ids.tolist(), strict=True)) == first
    assert sorted(first.values()) == [1, 2]


def test_somebody_hidden_comes_back_under_the_same_number_but_not_for_ever() -> None:
    tracker = OksTracker(SIGMAS, 4)
    for frame in range(5):
        assert tracker(result([(100, 100)], frame / FPS)).tolist() == [1]
    assert tracker(result([(102, 100)], 0.9)).tolist() == [1]
    assert tracker(result([(102, 100)], 3.0)).tolist() == [2]


def test_uncertain_persons_go_on_with_a_track_but_begin_none() -> None:
    tracker = OksTracker(SIGMAS, 4)
    assert tracker(result([(100, 100)], 0.0, scores=[0.3])).tolist() == [-1]
    assert tracker(result([(100, 100)], 0.1)).tolist() == [1]
    assert tracker(result([(300, 100), (100, 100)], 0.2, scores=[0.9, 0.3])).tolist() == [2, 1]


def test_nobody_and_sets_without_sigmas() -> None:
    tracker = OksTracker(None, 4)
    assert tracker(result([], 0.0)).tolist() == []
    assert tracker(result([(100, 100)], 0.1)).tolist() == [1]


def smoothed(path: np.ndarray, fps: float = 200.0) -> np.ndarray:
    """The first keypoint's way along ``path`` (T, 2), after smoothing."""
    smoother = OneEuroSmoother()
    places = [
        smoother(result([(float(x), float(y))], t / fps, ids=[1])).poses.keypoints_px[0, 1]
        for t, (x, y) in enumerate(path)
    ]
    return np.array(places)


def test_jitter_of_somebody_who_stands_is_smoothed() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (400, 2))
    places = smoothed(100 + noise, fps=FPS)
    assert places[100:].std() < 0.6 * noise[100:].std()


@pytest.mark.parametrize("speed", [0.0, 1.0, 3.0])
def test_the_lag_is_the_stated_one(speed: float) -> None:
    size = math.sqrt(50 * 100)
    time = np.arange(1200) / 200
    drift = max(speed, 0.02) * size
    path = np.stack([100 + drift * time, np.full(1200, 100.0)], axis=1)
    lag = (path[-1, 0] - smoothed(path)[-1, 0]) / drift
    assert lag == pytest.approx(lag_s(speed), rel=0.1)


def test_the_stated_lags_are_those_of_the_documentation() -> None:
    assert [round(1000 * lag_s(speed)) for speed in (0, 1, 3)] == [80, 40, 20]


def test_what_is_not_seen_or_not_tracked_is_left_alone() -> None:
    smoother = OneEuroSmoother()
    smoother(result([(100, 100)], 0.0, ids=[1]))
    unseen = result([(150, 100)], 0.04, ids=[1], scores=[0.1])
    np.testing.assert_array_equal(smoother(unseen).poses.keypoints_px, unseen.poses.keypoints_px)
    back = result([(160, 100)], 0.08, ids=[1])
    np.testing.assert_array_equal(smoother(back).poses.keypoints_px, back.poses.keypoints_px)
    for predicted in (result([(10, 10)], 0.1, ids=[-1]), result([(10, 10)], 0.1)):
        np.testing.assert_array_equal(
            smoother(predicted).poses.keypoints_px, predicted.poses.keypoints_px
        )
