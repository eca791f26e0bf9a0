"""A detector's plan in TensorRT, with the manifest that is checked before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from hrnet_deploy.engines.manifest import (
    Machine,
    PlanFacts,
    check_machine,
    invalid,
    manifest_json,
    manifest_path,
    read_checked_plan,
)
from hrnet_deploy.engines.tensorrt import device_index
from hrnet_deploy.engines.trt_module import TensorRT, load_tensorrt
from hrnet_deploy.engines.trt_tensors import PlanTensors
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.predict.detector.candidates import Shape, Signature
from hrnet_deploy.predict.detector.session import DetectorSession, Inputs


@dataclass(frozen=True, kw_only=True)
class DetectorManifest(PlanFacts):
    """What the plan of a detector was built from and for; ``detector`` holds its signature.

    ``{"inputs": {name: [type, [sides]]}, "outputs": {name: [sides]}}``, where only the first side
    may be null: the batch.
    """

    detector: dict[str, Any]

    BUILD_FLAGS: ClassVar[tuple[str, ...]] = ("--detector",)

    @classmethod
    def from_dict(cls, value: object, *, source: Subject) -> DetectorManifest:
        """Build a manifest from parsed JSON; every fault names its field (InputError)."""
        if isinstance(value, dict) and "spec" in value:
            raise InputError(source, "is that of a pose engine", "Give it to --engine")
        manifest = cls(**cls.checked_fields(value, source))
        try:
            signature = manifest.signature
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise invalid(source, "has a detector without inputs and outputs") from error
        if not signature.inputs or not signature.outputs:
            raise invalid(source, "has a detector without inputs and outputs")
        return manifest

    @property
    def signature(self) -> Signature:
        """Names, types and shapes as the ONNX file had them."""
        return Signature(
            {n: (str(t), _sides(s)) for n, (t, s) in self.detector["inputs"].items()},
            {n: _sides(s) for n, s in self.detector["outputs"].items()},
        )


def signature_facts(signature: Signature) -> dict[str, Any]:
    """A signature as plain values for JSON."""
    return {
        "inputs": {n: [t, list(s)] for n, (t, s) in signature.inputs.items()},
        "outputs": {n: list(s) for n, s in signature.outputs.items()},
    }


class PlanSession(DetectorSession):
    """A plan that ``build --detector`` made, on an NVIDIA GPU."""

    def __init__(
        self, tensorrt: TensorRT, content: bytes, path: Path, manifest: DetectorManifest
    ) -> None:
        self.signature, self._profile = manifest.signature, manifest.profile
        shapes = whole_shapes(self.signature, manifest.profile.max)
        self.device = f"cuda:{tensorrt.gpu.index}"
        self.versions = {"tensorrt": tensorrt.version}
        self._tensors = PlanTensors(tensorrt, content, path, shapes)

    @property
    def batches(self) -> tuple[int, int | None]:
        return self._profile.min, self._profile.max

    def _infer(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        return self._tensors.run(inputs)

    def close(self) -> None:
        self._tensors.close()


def load_plan_session(path: Path, *, device: str | None) -> PlanSession:
    """Load a plan once its manifest says that it fits: the hash before the plan itself."""
    manifest = DetectorManifest.from_dict(manifest_json(path), source=manifest_path(path))
    tensorrt = load_tensorrt(device_index(device), subject=str(path))
    gpu = tensorrt.gpu
    check_machine(path, manifest, Machine(gpu.name, gpu.compute_capability, tensorrt.version))
    return PlanSession(tensorrt, read_checked_plan(path, manifest), path, manifest)


def whole_shapes(signature: Signature, batch: int) -> Mapping[str, tuple[int, ...]]:
    """The shapes of all inputs with ``batch`` pictures."""
    return {
        name: tuple(batch if side is None else side for side in shape)
        for name, (_, shape) in signature.inputs.items()
    }


def _sides(values: Any) -> Shape:
    return tuple(None if value is None else int(value) for value in values)
