"""OpenVINO: the fastest engine on a CPU, in float32, bfloat16 or int8."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.engines.openvino_model import (
    HINTS,
    Compiled,
    check_precision,
    eight_bit_convolutions,
    native_precisions,
)
from hrnet_deploy.engines.signature import (
    FLOAT,
    UINT8,
    TensorType,
    check_signature,
    read_engine_file,
)
from hrnet_deploy.errors import DeployError, EnvironmentFault, InputError, require
from hrnet_deploy.files import sha256_bytes
from hrnet_deploy.spec import HEATMAPS_NAME, KEYPOINTS_NAME, SCORES_NAME, ModelSpec

_FAILURES = (RuntimeError, ValueError, TypeError, MemoryError)
_AGAIN = "Export the model again"


class OpenVinoEngine(Engine):
    """A model compiled by OpenVINO. Its ``run`` may be called from several threads at once.

    The calls share the same streams, so that they do not gain speed by it; loading and closing
    belong to one thread. Each crop is computed by one thread, as many crops at once as there are
    threads; in calls with at most half as many crops as threads each crop is computed by all
    threads together, from the second such call on. The result of a crop does not depend on the
    others of its batch.
    """

    def __init__(
        self, ov: ModuleType, model: Any, spec: ModelSpec, info: EngineInfo, threads: int
    ) -> None:
        super().__init__(spec, info, spec.static_batch)
        self._ov, self._model, self._threads = ov, _for_one_crop(model, spec), threads
        self._lock = threading.Lock()
        self._last_was_small = False
        eight_bit = eight_bit_convolutions(model)
        self._wide = self._compile(streams=threads)
        self._narrow: Compiled | None = None
        if self._wide.streams == 1 or spec.static_batch:
            self._narrow, self._model = self._wide, None
        check_precision(self._wide.model, info.precision, info.path, eight_bit=eight_bit)

    def _compile(self, *, streams: int) -> Compiled:
        precision = self.info.precision
        return Compiled(self._ov, self._model, precision, streams=streams, threads=self._threads)

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        names = [KEYPOINTS_NAME, SCORES_NAME] + [HEATMAPS_NAME] * heatmaps
        count = len(crops_nhwc)
        try:
            compiled, step = self._layout(count)
            pieces = _pieces(np.ascontiguousarray(crops_nhwc), step)
            waiting = [compiled.submit(piece, names) for piece in pieces]
            parts = [future.result() for future in waiting]
        except _FAILURES as error:
            raise _run_fault(self.info.path, error) from error
        joined = [p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True)]
        joined = [array[:count] for array in joined]
        return EngineOutput(joined[0], joined[1], joined[2] if heatmaps else None)

    def _layout(self, count: int) -> tuple[Compiled, int]:
        """Which compiled model takes ``count`` crops, and how many at a time."""
        if self.spec.static_batch:
            return self._wide, self.spec.static_batch
        with self._lock:
            small = count <= self._wide.streams // 2
            again, self._last_was_small = small and self._last_was_small, small
            if again and self._narrow is None:
                self._narrow, self._model = self._compile(streams=1), None
            if small and self._narrow is not None:
                return self._narrow, 1
        return self._wide, 1

    def _release(self) -> None:
        for compiled in filter(None, (self._wide, self._narrow)):
            compiled.close()
        del self._wide, self._narrow, self._model


def _for_one_crop(model: Any, spec: ModelSpec) -> Any:
    """The model with its batch fixed to one crop; as it is where the file fixes another one.

    Fixed shapes save 7 % of the processor time in int8 and 3 % in bf16 (W32-256, one thread).
    """
    if spec.static_batch:
        return model
    fixed = model.clone()
    fixed.reshape([1, *spec.input_size_hw, 3])
    return fixed


def _pieces(crops_nhwc: NDArray[np.uint8], step: int) -> Iterator[NDArray[np.uint8]]:
    """The crops ``step`` at a time, views where possible; a short last piece ends in black."""
    for start in range(0, len(crops_nhwc), step):
        piece = crops_nhwc[start : start + step]
        if missing := step - len(piece):
            black = np.zeros((missing, *piece.shape[1:]), np.uint8)
            piece = np.concatenate([piece, black])
        yield piece if piece.flags.writeable else piece.copy()  # OpenVINO shares no other memory


def load_openvino_engine(
    path: Path, *, threads: int | None = None, precision: str | None = None
) -> Engine:
    """Load an ONNX file that this project wrote, to run on the CPU.

    ``precision`` is "fp32" or "bf16", None for the file's own; ``threads`` are the CPU threads,
    None for one per physical core. Raises InputError for a file that is damaged, not ours, or does
    not do what its spec says, and EnvironmentFault where OpenVINO is missing or would compute in
    another precision than asked for.
    """
    content, spec = read_engine_file(path)
    wanted = _wanted_precision(spec, precision, path)
    ov = require("openvino", extra="openvino", purpose=f"running {path.name} with OpenVINO")
    if wanted not in native_precisions(ov):
        raise EnvironmentFault(
            "precision",
            f"is {wanted}, which this CPU does not compute natively",
            f"It has {', '.join(native_precisions(ov))}; use the backend onnxruntime otherwise",
        )
    try:
        model = ov.Core().read_model(BytesIO(content))
        check_signature(_values(model.inputs), _values(model.outputs), spec, path)
        info = EngineInfo(
            backend="openvino",
            device="cpu",
            path=str(path),
            sha256=sha256_bytes(content),
            precision=wanted,
            versions={"openvino": str(ov.__version__).split("-")[0]},
        )
        return OpenVinoEngine(ov, model, spec, info, threads or physical_cores())
    except _FAILURES as error:
        if isinstance(error, DeployError):
            raise
        raise _load_fault(path, error) from error


def _wanted_precision(spec: ModelSpec, precision: str | None, path: Path) -> str:
    if spec.precision == "fp8":
        fix = "Use the backend onnxruntime, or build a TensorRT plan"
        raise InputError(path, "is typed fp8, which OpenVINO would compute in float32", fix)
    wanted = precision or spec.precision
    if wanted not in HINTS:
        raise InputError("precision", f"is '{wanted}'", f"Give {', '.join(HINTS)}")
    if wanted != spec.precision and (wanted, spec.precision) != ("bf16", "fp32"):
        raise InputError(
            path,
            f"is typed {spec.precision}, {wanted} was asked for",
            f"Give the fp32 file for fp32 and bf16, the {spec.precision} file for its own",
        )
    return wanted


_TYPES = {"u8": UINT8, "f32": FLOAT}


def _values(ports: list[Any]) -> dict[str, TensorType]:
    """Element type and shape of each input or output, free dimensions as None."""
    return {
        port.get_any_name(): (
            _TYPES.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
            [None if size.is_dynamic else size.get_length() for size in port.partial_shape],
        )
        for port in ports
    }


def reason(error: BaseException) -> str:
    """The last line of OpenVINO's message, which is the one that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _memory_fault(path: Path | str, error: BaseException) -> EnvironmentFault | None:
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        fix = "Free some memory or use a smaller batch"
        return EnvironmentFault(path, "ran out of memory in OpenVINO", fix)
    return None


def _load_fault(path: Path, error: BaseException) -> DeployError:
    return _memory_fault(path, error) or InputError(
        path, f"OpenVINO cannot load it ({reason(error)})", _AGAIN
    )


def _run_fault(path: str, error: BaseException) -> DeployError:
    return _memory_fault(path, error) or EnvironmentFault(
        path, f"OpenVINO failed ({reason(error)})", "Run it again"
    )
