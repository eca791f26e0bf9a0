from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet_deploy.datasets.changes import Changes
from hrnet_deploy.datasets.check import check_document
from hrnet_deploy.datasets.clean import CleanOptions, clean_document
from hrnet_deploy.datasets.document import Document, read_document, tool_of, write_document
from hrnet_deploy.keypoints import COCO_17

Content = dict[str, Any]
Make = Callable[[Content], Path]

JUNK: list[Any] = [
    None,
    True,
    "",
    "x",
    "7",
    -1,
    0,
    1.5,
    1e308,
    [],
    [[]],
    {},
    [1, 2],
    "../a",
    10**30,
]
PERSON: Content = {
    "id": 1,
    "image_id": 1,
    "category_id": 1,
    "bbox": [10, 20, 50, 80],
    "area": 2000,
    "iscrowd": 0,
    "keypoints": [20, 30, 2, 30, 40, 1, 40, 50, 2],
    "num_keypoints": 3,
    "segmentation": [],
}


def world(*annotations: Content, **image: Any) -> Content:
    """One picture of 100x120 px, a three-keypoint category and these annotations."""
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 120, **image}],
        "annotations": [copy.deepcopy({**PERSON, **entry}) for entry in annotations],
        "categories": [
            {"id": 1, "name": "person", "keypoints": ["a", "b", "c"], "skeleton": [[1, 2], [2, 3]]}
        ],
    }


def clean(content: Content, **options: Any) -> tuple[Content, Changes]:
    """Clean and clean again: the second time changes nothing."""
    document = Document(Path("x.json"), content, tool_of(content))
    changes = clean_document(document, CleanOptions(**options))
    once = json.dumps(document.content)
    again = clean_document(
        Document(Path("x.json"), document.content, tool_of(document.content)),
        CleanOptions(**options),
    )
    assert again.entries == []
    assert json.dumps(document.content) == once
    return document.content, changes


def only(content: Content) -> Content:
    (entry,) = content["annotations"]
    result: Content = entry
    return result


def test_what_is_in_order_stays_as_it_is(people: Content) -> None:
    before = json.dumps(people)
    content, changes = clean(people)
    assert not changes.entries
    assert json.dumps(content) == before


@pytest.mark.parametrize(
    ("rule", "flag", "broken", "key", "expected"),
    [
        ("clip", "clip", {"bbox": [-5, 20, 50, 200]}, "bbox", [0, 20, 45, 100]),
        (
            "flatten",
            "flatten",
            {"keypoints": [[20, 30], [30, 40], [40, 50]]},
            "keypoints",
            [20, 30, 2, 30, 40, 2, 40, 50, 2],
        ),
        (
            "flatten",
            "flatten",
            {"keypoints": [20, 30, 30, 40, 40, 50], "num_keypoints": 3},
            "keypoints",
            [20, 30, 2, 30, 40, 2, 40, 50, 2],
        ),
        (
            "visibility",
            "visibility",
            {"keypoints": [20, 30, 2, 30, 40, 7, 40, 50, 0.5]},
            "keypoints",
            [20, 30, 2, 30, 40, 2, 40, 50, 2],
        ),
        (
            "visibility",
            "visibility",
            {"keypoints": [20, 30, 2, 9, 9, 0, 0, 0, 1], "num_keypoints": 1},
            "keypoints",
            [20, 30, 2, 0, 0, 0, 0, 0, 0],
        ),
        (
            "visibility",
            "visibility",
            {"keypoints": [20, 30, 1, 30, 40, 1, 0, 0, 0], "num_keypoints": 2},
            "keypoints",
            [20, 30, 2, 30, 40, 2, 0, 0, 0],
        ),
        (
            "hide-outside-image",
            "hide_outside_image",
            {"keypoints": [20, 30, 2, 30, 40, 1, 140, 50, 2]},
            "keypoints",
            [20, 30, 2, 30, 40, 1, 0, 0, 0],
        ),
        ("boxes", "boxes", {"bbox": []}, "bbox", [18, 28, 24, 24]),
        ("boxes", "boxes", {"bbox": [0, 0, 0, 0]}, "bbox", [18, 28, 24, 24]),
        (
            "boxes",
            "boxes",
            {"bbox": None, "segmentation": [[10, 20, 60, 20, 60, 100]]},
            "bbox",
            [10, 20, 50, 80],
        ),
        ("area-from-box", "area", {"area": 0}, "area", 4000),
        ("area", "area", {"area": None, "segmentation": [[10, 20, 60, 20, 60, 100]]}, "area", 2000),
        ("counts", "counts", {"num_keypoints": 9}, "num_keypoints", 3),
        ("crowd", "crowd", {"iscrowd": None}, "iscrowd", 0),
        ("crowd", "crowd", {"iscrowd": True}, "iscrowd", 1),
        ("ids", "ids", {"id": 0}, "id", 1),
        ("ids", "ids", {"id": "12"}, "id", 12),
        ("ids", "ids", {"image_id": "1"}, "image_id", 1),
        ("ids", "ids", {"category_id": 1.0}, "category_id", 1),
    ],
)
def test_each_rule_repairs_says_so_and_can_be_left_out(
    rule: str, flag: str, broken: Content, key: str, expected: Any
) -> None:
    content, changes = clean(world(broken))
    assert only(content)[key] == expected
    assert type(only(content)[key]) is type(expected) or key in {"bbox", "area"}
    assert rule in changes.counts
    assert all(place and what for _, place, what in changes.entries)
    left, changes = clean(world(broken), off=frozenset({flag}))
    assert rule not in changes.counts
    assert only(left)[key] == broken[key]


