"""What a pool and its workers share: memory with crops, or with frames and the persons in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines.cuda.crops import NO_FRAME
from hrnet_deploy.errors import EnvironmentFault

ALIGNMENT = 64
"""Frames start at multiples of this many bytes, a cache line."""

SHARED_FOLDER = Path("/dev/shm")  # noqa: S108 (looked at, nothing is written by name)
"""Where Linux keeps POSIX shared memory: a file system of its own, 64 MiB in a plain container."""

_MIB = 2**20


class Area:
    """Shared memory that grows with the largest content seen; the process that made it frees it."""

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None

    def reserve(self, size: int) -> SharedMemory:
        """At least ``size`` bytes. EnvironmentFault where the machine does not have them."""
        if self._memory is None or self._memory.size < size:
            self.free()
            self._memory = _created(max(1, size + size // 4))
        return self._memory

    def free(self) -> None:
        """Give the memory back; nothing may look at it any more."""
        if self._memory is not None:
            self._memory.close()
            self._memory.unlink()
            self._memory = None


def _created(size: int) -> SharedMemory:
    """New shared memory with its pages: a missing one would end the process at the first write."""
    memory = None
    try:
        memory = SharedMemory(create=True, size=size)
        file = SHARED_FOLDER / memory.name
        if file.exists():
            with file.open("r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, size)
    except OSError as error:
        if memory is not None:
            memory.close()
            memory.unlink()
        problem = f"need {-(-size // _MIB)} MiB of shared memory, which are not there"
        fix = "Give a smaller --batch, or a container more of it (docker run --shm-size=4g)"
        raise EnvironmentFault("devices", f"{problem} ({error.strerror})", fix) from error
    return memory


class Mappings:
    """The areas of another process, by number.

    They stay mapped from batch to batch: touching a fresh mapping costs eight times the copy.
    """

    def __init__(self) -> None:
        self._seen: dict[int, SharedMemory] = {}

    def see(self, area: int, name: str) -> SharedMemory:
        """The memory of ``area``, which has this ``name`` now."""
        seen = self._seen.get(area)
        if seen is None or seen.name != name:
            if seen is not None:
                seen.close()
            seen = self._seen[area] = SharedMemory(name=name)
        return seen

    def close(self) -> None:
        """Give the mappings back; nothing may look at them any more."""
        while self._seen:
            self._seen.popitem()[1].close()


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Persons of several frames, as ``TensorRTEngine.submit_frames`` takes them.

    ``frames_bgr`` (H, W, 3) uint8 each, ``image_to_input`` (N, 2, 3) float64, ``frame_of_crop``
    (N,), negative for a black crop.
    """

    frames_bgr: Sequence[NDArray[np.uint8]]
    image_to_input: NDArray[np.float64]
    frame_of_crop: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.frame_of_crop)

    def part(self, first: int, last: int) -> FrameBatch:
        """Crops ``first`` to ``last`` with the frames that they need, each once."""
        numbers = np.asarray(self.frame_of_crop[first:last])
        used = np.unique(numbers[numbers >= 0])
        own = np.where(numbers < 0, NO_FRAME, np.searchsorted(used, numbers))
        frames = [self.frames_bgr[number] for number in used.tolist()]
        return FrameBatch(frames, self.image_to_input[first:last], own)

    def split(self, step: int) -> Iterator[FrameBatch]:
        """Parts of at most ``step`` crops."""
        for first in range(0, len(self), step):
            yield self.part(first, min(first + step, len(self)))

    @property
    def nbytes(self) -> int:
        """How much memory ``write`` fills."""
        return self._offsets()[-1]

    def write(self, memory: SharedMemory) -> None:
        """Lay everything down in ``memory``, at least ``nbytes`` long."""
        affines, of_crop, table = _head(memory, len(self), len(self.frames_bgr))
        affines[...] = self.image_to_input
        of_crop[...] = self.frame_of_crop
        for row, frame, offset in zip(table, self.frames_bgr, self._offsets(), strict=False):
            row[:] = (offset, *frame.shape[:2])
            place: NDArray[np.uint8] = np.ndarray(frame.shape, np.uint8, memory.buf, offset)
            place[...] = frame

    @classmethod
    def read(cls, memory: SharedMemory, crops: int, frames: int) -> FrameBatch:
        """What ``write`` laid down, without a copy."""
        affines, of_crop, table = _head(memory, crops, frames)
        seen: list[NDArray[np.uint8]] = [
            np.ndarray((height, width, 3), np.uint8, memory.buf, offset)
            for offset, height, width in table.tolist()
        ]
        return cls(seen, affines, of_crop)

    def _offsets(self) -> list[int]:
        """Where each frame begins, and where the last one ends."""
        offsets = [_aligned(_head_bytes(len(self), len(self.frames_bgr)))]
        for frame in self.frames_bgr:
            offsets.append(offsets[-1] + _aligned(frame.nbytes))
        return offsets


_AFFINE_BYTES, _NUMBER_BYTES, _ROW_BYTES = 6 * 8, 8, 3 * 8


def _head_bytes(crops: int, frames: int) -> int:
    return crops * (_AFFINE_BYTES + _NUMBER_BYTES) + frames * _ROW_BYTES


def _head(
    memory: SharedMemory, crops: int, frames: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Views of affines (crops, 2, 3), frame numbers (crops,), and offset, height and width."""
    numbers_at = crops * _AFFINE_BYTES
    table_at = numbers_at + crops * _NUMBER_BYTES
    return (
        np.ndarray((crops, 2, 3), np.float64, memory.buf),
        np.ndarray((crops,), np.int64, memory.buf, numbers_at),
        np.ndarray((frames, 3), np.int64, memory.buf, table_at),
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
