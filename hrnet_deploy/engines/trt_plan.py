"""A deserialised plan: what TensorRT knows of it, and whether that is what its spec promises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrnet_deploy.engines.cuda.device import EXCLUSIVE, Stream
from hrnet_deploy.engines.trt_module import TensorRT
from hrnet_deploy.engines.trt_slot import output_shapes
from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.spec import INPUT_NAME, ModelSpec

Tensor = tuple[str, str, tuple[int, ...]]
"""Direction, type and shape."""

_AGAIN = "Build the plan again"


class LoadedPlan:
    """A deserialised plan of whatever kind: the engine, with the runtime that it needs to live.

    What TensorRT refuses is an EnvironmentFault with its reason.
    """

    def __init__(self, tensorrt: TensorRT, content: bytes, path: Path) -> None:
        trt = tensorrt.module
        tensorrt.forget_log()
        self._tensorrt, self._path = tensorrt, str(path)
        self._trt = trt
        self._runtime = tensorrt.created(trt.Runtime, str(path))
        with EXCLUSIVE:
            self.engine = self._runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise tensorrt.fault(str(path), "TensorRT cannot load it", _AGAIN)

    @property
    def scratch_bytes(self) -> int:
        """Device memory that one running context needs."""
        if hasattr(self.engine, "device_memory_size_v2"):
            return int(self.engine.device_memory_size_v2)
        return int(self.engine.device_memory_size)

    def new_context(self, scratch: int, stream: Stream) -> Any:
        """An execution context for ``stream`` that works in ``scratch_bytes`` of device memory.

        ``scratch`` is its address. Contexts may share it where all run on one stream.
        """
        self._tensorrt.forget_log()
        with EXCLUSIVE:
            context = self._bare_context()
        if context is None:
            raise self.fault("could not create an execution context")
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(scratch, self.scratch_bytes)
        else:
            context.device_memory = scratch
        # 8.6 leaves every context but the first without a profile, also where they share it.
        if context.active_optimization_profile != 0:
            try:
                context.set_optimization_profile_async(0, int(stream))
            except RuntimeError as error:
                raise self.fault("could not choose the batch profile") from error
        return context

    def _bare_context(self) -> Any:
        """A context without memory of its own."""
        if hasattr(self._trt, "ExecutionContextAllocationStrategy"):
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            return self.engine.create_execution_context(strategy)
        return self.engine.create_execution_context_without_device_memory()

    def set_shapes(self, context: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """The shapes of all inputs of ``context``; those of the outputs follow from them."""
        self._tensorrt.forget_log()
        good = all(context.set_input_shape(name, shape) for name, shape in shapes.items())
        try:
            good = good and not context.infer_shapes()
        except RuntimeError:  # where the shapes contradict one another
            good = False
        if not good:
            raise self.fault(f"refused the input {dict(shapes)}")

    def set_addresses(self, context: Any, addresses: Mapping[str, int]) -> None:
        """Where the inputs and outputs of ``context`` lie in device memory."""
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise self.fault(f"refused the memory of {name}")

    def enqueue(self, context: Any, stream: Stream) -> None:
        """Run ``context`` once, in the order of ``stream``."""
        self._tensorrt.forget_log()
        if not context.execute_async_v3(int(stream)):
            raise self.fault("could not enqueue a batch")

    def fault(self, problem: str) -> EnvironmentFault:
        """An error with the reason that TensorRT logged."""
        fix = "Run again; if it recurs, build the plan again"
        return self._tensorrt.fault(self._path, f"TensorRT {problem}", fix)

    def layer_report(self) -> str:
        """The inspector's JSON about every layer."""
        inspector = self.engine.create_engine_inspector()
        report: str = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        return report


class Plan(LoadedPlan):
    """The plan of a pose engine, whose tensors are those of its spec."""

    def __init__(self, tensorrt: TensorRT, content: bytes, path: Path, spec: ModelSpec) -> None:
        super().__init__(tensorrt, content, path)
        check_tensors(self._trt, self.engine, spec, path)
        fixed = int(self.engine.get_tensor_shape(INPUT_NAME)[0])
        if fixed > 0:
            self.min_batch = self.max_batch = fixed
        else:
            smallest, _, largest = self.engine.get_tensor_profile_shape(INPUT_NAME, 0)
            self.min_batch, self.max_batch = int(smallest[0]), int(largest[0])


def check_tensors(trt: Any, engine: Any, spec: ModelSpec, path: Path) -> None:
    """Refuse a plan whose tensors are not those of its spec: names, directions, types, shapes."""
    expected: dict[str, Tensor] = {
        INPUT_NAME: ("INPUT", "UINT8", (-1, *spec.input_size_hw, 3)),
    }
    for name, shape in output_shapes(spec).items():
        expected[name] = ("OUTPUT", "FLOAT", (-1, *shape))
    found: dict[str, Tensor] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(int(side) for side in engine.get_tensor_shape(name))
        # The batch is -1 where it is dynamic, a number where the profile leaves one size.
        found[name] = (
            engine.get_tensor_mode(name).name,
            engine.get_tensor_dtype(name).name,
            (-1, *shape[1:]),
        )
    if found != expected:
        problem = f"its tensors are {_words(found)}, expected {_words(expected)}"
        raise InputError(path, problem, _AGAIN)


def _words(tensors: dict[str, Tensor]) -> str:
    return ", ".join(
        f"{name} {mode.lower()} {kind.lower()} {shape}"
        for name, (mode, kind, shape) in sorted(tensors.items())
    )
