"""A detector's graph in OpenVINO, on the CPU."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.engines.openvino import reason
from hrnet_deploy.engines.openvino_model import compile_for_cpu
from hrnet_deploy.errors import EnvironmentFault, InputError, require
from hrnet_deploy.predict.detector.candidates import Shape, Signature
from hrnet_deploy.predict.detector.session import RUN_FIX, DetectorSession, Inputs, read_detector

_NAMES = {
    "f32": "tensor(float)",
    "f16": "tensor(float16)",
    "f64": "tensor(double)",
    "u8": "tensor(uint8)",
    "i64": "tensor(int64)",
    "i32": "tensor(int32)",
}
_FAILURES = (RuntimeError, ValueError, TypeError)


class OpenVinoSession(DetectorSession):
    """A model that OpenVINO compiled, in float32: boxes must not depend on the processor."""

    def __init__(self, path: Path, *, threads: int | None) -> None:
        content, file = read_detector(path)
        ov = require("openvino", extra="openvino", purpose=f"running {path.name} with OpenVINO")
        self._path = path
        self.device, self.versions = "cpu", {"openvino": ov.__version__}
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads or physical_cores()),
            "NUM_STREAMS": "1",
        }
        try:
            model = ov.Core().read_model(BytesIO(content))
            self.signature = Signature(
                {p.get_any_name(): (_type(p), _shape(p)) for p in model.inputs},
                # A tensor may have several names here; the graph's outputs keep their order.
                dict(zip(file.outputs, map(_shape, model.outputs), strict=True)),
            )
            self._request = compile_for_cpu(ov, model, settings).create_infer_request()
        except _FAILURES as error:
            problem = f"OpenVINO cannot load it ({reason(error)})"
            raise InputError(path, problem, "Use --detector-backend onnxruntime") from error

    def _infer(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        try:
            self._request.infer(inputs)
        except _FAILURES as error:
            problem = f"OpenVINO failed ({reason(error)})"
            raise EnvironmentFault(self._path, problem, RUN_FIX) from error
        names = self.signature.outputs
        return {name: self._request.get_tensor(name).data.copy() for name in names}


def _type(port: Any) -> str:
    name: str = port.element_type.get_type_name()
    return _NAMES.get(name, name)


def _shape(port: Any) -> Shape:
    return tuple(None if side.is_dynamic else side.get_length() for side in port.partial_shape)
