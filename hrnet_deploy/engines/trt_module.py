"""The TensorRT module: imported only after CUDA was probed, with its log kept for our errors."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from types import ModuleType
from typing import Any

from hrnet_deploy.engines.cuda.device import Device
from hrnet_deploy.engines.cuda.probe import Gpu, require_gpu
from hrnet_deploy.errors import EnvironmentFault, require

SUPPORTED = ((8, 6), (11, 999))
"""Oldest and newest (major, minor) that the code was written for."""

Listener = Callable[[str, str], None]
"""Takes the name of a severity, such as "WARNING", and a message, which may have several lines."""

MODULE = "tensorrt"
KEPT_LINES = 5

_INSTALL = (
    "Install the package tensorrt: version 11 for CUDA 13, 10 for CUDA 12, 8.6.1 on older systems"
)


class TensorRT:
    """The module, its version and its log, for a GPU that is known to work."""

    def __init__(self, module: ModuleType, gpu: Gpu) -> None:
        self.module: Any = module
        self.gpu = gpu
        self.version: str = module.__version__
        self.log = _log(module)

    @property
    def major(self) -> int:
        """8, 10 or 11."""
        return int(self.version.split(".")[0])

    def current(self) -> AbstractContextManager[object]:
        """While the block runs, the GPU is current in this thread: the builder times kernels."""
        return _current(self.gpu)

    def aim(self, config: Any) -> None:
        """Tell the builder's ``config`` what to build for: by default the GPU that is current."""

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """While the block runs, ``listener`` gets every message, in whichever thread it comes."""
        self.log.listeners.append(listener)
        try:
            yield
        finally:
            self.log.listeners.remove(listener)

    def created(self, kind: Callable[[Any], Any], subject: str) -> Any:
        """A builder or runtime of the class ``kind``, with our log.

        Raises EnvironmentFault where the driver sees the GPU but TensorRT's CUDA cannot use it, as
        with a driver that is older than that CUDA.
        """
        try:
            return kind(self.log)
        except TypeError as error:  # what the bindings make of a null pointer
            problem = f"TensorRT {self.version} cannot use the GPU"
            fix = "Update the NVIDIA driver, or install a TensorRT made for its CUDA"
            raise self.fault(subject, problem, fix) from error

    def forget_log(self) -> None:
        """Before a call: what was logged so far is no reason for its failure."""
        self.log.errors.clear()
        self.log.warnings.clear()

    def fault(self, subject: str, problem: str, fix: str) -> EnvironmentFault:
        """An error with the last lines that TensorRT logged: errors, or else warnings."""
        lines = "; ".join(self.log.errors or self.log.warnings) or "TensorRT logged no reason"
        return EnvironmentFault(subject, f"{problem} ({lines})", fix)


def load_tensorrt(device_index: int, *, subject: str) -> TensorRT:
    """TensorRT for GPU ``device_index``.

    The GPU is asked for first, without TensorRT, because 8.6 crashes where there is none. Raises
    EnvironmentFault for no GPU, no TensorRT and a version that is not supported.
    """
    gpu = require_gpu(device_index, subject=subject)
    try:
        module = require(MODULE, extra="tensorrt", purpose=subject)
    except OSError as error:  # a CUDA library that the module loads by itself
        raise EnvironmentFault(subject, f"TensorRT cannot be loaded ({error})", _INSTALL) from error
    check_version(getattr(module, "__version__", "unknown"), subject=subject)
    return TensorRT(module, gpu)


def check_version(version: str, *, subject: str) -> None:
    """Refuse a TensorRT outside of 8.6 to 11.x."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    low, high = SUPPORTED
    if len(numbers) < 2 or not low <= numbers <= high:
        problem = f"TensorRT {version} is installed, 8.6 to 11.x is supported"
        raise EnvironmentFault(subject, problem, _INSTALL)


@contextmanager
def _current(gpu: Gpu) -> Iterator[None]:
    with closing(Device(gpu.index)) as device, device:
        yield


@functools.cache
def _log(trt: Any) -> Any:
    """A logger that keeps the last errors and passes every message on to who listens.

    One for the whole process: TensorRT keeps the first that it is given and ignores all others
    for as long as a builder or a runtime is alive.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT_LINES)
            self.warnings: deque[str] = deque(maxlen=KEPT_LINES)
            self.listeners: list[Listener] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(" ".join(str(msg).split()))
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(" ".join(str(msg).split()))
            for listener in tuple(self.listeners):
                listener(severity.name, str(msg))

    return Log()
