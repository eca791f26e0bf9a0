"""What is measured: each artefact in every way that this machine can run it."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from hrnet_deploy.benchmark.cost import Cost, graph_cost
from hrnet_deploy.engines import Engine
from hrnet_deploy.engines.manifest import read_manifest
from hrnet_deploy.engines.signature import carried_spec, read_engine_file
from hrnet_deploy.errors import EnvironmentFault, InputError, require
from hrnet_deploy.files import check_input_file
from hrnet_deploy.runtime.engine_options import EngineOptions
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

ENGINES = (".onnx", ".plan")
CHECKPOINTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Way(EngineOptions):
    """How one artefact is run; ``backend`` "torch" is PyTorch, eager, with the official decode."""

    path: Path = field(kw_only=True)


@dataclass(frozen=True)
class Contender:
    """A loaded artefact; ``cost`` is None where it is unknown."""

    name: str
    way: Way
    engine: Engine
    cost: Cost | None


def ways(
    paths: Sequence[Path],
    backends: Sequence[str],
    precisions: Sequence[str],
    *,
    device: str | None,
    threads: int | None,
    flips: Sequence[str] = (),
    flip_threshold: float | None = None,
) -> list[Way]:
    """Every combination that makes sense, in the order of ``paths``.

    Without backends an ONNX file is run on the CPU by ONNX Runtime and, where it is installed and
    the processor can, by OpenVINO: a float32 file as it is and in bfloat16, an int8 file as it is.
    Each engine is run with those of ``flips`` that it can give, by default as it is. Raises
    InputError for a missing file, an unknown type, one that is given twice, and an engine that can
    give none of ``flips``.
    """
    found = []
    for path in paths:
        check_input_file(path, what="engine or checkpoint")
        combinations = _combinations(path, backends, precisions, device)
        is_engine = path.suffix.lower() in ENGINES
        modes = _flips(path, flips) if flips and is_engine else (None,)
        found += [
            Way(
                device,
                threads,
                backend,
                precision,
                flip,
                flip_threshold if flip == "adaptive" else None,
                path=path,
            )
            for backend, precision in combinations
            for flip in modes
        ]
    if len(set(found)) < len(found):
        twice = next(way.path for way in found if found.count(way) > 1)
        raise InputError(twice, "is given twice", "Give each artefact once")
    return found


def _combinations(
    path: Path, backends: Sequence[str], precisions: Sequence[str], device: str | None
) -> list[tuple[str | None, str]]:
    """Backend and precision of every way to run a file; InputError for one of unknown kind."""
    suffix = path.suffix.lower()
    if suffix in CHECKPOINTS:
        return [("torch", "exact")]
    if suffix == ".plan":
        return [("tensorrt", "exact")]
    if suffix != ".onnx":
        fix = f"Give {', '.join((*ENGINES, *CHECKPOINTS))} files"
        raise InputError(path, f"has the unknown extension '{suffix}'", fix)
    if backends or precisions:
        return _asked_for(backends, precisions)
    return _everything(path, device)


def _asked_for(backends: Sequence[str], precisions: Sequence[str]) -> list[tuple[str | None, str]]:
    """Every pair but that of ONNX Runtime with bfloat16; InputError where no other is left."""
    pairs = [
        (backend, precision)
        for backend in backends or (None,)
        for precision in precisions or ("exact",)
        if (backend, precision) != ("onnxruntime", "bf16")
    ]
    if not pairs:
        problem = "is bf16, ONNX Runtime computes in the file's own"
        raise InputError("precision", problem, "Ask for the backend openvino, or for exact, too")
    return pairs


def _flips(path: Path, flips: Sequence[str]) -> list[str]:
    """Those of ``flips`` that an engine file can give."""
    spec = read_manifest(path).spec if path.suffix.lower() == ".plan" else read_engine_file(path)[1]
    can = ("exact",) if spec.flip_test else ("adaptive", "off")
    modes = [flip for flip in flips if flip in can]
    if not modes:
        has, flag = ("a", "--no-flip") if spec.flip_test else ("no", "--flip")
        problem = f"has {has} flip-test in its graph, {', '.join(flips)} was asked for"
        raise InputError(path, problem, f"Export it with {flag}, or ask for {' or '.join(can)} too")
    return modes


def _everything(path: Path, device: str | None) -> list[tuple[str | None, str]]:
    combinations: list[tuple[str | None, str]] = [("onnxruntime", "exact")]
    on_cpu = device in (None, "cpu")
    if not on_cpu or not importlib.util.find_spec("openvino"):
        return combinations
    from hrnet_deploy.engines.openvino_model import native_precisions

    ov = require("openvino", extra="openvino", purpose="benchmark")
    typed, native = read_engine_file(path)[1].precision, native_precisions(ov)
    if typed in native and typed != "fp16":
        combinations.append(("openvino", "exact"))
    if typed == "fp32" and "bf16" in native:
        combinations.append(("openvino", "bf16"))
    return combinations


def open_contenders(all_ways: Sequence[Way], stack: ExitStack, *, say: Say) -> list[Contender]:
    """Load every way; ``stack`` closes them. A checkpoint does what the first engine's spec says.

    A device that would not be the one asked for is an EnvironmentFault.
    """
    spec = first_spec(all_ways)
    engines = [stack.enter_context(open_way(way, spec)) for way in all_ways]
    contenders: list[Contender] = []
    for way, engine in zip(all_ways, engines, strict=True):
        cost = _cost(way, engine.spec, [other.path for other in all_ways], say)
        contenders.append(Contender(_name(way, engine), way, engine, cost))
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise InputError(name, "is measured twice", "Give files of different names")
    return contenders


def open_way(way: Way, spec: ModelSpec | None) -> Engine:
    """The engine of one way; ``spec`` says what a checkpoint has to do, None its defaults."""
    if way.backend == "torch":
        return _torch(way, spec)
    return way.open(way.path)


def first_spec(all_ways: Sequence[Way]) -> ModelSpec | None:
    """What the first engine file says that it does; None without one."""
    specs = (carried_spec(way.path) for way in all_ways)
    return next((spec for spec in specs if spec is not None), None)


def _torch(way: Way, spec: ModelSpec | None) -> Engine:
    from hrnet_deploy.errors import require

    torch = require("torch", extra="export", purpose=f"running {way.path.name}")
    from hrnet_deploy.engines.cpu import physical_cores
    from hrnet_deploy.export.checkpoint import read_checkpoint
    from hrnet_deploy.export.run import checkpoint_spec, reference_engine
    from hrnet_deploy.export.settings import ExportSettings

    checkpoint = read_checkpoint(way.path)
    if spec is None:
        spec = checkpoint_spec(checkpoint, ExportSettings(), say=lambda line: None)
    torch.set_num_threads(way.threads or physical_cores())
    own = dataclasses.replace(spec, source_sha256=checkpoint.sha256)
    return reference_engine(checkpoint, own, device=way.device or "cpu")


def _name(way: Way, engine: Engine) -> str:
    info = engine.info
    device = "" if info.device == "cpu" else f" {info.device}"
    flip = " adaptive" if way.flip == "adaptive" else ""
    return f"{way.path.name} {info.backend} {info.precision}{flip}{device}"


def _cost(way: Way, spec: ModelSpec, paths: list[Path], say: Say) -> Cost | None:
    """Counted in the file itself, or in an ONNX file of the same checkpoint.

    None for an adaptive flip-test, whose work depends on the persons.
    """
    if way.flip == "adaptive":
        return None
    candidates = [way.path] if way.path.suffix.lower() == ".onnx" else paths
    for path in candidates:
        if path.suffix.lower() != ".onnx":
            continue
        content, other = read_engine_file(path)
        same = other.source_sha256 == spec.source_sha256 and other.flip_test == spec.flip_test
        if path == way.path or same:
            try:
                cost, reason = graph_cost(content), "the graph does not tell all shapes"
            except EnvironmentFault as error:
                cost, reason = None, error.problem
            if cost is None:
                say(f"{path}: operations are not counted ({reason})")
            return cost
    return None
