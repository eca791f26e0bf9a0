"""A detector's graph in ONNX Runtime, on the device that was asked for and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.engines.onnx_file import read_onnx_file
from hrnet_deploy.errors import EnvironmentFault, InputError, require
from hrnet_deploy.files import check_input_file
from hrnet_deploy.predict.detector.candidates import Arrays, Shape, Signature

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_FATAL_ONLY = 4


class DetectorSession:
    """Runs arrays by name; ``signature`` says which. Closing is leaving it to be collected."""

    def __init__(self, path: Path, *, device: str | None, threads: int | None) -> None:
        check_input_file(path, what="detector")
        content = path.read_bytes()
        read_onnx_file(content, path)  # whole, and without tensors in other files
        ort = require("onnxruntime", extra="cpu", purpose=f"running {path.name}")
        self._path = path
        providers = _providers(ort, device or "cpu")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or physical_cores()
        options.log_severity_level = _FATAL_ONLY
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = ort.InferenceSession(
                content, options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            problem = f"ONNX Runtime cannot load it ({str(error).splitlines()[0][:200]})"
            raise InputError(path, problem, "Export or download it again") from error
        if providers[0][0] not in self._session.get_providers():
            problem = f"would run on {self._session.get_providers()[0]}, not on {device}"
            raise EnvironmentFault(path, problem, "Check the CUDA libraries, or use --device cpu")
        self.signature = Signature(
            {v.name: (v.type, _shape(v.shape)) for v in self._session.get_inputs()},
            {v.name: _shape(v.shape) for v in self._session.get_outputs()},
        )

    def run(self, inputs: dict[str, NDArray[Any]]) -> Arrays:
        """All outputs as float64, by name."""
        typed = {
            name: np.ascontiguousarray(array, _TYPES.get(self.signature.inputs[name][0]))
            for name, array in inputs.items()
        }
        names = list(self.signature.outputs)
        try:
            arrays = self._session.run(names, typed)
        except Exception as error:  # as above
            problem = f"ONNX Runtime failed ({str(error).splitlines()[0][:200]})"
            raise EnvironmentFault(
                self._path, problem, "Check --detector-config, above all size_hw"
            ) from error
        return {n: np.asarray(a, np.float64) for n, a in zip(names, arrays, strict=True)}


def _providers(ort: Any, device: str) -> list[Any]:
    match = re.fullmatch(r"(cpu|cuda|tensorrt)(?::(\d{1,3}))?", device)
    if match is None:
        raise InputError("device", f"is '{device}'", "Give cpu, cuda[:N] or tensorrt[:N]")
    cpu: Any = ("CPUExecutionProvider", {})
    if match[1] == "cpu":
        return [cpu]
    index = {"device_id": int(match[2] or 0)}
    wanted: list[Any] = [("CUDAExecutionProvider", index), cpu]
    if match[1] == "tensorrt":
        wanted.insert(0, ("TensorrtExecutionProvider", index))
    if wanted[0][0] not in ort.get_available_providers():
        has = ", ".join(ort.get_available_providers())
        problem = f"is {device}, but this ONNX Runtime {ort.__version__} has only {has}"
        fix = "Ask for the device cpu, or: pip install 'hrnet-deploy[gpu]'"
        raise EnvironmentFault("device", problem, fix)
    return wanted


def _shape(sides: list[Any]) -> Shape:
    return tuple(side if isinstance(side, int) and side > 0 else None for side in sides)
