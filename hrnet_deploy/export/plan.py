"""From an ONNX file to a TensorRT plan whose parity was proven before it appeared."""

from __future__ import annotations

import dataclasses
import importlib.util
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy import __version__
from hrnet_deploy.engines import EngineOutput, load_engine
from hrnet_deploy.engines.build import BuiltPlan, check_fp8
from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.cuda.probe import probe
from hrnet_deploy.engines.manifest import BatchProfile, Manifest, manifest_path, write_manifest
from hrnet_deploy.engines.onnx_file import read_onnx_file, spec_of
from hrnet_deploy.engines.tensorrt import TensorRTEngine, open_plan
from hrnet_deploy.engines.timing_cache import timing_cache_path
from hrnet_deploy.engines.trt_module import TensorRT, load_tensorrt
from hrnet_deploy.errors import EnvironmentFault, GateError, InputError
from hrnet_deploy.export.building import build_logged
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.export.parity import ParityReport, compare, run_all
from hrnet_deploy.files import (
    check_input_file,
    check_output_file,
    sha256_bytes,
    write_bytes,
)
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

DISTINCT_CROPS = 16
"""The reference runs on so many crops; larger batches repeat them in another order."""

SHUFFLE = 7
"""Coprime to ``DISTINCT_CROPS``: neighbours in a batch are never the same crop."""


@dataclass(frozen=True)
class PlanRequest:
    """What to build and where. ``device`` is the number of the GPU.

    ``timing_cache`` is None for a file beside the plan, ``use_timing_cache=False`` for none;
    ``layers`` is where the inspector's report goes.
    """

    onnx: Path
    output: Path
    settings: BuildSettings
    device: int = 0
    force: bool = False
    keep_rejected: bool = False
    timing_cache: Path | None = None
    use_timing_cache: bool = True
    layers: Path | None = None

    def timing_cache_of(self, tensorrt: TensorRT) -> Path | None:
        """The file of the timing cache on the machine at hand; None for none."""
        if not self.use_timing_cache:
            return None
        return self.timing_cache or timing_cache_path(
            self.output.parent, tensorrt.gpu, tensorrt.version
        )

    def rejected(self, content: bytes) -> str:
        """Keep a plan that failed where that was asked for; words for the error on where it is."""
        if not self.keep_rejected:
            return ""
        path = self.output.with_suffix(".rejected.plan")
        write_bytes(path, content)
        return f"; kept as {path}"


@dataclass(frozen=True)
class PlanReport:
    """A written plan, its manifest, and the parity at each batch of its profile."""

    path: Path
    manifest: Manifest
    parity: dict[int, ParityReport]


def default_output(onnx: Path) -> Path:
    """``w32.fp16.onnx`` and ``w32.onnx`` -> ``w32.plan``."""
    name = onnx.name.removesuffix(".onnx").removesuffix(".fp16")
    return onnx.with_name(f"{name}.plan")


def plan_target(half: Path, *, wanted: bool | None, force: bool) -> Path | None:
    """Where ``export`` puts the plan of the fp16 file ``half``, None where it builds none.

    ``wanted`` None means: where this machine can. An existing plan is refused without ``force``.
    """
    if wanted is False or (wanted is None and not can_build()):
        return None
    if wanted:
        load_tensorrt(0, subject="--plan")  # says what is missing before the export
    return check_output_file(default_output(half), force=force, inputs=(half,))


def can_build() -> bool:
    """Whether there is a GPU, TensorRT and what reaches them; nothing is imported."""
    modules = ("tensorrt", "cuda")
    return probe().problem is None and all(importlib.util.find_spec(name) for name in modules)


def build_beside(half: Path, target: Path, *, wanted: bool | None, say: Say) -> None:
    """Build the plan of a file just exported; where nobody asked for it a fault is only said."""
    try:
        make_plan(PlanRequest(half, target, BuildSettings(), force=True), say=say)
    except (EnvironmentFault, InputError, GateError) as fault:
        if wanted:
            raise
        say(f"warning: no plan was built: {fault}")


def make_plan(request: PlanRequest, *, say: Say) -> PlanReport:
    """Build the plan, compare it with the ONNX file, and write both it and its manifest.

    Raises InputError for bad files and settings before TensorRT is touched, EnvironmentFault
    where the machine cannot build, GateError where parity fails: no plan is written then, or with
    ``keep_rejected`` a ``.rejected.plan``. What the builder learnt goes to the timing cache as
    soon as there is a plan, and the layers to ``layers`` once it was compared, whether the parity
    holds or not.
    """
    content, spec, opset = _read_source(request)
    settings = fitted(request.settings, spec)
    tensorrt = load_tensorrt(request.device, subject=f"building {request.output.name}")
    check_fp8(spec, tensorrt.gpu, subject=request.onnx)
    cache = request.timing_cache_of(tensorrt)
    onnx = (request.onnx, content, opset)
    built = build_logged(tensorrt, onnx, request.output, spec, settings, cache=cache, say=say)
    facts = plan_facts(request.onnx, content, built, tensorrt, settings)
    manifest = Manifest(spec=spec, precision=spec.precision, **facts)
    say(
        f"proving {request.output} at the batches {', '.join(map(str, _batches(manifest.profile)))}"
    )
    with closing(open_plan(built.content, request.output, manifest, tensorrt)) as engine:
        reports = _prove(engine, request.onnx, manifest)
        if request.layers is not None:
            write_bytes(request.layers, engine.layer_report().encode())
    _judge(request, built, reports)
    manifest = dataclasses.replace(manifest, parity=_figures(reports))
    write_bytes(request.output, built.content)
    write_manifest(request.output, manifest)
    return PlanReport(request.output, manifest, reports)