def test_keypoints_outside_their_box_are_hidden_when_asked_for_or_for_datatorch() -> None:
    entry = {"keypoints": [20, 30, 2, 90, 40, 2, 40, 50, 2]}
    content, changes = clean(world(entry))
    assert not changes.entries
    content, changes = clean(world(entry), hide_outside_box=True)
    assert only(content)["keypoints"] == [20, 30, 2, 0, 0, 0, 40, 50, 2]
    assert only(content)["num_keypoints"] == 2
    assert (
        "hide-outside-box",
        "annotation 1",
        "keypoint 2 at 90, 40 -> not labelled",
    ) in changes.entries
    content, _ = clean(world({**entry, "datatorch_id": "x"}))
    assert only(content)["keypoints"][3:6] == [0, 0, 0]
    content, _ = clean(world({**entry, "datatorch_id": "x"}), hide_outside_box=False)
    assert only(content)["keypoints"][3:6] == [90, 40, 2]


def test_box_margin_and_area_factor() -> None:
    content, _ = clean(world({"bbox": [], "area": 0}), box_margin=0.0, area_factor=0.5)
    assert only(content)["bbox"] == [19, 29, 22, 22]
    assert only(content)["area"] == 242


def test_copies_go_and_clashes_get_ids_of_their_own() -> None:
    content = world({}, {}, {"area": 7}, {"id": None})
    content["images"].append(dict(content["images"][0]))
    content["categories"].append(dict(content["categories"][0]))
    cleaned, changes = clean(content)
    assert [a["id"] for a in cleaned["annotations"]] == [1, 3, 2]
    assert len(cleaned["images"]) == len(cleaned["categories"]) == 1
    assert changes.counts == {"ids": 5}


def test_two_pictures_with_one_id_are_left_since_nobody_knows_whose_annotation_it_is() -> None:
    content = world({})
    content["images"].append({**content["images"][0], "file_name": "b.jpg"})
    cleaned, changes = clean(content)
    assert len(cleaned["images"]) == 2
    assert not changes.entries


@pytest.mark.parametrize(
    "name", ["/home/me/a.jpg", "C:\\me\\a.jpg", "../x/a.jpg", "https://x.org/y/a.jpg?s=1"]
)
def test_file_names_are_cut_to_their_last_part(name: str) -> None:
    cleaned, _ = clean(world({}, file_name=name))
    assert cleaned["images"][0]["file_name"] == "a.jpg"


