"""Size and EXIF orientation of a picture file, told without decoding it."""

from __future__ import annotations

import struct

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file
from hrnet_deploy.runtime.image_header import (
    SNIFF_BYTES,
    check_complete,
    image_kind,
    image_size_wh,
)

MAX_FILE_BYTES = 1 << 30
UPRIGHT = 1
"""The EXIF orientation of pixels that are stored as they are to be seen."""


def read_header(path: Subject) -> tuple[tuple[int, int], int]:
    """Width and height in pixels as stored, and the EXIF orientation (1: upright).

    Raises InputError for what is no picture, truncated or damaged; nothing is decoded.
    """
    file = check_input_file(path, what="picture")
    if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise InputError(path, "is no regular file of at most 1 GB", "Give a picture")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "Check it") from error
    kind = image_kind(content[:SNIFF_BYTES], path)
    size_wh = image_size_wh(content, kind, path)
    check_complete(content, kind, path)
    return size_wh, _orientation(content) if kind == "JPEG" else UPRIGHT


def _orientation(content: bytes) -> int:
    """The EXIF orientation of a JPEG; 1 where there is none or its EXIF is damaged."""
    position = 2
    try:
        while content[position] == 0xFF and content[position + 1] not in (0xD9, 0xDA):
            marker = content[position + 1]
            (length,) = struct.unpack_from(">H", content, position + 2)
            if marker == 0xE1 and content[position + 4 : position + 10] == b"Exif\0\0":
                return _tiff_orientation(content[position + 10 : position + 2 + length])
            position += 2 + length
    except (struct.error, IndexError):
        pass
    return UPRIGHT


def _tiff_orientation(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry)
        if tag == 0x0112:
            return int(value) if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
