from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.boxes import ground_truth_boxes, read_boxes
from hrnet_deploy.evaluation.coco import Annotations, read_annotations

pytest.importorskip("onnx", reason="needs the onnx package")

from tests.tiny import tiny_spec
from tests.world import NAMES, SIGMAS, World, make_world

SPEC = tiny_spec(keypoint_names=NAMES, sigmas=SIGMAS)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def known(world: World) -> Annotations:
    return read_annotations(world.annotations, SPEC)


def annotated(world: World, *entries: dict[str, Any]) -> Annotations:
    """The annotations with these persons only, all in the picture 1000 of 160x120."""
    base = world.content["annotations"][0]
    persons = [{**base, "image_id": 1000, "id": i, **entry} for i, entry in enumerate(entries, 1)]
    return read_annotations(world.rewrite(annotations=persons), SPEC)


def test_persons_by_the_order_of_the_images(known: Annotations) -> None:
    persons = ground_truth_boxes(known)
    assert persons.image_index.tolist() == [1, 2, 2, 3, 3, 3, 5]
    assert persons.scores.tolist() == [1.0] * 7
    assert persons.spans(6) == [
        slice(0, 0),
        slice(0, 1),
        slice(1, 3),
        slice(3, 6),
        slice(6, 6),
        slice(6, 7),
    ]
    assert len(persons.of_images(3)) == 3


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ([10, 20, 30, 40], [10, 20, 29, 39]),
        ([10.25, 20.5, 30.5, 40], [10.25, 20.5, 29.5, 39]),
        ([-5, -6, 30, 40], [0, 0, 29, 39]),
        ([150, 100, 30, 40], [150, 100, 9, 19]),
        ([0, 0, 160, 120], [0, 0, 159, 119]),
        ([10, 20, 1, 40], [10, 20, 0, 39]),
        ([10, 20, 0, 0], [10, 20, 0, 0]),
    ],
)
def test_boxes_are_clipped_and_lose_one_pixel(
    world: World, bbox: list[float], expected: list[float]
) -> None:
    persons = ground_truth_boxes(annotated(world, {"bbox": bbox}))
    np.testing.assert_array_equal(persons.boxes_xywh, [expected])
    assert persons.without_extent == (0 in expected[2:])


def test_who_is_no_person_to_evaluate(world: World) -> None:
    persons = ground_truth_boxes(
        annotated(
            world,
            {"iscrowd": 1},
            {"area": 0},
            {"keypoints": [0] * 9},
            {"bbox": [170, 20, 30, 40]},
            {"bbox": [10, 130, 30, 40]},
            {},
        )
    )
    assert len(persons) == 1
    assert persons.left_out == {
        "crowds": 1,
        "without_area_or_keypoints": 2,
        "outside_image": 2,
    }


def test_official_rules_written_as_a_loop(shared: Path) -> None:
    """On real annotations: the same persons and boxes as the rules, one object at a time."""
    from hrnet_deploy.keypoints import keypoint_set

    coco = keypoint_set("coco_17")
    spec = tiny_spec(keypoint_names=coco.names, sigmas=coco.sigmas)
    path = shared / "data/coco-train2017-mini/person_keypoints_train2017_mini.json"
    persons = ground_truth_boxes(read_annotations(path, spec))
    content = json.loads(path.read_text())
    expected = []
    for image in content["images"]:
        for entry in content["annotations"]:
            if entry["image_id"] != image["id"] or entry["iscrowd"] or entry["area"] <= 0:
                continue
            x, y, w, h = entry["bbox"]
            x1, y1 = max(0, x), max(0, y)
            x2 = min(image["width"] - 1, x1 + max(0, w - 1))
            y2 = min(image["height"] - 1, y1 + max(0, h - 1))
            if x2 >= x1 and y2 >= y1 and max(entry["keypoints"]) != 0:
                expected.append([x1, y1, x2 - x1, y2 - y1])
    assert len(expected) == 139
    np.testing.assert_array_equal(persons.boxes_xywh, expected)


