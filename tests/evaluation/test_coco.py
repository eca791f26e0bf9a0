from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.coco import Annotations, read_annotations

pytest.importorskip("onnx", reason="needs the onnx package")

from tests.tiny import tiny_spec
from tests.world import NAMES, SIGMAS, World, make_world

SPEC = tiny_spec(keypoint_names=NAMES, sigmas=SIGMAS)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def read(path: Path) -> Annotations:
    return read_annotations(path, SPEC)


def test_images_and_persons_in_the_order_of_the_file(world: World) -> None:
    known = read(world.annotations)
    assert [image.id for image in known.images] == [1000, 993, 986, 979, 972, 965]
    assert known.images[0].file_name == "picture 0.png"
    assert (known.images[0].width, known.images[0].height) == (160.0, 120.0)
    assert known.categories == (1,)
    assert len(known.annotations) == 1 + 2 + 3 + 1
    assert known.notes == ()
    assert len(known.sha256) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "is not valid JSON at line 1"),
        ("[]", r"is a list \(a results or boxes file\), not an annotation file"),
        ("{}", "has no list 'images'"),
        ('{"images": {}}', "has no list 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        ('{"images": [1], "annotations": [], "categories": []}', r"images\[0\] is not an object"),
        ("3", "has no list 'images'"),
        ('{"images": [NaN]}', "NaN is not a JSON number"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"wrong\.json: .*{message}"):
        read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        read(tmp_path / "nowhere.json")


def test_instances_file(world: World) -> None:
    annotations = [
        {key: value for key, value in entry.items() if "keypoints" not in key}
        for entry in world.content["annotations"]
    ]
    path = world.rewrite(annotations=annotations, categories=[{"id": 1, "name": "person"}])
    with pytest.raises(InputError, match=r"has no 'keypoints'; use person_keypoints_val2017\.json"):
        read(path)


def changed(world: World, section: str, index: int, **values: Any) -> Path:
    entries = json.loads(json.dumps(world.content[section]))
    for key, value in values.items():
        if value is ...:
            del entries[index][key]
        else:
            entries[index][key] = value
    return world.rewrite(**{section: entries})


@pytest.mark.parametrize(
    ("section", "index", "values", "message"),
    [
        ("images", 1, {"id": 1000}, "1 image ids stand twice: 1000"),
        ("images", 1, {"id": "993"}, r"images\[1\] has id '993', not a whole number"),
        ("images", 1, {"id": True}, r"images\[1\] has id True, not a whole number"),
        ("images", 1, {"file_name": ...}, "image 993 has no 'file_name'"),
        ("annotations", 1, {"id": 9930}, "1 annotation ids stand twice: 9930"),
        ("annotations", 0, {"bbox": []}, r"annotation 9930 has bbox \[\], not four numbers"),
        ("annotations", 0, {"bbox": [0, 0, 1, "1"]}, "annotation 9930 has bbox"),
        ("annotations", 0, {"area": None}, "annotation 9930 has area None, not a number"),
        ("annotations", 0, {"bbox": [0, 0, 1, 10**400]}, "annotation 9930 has bbox"),
        ("annotations", 0, {"area": 10**400}, "annotation 9930 has area"),
        ("annotations", 0, {"keypoints": [True] * 9}, "9930 has keypoints that are no list of"),
        ("annotations", 0, {"keypoints": "1"}, "9930 has keypoints that are no list of numbers"),
        ("annotations", 0, {"keypoints": [0] * 12}, "9930 has 4 keypoints, the engine gives 3"),
        ("categories", 0, {"keypoints": ["a"] * 4}, "'person' has 4 keypoints, the engine gives 3"),
        ("categories", 0, {"keypoints": ["a", 2, 3]}, "keypoints that are no list of names"),
        (
            "categories",
            0,
            {"keypoints": ["blue", "red", "green"]},
            "in another order: 1 is 'red' there and 'green' in the engine",
        ),
        ("categories", 0, {"id": "1"}, r"categories\[0\] has id '1'"),
    ],
)
def test_entries_that_are_wrong(
    world: World, section: str, index: int, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(changed(world, section, index, **values))


def test_defaults_of_absent_keys(world: World) -> None:
    path = changed(world, "annotations", 0, iscrowd=..., num_keypoints=..., id=...)
    first = read(path).annotations[0]
    assert (first["iscrowd"], first["num_keypoints"]) == (0, 3)


def test_persons_without_keypoints_are_unlabelled(world: World) -> None:
    known = read(changed(world, "annotations", 0, keypoints=..., num_keypoints=...))
    assert known.annotations[0]["keypoints"] == [0] * 9
    assert known.annotations[0]["num_keypoints"] == 0
    assert known.notes == ("1 annotations have no 'keypoints'; taken as unlabelled persons",)


def test_other_names_are_said(world: World) -> None:
    known = read(changed(world, "categories", 0, keypoints=["Blue", "GREEN_", "violet"]))
    (note,) = known.notes
    assert note.startswith("1 of 3 keypoints of category 'person' have other names")


def test_annotations_of_unlisted_images_are_said(world: World) -> None:
    known = read(changed(world, "annotations", 0, image_id=5))
    assert len(known.annotations) == 6
    assert known.notes[0].startswith("1 annotations are of images that the file does not list")


def test_other_categories_are_left_alone(world: World) -> None:
    """Their entries may be of any form: nothing reads them."""
    path = world.rewrite(
        annotations=[*world.content["annotations"], {"id": 5, "image_id": 1000, "category_id": 2}],
        categories=[*world.content["categories"], {"id": 2, "name": "dog", "keypoints": ["tail"]}],
    )
    assert len(read(path).annotations) == 7


def test_all_categories_where_none_is_a_person(world: World) -> None:
    cat, dog = (
        {"id": i, "name": name, "keypoints": list(NAMES)} for i, name in ((7, "cat"), (9, "dog"))
    )
    annotations = [
        {**entry, "category_id": 7 if index % 2 else 9}
        for index, entry in enumerate(world.content["annotations"])
    ]
    known = read(world.rewrite(categories=[cat, dog], annotations=annotations))
    assert known.categories == (7, 9)
    assert len(known.annotations) == 7
