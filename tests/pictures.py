"""Picture files of every kind, made from scratch."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

PNG_MARK = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def picture(height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth coloured picture (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def encoded(extension: str, image_bgr: NDArray[np.uint8] | None = None) -> bytes:
    done, content = cv2.imencode(extension, picture() if image_bgr is None else image_bgr)
    assert done
    return content.tobytes()


def png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png(
    width: int,
    height: int,
    kind: int,
    rows: bytes,
    *,
    depth: int = 8,
    palette: bytes = b"",
) -> bytes:
    """A PNG file; ``rows`` are the filtered rows before compression."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header)]
    if palette:
        chunks.append(png_chunk(b"PLTE", palette))
    chunks += [png_chunk(b"IDAT", zlib.compress(rows, 9)), png_chunk(b"IEND", b"")]
    return PNG_MARK + b"".join(chunks)


def png_of(pixels: NDArray[np.generic], kind: int, **more: bytes) -> bytes:
    """A PNG of (H, W) or (H, W, C) samples, 8 or 16 bits, stored as they are."""
    samples = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    height, width = pixels.shape[:2]
    return png(width, height, kind, rows, depth=8 * pixels.dtype.itemsize, **more)


def png_bomb(side: int) -> bytes:
    """A black PNG of ``side`` x ``side`` pixels, compressed a thousandfold."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, GREY, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    return PNG_MARK + chunks


def jpeg_with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """``jpeg`` with an EXIF block that asks for a rotation or mirroring (1 to 8)."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def jpeg_with_thumbnail(jpeg: bytes, thumbnail: bytes) -> bytes:
    """``jpeg`` with a complete small JPEG inside its metadata."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + jpeg[2:]


def flat_jpeg(levels: tuple[int, ...]) -> bytes:
    """An 8x8 baseline JPEG of one colour: three components are YCbCr, four are Adobe's CMYK.

    The DC code of category s is s in four bits, and the only AC code is "end of block".
    """
    count = len(levels)
    bits = ""
    for level in levels:
        value = level - 128
        size = abs(value).bit_length()
        offset = value if value > 0 else value + (1 << size) - 1
        bits += f"{size:04b}" + (f"{offset:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(
        b"\xff", b"\xff\0"
    )
    frame = struct.pack(">BHHB", 8, 8, 8, count)
    frame += b"".join(bytes([i + 1, 0x11, 0]) for i in range(count))
    start = bytes([count]) + b"".join(bytes([i + 1, 0]) for i in range(count)) + b"\0\x3f\0"
    segments = [
        (0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0 if count == 4 else 1)),
        (0xDB, b"\0" + bytes([8] * 64)),
        (0xC0, frame),
        (0xC4, b"\0" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12))),
        (0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
        (0xDA, start),
    ]
    body = b"".join(
        bytes([0xFF, mark]) + struct.pack(">H", len(content) + 2) + content
        for mark, content in segments
    )
    return b"\xff\xd8" + body + scan + b"\xff\xd9"
