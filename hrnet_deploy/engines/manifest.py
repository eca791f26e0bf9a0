"""The manifest beside a plan: what it was built from and for, checked before it is loaded.

A plan is executable code for one GPU generation and one TensorRT, so everything is compared from
the manifest first; the plan's bytes reach TensorRT only when their hash is the one written here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hrnet_deploy.errors import EnvironmentFault, InputError, Subject, command_line
from hrnet_deploy.files import check_input_file, read_json, sha256_bytes, write_json
from hrnet_deploy.spec import PRECISIONS, ModelSpec

SCHEMA_VERSION = 1
SUFFIX = ".json"

HARDWARE_COMPATIBILITIES = ("none", "same_compute_capability", "ampere_plus")
AMPERE = (8, 0)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d+(\.\w+)+")


@dataclass(frozen=True)
class BatchProfile:
    """Smallest, best and largest batch of a plan."""

    min: int
    opt: int
    max: int

    def check(self, subject: Subject) -> None:
        """Refuse what is not 1 <= min <= opt <= max."""
        if not 1 <= self.min <= self.opt <= self.max:
            raise InputError(
                subject,
                f"the batch profile is min {self.min}, opt {self.opt}, max {self.max}",
                "Give 1 <= min <= opt <= max",
            )


@dataclass(frozen=True)
class Machine:
    """What a plan is loaded on: a GPU and a TensorRT."""

    gpu_name: str
    compute_capability: tuple[int, int]
    tensorrt: str


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What any plan says of itself. ``onnx_name`` is the file name of its source.

    ``gpu_name`` and ``compute_capability`` are those of the GPU it was built on; ``parity`` holds
    the figures measured at each batch of the profile; ``settings`` what the builder was told.
    """

    plan_sha256: str
    onnx_sha256: str
    onnx_name: str
    tensorrt: str
    cuda: str
    gpu_name: str
    compute_capability: tuple[int, int]
    precision: str
    strongly_typed: bool
    profile: BatchProfile
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    hrnet_deploy: str = ""
    schema: int = SCHEMA_VERSION

    BUILD_FLAGS: ClassVar[tuple[str, ...]] = ()
    """What ``build`` has to be told to make such a plan."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` takes them back."""
        return dataclasses.asdict(self)

    @classmethod
    def checked_fields(cls, value: object, source: Subject) -> dict[str, Any]:
        """The fields of parsed JSON; every fault names its field (InputError)."""
        if not isinstance(value, dict):
            raise invalid(source, "is not a JSON object")
        if value.get("schema") != SCHEMA_VERSION:
            problem = f"has schema {value.get('schema')!r}, this version reads {SCHEMA_VERSION}"
            raise invalid(source, problem)
        known = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := sorted(set(value) - set(known)):
            raise invalid(source, f"has an unknown field '{unknown[0]}'")
        if missing := sorted(set(known) - set(value)):
            raise invalid(source, f"lacks the field '{missing[0]}'")
        for name, valid in _RULES.items():
            if not valid(value[name]):
                raise invalid(source, f"has {name} {value[name]!r}")
        fields = dict(value)
        fields["compute_capability"] = tuple(value["compute_capability"])
        fields["profile"] = BatchProfile(**value["profile"])
        fields["profile"].check(source)
        return fields

    def built_for(self) -> str:
        """GPU and TensorRT in words."""
        return f"{self.gpu_name} (sm {_dotted(self.compute_capability)}), TensorRT {self.tensorrt}"

    def rebuild_command(self, plan: Subject) -> str:
        """The command that makes this plan anew on the machine at hand."""
        words = (*self.BUILD_FLAGS, self.onnx_name, "-o", Path(plan).name, "--force")
        return command_line("build", *words)


@dataclass(frozen=True, kw_only=True)
class Manifest(PlanFacts):
    """Everything about the plan of a pose engine."""

    spec: ModelSpec

    @classmethod
    def from_dict(cls, value: object, *, source: Subject) -> Manifest:
        """Build a manifest from parsed JSON; every fault names its field (InputError)."""
        if isinstance(value, dict) and "detector" in value:
            raise InputError(source, "is that of a person detector", "Give it to --detector")
        fields = cls.checked_fields(value, source)
        fields["spec"] = ModelSpec.from_dict(fields["spec"], source=source)
        if fields["precision"] != fields["spec"].precision:
            raise invalid(source, f"has precision {fields['precision']!r} unlike its spec")
        return cls(**fields)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_capability(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(part) is int and 0 <= part < 100 for part in value)
    )


