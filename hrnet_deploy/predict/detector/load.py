"""A detector's graph on the backend that was asked for."""

from __future__ import annotations

from pathlib import Path

from hrnet_deploy.errors import InputError, command_line
from hrnet_deploy.files import check_input_file
from hrnet_deploy.predict.detector.onnxruntime import OnnxRuntimeSession
from hrnet_deploy.predict.detector.openvino import OpenVinoSession
from hrnet_deploy.predict.detector.session import DetectorSession
from hrnet_deploy.predict.detector.tensorrt import load_plan_session

ONNX_BACKENDS = ("onnxruntime", "openvino")


def load_session(
    path: Path, *, backend: str | None, device: str | None, threads: int | None
) -> DetectorSession:
    """Load an ``.onnx`` in ONNX Runtime (None) or OpenVINO, a ``.plan`` in TensorRT.

    Raises InputError for a file or a choice that does not fit, EnvironmentFault for a backend or
    device that is not there.
    """
    if path.suffix.lower() == ".plan":
        if backend in ONNX_BACKENDS:
            raise InputError(path, f"is a TensorRT plan, {backend} was asked for", "Give the .onnx")
        check_input_file(path, what="detector plan")
        return load_plan_session(path, device=device)
    if backend == "openvino":
        if device not in (None, "cpu"):
            raise InputError("--detector-device", f"is {device}, OpenVINO runs on cpu", "Give cpu")
        return OpenVinoSession(path, threads=threads)
    if backend == "tensorrt":
        fix = f"Build one: {command_line('build', '--detector', path)}"
        raise InputError(path, "is no plan, TensorRT was asked for", fix)
    return OnnxRuntimeSession(path, device=device, threads=threads)
