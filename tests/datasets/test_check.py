from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.datasets.check import check_document, known_set
from hrnet_deploy.datasets.document import read_document
from hrnet_deploy.datasets.problems import KINDS, Problem
from hrnet_deploy.errors import InputError
from hrnet_deploy.keypoints import COCO_17, keypoint_set

Content = dict[str, Any]
Make = Callable[[Content], Path]


def first_person(content: Content) -> Content:
    entry: Content = next(a for a in content["annotations"] if a["num_keypoints"] > 5)
    return entry


def kp(entry: Content, k: int, *values: float) -> None:
    entry["keypoints"][3 * k : 3 * k + 3] = values


def labelled(entry: Content) -> int:
    return next(k for k in range(17) if entry["keypoints"][3 * k + 2] == 2)


def faults(path: Path, **options: Any) -> dict[str, Problem]:
    """What is found that is no hint, by code."""
    problems = check_document(read_document(path), **options).problems
    return {problem.code: problem for problem in problems if not problem.hint}


def hints(path: Path) -> dict[str, Problem]:
    problems = check_document(read_document(path)).problems
    return {problem.code: problem for problem in problems if problem.hint}


def negative_box(c: Content) -> None:
    entry = first_person(c)
    entry["bbox"][0] -= entry["bbox"][0] + 5
    entry["bbox"][2] += 300


def split(c: Content) -> None:
    c["annotations"] = [first_person(c)]
    half = dict(c["annotations"][0], id=900, bbox=[], area=0, segmentation=[])
    del c["annotations"][0]["keypoints"]
    c["annotations"].append(half)


PLANTED: list[tuple[str, Callable[[Content], object]]] = [
    ("broken-entry", lambda c: c["images"].append(None)),
    ("broken-entry", lambda c: c["annotations"].append("x")),
    ("broken-entry", lambda c: c["categories"].append(7)),
    ("category-id", lambda c: c["categories"].append({"name": "x"})),
    ("category-id-twice", lambda c: c["categories"].append(dict(c["categories"][0]))),
    ("category-keypoints", lambda c: c["categories"][0].pop("keypoints")),
    ("skeleton-range", lambda c: c["categories"][0].update(skeleton=[[0, 1]])),
    ("image-id", lambda c: c["images"].append({**c["images"][0], "id": "a", "file_name": "b"})),
    ("image-id-twice", lambda c: c["images"].append({**c["images"][0], "file_name": "b.jpg"})),
    ("image-name", lambda c: c["images"][0].pop("file_name")),
    ("image-name-path", lambda c: c["images"][0].update(file_name="/home/me/a.jpg")),
    ("image-name-path", lambda c: c["images"][0].update(file_name="C:\\pictures\\a.jpg")),
    ("image-name-path", lambda c: c["images"][0].update(file_name="x/../../a.jpg")),
    ("image-name-twice", lambda c: c["images"][0].update(file_name=c["images"][1]["file_name"])),
    ("image-size", lambda c: c["images"][0].update(width=None)),
    ("annotation-id", lambda c: first_person(c).update(id="7")),
    ("annotation-id-twice", lambda c: c["annotations"][0].update(id=c["annotations"][1]["id"])),
    ("annotation-id-zero", lambda c: first_person(c).update(id=0)),
    ("unknown-image", lambda c: first_person(c).update(image_id=4711)),
    ("unknown-category", lambda c: first_person(c).update(category_id=[1])),
    ("keypoints-form", lambda c: first_person(c).update(keypoints=[[1, 2]] * 17)),
    ("keypoints-form", lambda c: first_person(c)["keypoints"].append("x")),
    ("keypoints-count", lambda c: first_person(c)["keypoints"].extend([0, 0, 0])),
    ("bbox-missing", lambda c: first_person(c).update(bbox=[])),
    ("bbox-empty", lambda c: first_person(c)["bbox"].__setitem__(2, 0)),
    ("bbox-negative", negative_box),
    ("bbox-outside", lambda c: first_person(c)["bbox"].__setitem__(3, 4000)),
    ("visibility", lambda c: first_person(c)["keypoints"].__setitem__(2, 3)),
    ("visibility-origin", lambda c: kp(first_person(c), labelled(first_person(c)), 0, 0, 2)),
    (
        "keypoint-outside-image",
        lambda c: kp(first_person(c), labelled(first_person(c)), 5000, 9, 2),
    ),
    ("num-keypoints-missing", lambda c: first_person(c).pop("num_keypoints")),
    ("num-keypoints-wrong", lambda c: first_person(c).update(num_keypoints=1)),
    ("area-missing", lambda c: first_person(c).update(area=0)),
    ("area-missing", lambda c: first_person(c).update(area=None)),
    ("iscrowd-missing", lambda c: first_person(c).update(iscrowd=False)),
    ("split-annotation", split),
]


