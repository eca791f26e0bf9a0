"""Models compiled by OpenVINO for the CPU, in the precision that was asked for."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines.signal_stack import kept_signal_stack
from hrnet_deploy.errors import EnvironmentFault

HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
"""Precisions by their name in OpenVINO's ``INFERENCE_PRECISION_HINT``.

That of an int8 file is for what it leaves in float; the rest stands in the file.
"""

EIGHT_BIT = {"u8", "i8"}

CAPABILITIES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8"}
"""What OpenVINO lists among a CPU's ``OPTIMIZATION_CAPABILITIES`` where it computes natively."""

WEIGHT_NDIM = 4

Arrays = list[NDArray[np.float32]]


def compile_for_cpu(ov: ModuleType, model: Any, settings: dict[str, str]) -> Any:
    """OpenVINO's compiled model, after which signals are handled where they were before."""
    with kept_signal_stack():
        return ov.Core().compile_model(model, "CPU", settings)


class Compiled:
    """The model compiled for a number of streams, with a request and a waiting thread for each.

    A stream takes the next piece of work as soon as it is free, so that a core that others keep
    busy delays its own piece only.
    """

    def __init__(
        self, ov: ModuleType, model: Any, precision: str, *, streams: int, threads: int
    ) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(threads),
            # A stream that is nailed to a core waits for whatever else runs there.
            "ENABLE_CPU_PINNING": "NO",
        }
        self._ov = ov
        self.model = compile_for_cpu(ov, model, settings)
        self.streams = int(self.model.get_property("NUM_STREAMS"))
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.streams):
            self._requests.put(self.model.create_infer_request())
        self._pool = ThreadPoolExecutor(self.streams, thread_name_prefix="hrnet-deploy-openvino")

    def submit(self, crops_nhwc: NDArray[np.uint8], names: list[str]) -> Future[Arrays]:
        """Queue one piece of work; its memory is not copied and must not change until then."""
        return self._pool.submit(self._run, crops_nhwc, names)

    def _run(self, crops_nhwc: NDArray[np.uint8], names: list[str]) -> Arrays:
        request = self._requests.get()
        try:
            # A request does not keep the array behind a shared tensor alive: this frame does,
            # until the results are copied out of the buffers that belong to the request.
            request.set_input_tensor(self._ov.Tensor(crops_nhwc, shared_memory=True))
            request.start_async()
            request.wait()
            return [request.get_tensor(name).data.copy() for name in names]
        finally:
            self._requests.put(request)

    def close(self) -> None:
        """Wait for what is queued."""
        self._pool.shutdown(wait=True)


def native_precisions(ov: ModuleType) -> tuple[str, ...]:
    """The precisions that this CPU has instructions for, by our names."""
    listed = set(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return tuple(name for name, word in CAPABILITIES.items() if word in listed)


def eight_bit_convolutions(model: Any) -> int:
    """How many convolutions of a model that was read have int8 weights."""
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    return sum(
        op.get_element_type().get_type_name() == "i8" and len(op.get_output_shape(0)) == WEIGHT_NDIM
        for op in constants
    )


def check_precision(compiled: Any, precision: str, path: str, *, eight_bit: int = 0) -> None:
    """Raise EnvironmentFault unless every convolution was compiled in ``precision``.

    OpenVINO takes a precision as a hint and may fall back without a word. ``eight_bit`` is the
    number of convolutions that have to run in 8 bit.
    """
    found = [
        info["runtimePrecision"].astype(str)
        for info in (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
        if info["layerType"].astype(str) == "Convolution"
    ]
    kinds = set(found) - (EIGHT_BIT if eight_bit else set())
    if kinds - {HINTS[precision]} or sum(kind in EIGHT_BIT for kind in found) != eight_bit:
        raise EnvironmentFault(
            path,
            f"OpenVINO would run it in {', '.join(sorted(set(found)))}, {precision} was asked for",
            "Ask for another precision, or for the backend onnxruntime",
        )
