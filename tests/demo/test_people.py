from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hrnet_deploy.demo.people import (
    MIN_VISIBLE,
    Scene,
    make_scene,
    scene_rng,
    write_dataset,
)
from hrnet_deploy.demo.skeleton import FACE_LONGITUDES, random_pose
from hrnet_deploy.keypoints import COCO_17

IMAGES = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("people"), IMAGES, seed=4).parent


@pytest.fixture(scope="module")
def content(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(scene_rng(4, index)) for index in range(IMAGES)]


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("first", 7), ("second", 7), ("other", 8)):
        write_dataset(tmp_path / name, 3, seed=seed)
    first, second, other = (digests(tmp_path / name) for name in ("first", "second", "other"))
    assert len(first) == 4
    assert first == second
    assert all(first[name] != other[name] for name in first)


def test_a_picture_does_not_depend_on_how_many_are_written(tmp_path: Path, folder: Path) -> None:
    write_dataset(tmp_path, 2, seed=4)
    few, many = digests(tmp_path), digests(folder)
    names = [name for name in few if name.endswith(".jpg")]
    assert len(names) == 2
    assert all(few[name] == many[name] for name in names)


def test_no_pictures_give_empty_lists(tmp_path: Path) -> None:
    content = json.loads(write_dataset(tmp_path, 0).read_text(encoding="utf-8"))
    assert content["images"] == content["annotations"] == []


def test_pycocotools_reads_the_annotations(folder: Path, content: dict[str, Any]) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(str(folder / "annotations.json"))
    assert coco.loadCats(1)[0]["keypoints"] == list(COCO_17.names)
    for entry in content["annotations"]:
        mask = coco.annToMask(entry)
        x, y, width, height = entry["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
        # Polygons run along pixel centres, so their area differs by a part of the outline.
        assert mask.sum() == pytest.approx(entry["area"], rel=0.2, abs=60)


def test_annotations_agree_with_the_pictures(folder: Path, content: dict[str, Any]) -> None:
    sizes = {}
    for record in content["images"]:
        image_bgr = cv2.imread(str(folder / "images" / record["file_name"]))
        assert image_bgr is not None
        sizes[record["id"]] = image_bgr.shape[1], image_bgr.shape[0]
        assert sizes[record["id"]] == (record["width"], record["height"])
    assert len({entry["id"] for entry in content["annotations"]}) == len(content["annotations"])
    for entry in content["annotations"]:
        width, height = sizes[entry["image_id"]]
        x, y, box_width, box_height = entry["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + box_width <= width
        assert y + box_height <= height
        assert 0 < entry["area"] <= box_width * box_height
        points = np.array(entry["keypoints"], float).reshape(17, 3)
        labelled = points[:, 2] > 0
        assert labelled.sum() == entry["num_keypoints"]
        assert set(points[:, 2]) <= {0, 1, 2}
        assert (points[~labelled] == 0).all()
        assert (points[labelled, :2] >= -0.5).all()
        assert (points[labelled, :2] <= [width - 0.5, height - 0.5]).all()


def test_seen_keypoints_lie_on_the_person(scenes: list[Scene]) -> None:
    seen = 0
    for scene in scenes:
        for person in scene.persons:
            for x, y, flag in person.keypoints_px:
                if flag == 2:
                    assert person.mask[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]
                    seen += 1
    assert seen > 500


def test_masks_do_not_overlap(scenes: list[Scene]) -> None:
    for scene in scenes:
        covered = sum(person.mask.astype(int) for person in scene.persons)
        assert np.max(covered, initial=0) <= 1


def test_the_set_has_what_evaluations_stumble_over(
    content: dict[str, Any], scenes: list[Scene]
) -> None:
    annotations = content["annotations"]
    persons = [entry for entry in annotations if not entry["iscrowd"]]
    with_people = {entry["image_id"] for entry in annotations}
    assert 0 < len(with_people) < IMAGES, "pictures without a person"
    assert len(persons) > len({entry["image_id"] for entry in persons}), "several persons in one"
    crowds = [entry for entry in annotations if entry["iscrowd"]]
    assert crowds
    assert all(entry["num_keypoints"] == 0 for entry in crowds)
    areas = np.array([entry["area"] for entry in persons])
    assert (areas > 96**2).any(), "COCO's large size class"
    assert ((areas > 32**2) & (areas <= 96**2)).any(), "COCO's medium size class"
    flags = {int(flag) for entry in persons for flag in entry["keypoints"][2::3]}
    assert flags == {0, 1, 2}
    touching = [entry for entry in persons if min(entry["bbox"][:2]) == 0]
    assert touching, "persons cut off by the border"
    labelled = [entry for entry in persons if entry["num_keypoints"]]
    assert all(entry["keypoints"][2::3].count(2) >= MIN_VISIBLE for entry in labelled)


@pytest.mark.parametrize("people", [0, 1, 4])
def test_the_number_of_people_can_be_given(people: int) -> None:
    scene = make_scene(scene_rng(1, 0), people=people)
    figures = [person for person in scene.persons if not person.crowd]
    assert len(figures) <= people
    assert bool(figures) == bool(people)


def test_left_is_told_by_the_side_that_is_turned_to_the_viewer() -> None:
    left_shoulder, right_shoulder = (
        COCO_17.names.index(f"{side}_shoulder") for side in ("left", "right")
    )
    rng = np.random.default_rng(0)
    facing = []
    for _ in range(200):
        pose = random_pose(rng)
        to_the_right = pose.joints_xyd[left_shoulder, 0] > pose.joints_xyd[right_shoulder, 0]
        assert bool(to_the_right) == pose.faces_viewer
        face = pose.joints_xyd[list(FACE_LONGITUDES)[:3], 2]
        assert (face > 0).all() if pose.faces_viewer else (face < 0).all()
        facing.append(pose.faces_viewer)
    assert 0.5 < np.mean(facing) < 0.85
