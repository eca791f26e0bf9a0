"""EXIF orientation: where cameras wrote down how they were held."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

AS_STORED = 1
ORIENTATION_TAG = 0x0112
"""Exif 2.3, tag 274: 1 to 8."""

_SHORT = 3
_EXIF_MARK = b"Exif\0\0"
_SWAPS_SIDES = 5
"""From this orientation on width and height change places."""


def exif_orientation(content: bytes) -> int:
    """The orientation 1 to 8 that a JPEG, PNG or WebP file states; 1 where it states none."""
    for block in _exif_blocks(content):
        if (value := _orientation_of(block)) is not None:
            return value
    return AS_STORED


def turned(image_bgr: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The picture as it is meant to be seen; contiguous, the same array where nothing is to do."""
    if orientation == AS_STORED:
        return image_bgr
    view = image_bgr.transpose(1, 0, 2) if orientation >= _SWAPS_SIDES else image_bgr
    if orientation in (3, 4, 7, 8):
        view = view[::-1]
    if orientation in (2, 3, 6, 7):
        view = view[:, ::-1]
    return np.ascontiguousarray(view)


def turned_frame(image_bgr: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """A video frame turned clockwise by 0, 90, 180 or 270 degrees."""
    codes = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    code = codes.get(degrees % 360)
    return image_bgr if code is None else cv2.rotate(image_bgr, code).astype(np.uint8, copy=False)


def _exif_blocks(content: bytes) -> Iterator[bytes]:
    """The TIFF structures that a file carries."""
    if content.startswith(b"\xff\xd8"):
        yield from _jpeg_blocks(content)
    elif content.startswith(b"\x89PNG"):
        yield from _chunks(content, start=8, wanted=b"eXIf", order=">", tail=4, name_first=False)
    elif content[8:12] == b"WEBP":
        for block in _chunks(content, 12, b"EXIF", order="<", tail=0, name_first=True):
            yield block.removeprefix(_EXIF_MARK)


def _jpeg_blocks(content: bytes) -> Iterator[bytes]:
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in (0xD9, 0xDA):
            return
        (length,) = struct.unpack_from(">H", content, place + 2)
        body = content[place + 4 : place + 2 + length]
        if marker == 0xE1 and body.startswith(_EXIF_MARK):
            yield body[len(_EXIF_MARK) :]
        place += 2 + max(length, 2)


def _chunks(
    content: bytes, start: int, wanted: bytes, *, order: str, tail: int, name_first: bool
) -> Iterator[bytes]:
    place = start
    while place + 8 <= len(content):
        name, size = content[place : place + 4], content[place + 4 : place + 8]
        if not name_first:
            name, size = size, name
        (length,) = struct.unpack(f"{order}I", size)
        if name == wanted:
            yield content[place + 8 : place + 8 + length]
        padding = length % 2 if name_first else 0
        place += 8 + length + tail + padding


def _orientation_of(tiff: bytes) -> int | None:
    """The tag's value in the first directory; None where it is absent or makes no sense."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    if directory + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for index in range(count):
        place = directory + 2 + 12 * index
        if place + 12 > len(tiff):
            return None
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, place)
        if tag == ORIENTATION_TAG:
            return value if kind == _SHORT and 1 <= value <= 8 else None
    return None
