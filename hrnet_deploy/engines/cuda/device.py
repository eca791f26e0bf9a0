"""One GPU: memory, streams, events, kernels and graphs, with every call checked.

A thin layer over the driver API of ``cuda.bindings`` (the lower half of cuda-python), whose names
are those of CUDA's own documentation in every version from 12 to 13. All work happens in the
device's primary context, so that buffers of torch, CuPy and PyCUDA can be used as they are. That
context stays for the life of the process: TensorRT's own CUDA runtime keeps kernels in it, and may
not survive that it is reset between two engines.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hrnet_deploy.engines.cuda.probe import Gpu, require_gpu
from hrnet_deploy.errors import EnvironmentFault, require

Stream = Any
Event = Any
Graph = Any
Kernel = Any

EXCLUSIVE = threading.RLock()
"""Held while a graph is captured, and by whatever may wait for a whole GPU: CUDA forbids to do so
while one of its streams is captured (CUDA programming guide, "prohibited operations")."""

_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_STICKY_HINT = "The GPU's state is lost: run the command again, and look at nvidia-smi if it recurs"


class GpuFault(EnvironmentFault):
    """A CUDA call failed; after most of them the process cannot use that GPU any more."""


@dataclass(frozen=True, eq=False)
class PinnedArray:
    """Page-locked host memory, seen as an array; lives until ``Device.close``."""

    array: NDArray[Any]
    address: int


class Device:
    """GPU ``index``. Use it as a context (``with device:``) around every call that follows.

    Everything that was allocated here is freed by ``close``. Not safe for concurrent calls.
    """

    def __init__(self, index: int = 0) -> None:
        self.gpu: Gpu = require_gpu(index, subject=f"cuda:{index}")
        self._driver = require("cuda.bindings.driver", extra="tensorrt", purpose="the GPU")
        self._call("cuInit", 0)
        device = self._call("cuDeviceGet", index)
        self._context = self._call("cuDevicePrimaryCtxRetain", device)  # and never released
        self._undo: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._closed = False

    @property
    def name(self) -> str:
        """The device as in ``--device``."""
        return f"cuda:{self.gpu.index}"

    def __enter__(self) -> Device:
        self._call("cuCtxPushCurrent", self._context)
        return self

    def __exit__(self, *_: object) -> None:
        # A failure is told by the call that failed; popping must not hide it.
        self._driver.cuCtxPopCurrent()

    @property
    def cuda_of_driver(self) -> tuple[int, int]:
        """Major and minor version of the newest CUDA that the driver knows."""
        number = int(self._call("cuDriverGetVersion"))
        return number // 1000, number % 1000 // 10

    # Memory

    def allocate(self, size_bytes: int) -> int:
        """The address of ``size_bytes`` of device memory."""
        address = self._call("cuMemAlloc", size_bytes)
        self._undo.append((self._driver.cuMemFree, (address,)))
        return int(address)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        """Page-locked host memory for ``shape``; its content is undefined."""
        kind = np.dtype(dtype)
        size = max(1, int(np.prod(shape)) * kind.itemsize)
        address = int(self._call("cuMemAllocHost", size))
        self._undo.append((self._driver.cuMemFreeHost, (address,)))
        view = (ctypes.c_uint8 * size).from_address(address)
        array = np.frombuffer(memoryview(view).cast("B"), kind, count=int(np.prod(shape)))
        return PinnedArray(array.reshape(shape), address)

    def free_memory(self) -> tuple[int, int]:
        """Free and total bytes of device memory."""
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def upload(self, address: int, source: int, size_bytes: int, stream: Stream) -> None:
        """Copy pinned host memory to the device, in the order of ``stream``."""
        self._call("cuMemcpyHtoDAsync", address, source, size_bytes, stream)

    def download(self, target: int, address: int, size_bytes: int, stream: Stream) -> None:
        """Copy device memory to pinned host memory, in the order of ``stream``."""
        self._call("cuMemcpyDtoHAsync", target, address, size_bytes, stream)

    def copy(self, target: int, source: int, size_bytes: int, stream: Stream) -> None:
        """Copy device memory to device memory, in the order of ``stream``."""
        self._call("cuMemcpyDtoDAsync", target, source, size_bytes, stream)

    # Order

    def stream(self) -> Stream:
        """A stream that does not wait for the default one; ``int()`` of it is its handle."""
        flags = self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        stream = self._call("cuStreamCreate", flags)
        self._undo.append((self._driver.cuStreamDestroy, (stream,)))
        return stream

    def event(self) -> Event:
        """An event without timing."""
        flags = self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        event = self._call("cuEventCreate", flags)
        self._undo.append((self._driver.cuEventDestroy, (event,)))
        return event

    def record(self, event: Event, stream: Stream) -> None:
        """Mark this point of ``stream``."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: Stream, event: Event) -> None:
        """Let later work of ``stream`` wait for ``event``."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronize(self, event: Event) -> None:
        """Wait on the host until ``event`` has passed; errors of earlier work come out here."""
        self._call("cuEventSynchronize", event)

    def drain(self, stream: Stream) -> None:
        """Wait on the host until ``stream`` is done."""
        self._call("cuStreamSynchronize", stream)

    # Kernels and graphs

    def kernel(self, cubin: bytes, name: str) -> Kernel:
        """Load ``cubin`` and find its entry point ``name``."""
        image = np.frombuffer(cubin, np.uint8)
        with EXCLUSIVE:
            module = self._call("cuModuleLoadData", image.ctypes.data)
        self._undo.append((self._driver.cuModuleUnload, (module,)))
        return self._call("cuModuleGetFunction", module, name.encode())

    def launch(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: tuple[np.generic, ...],
        stream: Stream,
    ) -> None:
        """Start ``kernel``; ``arguments`` are numpy scalars of the types that it declares."""
        values = [np.atleast_1d(argument) for argument in arguments]
        addresses = np.array([value.ctypes.data for value in values], np.uint64)
        self._call("cuLaunchKernel", kernel, *grid, *block, 0, stream, addresses.ctypes.data, 0)

    @contextlib.contextmanager
    def capture(self, stream: Stream) -> Iterator[list[Graph]]:
        """Record what the block enqueues on ``stream``; afterwards the list holds the graph."""
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        captured: list[Graph] = []
        with EXCLUSIVE:
            self._call("cuStreamBeginCapture", stream, mode)
            try:
                yield captured
            except BaseException:
                self._driver.cuStreamEndCapture(stream)  # leaves the stream usable
                raise
            definition = self._call("cuStreamEndCapture", stream)
        graph = self._call("cuGraphInstantiate", definition, 0)
        self._call("cuGraphDestroy", definition)
        self._undo.append((self._driver.cuGraphExecDestroy, (graph,)))
        captured.append(graph)

    def replay(self, graph: Graph, stream: Stream) -> None:
        """Enqueue a captured graph."""
        self._call("cuGraphLaunch", graph, stream)

    def close(self) -> None:
        """Free everything in the reverse order of its making; closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        with EXCLUSIVE, self:
            while self._undo:
                # A GPU that was lost cannot free anything, and the first error was told.
                function, arguments = self._undo.pop()
                function(*arguments)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the driver; its status becomes a GpuFault that names the call."""
        status, *values = getattr(self._driver, name)(*arguments)
        if int(status) != 0:
            raise self._fault(name, status)
        return values[0] if len(values) == 1 else tuple(values)

    def _fault(self, name: str, status: Any) -> GpuFault:
        error = getattr(status, "name", str(status))
        subject = f"cuda:{self.gpu.index}"
        if error == _OUT_OF_MEMORY:
            fix = "Free some GPU memory, or use a smaller batch"
            return GpuFault(subject, f"out of GPU memory in {name}", fix)
        return GpuFault(subject, f"GPU error {error} in {name}", _STICKY_HINT)
