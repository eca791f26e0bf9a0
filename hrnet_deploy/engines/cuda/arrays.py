"""Arrays that already lie on the GPU, of PyCUDA, CuPy, torch or anything like them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hrnet_deploy.engines.cuda import dlpack
from hrnet_deploy.errors import InputError

LEGACY_STREAM = 1
"""CUDA's handle of the default stream (CU_STREAM_LEGACY)."""

_ON_GPU = (dlpack.CUDA, dlpack.CUDA_MANAGED)
_AXES = {3: "(H, W, 3)", 4: "(N, H, W, 3)"}


@dataclass(frozen=True)
class DeviceArray:
    """uint8 memory on the GPU: address of the first element, shape and bytes from row to row.

    ``stream`` is the handle of the stream that the content is written on, None where it is
    already complete. ``borrowed`` keeps memory that came through DLPack.
    """

    address: int
    shape: tuple[int, ...]
    row_bytes: int
    stream: int | None
    borrowed: dlpack.Borrowed | None = None


@dataclass(frozen=True)
class Reader:
    """Who is going to read an array: the GPU's index and the handle of the stream."""

    device: int
    stream: int


def device_array(value: object, *, name: str, ndim: int, reader: Reader) -> DeviceArray | None:
    """``value`` if it lies on the GPU, None for a numpy array or anything that says nothing.

    DLPack is asked first: it hands over to the reader's stream and names the GPU. Then
    ``__cuda_array_interface__``. The last axis is BGR. Rows may lie apart, pixels may not. Raises
    InputError naming ``name`` for another type, shape or device.
    """
    if isinstance(value, np.ndarray):
        return None
    device = dlpack.device_of(value, name=name)
    if device is not None:
        return _through_dlpack(value, device, name, ndim, reader)
    interface: dict[str, Any] | None = getattr(value, "__cuda_array_interface__", None)
    return None if interface is None else _through_interface(interface, name, ndim)


def _through_dlpack(
    value: object, device: tuple[int, int], name: str, ndim: int, reader: Reader
) -> DeviceArray:
    kind, index = device
    if kind in (dlpack.CPU, dlpack.CUDA_HOST):
        raise InputError(name, "is on the CPU and no numpy array", "Call its numpy(), or move it")
    if kind not in _ON_GPU:
        raise InputError(name, f"is on a device of kind {kind} of DLPack", "Move it to the GPU")
    if index != reader.device:
        problem = f"is on cuda:{index}, the engine is on cuda:{reader.device}"
        raise InputError(name, problem, f"Move it to cuda:{reader.device}")
    borrowed = dlpack.borrow(value, name=name, stream=reader.stream)
    kind_name = "uint8" if borrowed.is_uint8 else borrowed.kind
    _check(borrowed.shape, kind_name, name, ndim)
    row = _row_bytes(borrowed.shape, borrowed.strides, name)
    return DeviceArray(borrowed.address, borrowed.shape, row, None, borrowed)


def _through_interface(interface: dict[str, Any], name: str, ndim: int) -> DeviceArray:
    shape = tuple(interface["shape"])
    _check(shape, str(np.dtype(interface["typestr"])), name, ndim)
    row = _row_bytes(shape, interface.get("strides"), name)
    return DeviceArray(int(interface["data"][0]), shape, row, _stream(interface))


def _check(shape: tuple[int, ...], kind: str, name: str, ndim: int) -> None:
    if kind != "uint8" or len(shape) != ndim or shape[-1] != 3:
        problem = f"expected {_AXES[ndim]} uint8 BGR on the GPU, got {shape} {kind}"
        raise InputError(name, problem, "Convert it first")


def _row_bytes(shape: tuple[int, ...], strides: tuple[int, ...] | None, name: str) -> int:
    """Bytes from row to row of uint8 ``shape``; only a single picture may have a pitch.

    The stride of an axis of length 1 is never used, and owners write anything there.
    """
    ndim = len(shape)
    dense = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(ndim))
    given = tuple(strides or dense)
    used = tuple(d if n == 1 else s for n, s, d in zip(shape, given, dense, strict=False))
    rows = ndim - 3
    if used[rows + 1 :] != dense[rows + 1 :] or (ndim == 4 and used != dense):
        raise InputError(name, f"has strides {given}", "Make it contiguous")
    return used[rows]


def _stream(interface: dict[str, Any]) -> int | None:
    """Version 3 names the stream or says None; before that only the default one is sure."""
    if interface.get("version", 0) < 3 or "stream" not in interface:
        return LEGACY_STREAM
    stream = interface["stream"]
    return None if stream is None else int(stream)