def test_skeletons_of_known_sets_and_counts_from_zero() -> None:
    content = world({})
    content["categories"][0]["skeleton"] = [[0, 1], [1, 2]]
    assert clean(content)[0]["categories"][0]["skeleton"] == [[1, 2], [2, 3]]
    content = world()
    content["categories"][0] |= {"keypoints": list(COCO_17.names), "skeleton": []}
    links = clean(content)[0]["categories"][0]["skeleton"]
    assert links == [[a + 1, b + 1] for a, b in COCO_17.skeleton]


def test_names_and_order_of_a_keypoint_set() -> None:
    points = [v for k in range(17) for v in (10 + k, 20 + k, 2)]
    content = world({"keypoints": points, "num_keypoints": 17})
    content["categories"][0] |= {"keypoints": list(COCO_17.names[::-1])}
    cleaned, _ = clean(content, keypoints=COCO_17)
    assert cleaned["categories"][0]["keypoints"] == list(COCO_17.names)
    assert only(cleaned)["keypoints"][:3] == [26, 36, 2]
    assert only(cleaned)["keypoints"][-3:] == [10, 20, 2]
    content = world({"keypoints": points, "num_keypoints": 17})
    del content["categories"][0]["keypoints"]
    cleaned, _ = clean(content, keypoints=COCO_17)
    assert cleaned["categories"][0]["keypoints"] == list(COCO_17.names)


def test_keypoints_find_their_shape_among_several() -> None:
    shapes = [
        {"id": 1, "bbox": [0, 0, 50, 100], "keypoints": []},
        {"id": 2, "bbox": [30, 0, 60, 100], "keypoints": []},
    ]
    halves = [
        {"id": 3, "keypoints": [40, 10, 2, 60, 50, 2, 85, 90, 2], "bbox": [], "area": 0},
        {"id": 4, "keypoints": [5, 10, 2, 20, 50, 2, 45, 90, 2], "bbox": [], "area": 0},
    ]
    cleaned, changes = clean(world(*shapes, *halves))
    assert [(a["id"], a["keypoints"][0]) for a in cleaned["annotations"]] == [(1, 5), (2, 40)]
    assert changes.counts["merge-split"] == 2


def test_keypoints_without_a_shape_get_a_box_and_shapes_without_keypoints_stay() -> None:
    shape = {"id": 1, "bbox": [60, 60, 30, 50], "keypoints": []}
    half = {"id": 2, "bbox": [], "area": 0}
    cleaned, changes = clean(world(shape, half))
    assert [a["num_keypoints"] for a in cleaned["annotations"]] == [0, 3]
    assert "merge-split" not in changes.counts
    assert cleaned["annotations"][1]["bbox"] == [18, 28, 24, 24]


def test_what_cannot_be_repaired_goes_only_when_asked() -> None:
    content = world(
        {},
        {"id": 2, "image_id": 9},
        {"id": 3, "category_id": 9},
        {"id": 4, "keypoints": "x"},
        {"id": 5, "keypoints": [1, 2, 2]},
        {"id": 6, "bbox": None, "keypoints": [0] * 9},
    )
    content["annotations"].append(None)
    content["images"].append({"id": 2})
    kept, _ = clean(copy.deepcopy(content))
    assert len(kept["annotations"]) == 7
    cleaned, changes = clean(content, drop_broken=True)
    assert [a["id"] for a in cleaned["annotations"]] == [1]
    assert len(cleaned["images"]) == 1
    assert changes.counts["drop-broken"] == 7


def places(content: Content) -> list[tuple[str, int, str]]:
    """Every field of every record."""
    return [
        (section, index, key)
        for section in ("images", "annotations", "categories")
        for index, record in enumerate(content[section])
        for key in record
    ]


