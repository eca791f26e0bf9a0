"""ONNX Runtime: the engine that runs everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.engines.signature import TensorType, check_signature, read_engine_file
from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError, Subject, require
from hrnet_deploy.files import sha256_bytes
from hrnet_deploy.spec import (
    HEATMAPS_NAME,
    INPUT_NAME,
    KEYPOINTS_NAME,
    SCORES_NAME,
    ModelSpec,
)

MAX_PIXELS_PER_RUN = 16 * 256 * 192
"""A dynamic graph on the CPU is run on so much at once: more is not faster, only larger."""

_AGAIN = "Export the model again"
FATAL_ONLY = 4
"""Log severity: what ONNX Runtime would log as an error also comes as an exception."""

WRONG_OPTIMIZERS = ["ReluQuantRewrite", "WeightBiasQuantization"]
"""Rewritings that are wrong for FP8 and half-precision Q/DQ pairs (seen with 1.32).

The first drops a ``Relu`` in front of FP8, whose zero point it takes for the lowest value; the
second divides biases by their step in half precision, which overflows.
"""

ROUNDS_HALVES = (1, 30)
"""The first version whose CPU rounds halves to int8; those before cut them off.

Mended by pull request 32452 of microsoft/onnxruntime; FP8 was rounded before as well.
"""


class OnnxRuntimeEngine(Engine):
    """An ONNX Runtime session. Its ``run`` may be called from several threads at once.

    The calls share one pool of arithmetic threads, so that they do not gain speed by it; loading
    and closing belong to one thread.
    """

    def __init__(self, session: Any, spec: ModelSpec, info: EngineInfo) -> None:
        super().__init__(spec, info, spec.static_batch)
        self._session = session
        height, width = spec.input_size_hw
        self._step = spec.static_batch or max(1, MAX_PIXELS_PER_RUN // (height * width))

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        names = [KEYPOINTS_NAME, SCORES_NAME] + [HEATMAPS_NAME] * heatmaps
        parts = [
            self._infer_part(crops_nhwc[start : start + self._step], names)
            for start in range(0, len(crops_nhwc), self._step)
        ]
        joined = [p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True)]
        return EngineOutput(joined[0], joined[1], joined[2] if heatmaps else None)

    def _infer_part(
        self, crops_nhwc: NDArray[np.uint8], names: list[str]
    ) -> list[NDArray[np.float32]]:
        """Run at most one step; a short last batch of a static graph is filled up with black."""
        count = len(crops_nhwc)
        if missing := (self.spec.static_batch or count) - count:
            black = np.zeros((missing, *crops_nhwc.shape[1:]), np.uint8)
            crops_nhwc = np.concatenate([crops_nhwc, black])
        try:
            arrays = self._session.run(names, {INPUT_NAME: np.ascontiguousarray(crops_nhwc)})
        except failures() as error:
            raise run_fault(self.info.path, error) from error
        return [array[:count] for array in arrays]

    def _release(self) -> None:
        self._session = None


def load_onnx_engine(path: Path, *, device: str = "cpu", threads: int | None = None) -> Engine:
    """Load an ONNX file that this project wrote.

    ``device`` is "cpu" or "cuda[:N]"; ``threads`` are the CPU threads, None for one per physical
    core. Raises InputError for a file that is damaged, not ours, or does not do what its spec
    says, and EnvironmentFault where ONNX Runtime or the device is missing.
    """
    provider = _provider(device)
    content, spec = read_engine_file(path)
    ort = require("onnxruntime", extra="cpu", purpose=f"running {path.name}")
    _check_device(ort, device, provider)
    if device == "cpu":
        check_rounding(path, spec.precision, spec.float_precision)
    session = _session(ort, content, path, provider, threads, spec)
    if provider[0] not in session.get_providers():
        raise EnvironmentFault(
            "device",
            f"is {device}, but ONNX Runtime would run on {session.get_providers()[0]}",
            "Check the CUDA and cuDNN libraries, or ask for the device cpu",
        )
    try:
        inputs, outputs = _values(session.get_inputs()), _values(session.get_outputs())
    except UnicodeDecodeError as error:  # names are decoded when they are asked for
        raise load_fault(path, error) from error
    check_signature(inputs, outputs, spec, path)
    info = EngineInfo(
        backend="onnxruntime",
        device="cpu" if device == "cpu" else f"cuda:{provider[1]['device_id']}",
        path=str(path),
        sha256=sha256_bytes(content),
        precision=spec.precision,
        versions={"onnxruntime": ort.__version__},
    )
    return OnnxRuntimeEngine(session, spec, info)


def _provider(device: str) -> tuple[str, dict[str, Any]]:
    """ONNX Runtime's name and options for ``device``."""
    if device == "cpu":
        return "CPUExecutionProvider", {}
    if match := re.fullmatch(r"cuda(?::(\d{1,3}))?", device):
        return "CUDAExecutionProvider", {"device_id": int(match[1] or 0)}
    raise InputError("device", f"is '{device}'", "Give cpu, cuda or cuda:N")


