"""Compile a kernel source for one GPU with NVRTC; needs no GPU and no CUDA toolkit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hrnet_deploy.errors import EnvironmentFault, require

CROP_SOURCE = Path(__file__).with_name("crop.cu")
CROP_KERNEL = "crop_bgr"
"""The entry point of ``crop.cu``."""

_INSTALL = (
    "Install the newest package nvidia-cuda-nvrtc, for CUDA 13, or nvidia-cuda-nvrtc-cu12, for 12"
)


def compile_kernel(
    source: Path,
    compute_capability: tuple[int, int],
    cuda_of_driver: tuple[int, int] | None = None,
) -> bytes:
    """The cubin of ``source`` for GPUs of ``compute_capability`` (major, minor).

    Raises EnvironmentFault where NVRTC is missing, makes kernels that a driver for
    ``cuda_of_driver`` does not load, does not know that GPU, or refuses the source; its log is part
    of the message.
    """
    nvrtc = _nvrtc()
    if cuda_of_driver is not None:
        _check_loadable(nvrtc, cuda_of_driver)
    text = source.read_bytes()
    program = _checked(nvrtc, nvrtc.nvrtcCreateProgram(text, source.name.encode(), 0, [], []))
    try:
        return _cubin(nvrtc, program, source, compute_capability)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _cubin(nvrtc: Any, program: Any, source: Path, compute_capability: tuple[int, int]) -> bytes:
    major, minor = compute_capability
    # --fmad=false: OpenCV's positions are products and sums rounded one by one.
    options = [f"--gpu-architecture=sm_{major}{minor}".encode(), b"--fmad=false"]
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
    if int(status) != 0:
        size = _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        lines = log.decode(errors="replace").strip(" \0\n").splitlines()
        reason = lines[0] if lines else status.name
        problem = f"NVRTC cannot compile it for sm_{major}{minor} ({reason})"
        raise EnvironmentFault(source.name, problem, _INSTALL)
    cubin: bytes = b" " * _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin))
    return cubin


def _check_loadable(nvrtc: Any, driver: tuple[int, int]) -> None:
    """A driver loads kernels of its own major version of CUDA and of older ones."""
    major, minor = _checked(nvrtc, nvrtc.nvrtcVersion())
    if major > driver[0]:
        problem = f"is that of CUDA {major}.{minor}, the driver is for CUDA {driver[0]}.{driver[1]}"
        fix = f"pip install 'cuda-bindings<{driver[0] + 1}' nvidia-cuda-nvrtc-cu{driver[0]}"
        fix = f"pip uninstall -y nvidia-cuda-nvrtc; {fix}"  # the newest is found first
        raise EnvironmentFault("NVRTC", problem, f"Install another, or a newer driver: {fix}")


def _nvrtc() -> Any:
    """The NVRTC bindings, with the library behind them found."""
    nvrtc = require("cuda.bindings.nvrtc", extra="tensorrt", purpose="cutting crops on the GPU")
    try:
        _checked(nvrtc, nvrtc.nvrtcVersion())
    except RuntimeError as error:  # the bindings load the library at the first call
        if isinstance(error, EnvironmentFault):
            raise
        raise EnvironmentFault("NVRTC", "its library cannot be found", _INSTALL) from error
    return nvrtc


def _checked(nvrtc: Any, answer: tuple[Any, ...]) -> Any:
    """The value of a call, or its error."""
    if int(answer[0]) != 0:
        raise EnvironmentFault("NVRTC", f"failed ({answer[0].name})", _INSTALL)
    values = answer[1:]
    return values[0] if len(values) == 1 else values