def test_width_and_height_of_the_image_are_needed_to_clip(world: World) -> None:
    images = [{k: v for k, v in im.items() if k != "width"} for im in world.content["images"]]
    known = read_annotations(world.rewrite(images=images), SPEC)
    with pytest.raises(InputError, match="image 993 has no width and height"):
        ground_truth_boxes(known)
    assert len(read_boxes(world.boxes, known)) == 7


def box(**changes: Any) -> dict[str, Any]:
    return {"image_id": 993, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5, **changes}


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "det.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_detector_boxes_are_used_as_they_are(tmp_path: Path, known: Annotations) -> None:
    content = [
        box(image_id=986, bbox=[-10.5, 3, 500, 40], score=0.25),
        box(score=-0.1),
        box(category_id=2),
        box(bbox=[5, 6, 0, -4]),
    ]
    persons = read_boxes(write(tmp_path, content), known)
    assert persons.image_index.tolist() == [1, 2]
    assert persons.boxes_xywh.tolist() == [[5, 6, 0, -4], [-10.5, 3, 500, 40]]
    assert persons.scores.tolist() == [0.5, 0.25]
    assert persons.left_out == {"other_categories": 1, "below_score_threshold": 1}
    assert persons.without_extent == 1


def test_no_box_above_the_threshold(tmp_path: Path, known: Annotations) -> None:
    assert len(read_boxes(write(tmp_path, [box()]), known, threshold=0.9)) == 0


def test_a_score_at_the_threshold_counts(tmp_path: Path, known: Annotations) -> None:
    assert len(read_boxes(write(tmp_path, [box(score=0.0)]), known)) == 1


CORNERS = [box(bbox=[100, 60, 150, 110]), box(bbox=[90, 20, 130, 80]), box(bbox=[3, 4, 50, 60])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not valid JSON"),
        ("{}", "is not a list of boxes"),
        ("[]", r"has no boxes \(an empty list\)"),
        ([3], r"box \[0\] is not an object"),
        ([box(), {"image_id": 993}], r"box \[1\] has no 'category_id'"),
        ([box(bbox=[1, 2, 3])], r"box \[0\] has bbox \[1, 2, 3\], not four finite numbers"),
        ([box(bbox="1234")], r"box \[0\] has bbox '1234'"),
        ([box(score="high")], r"box \[0\] has score 'high', not a finite number"),
        ('[{"image_id": 993, "score": NaN}]', "NaN is not a JSON number"),
        (
            '[{"image_id": 993, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1e999}]',
            r"box \[0\] has score inf, not a finite number",
        ),
        ([box(category_id="person")], r"box \[0\] has category_id 'person', not a whole number"),
        ([box(category_id=2)], r"has no box of category 1 \(found: 2\)"),
        (
            [box(), box(image_id=5), box(image_id="993"), box(image_id=[])],
            r"3 of 4 boxes are of 3 images that the annotations do not list: 5, 993, \[\]",
        ),
        (CORNERS, "looks like x1, y1, x2, y2: 2 of 3 boxes leave their images"),
    ],
)
def test_boxes_files_that_are_wrong(
    tmp_path: Path, known: Annotations, content: Any, message: str
) -> None:
    with pytest.raises(InputError, match=rf"det\.json: .*{message}"):
        read_boxes(write(tmp_path, content), known)


def test_missing_boxes_file(tmp_path: Path, known: Annotations) -> None:
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        read_boxes(tmp_path / "none.json", known)


def test_real_detector_boxes_are_not_taken_for_corners(shared: Path) -> None:
    from hrnet_deploy.keypoints import keypoint_set

    coco = keypoint_set("coco_17")
    spec = tiny_spec(keypoint_names=coco.names, sigmas=coco.sigmas)
    folder = shared / "data/mmpose-tests/coco"
    known = read_annotations(folder / "test_coco.json", spec)
    persons = read_boxes(folder / "test_coco_det_AP_H_56.json", known)
    total = len(json.loads((folder / "test_coco_det_AP_H_56.json").read_text()))
    assert len(persons) + sum(persons.left_out.values()) == total == 118
