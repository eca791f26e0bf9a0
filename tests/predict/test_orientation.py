"""EXIF orientation: all eight, in every type of file, against OpenCV's own turning."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_deploy.predict.orientation import exif_orientation, turned


def tiff(orientation: int, order: str) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def with_exif(suffix: str, image: np.ndarray, exif: bytes) -> bytes:
    content = cv2.imencode(suffix, image)[1].tobytes()
    if suffix == ".jpg":
        body = b"Exif\0\0" + exif
        return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]
    if suffix == ".png":
        chunk = b"eXIf" + exif
        packed = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return content[:33] + packed + content[33:]
    body = content[12:] + b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_pictures_are_turned_as_opencv_turns_them(
    orientation: int, order: str, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8)
    content = with_exif(".jpg", image, tiff(orientation, order))
    (tmp_path / "x.jpg").write_bytes(content)
    expected = cv2.imread(str(tmp_path / "x.jpg"), cv2.IMREAD_COLOR)
    stored = cv2.imread(str(tmp_path / "x.jpg"), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert exif_orientation(content) == orientation
    np.testing.assert_array_equal(turned(stored, exif_orientation(content)), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_tag_is_found_in_every_type_of_file(suffix: str) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    assert exif_orientation(with_exif(suffix, image, tiff(6, "<"))) == 6
    assert exif_orientation(cv2.imencode(suffix, image)[1].tobytes()) == 1


@given(st.binary(max_size=80), st.integers(0, 200))
def test_damaged_blocks_mean_as_stored(noise: bytes, cut: int) -> None:
    content = with_exif(".jpg", np.zeros((8, 8, 3), np.uint8), tiff(9, "<")[:8] + noise)
    assert 1 <= exif_orientation(content[:cut]) <= 8
    assert 1 <= exif_orientation(content) <= 8
    assert 1 <= exif_orientation(b"\x89PNG\r\n\x1a\n" + noise) <= 8
