"""A detector's graph in ONNX Runtime, on the device that was asked for and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hrnet_deploy.engines.onnxruntime import failures, load_fault, run_fault, session_options
from hrnet_deploy.errors import EnvironmentFault, InputError, require
from hrnet_deploy.predict.detector.candidates import Shape, Signature
from hrnet_deploy.predict.detector.session import RUN_FIX, DetectorSession, Inputs, read_detector


class OnnxRuntimeSession(DetectorSession):
    """A session of ONNX Runtime on ``device``: cpu, cuda[:N] or tensorrt[:N]."""

    def __init__(self, path: Path, *, device: str | None, threads: int | None) -> None:
        content, _ = read_detector(path)
        ort = require("onnxruntime", extra="cpu", purpose=f"running {path.name}")
        self._path = path
        self.device = "cpu" if device is None else device
        self.versions = {"onnxruntime": ort.__version__}
        providers = _providers(ort, self.device)
        try:
            self._session = ort.InferenceSession(
                content, session_options(ort, threads), providers=providers, enable_fallback=0
            )
            self.signature = Signature(
                {v.name: (v.type, _shape(v.shape)) for v in self._session.get_inputs()},
                {v.name: _shape(v.shape) for v in self._session.get_outputs()},
            )
        except failures() as error:
            raise load_fault(path, error, fix="Export or download it again") from error
        if providers[0][0] not in self._session.get_providers():
            problem = f"would run on {self._session.get_providers()[0]}, not on {device}"
            raise EnvironmentFault(path, problem, "Check the CUDA libraries, or use --device cpu")

    def _infer(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        names = list(self.signature.outputs)
        try:
            return dict(zip(names, self._session.run(names, inputs), strict=True))
        except failures() as error:
            raise run_fault(self._path, error, fix=RUN_FIX) from error


def _providers(ort: Any, device: str) -> list[Any]:
    match = re.fullmatch(r"(cpu|cuda|tensorrt)(?::(\d{1,3}))?", device)
    if match is None:
        raise InputError("detector device", f"is '{device}'", "Give cpu, cuda[:N] or tensorrt[:N]")
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
        raise EnvironmentFault("detector device", problem, fix)
    return wanted


def _shape(sides: list[Any]) -> Shape:
    return tuple(side if isinstance(side, int) and side > 0 else None for side in sides)
