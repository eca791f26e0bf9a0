"""A deserialised plan: what TensorRT knows of it, and whether that is what its spec promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hrnet_deploy.engines.trt_module import TensorRT
from hrnet_deploy.engines.trt_slot import output_shapes
from hrnet_deploy.errors import InputError
from hrnet_deploy.spec import INPUT_NAME, ModelSpec

Tensor = tuple[str, str, tuple[int, ...]]
"""Direction, type and shape."""

_AGAIN = "Build the plan again"


class LoadedPlan:
    """A deserialised plan of whatever kind: the engine, with the runtime that it needs to live."""

    def __init__(self, tensorrt: TensorRT, content: bytes, path: Path) -> None:
        trt = tensorrt.module
        self._trt = trt
        self._runtime = tensorrt.created(trt.Runtime, str(path))
        self.engine = self._runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise tensorrt.fault(str(path), "TensorRT cannot load it", _AGAIN)

    @property
    def scratch_bytes(self) -> int:
        """Device memory that one running context needs."""
        if hasattr(self.engine, "device_memory_size_v2"):
            return int(self.engine.device_memory_size_v2)
        return int(self.engine.device_memory_size)

    def new_context(self, stream: int) -> Any:
        """An execution context without memory of its own, None where TensorRT gives none.

        It is ready for what follows on ``stream``, a CUDA handle.
        """
        if hasattr(self._trt, "ExecutionContextAllocationStrategy"):
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self.engine.create_execution_context(strategy)
        else:
            context = self.engine.create_execution_context_without_device_memory()
        if context is None or context.active_optimization_profile == 0:
            return context
        # 8.6 may leave every context but the first without a profile, also where they share it.
        return context if context.set_optimization_profile_async(0, stream) else None

    def lend_memory(self, context: Any, address: int) -> None:
        """Give ``context`` the ``scratch_bytes`` of device memory at ``address`` to work in."""
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(address, self.scratch_bytes)
        else:
            context.device_memory = address

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
