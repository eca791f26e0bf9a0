"""Boxes in the five formats give the same persons; whatever is no box is refused by its place."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

import numpy as np
import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.boxes import load_boxes
from hrnet_deploy.predict.frames import Frame
from hrnet_deploy.predict.sources import Source

XYXY = [[10.0, 20.0, 30.0, 60.0], [40.0, 10.0, 80.0, 50.0]]
XYWH = [[10.0, 20.0, 20.0, 40.0], [40.0, 10.0, 40.0, 40.0]]
SIZE_WH = (100, 80)


def frame(name: str = "pics/000007.jpg", number: int | None = None) -> Frame:
    picture = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    return Frame(name, PurePath(PurePath(name).name), picture, number=number)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def detections(**key: object) -> str:
    return json.dumps([{**key, "category_id": 1, "bbox": b, "score": 0.5} for b in XYWH])


def annotations(file_name: str) -> str:
    entries = [{"id": i, "image_id": 3, "category_id": 1, "bbox": b} for i, b in enumerate(XYWH)]
    crowd = {"id": 9, "image_id": 3, "category_id": 1, "bbox": [0, 0, 0, 0], "iscrowd": 1}
    other = {"id": 8, "image_id": 3, "category_id": 2, "bbox": XYWH[0]}
    return json.dumps(
        {
            "images": [{"id": 3, "file_name": file_name}],
            "annotations": [*entries, crowd, other],
            "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        }
    )


def yolo() -> str:
    width, height = SIZE_WH
    lines = [
        f"0 {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}"
        for x, y, w, h in XYWH
    ]
    return "\n".join([*lines, "2 0.5 0.5 0.1 0.1"])


CASES = {
    "coco ids": ("b.json", detections(image_id=7)),
    "coco names": ("b.json", detections(file_name="pics/000007.jpg", image_id=99)),
    "coco text ids": ("b.json", detections(image_id="000007.jpg")),
    "coco stems": ("b.json", detections(image_id="000007")),
    "annotations": ("b.json", annotations("000007.jpg")),
    "csv corners": (
        "b.csv",
        "image,x1,y1,x2,y2\n" + "".join(f"000007.jpg,{','.join(map(str, b))}\n" for b in XYXY),
    ),
    "csv sizes": (
        "b.csv",
        "frame;x;y;width;height\n" + "".join(f"7;{';'.join(map(str, b))}\n" for b in XYWH),
    ),
    "mot": (
        "b.txt",
        "".join(f"7,{i},{','.join(map(str, b))},0.9,-1,-1,-1\n" for i, b in enumerate(XYWH)),
    ),
    "yolo folder": ("labels/000007.txt", yolo()),
}


@pytest.mark.parametrize("case", CASES)
def test_every_format_gives_the_same_boxes(case: str, tmp_path: Path) -> None:
    path = written(tmp_path, *CASES[case])
    boxes = load_boxes(path.parent if case.startswith("yolo") else path)
    found = boxes(frame())
    np.testing.assert_allclose(found.xyxy, XYXY, atol=1e-9)
    assert len(boxes(frame("pics/000008.jpg"))) == 0
    assert boxes.knows(Source("picture", "/x/pics/000007.jpg", PurePath("000007.jpg")))
    assert not boxes.knows(Source("picture", "/x/pics/000009.jpg", PurePath("000009.jpg")))


def test_mot_counts_frames_from_one_and_keeps_its_track_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "det.txt", "1,4,10,20,20,40,0.9,-1,-1,-1\n2,5,40,10,40,40,0.8\n")
    boxes = load_boxes(path)
    first = boxes(frame("clip.mp4", number=0))
    assert first.ids is not None
    assert (first.ids.tolist(), first.scores.tolist()) == ([4], [0.9])
    assert boxes(frame("clip.mp4", number=1)).xyxy.tolist() == [XYXY[1]]


def test_mot_ground_truth_leaves_out_what_does_not_count(tmp_path: Path) -> None:
    rows = ["1,1,10,20,20,40,1,1,0.5", "1,2,40,10,40,40,0,1,1", "1,3,40,10,40,40,1,3,1"]
    boxes = load_boxes(written(tmp_path, "gt.txt", "\n".join(rows)))
    assert len(boxes(frame("clip.mp4", number=0))) == 1


def test_names_are_matched_by_their_longest_common_end(tmp_path: Path) -> None:
    rows = "image,x1,y1,x2,y2\na/x.jpg,0,0,5,5\nb/x.jpg,0,0,9,9\n"
    boxes = load_boxes(written(tmp_path, "b.csv", rows))
    assert boxes(frame("/data/a/x.jpg")).xyxy.tolist() == [[0, 0, 5, 5]]
    assert boxes(frame("/data/b/x.jpg")).xyxy.tolist() == [[0, 0, 9, 9]]
    with pytest.raises(InputError, match=r"both fit x\.jpg"):
        boxes(frame("x.jpg"))


def test_image_ids_are_named_by_an_annotation_file(tmp_path: Path) -> None:
    path = written(tmp_path, "b.json", detections(image_id=3))
    named = written(tmp_path, "a.json", annotations("000007.jpg"))
    assert len(load_boxes(path, image_ids=named)(frame())) == 2
    assert len(load_boxes(path)(frame())) == 0


def test_the_threshold_leaves_boxes_out(tmp_path: Path) -> None:
    path = written(tmp_path, "b.json", detections(image_id=7))
    assert len(load_boxes(path, threshold=0.5)(frame())) == 2
    with pytest.raises(InputError, match=r"no boxes of persons \(2 below the threshold 0.6\)"):
        load_boxes(path, threshold=0.6)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("b.json", "[1", "not valid JSON"),
        ("b.json", "{}", "neither COCO detections nor"),
        ("b.json", "[]", "has no boxes"),
        ("b.json", '[{"bbox": [1, 2, 3, 4]}]', "box 0 has no 'image_id'"),
        ("b.json", '[{"image_id": 1, "bbox": [1, 2, 3]}]', "box 0 is .* not four"),
        ("b.json", '[{"image_id": 1, "bbox": [1, 2, NaN, 4]}]', "NaN is not a JSON number"),
        ("b.json", '[{"image_id": 1, "bbox": [1, 2, "a", 4]}]', "box 0 has width = nan"),
        ("b.json", '[{"image_id": 1, "bbox": [1, 2, -3, 4]}]', "box 0 has width -3 px"),
        ("b.json", '[{"image_id": 1, "bbox": [0.1, 0.2, 0.3, 0.4]}]', "fractions of 1"),
        ("b.json", '[{"image_id": 1.5, "bbox": [1, 2, 3, 4]}]', "box 0 has image_id 1.5"),
        ("b.json", '[{"image_id":1,"category_id":3,"bbox":[1,2,3,4]},'
                   '{"image_id":1,"category_id":4,"bbox":[1,2,3,4]}]', "none of 1"),
        ("b.csv", "image,x1,y1,x2,y2\na.jpg,5,5,4,9\n", r"box 0 has x2 <= x1.*got xywh\?"),
        ("b.csv", "image,x1,y1,x2,y2\na.jpg,5,5\n", "line 2 has 3 cells"),
        ("b.csv", "a.jpg,1,2,3,4\n", "no columns of boxes"),
        ("b.csv", "x1,y1,x2,y2\n1,2,3,4\n", "no column image or frame"),
        ("b.txt", "1,2,3\n", "line 1 has 3 columns"),
        ("b.txt", "1,2,3,4,0,9,1\n", "box 0 has width 0 px"),
        ("b.xml", "<x/>", "unknown extension"),
    ],
)  # fmt: skip
def test_what_is_no_box_is_refused_by_its_place(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_boxes(written(tmp_path, name, text))


def test_a_yolo_file_with_pixels_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "000007.txt", "0 50 40 20 40\n")
    with pytest.raises(InputError, match="holds pixels rather than fractions"):
        load_boxes(path)(frame())
