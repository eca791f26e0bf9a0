"""A build for a GPU that is not there, by TensorRT for RTX: a check, whose plan nobody keeps.

TensorRT for RTX is the only TensorRT that builds on a machine without a GPU, and a complete one:
the ONNX parser, the strongly typed network and the builder are those of TensorRT 11. Its plans run
on GeForce and RTX cards under a runtime of their own and cannot be proven without such a card; an
unproven plan is never written, so what remains is what the build says about the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hrnet_deploy.engines.build import build_plan
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.cuda.probe import Gpu
from hrnet_deploy.engines.trt_kernels import LISTING, Kernel, read_kernels
from hrnet_deploy.engines.trt_module import TensorRT
from hrnet_deploy.errors import InputError, require
from hrnet_deploy.spec import ModelSpec

MODULE = "tensorrt_rtx_bindings"
EXTRA = "rtx"


class AheadOfTime(TensorRT):
    """TensorRT for RTX, building for ``target``, such as "SM89"."""

    def __init__(self, module: ModuleType, target: str) -> None:
        number = int(target.removeprefix("SM"))
        super().__init__(module, Gpu(0, target, divmod(number, 10), 0))
        self._target = target

    def current(self) -> AbstractContextManager[object]:
        return nullcontext()

    def aim(self, config: Any) -> None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(self.module.ComputeCapability, self._target), 0)


@dataclass(frozen=True)
class AheadReport:
    """What a build ahead of time showed: the kernels, and every warning that was logged."""

    version: str
    target: str
    kernels: tuple[Kernel, ...]
    warnings: tuple[str, ...]
    plan_bytes: int


def load_ahead(target: str, *, subject: str) -> AheadOfTime:
    """TensorRT for RTX aimed at ``target``; InputError where it does not know that GPU."""
    module = require(MODULE, extra=EXTRA, purpose=subject)
    targets = known_targets(module)
    if target.upper() not in targets:
        problem = f"asks for '{target}', TensorRT for RTX {module.__version__} builds for"
        raise InputError(subject, f"{problem} {', '.join(targets)}", "Give one of these")
    return AheadOfTime(module, target.upper())


def known_targets(module: ModuleType) -> list[str]:
    """The GPUs that ``module`` builds for, by compute capability."""
    names: Iterable[str] = module.ComputeCapability.__members__
    return [name for name in names if name.startswith("SM")]


def build_ahead(
    tensorrt: AheadOfTime, onnx: bytes, spec: ModelSpec, settings: BuildSettings, *, subject: str
) -> AheadReport:
    """Build ``onnx`` and say what became of it. Raises as ``build_plan`` does."""
    listings: list[str] = []
    warnings: list[str] = []

    def listen(severity: str, message: str) -> None:
        if message.startswith(LISTING):
            listings.append(message)
        if severity == "WARNING":
            warnings.append(" ".join(message.split()))

    with tensorrt.heard_by(listen):
        built = build_plan(tensorrt, onnx, spec, settings, subject=subject)
    kernels = tuple(kernel for listing in listings for kernel in read_kernels(listing))
    return AheadReport(
        version=tensorrt.version,
        target=tensorrt.gpu.name,
        kernels=kernels,
        warnings=tuple(warnings),
        plan_bytes=len(built.content),
    )