@pytest.mark.parametrize(
    ("code", "plant"), PLANTED, ids=lambda value: getattr(value, "__name__", value)
)
def test_every_planted_fault_is_found_with_place_and_remedy(
    people: Content, make: Make, code: str, plant: Callable[[Content], object]
) -> None:
    assert not faults(make(people))
    plant(people)
    found = faults(make(people))
    assert code in found
    assert found[code].count == 1
    assert len(found[code].places) == 1
    assert found[code].places[0]
    assert found[code].remedy


def test_a_keypoint_without_label_has_no_place(people: Content, make: Make) -> None:
    entry = next(a for a in people["annotations"] if 0 in a["keypoints"][2::3])
    k = entry["keypoints"][2::3].index(0)
    kp(entry, k, 12, 7, 0)
    (problem,) = faults(make(people)).values()
    assert problem.code == "visibility-zero"
    assert problem.places == (f"annotation {entry['id']}, {COCO_17.names[k]} (12, 7)",)


def test_flags_that_are_all_one(people: Content, make: Make) -> None:
    for entry in people["annotations"]:
        entry["keypoints"][2::3] = [min(v, 1) for v in entry["keypoints"][2::3]]
    count = sum(entry["num_keypoints"] > 0 for entry in people["annotations"])
    assert faults(make(people))["visibility-one"].count == count


def test_a_keypoint_outside_its_box_is_a_fault_where_the_tool_means_hidden_by_it(
    people: Content, make: Make
) -> None:
    first_person(people)["bbox"][2] /= 2
    first_person(people)["area"] = 1
    path = make(people)
    assert "keypoint-beyond-box" in hints(path)
    assert not faults(path)
    for entry in people["annotations"]:
        entry["datatorch_id"] = "x"
    assert set(faults(make(people))) == {"keypoint-outside-box"}


def test_images_without_a_person_are_a_hint_and_counted(people: Content, make: Make) -> None:
    people["annotations"] = []
    path = make(people)
    assert not faults(path)
    assert hints(path)["no-person"].count == len(people["images"])
    assert len(hints(path)["no-person"].places) == 3


@pytest.mark.parametrize(
    ("names", "expected", "place"),
    [
        (COCO_17.names[::-1], None, "keypoint 1 is 'right_ankle', in coco_17 'nose'"),
        (COCO_17.names[:-1], "coco_17", "16 keypoints, coco_17 has 17"),
        (("snout", *COCO_17.names[1:]), "coco_17", "keypoint 1 is 'snout', in coco_17 'nose'"),
    ],
)
def test_keypoint_names_that_do_not_match(
    people: Content, make: Make, names: tuple[str, ...], expected: str | None, place: str
) -> None:
    people["categories"][0] |= {"keypoints": list(names), "skeleton": [[1, 2]]}
    wanted = keypoint_set(expected) if expected else None
    problem = faults(make(people), expected=wanted)["keypoint-names"]
    assert problem.places == (f"category 1: {place}",)


def test_spelling_is_no_difference(people: Content, make: Make) -> None:
    names = [name.replace("_", " ").title() for name in COCO_17.names]
    people["categories"][0]["keypoints"] = names
    assert not faults(make(people))
    assert known_set(tuple(names)) is COCO_17


