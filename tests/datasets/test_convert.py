from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hrnet_deploy.datasets.check import check_document
from hrnet_deploy.datasets.convert import Converted, convert, parse_keypoints
from hrnet_deploy.datasets.label_studio import file_name_of
from hrnet_deploy.errors import InputError
from hrnet_deploy.keypoints import COCO_17

Content = dict[str, Any]


def write(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def by_person(content: Content) -> dict[tuple[str, int], list[Any]]:
    """Keypoints of every person by its picture and its place among the persons there."""
    files = {image["id"]: image["file_name"] for image in content["images"]}
    result: dict[tuple[str, int], list[Any]] = {}
    for entry in content["annotations"]:
        if entry.get("num_keypoints") and not entry["iscrowd"]:
            file = files[entry["image_id"]]
            place = sum(name == file for name, _ in result)
            result[file, place] = [entry["keypoints"], entry["bbox"]]
    return result


def assert_same(
    result: Converted,
    truth: Content,
    *,
    tolerance: float = 0.02,
    flags: bool = True,
    boxes: bool = True,
) -> None:
    ours, theirs = by_person(result.document.content), by_person(truth)
    assert set(ours) == set(theirs)
    for key, (points, box) in ours.items():
        wanted, wanted_box = theirs[key]
        assert points[0::3] == pytest.approx(wanted[0::3], abs=tolerance)
        assert points[1::3] == pytest.approx(wanted[1::3], abs=tolerance)
        if flags:
            assert points[2::3] == wanted[2::3]
        else:
            assert [v > 0 for v in points[2::3]] == [v > 0 for v in wanted[2::3]]
        if boxes:
            assert box == pytest.approx(wanted_box, abs=tolerance)
    problems = check_document(result.document).problems
    assert not [problem for problem in problems if not problem.hint]


@pytest.mark.parametrize("group_boxes", [True, False])
def test_cvat_xml(
    people: Content, exporters: ModuleType, tmp_path: Path, group_boxes: bool
) -> None:
    path = write(tmp_path, "annotations.xml", exporters.cvat_xml(people, group_boxes=group_boxes))
    result = convert(path)
    assert result.source == "CVAT for images 1.1"
    assert_same(result, people)
    category = result.document.categories[0]
    assert category["keypoints"] == people["categories"][0]["keypoints"]
    assert category["skeleton"] == people["categories"][0]["skeleton"]
    assert [i["file_name"] for i in result.document.images] == [
        i["file_name"] for i in people["images"]
    ]


def test_cvat_coco(people: Content, exporters: ModuleType, tmp_path: Path) -> None:
    result = convert(write(tmp_path, "x.json", exporters.cvat_coco(people)))
    assert result.source == "COCO JSON (CVAT)"
    assert_same(result, people)


def test_label_studio(
    people: Content, people_folder: Path, exporters: ModuleType, tmp_path: Path
) -> None:
    path = write(tmp_path, "export.json", exporters.label_studio(people))
    result = convert(path, images=people_folder / "images")
    assert result.source == "Label Studio JSON"
    assert_same(result, people)
    assert "keypoints are taken as coco_17, which has all their names" in result.notes
    assert [image["id"] for image in result.document.images] == [i["id"] for i in people["images"]]


def test_label_studio_without_parents_goes_by_place_and_says_where_that_is_not_sure(
    people: Content, exporters: ModuleType, tmp_path: Path
) -> None:
    result = convert(write(tmp_path, "x.json", exporters.label_studio(people, parents=False)))
    names = {i["id"]: i["file_name"] for i in result.document.images}
    assert all(name.startswith("0a1b2c3d-") for name in names.values())
    ours = [a["keypoints"] for a in result.document.annotations]
    theirs = [a["keypoints"] for a in exporters.persons(people)]
    same = [a == pytest.approx(b, abs=0.01) for a, b in zip(ours, theirs, strict=True)]
    assert sum(same) >= len(same) - 2
    assert not all(same)
    assert any("lie in several rectangles and went to the smallest" in n for n in result.notes)


def test_label_studio_coco(
    people: Content, people_folder: Path, exporters: ModuleType, tmp_path: Path
) -> None:
    path = write(tmp_path, "result.json", exporters.label_studio_coco(people))
    result = convert(path, images=people_folder / "images")
    assert result.source == "COCO JSON (Label Studio)"
    assert all(entry["id"] for entry in result.document.annotations)
    first = {**people, "annotations": []}
    for image in people["images"]:
        own = [a for a in exporters.persons(people) if a["image_id"] == image["id"]]
        first["annotations"] += own[:1]
    ours = {file: value for (file, _), value in by_person(result.document.content).items()}
    for (file, _), (points, box) in by_person(first).items():
        assert ours[file][0][0::3] == pytest.approx(points[0::3], abs=0.51)
        assert ours[file][1] == pytest.approx(box)


def test_coco_annotator(people: Content, exporters: ModuleType, tmp_path: Path) -> None:
    result = convert(write(tmp_path, "x.json", exporters.coco_annotator(people)))
    assert result.source == "COCO JSON (COCO Annotator)"
    assert_same(result, people, boxes=False)
    assert result.changes.counts == dict.fromkeys(("boxes", "area-from-box", "crowd"), 14)


def test_datatorch(people: Content, exporters: ModuleType, tmp_path: Path) -> None:
    # Here every keypoint lies in its box, but for those that the tool hides by moving them out.
    for entry in exporters.persons(people):
        x, y, w, h = entry["bbox"]
        for k, (px, py, v) in enumerate(exporters.triplets(entry)):
            if v and not (x - 1 <= px <= x + w + 1 and y - 1 <= py <= y + h + 1):
                entry["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
                entry["num_keypoints"] -= 1
    result = convert(write(tmp_path, "x.json", exporters.datatorch(people)))
    assert result.source == "COCO JSON (DataTorch)"
    assert_same(result, people, flags=False)


def test_points_of_older_cvat_tasks(tmp_path: Path) -> None:
    """No skeletons: one label a keypoint in a group with a box, or all points in one element."""
    xml = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels/></task></meta>
<image id="0" name="a b&amp;c.jpg" width="100" height="80">
<box label="man" occluded="0" xtl="10" ytl="10" xbr="60" ybr="70" group_id="3"/>
<points label="nose" occluded="0" points="20.5,20" group_id="3"/>
<points label="tail" occluded="1" points="30,40" group_id="3"/>
<points label="dog" occluded="0" points="70,10;80,20"/>
<points label="cat" occluded="0" points="1,1;2,2;3,3"/>
<polyline label="x" points="1,1;2,2"/><tag label="y"/>
</image></annotations>"""
    result = convert(write(tmp_path, "a.xml", xml), keypoints=parse_keypoints("nose,tail"))
    entries = result.document.annotations
    assert [entry["keypoints"] for entry in entries] == [
        [70.0, 10.0, 2, 80.0, 20.0, 2],
        [20.5, 20.0, 2, 30.0, 40.0, 1],
    ]
    assert entries[1]["bbox"] == [10, 10, 50, 60]
    assert result.document.images[0]["file_name"] == "a b&c.jpg"
    assert set(result.notes) == {
        f"1 <{tag}> left out: no persons" for tag in ("points", "polyline", "tag")
    }


def test_a_turned_box_becomes_the_upright_one_around_it(tmp_path: Path) -> None:
    xml = (
        '<annotations><meta/><image id="0" name="a.jpg" width="100" height="80">'
        '<box label="p" xtl="40" ytl="30" xbr="60" ybr="34" rotation="90.00"/>'
        "</image></annotations>"
    )
    (entry,) = convert(write(tmp_path, "a.xml", xml)).document.annotations
    assert entry["bbox"] == [48, 22, 4, 20]
    region = {"original_width": 200, "original_height": 100, "image_rotation": 0, "id": "r"}
    value = {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 90, "rectanglelabels": ["p"]}
    task = {
        "id": 1,
        "data": {"image": "a.jpg"},
        "annotations": [{"result": [{**region, "type": "rectanglelabels", "value": value}]}],
    }
    (entry,) = convert(write(tmp_path, "a.json", [task])).document.annotations
    assert entry["bbox"] == pytest.approx([80, 50, 20, 20])


IMAGE = '<image id="0" name="a.jpg" width="100" height="80">{}</image>'
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html/>", "is XML of <html>, not a CVAT export"),
        ("<annotations><meta/></annotations>", "lists no images"),
        ('<annotations><meta/><track id="0"/></annotations>', "is a CVAT export of a video"),
        ("<annotations><meta>", "is not valid XML at line 1, column"),
        (f"{BOMB}<annotations><meta/>&b;</annotations>", "declares a document type"),
        (f"{FILE}<annotations><meta/>&a;</annotations>", "declares a document type"),
        ("<annotations>" + "<a>" * 100, "is nested too deeply"),
        (
            '<annotations><meta/><image id="0" width="1" height="1"/></annotations>',
            "image number 1 has no name",
        ),
        (
            f"<annotations><meta/>{IMAGE}</annotations>".replace('"100"', '"nan"'),
            "image a.jpg has width 'nan', not a number",
        ),
        (
            f"<annotations><meta/>{IMAGE.format('<box label=p xtl=1/>')}</annotations>",
            "is not valid XML at line 1",
        ),
        (
            "<annotations><meta/>"
            + IMAGE.format('<skeleton label="p"><points label="n" points="1;2"/></skeleton>')
            + "</annotations>",
            "image a.jpg, p n has points '1;2'",
        ),
    ],
)
def test_damaged_xml_ends_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(write(tmp_path, "a.xml", text))
    assert "\n" not in str(caught.value)
    assert "a.xml" in str(caught.value)


REGION = {"id": "k", "type": "keypointlabels", "original_width": 100, "original_height": 50}
KEYPOINT = {**REGION, "value": {"x": 10, "y": 10, "width": 1, "keypointlabels": ["nose"]}}


def task(*results: Any, **more: Any) -> Content:
    annotations = [{"result": list(results), "was_cancelled": False}]
    return {"id": 5, "data": {"image": "/data/upload/1/x.jpg"}, "annotations": annotations, **more}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has no tasks"),
        ([{"image": "x.jpg", "annotation_id": 3, "annotator": 1}], "is Label Studio's JSON-MIN"),
        ([7], "is not a Label Studio export"),
        ([task(), {"id": 6, "annotations": None}], "task 6 has no list 'annotations'"),
        ([task(), 7], r"\[1\] has no list 'annotations'"),
        ([task(annotations=[{"result": "x"}])], "task 5 has a result that is no list"),
        ([task(data={})], "task 5 names no picture"),
        ([task({**KEYPOINT, "value": None})], "task 5 has a region without value"),
        (
            [task({**KEYPOINT, "image_rotation": 90})],
            "task 5 was annotated on a picture turned by 90",
        ),
        ([task({**KEYPOINT, "original_width": None})], "region without original_width and height"),
        (
            [task({**KEYPOINT, "value": {"x": "a", "y": 1, "keypointlabels": ["n"]}})],
            "task 5 has x 'a', not a number",
        ),
        ([task({**KEYPOINT, "value": {"x": 1, "y": 1}})], "task 5 has a keypoint without a label"),
        (
            [task({**REGION, "type": "polygonlabels", "value": {"points": [[1, 2], [3]]}})],
            "polygon that is no list of points",
        ),
    ],
)
def test_damaged_label_studio_exports_name_the_task(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert(write(tmp_path, "a.json", content))


def test_label_studio_every_field_broken_never_crashes(
    people: Content, exporters: ModuleType, tmp_path: Path
) -> None:
    people["images"] = people["images"][:1]
    (base,) = exporters.label_studio(people)
    region = base["annotations"][0]["result"][1]
    for record in (base, base["annotations"][0], region, region["value"]):
        for key in list(record):
            for junk in (None, 7, "x", [], {}, [[]], -1.5, True):
                before, record[key] = record[key], junk
                # Any other exception than our own ends the test.
                with contextlib.suppress(InputError):
                    convert(write(tmp_path, "a.json", [base]))
                record[key] = before


def test_label_studio_relations_doubles_and_strays(tmp_path: Path) -> None:
    box = {**REGION, "id": "b", "type": "rectanglelabels"}
    box["value"] = {"x": 0, "y": 0, "width": 20, "height": 40, "rectanglelabels": ["man"]}
    far = {**KEYPOINT, "id": "far", "value": {"x": 90, "y": 90, "keypointlabels": ["tail"]}}
    stray = {**KEYPOINT, "id": "stray", "value": {"x": 80, "y": 80, "keypointlabels": ["ear"]}}
    double = {**KEYPOINT, "id": "double"}
    relation = {"type": "relation", "from_id": "far", "to_id": "b", "direction": "right"}
    old = {"result": [stray], "created_at": "2020"}
    new = {"result": [box, KEYPOINT, far, stray, double, relation], "created_at": "2021"}
    cancelled = {"result": [stray], "created_at": "2022", "was_cancelled": True}
    result = convert(
        write(tmp_path, "a.json", [task(annotations=[new, old, cancelled])]),
        keypoints=parse_keypoints("nose,tail,ear"),
    )
    (entry,) = result.document.annotations
    assert entry["keypoints"] == [10, 5, 2, 90, 45, 2, 0, 0, 0]
    assert entry["bbox"] == [0, 0, 20, 20]
    assert set(result.notes) == {
        "task 5 has 2 annotations; the latest counts",
        "task 5: 'ear' at 80, 40 lies in no rectangle; left out",
        "task 5: 'nose' stands twice in one person; the first counts",
    }


def test_a_task_without_rectangles_is_one_person(tmp_path: Path) -> None:
    other = {**KEYPOINT, "id": "o", "value": {"x": 20, "y": 40, "keypointlabels": ["tail"]}}
    result = convert(write(tmp_path, "a.json", [task(KEYPOINT, other), task(id=6)]))
    (entry,) = result.document.annotations
    assert entry["keypoints"] == [10, 5, 2, 20, 20, 2]
    assert entry["num_keypoints"] == 2
    assert len(result.document.images) == 2


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/upload/12/ab-x%20y.jpg", "ab-x y.jpg"),
        ("/data/local-files/?d=set/one/x.jpg", "set/one/x.jpg"),
        ("https://example.org/a/b/x.jpg?sig=1#2", "x.jpg"),
        ("s3://bucket/a/x.jpg", "x.jpg"),
        ("/home/me/x.jpg", "x.jpg"),
        ("x.jpg", "x.jpg"),
    ],
)
def test_names_of_label_studio_pictures(source: str, name: str) -> None:
    assert file_name_of(source) == name


def test_keypoints_by_name_or_one_by_one() -> None:
    assert parse_keypoints("coco_17") is COCO_17
    assert parse_keypoints("a, b").names == ("a", "b")
    with pytest.raises(InputError, match="unknown keypoint set"):
        parse_keypoints("coco_18")
    with pytest.raises(InputError, match="an empty name or one twice"):
        parse_keypoints("a,a")
