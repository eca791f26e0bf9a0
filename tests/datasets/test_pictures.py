from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hrnet_deploy.datasets.clean import CleanOptions, clean_document
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.pictures import check_pictures, look_at_pictures
from hrnet_deploy.datasets.problems import Findings, Problem
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.picture_header import read_header


def jpeg(path: Path, size_wh: tuple[int, int] = (40, 30), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".jpg", np.zeros((size_wh[1], size_wh[0], 3), np.uint8))
    assert ok
    content = data.tobytes()
    if orientation is not None:
        tiff = (
            b"MM\0*\0\0\0\x08\0\x01"
            + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
            + bytes(4)
        )
        exif = b"Exif\0\0" + tiff
        content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    path.write_bytes(content)
    return path


def document(*names: str, **more: Any) -> Document:
    images = [
        {"id": i, "file_name": name, "width": 40, "height": 30, **more}
        for i, name in enumerate(names, start=1)
    ]
    return Document(Path("a.json"), {"images": images, "annotations": [], "categories": []}, "coco")


def found(doc: Document, folder: Path) -> dict[str, Problem]:
    findings = Findings()
    check_pictures(doc, look_at_pictures(doc, folder), findings)
    return {problem.code: problem for problem in findings.problems}


def test_pictures_that_are_in_order(tmp_path: Path) -> None:
    jpeg(tmp_path / "a.jpg")
    jpeg(tmp_path / "deep" / "b.jpg", orientation=1)
    assert not found(document("a.jpg", "elsewhere/b.jpg"), tmp_path)


def test_everything_that_can_be_wrong(tmp_path: Path) -> None:
    jpeg(tmp_path / "a.jpg", (41, 30))
    content = jpeg(tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[: len(content) // 2])
    jpeg(tmp_path / "c.jpg", (30, 40), orientation=6)
    jpeg(tmp_path / "d.jpg", orientation=3)
    jpeg(tmp_path / "spare" / "e.JPG")
    (tmp_path / "notes.txt").write_text("x")
    problems = found(document("a.jpg", "b.jpg", "c.jpg", "d.jpg", "f.jpg"), tmp_path)
    assert problems["picture-size"].places == ("image 1 (a.jpg) 41x30, stated 40x30",)
    assert problems["picture-unreadable"].places[0].startswith("image 2 (b.jpg) is truncated")
    assert problems["picture-turned"].places == (
        "image 3 (c.jpg) 30x40, stated 40x30",
        "image 4 (d.jpg) EXIF orientation 3",
    )
    assert problems["picture-missing"].places == ("image 5 (f.jpg)",)
    assert problems["picture-unused"].places == ("spare/e.JPG",)
    assert problems["picture-unused"].hint


def test_names_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    jpeg(tmp_path / "secret.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    problems = found(
        document("../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg"), tmp_path / "in"
    )
    assert problems["picture-missing"].count == 3


@pytest.mark.parametrize("end", range(2, 60, 3))
def test_damaged_exif_is_no_orientation_and_no_crash(tmp_path: Path, end: int) -> None:
    content = bytearray(jpeg(tmp_path / "a.jpg", orientation=6).read_bytes())
    assert read_header(tmp_path / "a.jpg") == ((40, 30), 6)
    content[end : end + 2] = b"\xfe\xfe"
    (tmp_path / "a.jpg").write_bytes(content)
    try:
        size_wh, orientation = read_header(tmp_path / "a.jpg")
    except InputError:
        return
    assert size_wh[0] > 0
    assert 1 <= orientation <= 8


def test_sizes_that_are_not_stated_come_from_the_files(tmp_path: Path) -> None:
    jpeg(tmp_path / "a.jpg", (64, 48))
    doc = document("a.jpg", width=None, height=None)
    changes = clean_document(doc, CleanOptions(), pictures=look_at_pictures(doc, tmp_path))
    assert (doc.images[0]["width"], doc.images[0]["height"]) == (64, 48)
    assert changes.counts == {"sizes": 2}


@pytest.mark.parametrize(
    ("name", "message"), [("x", "no such folder"), ("a.jpg", "is not a folder")]
)
def test_the_folder_is_checked(tmp_path: Path, name: str, message: str) -> None:
    jpeg(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=message):
        look_at_pictures(document("a.jpg"), tmp_path / name)


def test_real_pictures(shared: Path) -> None:
    folder = shared / "data" / "coco-train2017-mini"
    content = json.loads((folder / "person_keypoints_train2017_mini.json").read_text())
    assert not found(Document(folder, content, "coco"), folder / "images")
