"""Which backend runs an engine file, in which precision, and why."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hrnet_deploy.engines.cpu import bf16_instructions
from hrnet_deploy.engines.openvino_model import native_precisions
from hrnet_deploy.errors import EnvironmentFault, InputError, Subject, command_line, require

Backend = Literal["auto", "onnxruntime", "openvino", "tensorrt"]
BACKENDS: tuple[str, ...] = get_args(Backend)

PrecisionChoice = Literal["exact", "bf16", "fastest"]
PRECISION_CHOICES: tuple[str, ...] = get_args(PrecisionChoice)
"""The precision of the file itself; bfloat16; bfloat16 where the processor computes it."""

_X86 = ("x86_64", "AMD64")
"""Where OpenVINO has been measured to be the fastest."""


@dataclass(frozen=True)
class Choice:
    """A backend, its arithmetic (None: that of the file) and one line that says why."""

    backend: Literal["onnxruntime", "openvino", "tensorrt"]
    precision: Literal["bf16"] | None
    reason: str


def choose(
    path: Subject,
    *,
    device: str | None = None,
    backend: str | None = None,
    precision: str = "exact",
    file_precision: str = "fp32",
) -> Choice:
    """Choose for ``path``, whose graph is typed ``file_precision``.

    ``backend`` None is TensorRT for a plan and ONNX Runtime for ONNX, the engine that an export
    was proven on, unless the precision asks for another. Raises InputError for what does not go
    together and EnvironmentFault for what this machine does not have.
    """
    _check("backend", backend, (None, *BACKENDS))
    _check("precision", precision, PRECISION_CHOICES)
    if Path(path).suffix.lower() == ".plan":
        return _for_plan(path, backend, precision)
    if backend == "tensorrt":
        fix = f"Build a plan first: {command_line('build', path)}"
        raise InputError(path, "is no plan, TensorRT was asked for", fix)
    if device not in (None, "cpu"):
        return _on_cuda(device or "", backend, precision)
    if backend == "onnxruntime" or (backend is None and precision == "exact"):
        return _onnxruntime(precision)
    if backend == "openvino" or precision == "bf16":
        return _openvino(precision, file_precision, "asked for")
    return _automatic(precision, file_precision)


def _automatic(precision: str, file_precision: str) -> Choice:
    """The fastest that this machine has."""
    missing = _why_not_openvino(file_precision)
    if missing:
        return Choice("onnxruntime", None, f"ONNX Runtime in {file_precision}: {missing}")
    return _openvino(precision, file_precision, "the fastest on this processor")


def _why_not_openvino(file_precision: str) -> str | None:
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed: pip install 'hrnet-deploy[openvino]'"
    if platform.machine() not in _X86:
        return f"OpenVINO has not been measured on {platform.machine()}"
    if file_precision == "fp16":
        return "the file is typed fp16; give OpenVINO the fp32 one"
    if file_precision == "fp8":
        return "the file is typed fp8, which only GPUs compute"
    return None


def _openvino(precision: str, file_precision: str, why: str) -> Choice:
    if precision == "exact" or (precision == "fastest" and file_precision != "fp32"):
        return Choice("openvino", None, f"OpenVINO in {file_precision}, {why}")
    ov = require("openvino", extra="openvino", purpose=f"the precision {precision}")
    native = "bf16" in native_precisions(ov)
    if precision == "bf16" and not native:
        raise EnvironmentFault(
            "precision",
            "is bf16, which this processor does not compute (no avx512_bf16, no amx_bf16)",
            "Leave it out: fp32 is faster here",
        )
    if not native:
        words = "the processor has no bf16 arithmetic"
        return Choice("openvino", None, f"OpenVINO in {file_precision}, {why}: {words}")
    unit = bf16_instructions() or "bf16 arithmetic"
    words = f"the processor has {unit}; keypoints differ a little from fp32"
    return Choice("openvino", "bf16", f"OpenVINO in bf16, {why}: {words}")


def _onnxruntime(precision: str) -> Choice:
    if precision == "bf16":
        raise InputError(
            "precision",
            "is bf16, ONNX Runtime computes in the file's own",
            "Use the backend openvino",
        )
    return Choice("onnxruntime", None, "ONNX Runtime in the file's own precision")


def _on_cuda(device: str, backend: str | None, precision: str) -> Choice:
    if backend == "openvino":
        fix = "Use the device cpu or another backend"
        raise InputError("backend", f"is openvino, which runs on the CPU, not on {device}", fix)
    choice = _onnxruntime(precision)
    return Choice("onnxruntime", None, f"{choice.reason}, for the device {device}")


def _for_plan(path: Subject, backend: str | None, precision: str) -> Choice:
    if backend not in (None, "auto", "tensorrt"):
        fix = "Leave the backend out, or give the .onnx file"
        raise InputError(path, f"is a TensorRT plan, {backend} was asked for", fix)
    if precision == "bf16":
        fix = "Build it from a file of the precision you want"
        raise InputError(path, "is a plan, whose precision was fixed when it was built", fix)
    return Choice("tensorrt", None, "TensorRT in the precision of the plan")


def _check(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        words = ", ".join(str(item) for item in allowed if item is not None)
        raise InputError(name, f"is '{value}'", f"Give {words}")