def _check_device(ort: ModuleType, device: str, provider: tuple[str, dict[str, Any]]) -> None:
    available = ort.get_available_providers()
    if provider[0] not in available:
        raise EnvironmentFault(
            "device",
            f"is {device}, but this ONNX Runtime {ort.__version__} has only {', '.join(available)}",
            "Ask for the device cpu, or replace onnxruntime: pip uninstall onnxruntime; "
            "pip install 'hrnet-deploy[gpu]'",
        )


def check_rounding(subject: Subject, precision: str, float_precision: str) -> None:
    """Raise EnvironmentFault where this ONNX Runtime would compute int8 between halves wrongly."""
    if (precision, float_precision) != ("int8", "fp16"):
        return
    ort = require("onnxruntime", extra="cpu", purpose=f"running {subject}")
    if tuple(int(number) for number in ort.__version__.split(".")[:2]) < ROUNDS_HALVES:
        raise EnvironmentFault(
            subject,
            f"is int8 between halves, which ONNX Runtime {ort.__version__} rounds wrongly",
            "Take ONNX Runtime 1.30 or later (Python 3.11 or later), OpenVINO, or int8 with fp32",
        )


def _session(
    ort: ModuleType,
    content: bytes,
    path: Path,
    provider: tuple[str, dict[str, Any]],
    threads: int | None,
    spec: ModelSpec,
) -> Any:
    providers: list[Any] = [provider]
    if provider[0] != "CPUExecutionProvider":
        providers.append("CPUExecutionProvider")
    try:
        # Its fallback would print to stdout, and go over to the CPU in the middle of a run.
        session = ort.InferenceSession(
            content,
            session_options(ort, threads),
            providers=providers,
            enable_fallback=0,
            disabled_optimizers=WRONG_OPTIMIZERS if spec.has_typed_pairs else None,
        )
    except failures() as error:
        raise load_fault(path, error) from error
    if getattr(session, "_model_bytes", None) is not None:
        session._model_bytes = None  # kept only to make the session anew on another provider
    return session


def session_options(ort: ModuleType, threads: int | None) -> Any:
    """Quiet options for one graph after another on ``threads``, None for one per physical core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = FATAL_ONLY
    # Between two runs the pool would spin on cores that the next crops are being cut on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class RunFault(EnvironmentFault):
    """A model that was loaded failed on its input, for another reason than a lack of memory."""


def failures() -> tuple[type[BaseException], ...]:
    """Everything that ONNX Runtime throws; most of its classes derive from Exception itself."""
    module = "onnxruntime.capi.onnxruntime_pybind11_state"
    state = require(module, extra="cpu", purpose="ONNX Runtime")
    own = (item for item in vars(state).values() if isinstance(item, type))
    return (
        *(item for item in own if issubclass(item, Exception)),
        MemoryError,
        RuntimeError,
        ValueError,
    )


_PLACE_IN_SOURCE = re.compile(r"^\S+\.(?:cc|cpp|h):\d+ [^()]*\([^()]*\)(?: const)? ")
"""Such as ``/x/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, ...)``."""


def _first_line(error: BaseException) -> str:
    """ONNX Runtime's message without its error code, its trace and the place in its source."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip())
    text = _PLACE_IN_SOURCE.sub("", text)
    return (text.splitlines() or [type(error).__name__])[0][:300]


def _memory_fault(path: Subject, error: BaseException) -> EnvironmentFault | None:
    text = str(error)
    if isinstance(error, MemoryError) or "allocate memory" in text or "bad_alloc" in text:
        fix = "Free some memory or use a smaller batch"
        return EnvironmentFault(path, "ran out of memory in ONNX Runtime", fix)
    return None


def load_fault(path: Subject, error: BaseException, *, fix: str = _AGAIN) -> DeployError:
    """What to say of a model, named ``path``, that ONNX Runtime did not load.

    ``fix`` is what helps where the file itself is at fault.
    """
    if fault := _memory_fault(path, error):
        return fault
    text = str(error)
    if match := re.search(r"[Oo]pset (\d+).*till opset (\d+)", text, re.DOTALL):
        problem = f"needs opset {match[1]}, this ONNX Runtime reads up to {match[2]}"
        return InputError(path, problem, "Export the model again, or update onnxruntime")
    if "CUDA" in text or "cudnn" in text.lower():
        return EnvironmentFault(path, f"ONNX Runtime: {_first_line(error)}", "Use the device cpu")
    return InputError(path, f"ONNX Runtime cannot load it ({_first_line(error)})", fix)


def run_fault(
    path: Subject, error: BaseException, *, fix: str = "Run it again"
) -> EnvironmentFault:
    """What to say of a model, named ``path``, that did not run; ``fix`` unless memory lacked."""
    if fault := _memory_fault(path, error):
        return fault
    return RunFault(path, f"ONNX Runtime failed ({_first_line(error)})", fix)


def _values(values: list[Any]) -> dict[str, TensorType]:
    """Element type and shape of each input or output, free dimensions as None."""
    return {v.name: (v.type, _shape(v.shape)) for v in values}


def _shape(shape: list[Any]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]