def _is_profile(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"min", "opt", "max"}
        and all(type(part) is int for part in value.values())
    )


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


_RULES: dict[str, Callable[[Any], bool]] = {
    "plan_sha256": _is_sha256,
    "onnx_sha256": _is_sha256,
    "onnx_name": lambda value: _is_text(value) and "/" not in value and "\\" not in value,
    "tensorrt": lambda value: _is_text(value) and _VERSION.fullmatch(value) is not None,
    "cuda": _is_text,
    "gpu_name": _is_text,
    "compute_capability": _is_capability,
    "precision": lambda value: value in PRECISIONS,
    "strongly_typed": lambda value: isinstance(value, bool),
    "profile": _is_profile,
    "hardware_compatibility": lambda value: value in HARDWARE_COMPATIBILITIES,
    "version_compatible": lambda value: isinstance(value, bool),
    "settings": lambda value: isinstance(value, dict),
    "parity": lambda value: isinstance(value, dict),
    "hrnet_deploy": lambda value: isinstance(value, str),
}


def manifest_path(plan: Subject) -> Path:
    """``w32.plan`` -> ``w32.plan.json``."""
    plan = Path(plan)
    return plan.with_name(plan.name + SUFFIX)


def write_manifest(plan: Subject, manifest: PlanFacts) -> None:
    """Write the manifest beside ``plan``, atomically."""
    write_json(manifest_path(plan), manifest.to_dict())


def read_manifest(plan: Subject) -> Manifest:
    """The manifest beside ``plan``; InputError where it is missing or not whole."""
    return Manifest.from_dict(manifest_json(plan), source=manifest_path(plan))


def manifest_json(plan: Subject) -> Any:
    """What the file beside ``plan`` holds; InputError where there is none."""
    path = manifest_path(plan)
    if not path.exists():
        raise InputError(
            plan,
            f"has no manifest ({path.name}), so that nothing says what it is",
            f"Copy {path.name} beside it, or build it again: "
            + command_line("build", "MODEL.onnx", "-o", Path(plan).name, "--force"),
        )
    return read_json(path, what="manifest")


def check_machine(plan: Subject, manifest: PlanFacts, machine: Machine) -> None:
    """Refuse a plan that was built for another GPU or another TensorRT (EnvironmentFault)."""
    if _gpu_fits(manifest, machine) and _tensorrt_fits(manifest, machine):
        return
    capability = _dotted(machine.compute_capability)
    raise EnvironmentFault(
        plan,
        f"built for {manifest.built_for()}; this is {machine.gpu_name} ({capability}), "
        f"TensorRT {machine.tensorrt}",
        f"Run: {manifest.rebuild_command(plan)}",
    )


def read_checked_plan(plan: Subject, manifest: PlanFacts) -> bytes:
    """The plan's bytes, if their hash is the manifest's; a damaged plan is never returned."""
    content = check_input_file(plan, what="plan").read_bytes()
    if sha256_bytes(content) != manifest.plan_sha256:
        raise InputError(
            plan,
            f"does not match its manifest (sha256 {sha256_bytes(content)[:12]}..., expected "
            f"{manifest.plan_sha256[:12]}...): it is damaged, or belongs to another model",
            f"Copy plan and manifest again, or run: {manifest.rebuild_command(plan)}",
        )
    return content


def _gpu_fits(manifest: PlanFacts, machine: Machine) -> bool:
    """The same compute capability, or what the plan's compatibility level promises."""
    if manifest.hardware_compatibility == "ampere_plus":
        return machine.compute_capability >= AMPERE
    return machine.compute_capability == manifest.compute_capability


def _tensorrt_fits(manifest: PlanFacts, machine: Machine) -> bool:
    """The same version; a version-compatible plan runs on every one of its major version."""
    if manifest.version_compatible:
        return machine.tensorrt.split(".")[0] == manifest.tensorrt.split(".")[0]
    return machine.tensorrt == manifest.tensorrt


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def invalid(source: Subject, problem: str) -> InputError:
    """The error of a manifest that is not whole."""
    return InputError(source, f"the manifest {problem}", "Build the plan again")
