"""Frames through shared memory come out as they went in, and memory that is not there is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from hrnet_deploy.engines.pool_memory import SHARED_FOLDER, Area, FrameBatch, Mappings
from hrnet_deploy.errors import EnvironmentFault


def made(seed: int, frames: int, crops: int) -> FrameBatch:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, (frames, 2)).tolist()
    return FrameBatch(
        [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes],
        rng.normal(size=(crops, 2, 3)),
        rng.integers(-1, frames, crops),
    )


def assert_equal(one: FrameBatch, other: FrameBatch) -> None:
    assert len(one.frames_bgr) == len(other.frames_bgr)
    for frame, same in zip(one.frames_bgr, other.frames_bgr, strict=True):
        np.testing.assert_array_equal(frame, same)
    np.testing.assert_array_equal(one.image_to_input, other.image_to_input)
    np.testing.assert_array_equal(one.frame_of_crop, other.frame_of_crop)


@pytest.fixture
def area() -> Iterator[Area]:
    made = Area()
    yield made
    made.free()


@pytest.mark.parametrize(("frames", "crops"), [(0, 1), (1, 1), (3, 2), (7, 40)])
def test_a_batch_is_read_as_it_was_written(area: Area, frames: int, crops: int) -> None:
    batch = made(frames, frames, crops)
    memory = area.reserve(batch.nbytes)
    batch.write(memory)
    with closing(Mappings()) as mappings:
        seen = FrameBatch.read(mappings.see(0, memory.name), crops, frames)
        assert_equal(seen, batch)


def test_frames_need_not_lie_in_one_piece(area: Area) -> None:
    whole = np.arange(2 * 30 * 40 * 3, dtype=np.uint8).reshape(60, 40, 3)
    batch = FrameBatch([whole[::2, ::-1]], np.zeros((1, 2, 3)), np.array([0]))
    memory = area.reserve(batch.nbytes)
    batch.write(memory)
    assert_equal(FrameBatch.read(memory, 1, 1), batch)


def test_a_part_has_the_frames_that_it_needs_and_no_other() -> None:
    whole = made(0, 5, 8)
    batch = FrameBatch(
        whole.frames_bgr, whole.image_to_input, np.array([3, 3, -1, 1, 4, -1, -1, 0])
    )
    part = batch.part(1, 5)
    assert [id(frame) for frame in part.frames_bgr] == [
        id(batch.frames_bgr[number]) for number in (1, 3, 4)
    ]
    assert part.frame_of_crop.tolist() == [1, -1, 0, 2]
    np.testing.assert_array_equal(part.image_to_input, batch.image_to_input[1:5])
    assert batch.part(5, 7).frames_bgr == []
    assert [len(one) for one in batch.split(3)] == [3, 3, 2]


def test_an_area_grows_and_keeps_no_old_memory(area: Area) -> None:
    first = area.reserve(1000)
    assert area.reserve(900) is first
    name = first.name
    with closing(Mappings()) as mappings:
        mappings.see(0, name)
        second = area.reserve(1_000_000)
        assert second.name != name
        second.buf[:3] = b"new"
        assert bytes(mappings.see(0, second.name).buf[:3]) == b"new"
    assert not (SHARED_FOLDER / name).exists()


@pytest.mark.skipif(not SHARED_FOLDER.exists(), reason="needs Linux's shared memory")
def test_too_little_shared_memory_is_said_before_it_is_touched(area: Area) -> None:
    found = os.statvfs(SHARED_FOLDER)
    before = set(SHARED_FOLDER.iterdir())
    with pytest.raises(EnvironmentFault, match=r"devices: need \d+ MiB of shared memory") as error:
        area.reserve(found.f_blocks * found.f_frsize + 1)
    assert "--shm-size" in str(error.value)
    assert not {path for path in set(SHARED_FOLDER.iterdir()) - before if "psm" in path.name}
