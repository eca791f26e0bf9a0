"""Arrays of other libraries: real DLPack capsules on the CPU, and what is refused."""

from __future__ import annotations

import ctypes
import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hrnet_deploy.engines.cuda import dlpack
from hrnet_deploy.engines.cuda.arrays import Reader, device_array
from hrnet_deploy.errors import InputError

READER = Reader(device=0, stream=1)


class Unversioned:
    """numpy's own capsule, as producers of before DLPack 1.0 hand it over."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        return self.array.__dlpack__(stream=stream)


class Says:
    """Something that claims to lie on a device, and hands over what it is told to."""

    def __init__(self, device: tuple[int, int], capsule: object = None) -> None:
        self.device, self.capsule = device, capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None, max_version: tuple[int, int]) -> object:
        if isinstance(self.capsule, Exception):
            raise self.capsule
        return self.capsule


def content(borrowed: dlpack.Borrowed) -> np.ndarray:
    """The bytes behind a dense borrowed array."""
    size = int(np.prod(borrowed.shape))
    memory = (ctypes.c_uint8 * size).from_address(borrowed.address)
    return np.frombuffer(memory, np.uint8).reshape(borrowed.shape)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("wrapped", [lambda a: a, Unversioned], ids=["versioned", "before 1.0"])
def test_a_capsule_of_numpy(wrapped: Any) -> None:
    array = pixels()
    borrowed = dlpack.borrow(wrapped(array), name="x", stream=None)
    assert borrowed.device == (dlpack.CPU, 0)
    assert (borrowed.shape, borrowed.strides, borrowed.is_uint8) == ((5, 4, 3), (12, 3, 1), True)
    assert borrowed.address == array.ctypes.data
    np.testing.assert_array_equal(content(borrowed), array)


def test_a_capsule_of_torch() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(pixels())[1:, :, :]
    borrowed = dlpack.borrow(tensor, name="x", stream=None)
    assert borrowed.address == tensor.data_ptr()
    assert (borrowed.shape, borrowed.strides) == ((4, 4, 3), (12, 3, 1))
    np.testing.assert_array_equal(content(borrowed), tensor.numpy())
    floats = dlpack.borrow(torch.zeros(2, 3), name="x", stream=None)
    assert (floats.is_uint8, floats.kind) == (False, "32-bit type 2")


@pytest.mark.parametrize("wrapped", [lambda a: a, Unversioned], ids=["versioned", "before 1.0"])
def test_memory_lives_until_it_is_given_back_once(wrapped: Any) -> None:
    class Owned(np.ndarray):
        gone = 0

        def __del__(self) -> None:
            Owned.gone += 1

    array = pixels().view(Owned)
    borrowed = dlpack.borrow(wrapped(array), name="x", stream=None)
    before, expected = Owned.gone, pixels()
    del array
    gc.collect()
    np.testing.assert_array_equal(content(borrowed), expected)
    borrowed.give_back()
    borrowed.give_back()
    del borrowed
    gc.collect()
    assert Owned.gone == before + 1


def test_a_capsule_is_taken_once() -> None:
    class Same(Says):
        pass

    owner = Same((dlpack.CPU, 0), pixels().__dlpack__())
    dlpack.borrow(owner, name="x", stream=None)
    with pytest.raises(InputError, match="x: hands over no DLPack capsule"):
        dlpack.borrow(owner, name="x", stream=None)


def test_host_arrays_are_no_device_arrays() -> None:
    assert device_array(pixels(), name="x", ndim=3, reader=READER) is None
    assert device_array(object(), name="x", ndim=3, reader=READER) is None
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="crops_nhwc: is on the CPU and no numpy array"):
        device_array(torch.zeros(1, 8, 8, 3), name="crops_nhwc", ndim=4, reader=READER)


@pytest.mark.parametrize(
    ("device", "capsule", "message"),
    [
        ((dlpack.CUDA, 1), None, r"x: is on cuda:1, the engine is on cuda:0\. Move it to cuda:0"),
        ((4, 0), None, "x: is on a device of kind 4 of DLPack"),
        ((dlpack.CUDA, 0), None, "x: hands over no DLPack capsule"),
        ((dlpack.CUDA, 0), BufferError("needs\n grad"), r"through DLPack \(needs grad\)"),
    ],
)
def test_what_is_refused(device: tuple[int, int], capsule: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        device_array(Says(device, capsule), name="x", ndim=3, reader=READER)


def on_gpu(array: np.ndarray) -> Says:
    """numpy's capsule under the claim that it lies on the GPU."""
    return Says((dlpack.CUDA, 0), array.__dlpack__())


def test_rows_may_lie_apart_pixels_may_not() -> None:
    wide = np.zeros((5, 8, 3), np.uint8)
    taken = device_array(on_gpu(wide[:, :4]), name="x", ndim=3, reader=READER)
    assert taken is not None
    assert (taken.shape, taken.row_bytes, taken.stream) == ((5, 4, 3), 24, None)
    with pytest.raises(InputError, match=r"x: has strides \(24, 6, 1\)\. Make it contiguous"):
        device_array(on_gpu(wide[:, ::2]), name="x", ndim=3, reader=READER)
    with pytest.raises(InputError, match=r"got \(5, 8, 3\) 32-bit type 2"):
        device_array(on_gpu(wide.astype(np.float32)), name="x", ndim=3, reader=READER)


def test_the_stride_of_an_axis_of_length_one_says_nothing() -> None:
    """Owners write anything there, and a copy that is to be contiguous does not change it."""
    crop = np.zeros((1, 4, 4, 3), np.uint8)
    interface = {
        "shape": crop.shape,
        "typestr": "|u1",
        "data": (crop.ctypes.data, False),
        "strides": (1, 12, 3, 1),
        "version": 3,
        "stream": None,
    }
    owner = SimpleNamespace(__cuda_array_interface__=interface)
    taken = device_array(owner, name="x", ndim=4, reader=READER)
    assert taken is not None
    assert (taken.address, taken.shape) == (crop.ctypes.data, crop.shape)
    interface["strides"] = (48, 24, 3, 1)
    with pytest.raises(InputError, match=r"x: has strides \(48, 24, 3, 1\)"):
        device_array(owner, name="x", ndim=4, reader=READER)


def test_another_major_version_is_not_read() -> None:
    pytest.importorskip("numpy", "2.1", reason="older numpy hands over no versioned capsule")
    capsule = pixels().__dlpack__(max_version=(1, 0))
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    managed = dlpack.ManagedVersioned.from_address(get(capsule, b"dltensor_versioned"))
    managed.major = 2
    with pytest.raises(InputError, match=r"hands over DLPack 2\.\d+, 1\.x is read"):
        dlpack.borrow(Says((dlpack.CPU, 0), capsule), name="x", stream=None)
    managed.major = 1
