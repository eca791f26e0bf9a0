"""Video files of every kind, made from scratch: frames carry their number as stripes."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

SIZE_WH = (64, 48)
FPS = 20.0


def frame_image(number: int) -> np.ndarray:
    """Eight stripes, white where the number has a bit: no codec mistakes one for another."""
    image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    for bit in range(8):
        image[:, 8 * bit : 8 * bit + 8] = 255 * (number >> bit & 1)
    return image


def number_of(image_bgr: np.ndarray) -> int:
    """The number that a frame carries, read back through the codec."""
    return sum((image_bgr[24, 8 * bit + 4].mean() > 127) << bit for bit in range(8))


def write_video(path: Path, frames: int = 40, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), FPS, SIZE_WH
    )
    assert writer.isOpened()
    for number in range(frames):
        writer.write(frame_image(number))
    writer.release()
    return path


def rotate(path: Path) -> Path:
    """Set the track's display matrix of an .mp4 to a quarter turn clockwise."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4
    matrix = place + (40 if content[place] == 0 else 52)
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def make_uneven(path: Path) -> Path:
    """Double the time of every frame from the middle on, in the table of an .mp4."""
    content = bytearray(path.read_bytes())
    place = content.index(b"stts") - 4
    size, _, _, entries, count, step = struct.unpack_from(">I4sIIII", content, place)
    assert (size, entries) == (24, 1)
    half = count // 2
    table = struct.pack(">I4sIIIIII", 32, b"stts", 0, 2, half, step, count - half, 2 * step)
    content[place : place + 24] = table
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        box = content.index(name) - 4
        (length,) = struct.unpack_from(">I", content, box)
        struct.pack_into(">I", content, box, length + 8)
    edit = content.find(b"elst")
    if edit >= 0:  # the edit list would cut the longer end off
        (duration,) = struct.unpack_from(">I", content, edit + 12)
        struct.pack_into(">I", content, edit + 12, 2 * duration)
    path.write_bytes(content)
    return path


def break_frame(path: Path, share: float = 0.5) -> Path:
    """Overwrite one frame of a Motion JPEG file with zeros."""
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xd8\xff", int(len(content) * share))
    end = content.index(b"\xff\xd9", place)
    content[place:end] = bytes(end - place)
    path.write_bytes(content)
    return path
