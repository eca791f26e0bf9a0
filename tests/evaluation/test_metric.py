from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.metric import STATS, coco_stats
from hrnet_deploy.keypoints import keypoint_set


def sigmas_of(name: str) -> tuple[float, ...]:
    sigmas = keypoint_set(name).sigmas
    assert sigmas is not None
    return sigmas


def real_stats(folder: Path, name: str, keypoints: str) -> dict[str, float | None]:
    truth = json.loads((folder / f"{name}_val.json").read_text())
    found = json.loads((folder / f"{name}_preds.json").read_text())
    return coco_stats(
        truth["annotations"],
        Detections.from_coco(found, len(sigmas_of(keypoints))),
        image_ids=[image["id"] for image in truth["images"]],
        category_ids=[1],
        sigmas=sigmas_of(keypoints),
    )


def test_real_predictions_that_nobody_here_made(shared: Path) -> None:
    """Figures that pycocotools gave for the file, to four digits."""
    stats = real_stats(shared / "data" / "xtcocoapi-examples", "example_coco", "coco_17")
    expected = {
        "AP": 0.8609,
        "AP50": 0.9931,
        "AP75": 0.9109,
        "APm": 0.7756,
        "APl": 0.9373,
        "AR": 0.8750,
    }
    assert {name: round(stats[name] or 0, 4) for name in expected} == expected


def person(
    image_id: int = 1, shift: float = 0, size: float = 100, **changes: Any
) -> dict[str, Any]:
    points = [(10.0, 20.0), (10 + size, 20.0), (10.0, 20 + size)]
    entry = {
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10, 20, size, size],
        "area": size**2,
        "keypoints": [value for x, y in points for value in (x + shift, y, 2)],
        "num_keypoints": 3,
        "score": 0.9,
    }
    return {**entry, **changes}


def stats(truth: list[Any], found: list[Any], images: tuple[int, ...] = (1,)) -> dict[str, Any]:
    detections = Detections.from_coco(found, 3)
    return coco_stats(truth, detections, image_ids=images, category_ids=(1,), sigmas=(0.1,) * 3)


def test_perfect_poses_of_large_persons() -> None:
    result = stats([person()], [person()])
    assert list(result) == list(STATS)
    assert {name for name, value in result.items() if value is None} == {"APm", "ARm"}
    assert [value for value in result.values() if value is not None] == pytest.approx([1.0] * 8)


def test_ap_counts_the_thresholds_that_the_similarity_reaches() -> None:
    """A shift of 2 sigma sqrt(area) * sqrt(2 ln(1/0.72)) gives OKS 0.72: 5 of 10 thresholds."""
    shift = 2 * 0.1 * 100 * (2 * 0.328504) ** 0.5
    assert stats([person()], [person(shift=shift)])["AP"] == pytest.approx(0.5)


def test_no_detection_is_zero_not_an_index_error() -> None:
    result = stats([person()], [])
    assert (result["AP"], result["AR"], result["APm"]) == (0.0, 0.0, None)


@pytest.mark.parametrize(
    "truth", [[], [person(iscrowd=1)], [person(num_keypoints=0, keypoints=[0] * 9)]]
)
def test_without_labelled_persons_nothing_is_defined(truth: list[Any]) -> None:
    assert stats(truth, [person()]) == dict.fromkeys(STATS)


def test_an_annotation_with_id_zero_can_be_matched() -> None:
    """Deviation from plain pycocotools, which takes a match with id 0 for none."""
    assert stats([person(id=0)], [person()])["AP"] == pytest.approx(1)


def test_images_that_are_left_out_do_not_count() -> None:
    truth = [person(image_id=1), person(image_id=2)]
    assert stats(truth, [person(image_id=1)], images=(1,))["AP"] == pytest.approx(1)
    assert stats(truth, [person(image_id=1)], images=(1, 2))["AR"] == 0.5


def test_input_stays_as_it_is_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = [person()], [person()]
    before = copy.deepcopy((truth, found))
    stats(truth, found)
    assert (truth, found) == before
    assert capsys.readouterr().out == ""