def test_a_missing_skeleton_is_a_hint(people: Content, make: Make) -> None:
    people["categories"][0]["skeleton"] = []
    assert hints(make(people))["category-skeleton"].count == 1


def test_swapped_sides_are_suspected(people: Content, make: Make) -> None:
    path = make(people)
    before = hints(path)["swap-suspected"].count if "swap-suspected" in hints(path) else 0
    order = COCO_17.flip_order
    assert order is not None
    for entry in people["annotations"]:
        points = [entry["keypoints"][3 * k : 3 * k + 3] for k in order]
        entry["keypoints"] = [value for point in points for value in point]
    assert before == 0
    assert hints(make(people))["swap-suspected"].count >= 3


def test_the_first_places_are_few_and_the_count_is_whole(people: Content, make: Make) -> None:
    for entry in people["annotations"]:
        del entry["iscrowd"]
    problem = faults(make(people))["iscrowd-missing"]
    assert problem.count == len(people["annotations"])
    assert problem.places == tuple(
        f"annotation {a['id']} (None)" for a in people["annotations"][:3]
    )
    assert problem.as_json()["first"] == list(problem.places)


def test_every_kind_says_what_and_how() -> None:
    for kind in KINDS.values():
        assert kind.what
        assert kind.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "is not valid JSON at line 1"),
        ("[]", "is a list (a results or boxes file)"),
        ('[{"id": 1, "annotations": []}]', "is a Label Studio export. Run: .* dataset convert"),
        ('[{"joints_vis": []}]', "is an MPII annotation file"),
        ("{}", "has no list 'images'"),
        ('{"images": [], "annotations": 3}', "'annotations' is no list"),
        ("<annotations/>", "is an XML file, not COCO JSON. Run: .* dataset convert"),
        ("PK\x03\x04", "is a zip archive. Unpack it"),
        ("[" * 100_000, "is nested too deeply|is not valid JSON"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=message.replace("(a results", r"\(a results").replace("file)", r"file\)")
    ):
        read_document(path)


def test_a_hundred_thousand_annotations_take_seconds(people: Content, make: Make) -> None:
    """A tenth of them in a tenth of the ten seconds, in processor time: machines are shared."""
    persons = [a for a in people["annotations"] if a["num_keypoints"]]
    people["annotations"] = [{**persons[n % len(persons)], "id": n + 1} for n in range(10_000)]
    document = read_document(make(people))
    start = time.process_time()
    check_document(document)
    assert time.process_time() - start < 1.0


def test_real_files(shared: Path) -> None:
    data = shared / "data"
    mini = data / "coco-train2017-mini" / "person_keypoints_train2017_mini.json"
    assert not faults(mini)
    assert set(hints(mini)) == {"keypoint-beyond-box", "no-person"}
    assert set(faults(data / "datatorch-export" / "datatorch_4images-1.json")) == {
        "split-annotation",
        "visibility-one",
        "num-keypoints-missing",
    }
    assert set(faults(data / "datatorch-export" / "coco.json")) == {"keypoints-form"}
    tests = data / "mmpose-tests"
    assert not faults(tests / "coco" / "test_coco.json")
    assert not faults(tests / "ap10k" / "test_ap10k.json")
    # CrowdPose repeats COCO's skeleton for its 14 keypoints and does not count head and neck.
    assert {"skeleton-range", "num-keypoints-wrong"} <= set(
        faults(tests / "crowdpose" / "test_crowdpose.json")
    )


def test_areas_of_boxes_are_a_hint(people: Content, make: Make) -> None:
    assert "area-of-box" not in hints(make(people))
    entry = first_person(people)
    entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    assert hints(make(people))["area-of-box"].count == 1


@pytest.mark.parametrize("key", ["bbox", "keypoints"])
def test_a_number_that_no_float_holds_is_a_problem(people: Content, make: Make, key: str) -> None:
    first_person(people)[key][0] = 10**400
    assert faults(make(people))
