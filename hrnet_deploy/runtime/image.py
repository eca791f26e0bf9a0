"""Pictures from untrusted files: checked by their header first, then decoded by OpenCV."""

from __future__ import annotations

import os
import stat

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import EnvironmentFault, InputError, Subject
from hrnet_deploy.files import check_input_file
from hrnet_deploy.runtime.image_header import (
    SNIFF_BYTES,
    check_complete,
    image_kind,
    image_size_wh,
)

MAX_PIXELS = 200e6
"""A picture of 30,000 x 30,000 px fits into 100 KB of PNG and would take 5 GB to decode."""

MAX_FILE_BYTES = 1 << 30

OPENCV_4_MAX_SIDE = 32766
"""``cv2.warpAffine`` of OpenCV 4 counts pixels in 16 bits."""

_DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Subject, *, max_pixels: float = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a JPEG, PNG, BMP or WebP file as (H, W, 3) uint8 BGR, pixels as they are stored.

    EXIF orientation is ignored, as in the official evaluation. Grey values are repeated in all
    three channels, palettes are looked up, of 16 bits the upper 8 are kept, an alpha channel is
    dropped (not blended), CMYK is converted by OpenCV. Raises InputError for what is missing,
    truncated, damaged, of another type or larger than ``max_pixels``, before it is decoded.
    """
    return decode_image(_read_bytes(path), name=path, max_pixels=max_pixels)


def decode_image(
    content: bytes, *, name: Subject, max_pixels: float = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode a picture that is in memory, as ``read_image`` does; ``name`` stands in errors."""
    kind = image_kind(content[:SNIFF_BYTES], name)
    width, height = image_size_wh(content, kind, name)
    if width * height > max_pixels:
        megapixels = width * height / 1e6
        size = f"{width}x{height} px: {megapixels:{'.0f' if megapixels >= 10 else '.2g'}} Mpx"
        raise InputError(
            name,
            f"{size} exceeds {max_pixels / 1e6:g} Mpx limit",
            "Scale it down or raise the limit (--max-pixels)",
        )
    check_sides((width, height), name)
    check_complete(content, kind, name)
    try:
        image_bgr = cv2.imdecode(np.frombuffer(content, np.uint8), _DECODE_FLAGS)
    except (cv2.error, MemoryError) as error:
        if isinstance(error, MemoryError) or getattr(error, "code", 0) == cv2.Error.StsNoMem:
            raise out_of_memory(name, width * height * 3) from error
        image_bgr = None
    if image_bgr is None:
        raise InputError(
            name, f"is damaged (its {kind} data cannot be decoded)", "Download or copy it again"
        )
    return image_bgr.astype(np.uint8, copy=False)


def check_sides(size_wh: tuple[int, int], subject: Subject) -> None:
    """Refuse a picture that this OpenCV decodes but cannot cut crops from."""
    if max(size_wh) > OPENCV_4_MAX_SIDE and int(cv2.__version__.split(".")[0]) < 5:
        raise InputError(
            subject,
            f"{size_wh[0]}x{size_wh[1]} px: a side exceeds {OPENCV_4_MAX_SIDE} px with OpenCV 4",
            "Scale the picture down or cut it",
        )


def out_of_memory(subject: Subject, wanted_bytes: int) -> EnvironmentFault:
    """The one sentence for an allocation that failed."""
    return EnvironmentFault(
        subject, f"not enough memory (needs about {wanted_bytes / 1e6:.0f} MB)", "Free some memory"
    )


def _read_bytes(path: Subject) -> bytes:
    """All bytes of a regular file that starts like a picture; devices and pipes are not touched."""
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    try:
        check_input_file(path, what="picture")
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(path, "is not a regular file", "Give the path of a picture")
        if status.st_size > MAX_FILE_BYTES:
            size = f"is {status.st_size / 1e9:.1f} GB"
            raise InputError(path, size, f"At most {MAX_FILE_BYTES / 1e9:.1f} GB are read")
        # Unbuffered, and all of it again: joined parts leave holes in memory, from which decoding
        # takes a sixth longer.
        with open(path, "rb", buffering=0) as stream:
            image_kind(stream.read(SNIFF_BYTES), path)
            stream.seek(0)
            return stream.read()
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise InputError(path, problem, "Check that it is still there and readable") from error
