"""Arrays that already lie on the GPU, of PyCUDA, CuPy, torch or anything like them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hrnet_deploy.errors import InputError

LEGACY_STREAM = 1
"""CUDA's handle of the default stream (CU_STREAM_LEGACY)."""


@dataclass(frozen=True)
class DeviceArray:
    """uint8 memory on the GPU: address of the first element, shape and bytes from row to row.

    ``stream`` is the handle of the stream that the content is written on, None where it is
    already complete.
    """

    address: int
    shape: tuple[int, ...]
    row_bytes: int
    stream: int | None


def device_array(value: object, *, name: str, ndim: int) -> DeviceArray | None:
    """What ``__cuda_array_interface__`` of ``value`` says, None where it lies in host memory.

    The last axis is BGR. Rows may lie apart, pixels may not. Raises InputError naming ``name``
    for another type or shape.
    """
    interface: dict[str, Any] | None = getattr(value, "__cuda_array_interface__", None)
    if interface is None:
        return None
    shape, kind = tuple(interface["shape"]), np.dtype(interface["typestr"])
    if kind != np.uint8 or len(shape) != ndim or shape[-1] != 3:
        axes = {3: "(H, W, 3)", 4: "(N, H, W, 3)"}[ndim]
        raise InputError(
            name, f"expected {axes} uint8 BGR on the GPU, got {shape} {kind}", "Convert it first"
        )
    dense = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(ndim))
    strides = tuple(interface.get("strides") or dense)
    apart = ndim - 3  # the axis of rows in one picture; only a single picture may have a pitch
    if strides[apart + 1 :] != dense[apart + 1 :] or (ndim == 4 and strides != dense):
        raise InputError(name, f"has strides {strides}", "Make it contiguous")
    return DeviceArray(int(interface["data"][0]), shape, strides[apart], _stream(interface))


def _stream(interface: dict[str, Any]) -> int | None:
    """Version 3 names the stream or says None; before that only the default one is sure."""
    if interface.get("version", 0) < 3 or "stream" not in interface:
        return LEGACY_STREAM
    stream = interface["stream"]
    return None if stream is None else int(stream)
