"""DLPack: memory of another library, borrowed without a copy.

The structures are those of ``dlpack.h`` 1.1; capsules without a version, of before 1.0, are taken
as well.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

from hrnet_deploy.errors import InputError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of devices (``DLDeviceType``)."""

MAJOR = 1
"""The version of the versioned structure that is read here; another major one is laid out anew."""

_UNSIGNED = 1
_OLD, _VERSIONED = b"dltensor", b"dltensor_versioned"


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("index", ctypes.c_int32)]


class _Type(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class Tensor(ctypes.Structure):
    """``DLTensor``."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
"""Takes the address of the managed structure."""


class Managed(ctypes.Structure):
    """``DLManagedTensor``, without a version."""

    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class ManagedVersioned(ctypes.Structure):
    """``DLManagedTensorVersioned``."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


class Borrowed:
    """A tensor of somebody else's, given back when this object goes.

    ``address`` is that of its first element; ``strides`` are in elements, those of a dense array
    where the owner names none.
    """

    def __init__(self, managed: Managed | ManagedVersioned) -> None:
        tensor = managed.tensor
        self.device: tuple[int, int] = (tensor.device.kind, tensor.device.index)
        self.address: int = (tensor.data or 0) + tensor.byte_offset
        self.shape: tuple[int, ...] = tuple(tensor.shape[: tensor.ndim])
        self.is_uint8 = (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) == (
            _UNSIGNED,
            8,
            1,
        )
        self.kind = f"{tensor.dtype.bits}-bit type {tensor.dtype.code}"
        self.strides = (
            tuple(tensor.strides[: tensor.ndim]) if tensor.strides else _dense(self.shape)
        )
        self._give_back = weakref.finalize(self, _delete, managed)
        self._give_back.atexit = False  # the owner's library may be gone by then

    def give_back(self) -> None:
        """Let the owner free it; once, however often this is called."""
        self._give_back()


def device_of(value: object, *, name: str) -> tuple[int, int] | None:
    """Kind and index of the device that ``value`` says it lies on, None without DLPack."""
    ask = getattr(value, "__dlpack_device__", None)
    if ask is None or not hasattr(value, "__dlpack__"):
        return None
    try:
        kind, index = ask()
    except (RuntimeError, TypeError, ValueError, BufferError) as error:
        raise _refused(name, error) from error
    return int(kind), int(index)


def borrow(value: Any, *, name: str, stream: int | None) -> Borrowed:
    """Borrow ``value``, whose content is then complete for work on ``stream`` (a CUDA handle).

    ``stream`` is None for memory of the host. Raises InputError naming ``name`` where the owner
    refuses or hands over something else.
    """
    try:
        capsule = _asked(value.__dlpack__, stream)
    except (RuntimeError, TypeError, ValueError, BufferError) as error:
        raise _refused(name, error) from error
    return _taken(capsule, name)


def _asked(export: Callable[..., object], stream: int | None) -> object:
    """Owners of before DLPack 1.0 do not know ``max_version``."""
    try:
        return export(stream=stream, max_version=(MAJOR, 0))
    except TypeError:
        return export(stream=stream)


def _taken(capsule: object, name: str) -> Borrowed:
    """Take a capsule over: from its new name on its deleter is ours to call."""
    python = ctypes.pythonapi
    python.PyCapsule_IsValid.argtypes = (ctypes.py_object, ctypes.c_char_p)
    python.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_SetName.argtypes = (ctypes.py_object, ctypes.c_char_p)
    for label, kind in ((_VERSIONED, ManagedVersioned), (_OLD, Managed)):
        if not python.PyCapsule_IsValid(capsule, label):
            continue
        managed = kind.from_address(python.PyCapsule_GetPointer(capsule, label))
        if isinstance(managed, ManagedVersioned) and managed.major != MAJOR:
            problem = f"hands over DLPack {managed.major}.{managed.minor}, {MAJOR}.x is read"
            raise InputError(name, problem, "Give __cuda_array_interface__ or a host array")
        python.PyCapsule_SetName(capsule, _USED[label])
        return Borrowed(managed)
    raise InputError(name, "hands over no DLPack capsule", "Give a host array")


_USED = {label: b"used_" + label for label in (_OLD, _VERSIONED)}
"""Capsules do not copy their name: these live as long as the process."""


def _delete(managed: Managed | ManagedVersioned) -> None:
    if managed.deleter:
        managed.deleter(ctypes.addressof(managed))


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense array, in elements."""
    strides, size = [], 1
    for side in reversed(shape):
        strides.append(size)
        size *= side
    return tuple(reversed(strides))


def _refused(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(name, f"cannot be had through DLPack ({reason})", "Give a host array")