def test_a_broken_field_is_repaired_once_and_for_all_and_never_a_crash() -> None:
    """Every field with every kind of junk, through check and two cleanings."""
    base = world({}, {"id": 2, "bbox": [], "area": 0}, {"id": 3, "keypoints": []})
    found = set()
    for section, index, key in places(base):
        for junk in JUNK:
            content = copy.deepcopy(base)
            content[section][index][key] = copy.deepcopy(junk)
            document = Document(Path("x.json"), content, tool_of(content))
            found |= {p.code for p in check_document(document).problems}
            content, _ = clean(content)
            clean(content, drop_broken=True, hide_outside_box=True)
    assert len(found) > 20


number = st.one_of(st.integers(-50, 250), st.floats(-50, 250).map(lambda v: round(v, 2)))
flag = st.sampled_from([0, 1, 2, 2, 1, -1, 3, 0.5])
points = st.lists(st.tuples(number, number, flag), min_size=3, max_size=3)
records = st.fixed_dictionaries(
    {
        "id": st.integers(0, 3),
        "image_id": st.integers(1, 2),
        "keypoints": points.map(lambda p: [v for t in p for v in t]),
    },
    optional={
        "bbox": st.one_of(st.just([]), st.lists(number, min_size=4, max_size=4)),
        "area": number,
        "iscrowd": st.sampled_from([0, 1, True]),
        "datatorch_id": st.just("x"),
        "segmentation": st.just([]),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(records, max_size=5), st.booleans())
def test_cleaning_twice_is_cleaning_once(entries: list[Content], hide: bool) -> None:
    content = world()
    content["annotations"] = [{"category_id": 1, **entry} for entry in entries]
    cleaned, _ = clean(content, hide_outside_box=hide or None)
    codes = {
        p.code for p in check_document(Document(Path("x"), cleaned, tool_of(cleaned))).problems
    }
    # What is left has no box to be made: nothing labelled within the picture, or no picture.
    hints = {
        "keypoint-beyond-box",
        "area-beyond-box",
        "area-of-box",
        "no-person",
        "keypoints-missing",
    }
    assert codes <= hints | {
        "unknown-image",
        "bbox-missing",
        "bbox-empty",
        "area-missing",
        "bbox-negative",
    }


def test_written_files_read_back_and_keep_their_order(people: Content, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    people = {"zeta": "é\u2028", **people, "licenses": []}
    write_document(path, people)
    again = read_document(path).content
    assert json.dumps(again) == json.dumps(people)
    assert path.read_text().count("\n") > len(people["annotations"])


def test_the_datatorch_export_becomes_what_its_author_made_by_hand(
    shared: Path, tmp_path: Path
) -> None:
    folder = shared / "data" / "datatorch-export"
    raw = read_document(folder / "datatorch_4images-1.json")
    cleaned, changes = clean(raw.content)
    assert changes.counts == {"merge-split": 9, "visibility": 9, "counts": 9}
    author = json.loads((folder / "coco.json").read_text())

    def by_shape(content: Content) -> dict[Any, list[tuple[float, float]]]:
        result = {}
        for entry in content["annotations"]:
            flat = entry["keypoints"]
            points = (
                flat
                if isinstance(flat[0], list)
                else list(zip(flat[0::3], flat[1::3], strict=True))
            )
            key = (entry["image_id"], tuple(entry["bbox"]), entry["area"], entry["num_keypoints"])
            result[key] = [tuple(point) for point in points]
        return result

    ours, theirs = by_shape(cleaned), by_shape(author)
    assert set(ours) == set(theirs)
    assert len(ours) == 9
    for key, points in ours.items():
        # The author rounded up to whole pixels.
        gaps = [
            abs(a - b)
            for p, q in zip(points, theirs[key], strict=True)
            for a, b in zip(p, q, strict=True)
        ]
        assert max(gaps) <= 1.0
    write_document(tmp_path / "clean.json", cleaned)
    problems = check_document(read_document(tmp_path / "clean.json")).problems
    assert not problems
