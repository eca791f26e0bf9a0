from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from hrnet_deploy.evaluation import metric
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import matched
from hrnet_deploy.evaluation.resample import (
    PictureMatches,
    average_precision,
    draws_of,
    interval_of,
    picture_matches,
    resampled_ap,
    resampled_similarity,
)
from hrnet_deploy.evaluation.run import evaluate
from tests.coco_reference import reference_stats
from tests.colour_engine import ColourEngine
from tests.tiny import tiny_spec
from tests.world import NAMES, SIGMAS, World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, images=9)


def found(world: World) -> tuple[PictureMatches, list[int], list[dict[str, object]]]:
    engine = ColourEngine(tiny_spec(keypoint_names=NAMES, sigmas=SIGMAS))
    result = evaluate(engine, world.annotations, world.images, boxes=world.boxes)
    ids = [image["id"] for image in world.content["images"]]
    evaluation = matched(
        world.content["annotations"],
        result.detections,
        image_ids=ids,
        category_ids=[1],
        sigmas=SIGMAS,
    )
    assert average_precision(picture_matches(evaluation)) == pytest.approx(result.stats["AP"])
    return picture_matches(evaluation), ids, list(result.detections.as_coco())


def test_a_drawing_is_the_set_in_which_pictures_stand_several_times(world: World) -> None:
    """Each copy of a picture under an id of its own, through pycocotools."""
    matches, ids, detections = found(world)
    drawn = draws_of(len(ids), draws=6, seed=4)
    values = resampled_ap(matches, drawn)
    order = sorted(ids)
    for weights, value in zip(drawn, values, strict=True):
        copies = [(i, c) for i, w in zip(order, weights, strict=True) for c in range(int(w))]
        number = {pair: place for place, pair in enumerate(copies, 1)}

        def repeated(entries: list, number: dict = number) -> list:  # type: ignore[type-arg]
            return [
                {**entry, "image_id": place}
                for (image_id, _), place in number.items()
                for entry in entries
                if entry["image_id"] == image_id
            ]

        expected = reference_stats(
            repeated(world.content["annotations"]),
            repeated(detections),
            image_ids=list(number.values()),
            category_ids=[1],
            sigmas=SIGMAS,
        )["AP"]
        assert value == pytest.approx(expected)


def test_all_ten_figures_resample_alike(world: World) -> None:
    matches, ids, detections = found(world)
    evaluation = matched(
        world.content["annotations"],
        Detections.from_coco(detections, len(SIGMAS)),
        image_ids=ids,
        category_ids=[1],
        sigmas=SIGMAS,
    )
    other = metric.matches_of(evaluation)
    for weights in draws_of(len(ids), draws=5):
        value = resampled_ap(matches, weights[None])[0]
        assert value == pytest.approx(metric.figures(other, weights.astype(int))["AP"])


def test_interval() -> None:
    interval = interval_of(np.array([0.5, *np.linspace(0, 1, 1001)]))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.025, 0.975))
    assert interval_of(np.array([np.nan, 1.0])).value is None
    alone = interval_of(np.array([0.25, np.nan]))
    assert (alone.value, alone.low) == (0.25, None)


def test_without_persons_or_detections() -> None:
    none = Detections.from_coco([], len(SIGMAS))
    nobody = matched([], none, image_ids=[1, 2], category_ids=[1], sigmas=SIGMAS)
    matches = picture_matches(nobody)
    assert average_precision(matches) is None
    assert np.isnan(resampled_similarity(matches, np.ones((1, 2)))).all()
    person = {
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [0, 0, 9, 9],
        "area": 81,
        "keypoints": [1, 1, 2] * 3,
        "num_keypoints": 3,
    }
    unseen = picture_matches(
        matched([person], none, image_ids=[1, 2], category_ids=[1], sigmas=SIGMAS)
    )
    assert average_precision(unseen) == 0
    assert resampled_similarity(unseen, np.ones((1, 2))).tolist() == [0]
    assert np.isnan(resampled_ap(unseen, np.array([[0.0, 2.0]]))).all(), "nobody was drawn"
