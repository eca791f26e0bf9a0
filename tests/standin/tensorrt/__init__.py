"""A stand-in for TensorRT's Python bindings: plans hold their ONNX file, ONNX Runtime runs it.

Every public name is refused that the real bindings of the version in STANDIN_TENSORRT do not have
(tests/data/tensorrt_names.json). STANDIN_FAULT makes one thing go wrong.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import time
import weakref
from pathlib import Path

import numpy as np

__version__ = os.environ["STANDIN_TENSORRT"]
FAULT = os.environ.get("STANDIN_FAULT", "")

_TABLE = json.loads(
    (Path(__file__).parents[2] / "data" / "tensorrt_names.json").read_text(encoding="utf-8")
)
_COLUMN = _TABLE["versions"].index(__version__)
_NAMES = {name for name, mask in _TABLE["names"].items() if mask[_COLUMN] == "x"}
_MAGIC = b"stand-in plan\n"
_EXPLICIT_BATCH_NEEDED = "NetworkDefinitionCreationFlag.EXPLICIT_BATCH" in _NAMES and (
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED" not in _NAMES
)


def _members(owner: str) -> list[str]:
    return [name.split(".")[1] for name in sorted(_NAMES) if name.startswith(f"{owner}.")]


def _enum(owner: str) -> type[enum.IntEnum]:
    names = [name for name in _members(owner) if name.isupper()]
    return enum.IntEnum(owner, {name: index for index, name in enumerate(names)})


class _Strict:
    """Refuses public names that the real class of this version does not have."""

    def __getattribute__(self, name: str) -> object:
        owner = object.__getattribute__(self, "_owner")
        if not name.startswith("_") and f"{owner}.{name}" not in _NAMES:
            raise AttributeError(f"TensorRT {__version__} has no {owner}.{name}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and f"{self._owner}.{name}" not in _NAMES:
            raise AttributeError(f"TensorRT {__version__} has no {self._owner}.{name}")
        object.__setattr__(self, name, value)


class ILogger:
    Severity = enum.IntEnum(
        "Severity", {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
    )

    def __init__(self) -> None:
        self._ready = True


def _say(logger: ILogger, severity: str, message: str) -> None:
    assert logger._ready, "ILogger.__init__ was not called"
    logger.log(ILogger.Severity[severity], message)  # type: ignore[attr-defined]


_DTYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(int64)": "INT64"}
_BYTES = {"UINT8": np.uint8, "FLOAT": np.float32, "INT64": np.int64}


class Dims(tuple[int, ...]):
    pass


class Runtime(_Strict):
    _owner = "Runtime"

    def __init__(self, logger: ILogger) -> None:
        _require_gpu(logger, "runtime")
        self._logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> ICudaEngine | None:
        _wait_for_the_gpu()
        if FAULT == "deserialise" or not bytes(content).startswith(_MAGIC):
            _say(self._logger, "ERROR", "Magic tag does not match")
            return None
        head, _, onnx = bytes(content)[len(_MAGIC) :].partition(b"\n")
        return ICudaEngine(json.loads(head), onnx, self._logger)


class ICudaEngine(_Strict):
    _owner = "ICudaEngine"

    def __init__(self, head: dict[str, object], onnx: bytes, logger: ILogger) -> None:
        import onnxruntime

        self._head, self._logger = head, logger
        self._session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        values = [*self._session.get_inputs(), *self._session.get_outputs()]
        self._tensors = {value.name: value for value in values}
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._contexts = 0

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def device_memory_size(self) -> int:
        return 1 << 20

    @property
    def device_memory_size_v2(self) -> int:
        return 1 << 20

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> object:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> object:
        return DataType[_DTYPES[self._tensors[name].type]]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(n if isinstance(n, int) else -1 for n in self._tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Dims]:
        assert profile == 0
        return [Dims(shape) for shape in self._head["profile"][name]]  # type: ignore[index]

    def create_execution_context(self, strategy: object = None) -> IExecutionContext:
        return IExecutionContext(self, owns_memory=strategy is None)

    def create_execution_context_without_device_memory(self) -> IExecutionContext:
        return IExecutionContext(self, owns_memory=False)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector()


class EngineInspector(_Strict):
    _owner = "EngineInspector"

    def get_engine_information(self, kind: object) -> str:
        assert kind == LayerInformationFormat.JSON
        return json.dumps({"Layers": [{"Name": "everything", "LayerType": "stand-in"}]})


class IExecutionContext(_Strict):
    _owner = "IExecutionContext"

    def __init__(self, engine: ICudaEngine, *, owns_memory: bool) -> None:
        _wait_for_the_gpu()
        self._engine, self._has_memory = engine, owns_memory
        engine._contexts += 1
        # 8.6 puts the first context alone on the profile, and lets others on it only if told to.
        self._profile = -1 if __version__.startswith("8.") and engine._contexts > 1 else 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._keep: list[object] = []

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert profile_index == 0
        assert stream_handle > 2
        if "PROFILE_SHARING_0806" not in self._engine._head["preview"]:  # type: ignore[operator]
            _say(self._engine._logger, "ERROR", "Profile 0 has been chosen by another context")
            raise RuntimeError("Error in set optimization profile async.")
        self._profile = profile_index
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= 1 << 20
        self._has_memory = True

    def __setattr__(self, name: str, value: object) -> None:
        if name == "device_memory":
            object.__setattr__(self, "_has_memory", True)
            return
        super().__setattr__(name, value)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fixed = tuple(self._engine.get_tensor_shape(name))
        low, _, high = self._engine._head["profile"].get(name, (fixed, fixed, fixed))  # type: ignore[attr-defined]
        good = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if self._profile < 0:
            _say(self._engine._logger, "ERROR", "no optimization profile is set")
            return False
        if good:
            self._shapes[name] = shape
        else:
            _say(self._engine._logger, "ERROR", f"{name}: {shape} is outside of the profile")
        return good

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = int(memory)
        return name in self._engine._tensors

    def get_tensor_shape(self, name: str) -> Dims:
        """Free sides follow the batch, as everything does that is no suppression."""
        batch = next(iter(self._shapes.values()))[0]
        fixed = self._engine.get_tensor_shape(name)
        return Dims(batch if side < 0 else side for side in fixed)

    def infer_shapes(self) -> list[str]:
        if FAULT == "shapes":
            _say(self._engine._logger, "ERROR", "shapes contradict one another")
            raise RuntimeError("infer_shapes error code: -1")
        return [name for name in self._engine._inputs if name not in self._shapes]

    def execute_async_v3(self, stream_handle: int) -> bool:
        missing = set(self._engine._tensors) - set(self._addresses)
        if FAULT == "enqueue" or missing or not self._has_memory:
            _say(self._engine._logger, "ERROR", f"enqueueV3: not ready ({FAULT}, {missing})")
            return False
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: self._run(shapes, addresses))
        self._keep.append(call)
        # Not through cuda.bindings, which frees its wrapper of the call after the first run of a
        # graph (13.4).
        launch = ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc
        return bool(launch(ctypes.c_void_p(stream_handle), call, None) == 0)

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        session = self._engine._session
        kinds = {name: _BYTES[_DTYPES[self._engine._tensors[name].type]] for name in shapes}
        feeds = {name: _view(addresses[name], shapes[name], kinds[name]) for name in shapes}
        if profiler := self.__dict__.get("profiler"):
            assert profiler._ready, "IProfiler.__init__ was not called"
            profiler.report_layer_time("everything", 1.5)
        names = [value.name for value in session.get_outputs()]
        for name, value in zip(names, session.run(names, feeds), strict=True):
            if FAULT == "wrong" and name in ("heatmaps", "output"):
                value = value + np.float32(0.5)
            _view(addresses[name], value.shape, value.dtype)[...] = value


def _view(address: int, shape: tuple[int, ...], dtype: object) -> np.ndarray:
    kind = np.dtype(dtype)  # type: ignore[call-overload]
    size = int(np.prod(shape)) * kind.itemsize
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, kind).reshape(shape)


class _Layer(_Strict):
    _owner = "ILayer"

    def __init__(self, kind: str, dtype: object, reads: object = None) -> None:
        self._type, self._dtype, self._pinned = LayerType[kind], dtype, None
        self._reads = reads or dtype

    @property
    def type(self) -> object:
        return self._type

    @property
    def num_inputs(self) -> int:
        return 1

    def get_input(self, index: int) -> _Tensor:
        return _Tensor(self._reads)

    @property
    def num_outputs(self) -> int:
        return 1

    def get_output(self, index: int) -> _Tensor:
        return _Tensor(self._dtype)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "precision":
            _Strict.__getattribute__(self, "reset_precision")
            object.__setattr__(self, "_pinned", value)
            return
        super().__setattr__(name, value)

    def reset_precision(self) -> None:
        pass

    def set_output_type(self, index: int, dtype: object) -> None:
        assert dtype == self._pinned


class _Tensor(_Strict):
    _owner = "ITensor"

    def __init__(self, dtype: object) -> None:
        self._dtype = dtype

    @property
    def dtype(self) -> object:
        return self._dtype


class INetworkDefinition(_Strict):
    _owner = "INetworkDefinition"

    def __init__(self, flags: int) -> None:
        self._flags, self._onnx = flags, b""
        self._layers = [
            _Layer("CONVOLUTION", DataType.HALF),
            _Layer("CONSTANT", DataType.FLOAT),
            _Layer("TOPK", DataType.INT32),
            _Layer("CONVOLUTION", DataType.FLOAT),
            _Layer("ELEMENTWISE", DataType.BOOL, reads=DataType.FLOAT),
        ]

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_layer(self, index: int) -> _Layer:
        return self._layers[index]


class OnnxParser(_Strict):
    _owner = "OnnxParser"

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network

    def parse(self, model: bytes, path: str | None = None) -> bool:
        explicit = self._network._flags & (1 << int(_flag("EXPLICIT_BATCH")))
        if FAULT == "parse" or (_EXPLICIT_BATCH_NEEDED and not explicit):
            return False
        self._network._onnx = bytes(model)
        return True

    @property
    def num_errors(self) -> int:
        return 1

    def get_error(self, index: int) -> str:
        return "In node 3 with name: decode.peak\nUNSUPPORTED_NODE"


def _flag(name: str) -> int:
    flags = NetworkDefinitionCreationFlag
    return int(getattr(flags, name)) if hasattr(flags, name) else 30


class IOptimizationProfile(_Strict):
    _owner = "IOptimizationProfile"

    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        assert len(shapes) == 3
        self._shapes[name] = list(shapes)


class ITimingCache(_Strict):
    _owner = "ITimingCache"

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content


class IBuilderConfig(_Strict):
    _owner = "IBuilderConfig"

    def __init__(self) -> None:
        self._flags = {BuilderFlag.TF32}
        self._profile: IOptimizationProfile | None = None
        # The real one keeps a pointer: who made the cache has to keep the cache.
        self._cache: weakref.ref[ITimingCache] | None = None
        self._settings: dict[str, object] = {}
        self._preview: list[str] = []

    def set_preview_feature(self, feature: object, enable: bool) -> None:
        assert enable
        self._preview.append(feature.name)  # type: ignore[attr-defined]

    def set_flag(self, flag: object) -> None:
        self._flags.add(flag)  # type: ignore[arg-type]

    def clear_flag(self, flag: object) -> None:
        self._flags.discard(flag)  # type: ignore[arg-type]

    def set_tactic_sources(self, sources: int) -> bool:
        self._settings["sources"] = sources
        return True

    def set_memory_pool_limit(self, pool: object, size: int) -> None:
        assert pool == MemoryPoolType.WORKSPACE
        self._settings["workspace"] = size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profile = profile
        return 0 if profile._shapes else -1

    def create_timing_cache(self, content: bytes) -> ITimingCache:
        return ITimingCache(content)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if FAULT == "cache" and cache._content:
            return False
        self._cache = weakref.ref(cache)
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache and self._cache()


class IProgressMonitor:
    def __init__(self) -> None:
        self._ready = True


class IProfiler:
    def __init__(self) -> None:
        self._ready = True


class Builder(_Strict):
    _owner = "Builder"

    def __init__(self, logger: ILogger) -> None:
        _require_gpu(logger, "builder")
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None:
        if not self._went_on(config):
            return None
        if FAULT in ("build", "memory"):
            reason = {"build": "no implementation for node", "memory": "out of memory (12 GiB)"}
            _say(self._logger, "ERROR", f"[builder] {reason[FAULT]}")
            return None
        _say(self._logger, "INFO", "built")
        if config._cache is not None:
            cache = config.get_timing_cache()
            assert cache is not None, "the timing cache was destroyed before the plan was built"
            cache._content += b"learnt;"
        profile = config._profile._shapes if config._profile else {}
        flags = sorted(flag.name for flag in config._flags)
        pinned = [None if p._pinned is None else p._pinned.name for p in network._layers]
        head = {
            "profile": profile,
            "flags": flags,
            "preview": config._preview,
            "network": network._flags,
            "pinned": pinned,
            "settings": config._settings,
        }
        return _MAGIC + json.dumps(head).encode() + b"\n" + network._onnx

    def _went_on(self, config: IBuilderConfig) -> bool:
        """Report progress; a slow build takes 30 seconds unless it is stopped."""
        monitor = config.__dict__.get("progress_monitor")
        steps = 300 if FAULT == "slow" else 2
        if monitor is None:
            time.sleep(0.1 * (steps - 2))
            return True
        assert monitor._ready, "IProgressMonitor.__init__ was not called"
        monitor.phase_start("Building Engine", None, steps)
        for step in range(steps):
            if not monitor.step_complete("Building Engine", step):
                return False
            if FAULT == "slow":
                time.sleep(0.1)
        monitor.phase_finish("Building Engine")
        return True


def _wait_for_the_gpu() -> None:
    """The real one may, which CUDA refuses while a stream is captured in any thread."""
    if status := ctypes.CDLL("libcuda.so.1").standin_whole_gpu():
        raise RuntimeError(f"CUDA error {status} while a stream is captured")


def _require_gpu(logger: ILogger, kind: str) -> None:
    """The real one of 8.6 crashes without a GPU; where CUDA does not start it does as here.

    Its CUDA runtime stays in the context that it found.
    """
    if int(os.environ.get("STANDIN_GPUS", "1")) < 1:
        os._exit(139)
    assert ctypes.CDLL("libcuda.so.1").standin_resets() == 0, "the primary context was reset"
    if kind == FAULT:
        _say(logger, "WARNING", "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")


BuilderFlag = _enum("BuilderFlag")
DataType = _enum("DataType")
ExecutionContextAllocationStrategy = _enum("ExecutionContextAllocationStrategy")
HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel")
LayerInformationFormat = _enum("LayerInformationFormat")
LayerType = _enum("LayerType")
MemoryPoolType = _enum("MemoryPoolType")
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag")
PreviewFeature = _enum("PreviewFeature")
ProfilingVerbosity = _enum("ProfilingVerbosity")
TacticSource = _enum("TacticSource")
TensorIOMode = _enum("TensorIOMode")

for _name in ("ExecutionContextAllocationStrategy", "IProgressMonitor"):
    if _name not in _NAMES:
        del globals()[_name]
