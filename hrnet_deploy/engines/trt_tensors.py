"""A plan of any network: arrays in and out by name, one batch after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.engines.cuda.device import EXCLUSIVE, Device, PinnedArray
from hrnet_deploy.engines.trt_module import TensorRT
from hrnet_deploy.engines.trt_plan import LoadedPlan
from hrnet_deploy.errors import InputError

DTYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
"""TensorRT's types by name; 8.6 makes int32 of int64."""


class PlanTensors(Closing):
    """Runs a plan on one GPU, each call to its end. Not safe for concurrent calls.

    ``max_shapes`` are those of all inputs at the largest batch, for which memory is reserved.
    Raises InputError for a plan whose outputs have no size before they are computed, as those of
    suppression inside the graph.
    """

    def __init__(
        self,
        tensorrt: TensorRT,
        content: bytes,
        path: Path,
        max_shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._path = path
        self._device = Device(tensorrt.gpu.index)
        self._plan: LoadedPlan | None = None
        try:
            with self._device:
                self._plan = LoadedPlan(tensorrt, content, path)
                self._open(self._plan, max_shapes)
        except BaseException:
            self.close()
            raise

    def _open(self, plan: LoadedPlan, max_shapes: Mapping[str, tuple[int, ...]]) -> None:
        engine, device = plan.engine, self._device
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._types = {name: self._type(name, engine.get_tensor_dtype(name).name) for name in names}
        inputs = {n for n in names if engine.get_tensor_mode(n).name == "INPUT"}
        if inputs != set(max_shapes):
            problem = f"takes {', '.join(sorted(inputs))}, not {', '.join(sorted(max_shapes))}"
            raise InputError(self._path, problem, "Build the plan again")
        self._outputs = [name for name in names if name not in inputs]
        self._stream = device.stream()
        scratch = device.allocate(max(plan.scratch_bytes, 1))
        self._context = plan.new_context(scratch, self._stream)
        plan.set_shapes(self._context, max_shapes)
        self._host: dict[str, PinnedArray] = {}
        self._memory: dict[str, int] = {}
        for name in names:
            shape = self._shape(name) if name in self._outputs else max_shapes[name]
            self._host[name] = device.pinned((int(np.prod(shape)),), self._types[name])
            self._memory[name] = device.allocate(max(1, self._host[name].array.nbytes))
        plan.set_addresses(self._context, self._memory)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output for one batch of inputs, which are cast to the plan's types."""
        if self._plan is None:
            raise InputError(self._path, "is closed", "Load it again")
        plan, device, stream = self._plan, self._device, self._stream
        with device:
            plan.set_shapes(self._context, {name: array.shape for name, array in inputs.items()})
            for name, array in inputs.items():
                host = self._host[name]
                host.array[: array.size] = array.ravel()
                size = array.size * host.array.itemsize
                device.upload(self._memory[name], host.address, size, stream)
            plan.enqueue(self._context, stream)
            shapes = {name: self._shape(name) for name in self._outputs}
            for name, shape in shapes.items():
                host = self._host[name]
                size = int(np.prod(shape)) * host.array.itemsize
                device.download(host.address, self._memory[name], size, stream)
            device.drain(stream)
        return {
            name: self._host[name].array[: int(np.prod(shape))].reshape(shape).copy()
            for name, shape in shapes.items()
        }

    def close(self) -> None:
        """Free the plan before the memory that it works in."""
        with EXCLUSIVE, self._device:
            self._context = self._plan = None
        self._device.close()

    def _type(self, name: str, kind: str) -> type[np.generic]:
        if kind not in DTYPES:
            problem = f"its tensor {name} is of the type {kind}, which is not read"
            raise InputError(self._path, problem, f"Export it with {', '.join(DTYPES)}")
        return DTYPES[kind]

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = tuple(int(side) for side in self._context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            problem = f"its output {name} has no size before it is computed {shape}"
            raise InputError(self._path, problem, "Export it without suppression in the graph")
        return shape
