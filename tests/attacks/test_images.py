"""Pictures that want to cost memory, or to crash the reader."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.image import decode_image

MEASURE = """
import sys
from hrnet_deploy.benchmark.memory import high_water_mark_mb
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.image import read_image
try:
    read_image(sys.argv[1])
except InputError as error:
    print(error)
print(high_water_mark_mb())
"""


def measured(file: Path) -> tuple[str, float]:
    """What a fresh process says about ``file``, and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(file)], capture_output=True, text=True, check=True
    )
    message, peak = done.stdout.splitlines()
    return message, float(peak)


def test_a_small_png_of_900_megapixels_costs_nothing(pictures: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(pictures.png_bomb(30_000))
    assert file.stat().st_size < 150_000
    message, peak_mb = measured(file)
    assert "30000x30000 px: 900 Mpx exceeds 200 Mpx limit" in message
    assert "--max-pixels" in message
    assert peak_mb < 500


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + bytes(40),
        b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0) + bytes(40),
        b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6 + bytes(40),
    ],
    ids=["jpeg", "bmp", "webp"],
)
def test_the_other_types_are_measured_by_their_headers_too(content: bytes) -> None:
    with pytest.raises(InputError, match=r"Mpx exceeds 200 Mpx limit"):
        decode_image(content, name="bomb")


def test_a_bitmap_that_states_a_size_below_zero_is_damaged() -> None:
    content = b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, -5, 7, 1, 24, 0) + bytes(40)
    with pytest.raises(InputError, match="is damaged"):
        decode_image(content, name="a.bmp")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    extension=st.sampled_from([".jpg", ".png", ".bmp", ".webp"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4),
    keep=st.floats(0.5, 1),
    near_start=st.booleans(),
)
def test_damage_anywhere_ends_in_a_picture_or_in_our_error(
    pictures: ModuleType,
    extension: str,
    changes: list[tuple[float, bytes]],
    keep: float,
    near_start: bool,
) -> None:
    content = bytearray(pictures.encoded(extension))
    for place, replacement in changes:
        reach = min(64, len(content)) if near_start else len(content)
        start = int(place * (reach - 1))
        content[start : start + len(replacement)] = replacement
    content = content[: max(1, int(keep * len(content)))]
    try:
        image_bgr = decode_image(bytes(content), name="fuzzed", max_pixels=1e6)
    except InputError:
        return
    assert image_bgr.dtype == np.uint8
    assert image_bgr.ndim == 3
    assert image_bgr.shape[0] * image_bgr.shape[1] <= 1e6


@settings(max_examples=300, deadline=None)
@given(
    head=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"BM", b"RIFF\0\0\0\0WEBPVP8 "]
    ),
    body=st.binary(max_size=200),
)
def test_any_bytes_end_in_our_error(head: bytes, body: bytes) -> None:
    try:
        image_bgr = decode_image(head + body, name="noise", max_pixels=1e6)
    except InputError:
        return
    assert image_bgr.size <= 3e6
