"""What a picture file is, how large, and whether all of it is there: told before it is decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from hrnet_deploy.errors import InputError, Subject

SNIFF_BYTES = 64
"""So many bytes from the start of a file tell its type."""

Size = tuple[int, int]

_READ_TYPES = "Convert it to JPEG, PNG, BMP or WebP"
_AGAIN = "Download or copy it again"

_UNSUPPORTED = (
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"v/1\x01", "OpenEXR"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"\0\0\x01\0", "Windows icon"),
    (b"%PDF", "PDF"),
    *((f"P{digit}".encode(), "netpbm") for digit in range(1, 8)),
)
_ISO_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"hevc": "HEIC",
    b"avif": "AVIF",
    b"avis": "AVIF",
}
_NOT_IMAGES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"{", "JSON"),
)
_OS2_HEADER = 12
_BMP_HEADERS = (_OS2_HEADER, 40, 52, 56, 64, 108, 124)
"""Sizes of the bitmap headers from OS/2 to Windows version 5."""

_HTML_STARTS = (b"<!doctype html", b"<html", b"<?xml", b"<svg")


def image_kind(head: bytes, subject: Subject) -> str:
    """Name the type of a picture from the first ``SNIFF_BYTES``: "JPEG", "PNG", "BMP" or "WebP".

    Raises InputError naming any other type that is known, and for what is no picture at all.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        raise _unsupported(subject, _ISO_BRANDS.get(head[8:12], "ISO media"))
    for mark, name in _UNSUPPORTED:
        if head.startswith(mark):
            raise _unsupported(subject, name)
    for mark, name in _NOT_IMAGES:
        if head.startswith(mark):
            raise InputError(subject, f"is not an image (looks like {name})", _READ_TYPES)
    if head.lstrip().lower().startswith(_HTML_STARTS):
        raise InputError(subject, "is an HTML or XML page, not an image", _AGAIN)
    raise InputError(subject, "is not an image", "Give a JPEG, PNG, BMP or WebP file")


def image_size_wh(content: bytes, kind: str, subject: Subject) -> Size:
    """Width and height in pixels as the file's own header states them.

    Raises InputError where the header is cut off, damaged or states an empty picture.
    """
    try:
        width, height = _SIZES[kind](content)
    except (struct.error, IndexError) as error:
        raise _truncated(subject, content) from error
    except ValueError as error:
        raise InputError(subject, f"is damaged ({error})", _AGAIN) from error
    if width < 1 or height < 1:
        raise InputError(subject, f"is damaged (its header says {width}x{height} px)", _AGAIN)
    return width, height


def check_complete(content: bytes, kind: str, subject: Subject) -> None:
    """Refuse a truncated or visibly damaged file, which some decoders fill with grey instead."""
    if kind == "PNG":
        _check_png(content, subject)
    elif not _COMPLETE[kind](content):
        raise _truncated(subject, content)


def _jpeg_size(content: bytes) -> Size:
    """Walk the segments to the frame header (SOF0 to SOF15 without DHT, JPG and DAC)."""
    position = 2
    while True:
        if content[position] != 0xFF:
            raise ValueError("no marker where one is due")
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        position += 2
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        if marker in (0xD9, 0xDA):
            raise ValueError("it has no frame header")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, position + 3)
            return width, height
        (length,) = struct.unpack_from(">H", content, position)
        if length < 2:
            raise ValueError("a segment has no length")
        position += length


def _png_size(content: bytes) -> Size:
    if len(content) >= 16 and content[12:16] != b"IHDR":
        raise ValueError("it does not start with IHDR")
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _bmp_size(content: bytes) -> Size:
    (header,) = struct.unpack_from("<I", content, 14)
    if header == _OS2_HEADER:
        width, height = struct.unpack_from("<HH", content, 18)
        return width, height
    width, height = struct.unpack_from("<ii", content, 18)
    return width, abs(height)  # a negative height means rows from top to bottom


def _webp_size(content: bytes) -> Size:
    chunk = content[12:16]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(_exactly(content, at, 3), "little") for at in (24, 27))
        return width + 1, height + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if len(chunk) < 4:
        raise IndexError
    raise ValueError("it does not start with a VP8 chunk")


def _exactly(content: bytes, start: int, count: int) -> bytes:
    part = content[start : start + count]
    if len(part) < count:
        raise IndexError
    return part


def _jpeg_complete(content: bytes) -> bool:
    """The last end marker lies after the last start of a scan.

    Thumbnails inside the metadata carry markers of their own, but all of them lie earlier.
    """
    end = content.rfind(b"\xff\xd9")
    return end >= 0 and content.find(b"\xff\xda", end) < 0


def _bmp_complete(content: bytes) -> bool:
    """All rows of an uncompressed bitmap are there; run lengths are left to the decoder."""
    offset, header = struct.unpack_from("<II", content, 10)
    if header == _OS2_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    elif len(content) < 34:
        return False
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression in (1, 2):
        return True
    row = (width * bits + 31) // 32 * 4
    return bool(len(content) >= offset + row * abs(height))


def _webp_complete(content: bytes) -> bool:
    (size,) = struct.unpack_from("<I", content, 4)
    return bool(len(content) >= size + 8)


def _check_png(content: bytes, subject: Subject) -> None:
    """Every chunk matches its checksum, and IEND is there."""
    position, view = 8, memoryview(content)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        name = content[position + 4 : position + 8]
        (checksum,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(view[position + 4 : end]) != checksum:
            chunk = name.decode("ascii", "replace")
            raise InputError(subject, f"is damaged (checksum of its {chunk} chunk)", _AGAIN)
        if name == b"IEND":
            return
        position = end + 4
    raise _truncated(subject, content)


_SIZES: dict[str, Callable[[bytes], Size]] = {
    "JPEG": _jpeg_size,
    "PNG": _png_size,
    "BMP": _bmp_size,
    "WebP": _webp_size,
}
_COMPLETE: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _jpeg_complete,
    "BMP": _bmp_complete,
    "WebP": _webp_complete,
}


def _truncated(subject: Subject, content: bytes) -> InputError:
    return InputError(subject, f"is truncated (it ends after {len(content)} bytes)", _AGAIN)


def _unsupported(subject: Subject, name: str) -> InputError:
    return InputError(subject, f"is of an unsupported image type ({name})", _READ_TYPES)
