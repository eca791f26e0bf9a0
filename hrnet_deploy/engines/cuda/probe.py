"""Which NVIDIA GPUs this machine has, asked of the driver itself; needs no package at all.

TensorRT 8.6 ends the process where there is no usable GPU, so this is asked first.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

from hrnet_deploy.errors import EnvironmentFault

_LIBRARY = "libcuda.so.1"
_CC_MAJOR, _CC_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of ``cuda.h``."""

_NAME_BYTES = 256
_USE_CPU = "Use the .onnx file on the CPU (--device cpu), or run on a machine with a GPU"


@dataclass(frozen=True)
class Gpu:
    """One GPU: its number among the visible ones, name, (major, minor) and memory."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int


@dataclass(frozen=True)
class GpuReport:
    """What the driver says. ``problem`` tells why there is no GPU, None where there is one.

    ``cuda_version`` is the newest CUDA that the driver supports, such as "13.0".
    """

    gpus: tuple[Gpu, ...]
    cuda_version: str | None
    problem: str | None


def probe() -> GpuReport:
    """Ask the driver; never raises."""
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError:
        return GpuReport((), None, "no NVIDIA driver is installed")
    status = cuda.cuInit(0)
    if status != 0:
        return GpuReport((), None, f"the NVIDIA driver reports {_name_of(cuda, status)}")
    count, version = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
    cuda.cuDeviceGetCount(ctypes.byref(count))
    gpus = tuple(_gpu(cuda, index) for index in range(count.value))
    return GpuReport(gpus, cuda_version, None if gpus else "the NVIDIA driver sees no GPU")


def require_gpu(index: int, *, subject: str) -> Gpu:
    """GPU ``index``, or an EnvironmentFault that names ``subject`` and what there is instead."""
    report = probe()
    if report.problem is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        setting = "not set" if visible is None else f"'{visible}'"
        problem = f"no NVIDIA GPU visible ({report.problem}; CUDA_VISIBLE_DEVICES is {setting})"
        raise EnvironmentFault(subject, problem, _USE_CPU)
    if not 0 <= index < len(report.gpus):
        names = ", ".join(f"{gpu.index} {gpu.name}" for gpu in report.gpus)
        raise EnvironmentFault(
            subject, f"there is no GPU {index}; there are: {names}", "Ask for one of these"
        )
    return report.gpus[index]


def _gpu(cuda: Any, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CC_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CC_MINOR, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = (major.value, minor.value)
    return Gpu(index, name.value.decode(errors="replace"), capability, memory.value)


def _name_of(cuda: Any, status: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorName(status, ctypes.byref(text))
    return text.value.decode() if text.value else f"error {status}"
