"""Crops of persons from many frames, cut on the GPU in one kernel call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines.cuda.arrays import DeviceArray, Reader, device_array
from hrnet_deploy.engines.cuda.compile import CROP_KERNEL, CROP_SOURCE, compile_kernel
from hrnet_deploy.engines.cuda.crops import (
    BLOCK,
    CROP,
    FRAME,
    MAX_CROPS_PER_LAUNCH,
    crop_records,
    frame_record,
    grid,
)
from hrnet_deploy.engines.cuda.device import Device, Event, PinnedArray, Stream
from hrnet_deploy.errors import InputError

ALIGNMENT = 256
"""Frames start at multiples of this many bytes, as CUDA's own allocations do."""

MAX_SIDE = 32766
"""Positions are 16-bit integers, as in OpenCV 4."""

Frame = Any
"""A host array (H, W, 3) uint8 BGR, or one on the GPU (DLPack, ``__cuda_array_interface__``)."""


class CropCutter:
    """The compiled kernel on one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        cubin = compile_kernel(CROP_SOURCE, device.gpu.compute_capability, device.cuda_of_driver)
        self._kernel = device.kernel(cubin, CROP_KERNEL)

    def cut(
        self,
        frames_address: int,
        crops_address: int,
        count: int,
        target: int,
        size_wh: tuple[int, int],
        stream: Stream,
    ) -> None:
        """Enqueue ``count`` crops of ``size_wh`` into ``target`` (count, h, w, 3) uint8."""
        arguments = (
            np.uint64(frames_address),
            np.uint64(crops_address),
            np.uint64(target),
            np.int32(size_wh[0]),
            np.int32(size_wh[1]),
        )
        self._device.launch(self._kernel, grid(count, size_wh), BLOCK, arguments, stream)


class FrameUpload:
    """Brings the frames and records of one batch to the GPU with a single copy.

    Its buffers grow with the largest batch seen; they are reused, so that the copy must be over
    before the next ``send``.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._staging: PinnedArray | None = None
        self._target = 0
        self._foreign_done: Event | None = None
        self._taken: list[DeviceArray] = []

    def send(
        self,
        frames: Sequence[Frame],
        image_to_input: NDArray[np.float64],
        frame_of_crop: NDArray[np.integer],
        stream: Stream,
    ) -> tuple[int, int]:
        """Enqueue the copy on ``stream``; device addresses of the frame and crop records.

        ``image_to_input`` (N, 2, 3) and ``frame_of_crop`` (N,) as in ``crop_records``. Frames
        that lie on the GPU are not copied.
        """
        check_crops(frames, image_to_input, frame_of_crop)
        reader = Reader(self._device.gpu.index, int(stream))
        placed = [_Placed(frame, index, reader) for index, frame in enumerate(frames)]
        self._taken = [item.on_device for item in placed if item.on_device is not None]
        offset = _aligned(len(frame_of_crop) * CROP.itemsize)
        records_at = offset
        offset = _aligned(offset + len(placed) * FRAME.itemsize)
        for item in placed:
            item.offset = offset
            offset = _aligned(offset + item.host_bytes)
        staging = self._reserve(max(offset, ALIGNMENT))
        _write(staging.array, 0, crop_records(image_to_input, frame_of_crop))
        for index, item in enumerate(placed):
            record = item.record(self._target)
            _write(staging.array, records_at + index * FRAME.itemsize, record)
            item.stage(staging.array)
            self._await_foreign(item.on_device, stream)
        self._device.upload(self._target, staging.address, offset, stream)
        return self._target + records_at, self._target

    def taken(self) -> list[DeviceArray]:
        """The arrays on the GPU of the last ``send``, which its reader has to keep until then."""
        taken, self._taken = self._taken, []
        return taken

    def _reserve(self, size: int) -> PinnedArray:
        if self._staging is None or self._staging.array.nbytes < size:
            room = 1 << (size - 1).bit_length()
            self._staging = self._device.pinned((room,), np.uint8)
            self._target = self._device.allocate(room)
        return self._staging

    def _await_foreign(self, array: DeviceArray | None, stream: Stream) -> None:
        """Wait for whoever writes an array that is handed over on another stream."""
        if array is None or array.stream is None:
            return
        if self._foreign_done is None:
            self._foreign_done = self._device.event()
        self._device.record(self._foreign_done, array.stream)
        self._device.wait(stream, self._foreign_done)


class _Placed:
    """One frame and where it lies in the upload."""

    def __init__(self, frame: Frame, index: int, reader: Reader) -> None:
        self.on_device = device_array(frame, name=f"frame {index}", ndim=3, reader=reader)
        self.offset = 0
        if self.on_device is None:
            self._host = np.ascontiguousarray(checked_frame(frame, index))
            self._size_wh = _checked_size(self._host.shape, index)
        else:
            self._size_wh = _checked_size(self.on_device.shape, index)

    @property
    def host_bytes(self) -> int:
        return 0 if self.on_device is not None else self._host.nbytes

    def record(self, base: int) -> NDArray[np.void]:
        if self.on_device is not None:
            return frame_record(self.on_device.address, self.on_device.row_bytes, self._size_wh)
        return frame_record(base + self.offset, 3 * self._size_wh[0], self._size_wh)

    def stage(self, staging: NDArray[np.uint8]) -> None:
        if self.on_device is None:
            staging[self.offset : self.offset + self._host.nbytes] = self._host.reshape(-1)


def checked_frame(frame: Frame, index: int) -> NDArray[np.uint8]:
    """``frame`` if it is a host array (H, W, 3) uint8 of sides that the kernel takes."""
    if (
        not isinstance(frame, np.ndarray)
        or frame.dtype != np.uint8
        or frame.ndim != 3
        or frame.shape[2] != 3
        or frame.size == 0
    ):
        got = f"{getattr(frame, 'shape', type(frame).__name__)} {getattr(frame, 'dtype', '')}"
        problem = f"expected (H, W, 3) uint8 BGR, got {got.rstrip()}"
        raise InputError(f"frame {index}", problem, "Give pictures as OpenCV decodes them")
    _checked_size(frame.shape, index)
    return frame


def _checked_size(shape: tuple[int, ...], index: int) -> tuple[int, int]:
    """Width and height of (H, W, 3)."""
    size_wh = int(shape[1]), int(shape[0])
    if max(size_wh) > MAX_SIDE:
        problem = f"is {size_wh[0]} x {size_wh[1]} px"
        raise InputError(f"frame {index}", problem, f"Give sides of at most {MAX_SIDE} px")
    return size_wh


def check_crops(
    frames: Sequence[Frame],
    image_to_input: NDArray[np.float64],
    frame_of_crop: NDArray[np.integer],
) -> None:
    """Refuse crops whose affines or frame numbers make no sense."""
    count = len(frame_of_crop)
    if image_to_input.shape != (count, 2, 3):
        problem = f"expected ({count}, 2, 3) for {count} crops, got {image_to_input.shape}"
        raise InputError("image_to_input", problem, "Give one affine a crop")
    if count > MAX_CROPS_PER_LAUNCH:
        problem = f"has {count} entries"
        raise InputError("frame_of_crop", problem, f"Give at most {MAX_CROPS_PER_LAUNCH}")
    if count and int(np.max(frame_of_crop)) >= len(frames):
        problem = f"names frame {int(np.max(frame_of_crop))} of {len(frames)}"
        raise InputError("frame_of_crop", problem, "Count the frames from 0")


def _write(staging: NDArray[np.uint8], offset: int, records: NDArray[np.void]) -> None:
    staging[offset : offset + records.nbytes] = records.view(np.uint8).reshape(-1)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