def fitted(settings: BuildSettings, spec: ModelSpec) -> BuildSettings:
    """A static graph has one batch size; asking for another one is refused."""
    if spec.static_batch is None:
        return settings
    batch = spec.static_batch
    default = BuildSettings()
    if settings.profile not in (default.profile, BatchProfile(batch, batch, batch)):
        raise InputError(
            "batch profile",
            f"asks for {settings.min_batch} to {settings.max_batch}, the file has the static "
            f"batch {batch}",
            "Leave the batch flags away, or export without --batch",
        )
    return dataclasses.replace(settings, min_batch=batch, opt_batch=batch, max_batch=batch)


def _read_source(request: PlanRequest) -> tuple[bytes, ModelSpec, int]:
    """Every check that needs no GPU."""
    path = check_input_file(request.onnx, what=".onnx file")
    if path.suffix.lower() != ".onnx":
        raise InputError(path, "is no .onnx file", "Make one: hrnet-deploy export CHECKPOINT")
    if request.output.suffix.lower() != ".plan":
        raise InputError(request.output, "does not end in .plan", "Give a name that does")
    for output in (request.output, manifest_path(request.output), request.layers):
        if output is not None:
            check_output_file(output, force=request.force, inputs=(path,))
    content = path.read_bytes()
    file = read_onnx_file(content, path)
    return content, spec_of(file, path), file.opset


def plan_facts(
    onnx: Path, content: bytes, built: BuiltPlan, tensorrt: TensorRT, settings: BuildSettings
) -> dict[str, Any]:
    """The ``PlanFacts`` of a plan just built of ``content``, but for precision and parity."""
    return {
        "plan_sha256": sha256_bytes(built.content),
        "onnx_sha256": sha256_bytes(content),
        "onnx_name": onnx.name,
        "tensorrt": tensorrt.version,
        "cuda": probe().cuda_version or "unknown",
        "gpu_name": tensorrt.gpu.name,
        "compute_capability": tensorrt.gpu.compute_capability,
        "strongly_typed": built.strongly_typed,
        "profile": settings.profile,
        "hardware_compatibility": settings.hardware_compatibility,
        "version_compatible": settings.version_compatible,
        "settings": dataclasses.asdict(settings),
        "hrnet_deploy": __version__,
    }


def _batches(profile: BatchProfile) -> list[int]:
    return sorted({profile.min, profile.opt, profile.max})


def _prove(engine: TensorRTEngine, onnx: Path, manifest: Manifest) -> dict[int, ParityReport]:
    """Compare the plan with its ONNX file on the CPU, at each batch of the profile."""
    crops = seeded_crops(manifest.spec.input_size_hw, DISTINCT_CROPS)
    reports = {}
    with load_engine(onnx, device="cpu") as reference:
        distinct = run_all(reference, crops)
        for batch in _batches(manifest.profile):
            order = np.arange(batch) * SHUFFLE % DISTINCT_CROPS
            expected = _taken(distinct, order)
            reports[batch] = compare(reference, engine, crops[order], expected=expected)
    return reports


def _taken(output: EngineOutput, rows: NDArray[np.intp]) -> EngineOutput:
    maps = output.heatmaps_nkhw
    return EngineOutput(
        output.keypoints_heatmap[rows], output.scores[rows], None if maps is None else maps[rows]
    )


def _judge(request: PlanRequest, built: BuiltPlan, reports: dict[int, ParityReport]) -> None:
    failed = {batch: report for batch, report in reports.items() if not report.passed}
    if not failed:
        return
    kept = request.rejected(built.content)
    batch, report = next(iter(failed.items()))
    raise GateError(
        request.output,
        f"parity with {request.onnx.name} failed at batch {batch}, {'; '.join(report.failures)}"
        f"; worst {report.worst}{kept}",
        "The plan was not written; try another --level, or build the fp32 file",
    )


def _figures(reports: dict[int, ParityReport]) -> dict[str, Any]:
    """The parity of each batch, by its number as text."""
    return {str(batch): dataclasses.asdict(report) for batch, report in reports.items()}
