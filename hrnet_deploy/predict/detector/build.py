"""A TensorRT plan of a detector, compared with its ONNX file before it appears."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrnet_deploy.engines.build_settings import BuildSettings
from hrnet_deploy.engines.manifest import manifest_path, write_manifest
from hrnet_deploy.engines.trt_module import load_tensorrt
from hrnet_deploy.errors import GateError, InputError
from hrnet_deploy.export.building import build_logged
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.export.plan import PlanRequest, plan_facts
from hrnet_deploy.files import check_output_file, write_bytes
from hrnet_deploy.predict.detector.candidates import Candidates, Shape, Signature
from hrnet_deploy.predict.detector.config import DetectorConfig
from hrnet_deploy.predict.detector.network import FREE_BATCH, DetectorNetwork, configuration
from hrnet_deploy.predict.detector.onnxruntime import OnnxRuntimeSession
from hrnet_deploy.predict.detector.session import DetectorSession, read_detector
from hrnet_deploy.predict.detector.tensorrt import (
    DetectorManifest,
    PlanSession,
    signature_facts,
)
from hrnet_deploy.talk import Say

SCORE_TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2}
EDGE_TOLERANCE_PX = {"fp32": 0.5, "fp16": 4.0}
"""By how much scores, and edges in pixels of the input, may differ from ONNX Runtime's."""
COUNTED_SCORE = 0.05
"""Boxes below it are as good as none: only their scores are compared."""


@dataclass(frozen=True)
class _Network:
    """What the builder must know."""

    precision: str
    input_shapes: Mapping[str, Shape]


def detector_settings(settings: BuildSettings, asked: bool) -> BuildSettings:
    """Batches of up to eight pictures unless batches were ``asked`` for."""
    if asked:
        return settings
    return dataclasses.replace(settings, min_batch=1, opt_batch=FREE_BATCH, max_batch=FREE_BATCH)


def make_detector_plan(
    request: PlanRequest, config_path: Path | None, *, say: Say
) -> DetectorManifest:
    """Build the plan, compare its boxes with ONNX Runtime's, and write it with its manifest.

    ``config_path`` is the TOML file that ``predict`` takes as ``--detector-config``.
    Raises InputError for a file that is no detector or leaves more than the batch open,
    EnvironmentFault where the machine cannot build, GateError where the boxes differ: nothing is
    written then.
    """
    if request.layers is not None:
        raise InputError("--layers", "is for pose engines", "Leave it out")
    if request.output.suffix.lower() != ".plan":
        raise InputError(request.output, "does not end in .plan", "Give a name that does")
    for output in (request.output, manifest_path(request.output)):
        check_output_file(output, force=request.force, inputs=(request.onnx,))
    content, file = read_detector(request.onnx)
    reference = OnnxRuntimeSession(request.onnx, device="cpu", threads=None)
    config = configuration(request.onnx, reference.signature, config_path)
    signature = _closed(reference.signature, config, request.onnx)
    settings = _fitted(request.settings, signature)
    tensorrt = load_tensorrt(request.device, subject=f"building {request.output.name}")
    half = any(kind == "tensor(float16)" for kind, _ in signature.inputs.values())
    network = _Network(
        "fp16" if half else "fp32", {n: shape for n, (_, shape) in signature.inputs.items()}
    )
    cache = request.timing_cache_of(tensorrt)
    onnx = (request.onnx, content, file.opset)
    built = build_logged(tensorrt, onnx, request.output, network, settings, cache=cache, say=say)
    manifest = DetectorManifest(
        detector=signature_facts(signature),
        precision=network.precision,
        **plan_facts(request.onnx, content, built, tensorrt, settings),
    )
    say(f"proving {request.output}")
    with closing(PlanSession(tensorrt, built.content, request.output, manifest)) as session:
        parity = _prove(session, reference, config, manifest)
    manifest = dataclasses.replace(manifest, parity=parity)
    _judge(request, manifest, built.content)
    write_bytes(request.output, built.content)
    write_manifest(request.output, manifest)
    return manifest


def _closed(signature: Signature, config: DetectorConfig, path: Path) -> Signature:
    """The signature with the sides of the picture filled in; only the batch may stay open."""
    inputs = {}
    for name, (kind, shape) in signature.inputs.items():
        sides = list(shape)
        if name == signature.image and None in signature.size_hw:
            if config.size_hw is None:
                fix = "Say one: size_hw = [640, 640] in --detector-config FILE.toml"
                raise InputError(path, "takes pictures of any size, a plan only one", fix)
            first = len(sides) - 3 + (0 if signature.channels_last else 1)
            sides[first : first + 2] = config.size_hw
        if None in sides[1:]:
            raise InputError(path, f"leaves {name} {shape} open", "Export it with fixed sides")
        inputs[name] = (kind, tuple(sides))
    if signature.batch is not None and any(None in shape for _, shape in inputs.values()):
        inputs = {n: (kind, (1, *shape[1:])) for n, (kind, shape) in inputs.items()}
    return Signature(inputs, signature.outputs)


def _fitted(settings: BuildSettings, signature: Signature) -> BuildSettings:
    """A graph of a fixed batch has that one only."""
    fixed = signature.batch
    if fixed is None:
        return settings
    return dataclasses.replace(settings, min_batch=fixed, opt_batch=fixed, max_batch=fixed)


def _prove(
    session: DetectorSession,
    reference: DetectorSession,
    config: DetectorConfig,
    manifest: DetectorManifest,
) -> dict[str, dict[str, float]]:
    """The largest differences of scores and edges, and of how many boxes, at each batch."""
    profile = manifest.profile
    height, width = session.signature.size_hw
    parity = {}
    for batch in sorted({profile.min, profile.opt, profile.max}):
        pictures = list(seeded_crops((height or 0, width or 0), batch))
        one = dataclasses.replace(config, batch=batch)
        own = DetectorNetwork(session, one).candidates(pictures)
        theirs = DetectorNetwork(reference, config).candidates(pictures)
        found = [_difference(a, b) for a, b in zip(own, theirs, strict=True)]
        parity[str(batch)] = {
            "scores": max(score for score, _, _ in found),
            "edges_px": max(edge for _, edge, _ in found),
            "boxes": sum(boxes for _, _, boxes in found),
        }
    return parity


def _difference(own: Candidates, theirs: Candidates) -> tuple[float, float, int]:
    """Largest difference of ranked scores and of edges of the boxes that count, and their number.

    Boxes are looked for by their edges, since a graph that ranks them may swap equals.
    """
    count = max(len(own.scores), len(theirs.scores))
    ranked = [np.zeros(count), np.zeros(count)]
    for row, candidates in zip(ranked, (own, theirs), strict=True):
        row[: len(candidates.scores)] = np.sort(candidates.scores)[::-1]
    scores = float(np.abs(ranked[0] - ranked[1]).max(initial=0.0))
    counted = theirs.xyxy[theirs.scores >= COUNTED_SCORE]
    edges = [float(np.abs(own.xyxy - box).max(axis=1).min(initial=np.inf)) for box in counted]
    return scores, max(edges, default=0.0), len(edges)


def _judge(request: PlanRequest, manifest: DetectorManifest, content: bytes) -> None:
    for batch, figures in manifest.parity.items():
        limits = {
            "scores": SCORE_TOLERANCE[manifest.precision],
            "edges_px": EDGE_TOLERANCE_PX[manifest.precision],
        }
        for name, limit in limits.items():
            if not figures[name] <= limit:
                problem = f"differs from {request.onnx.name} at batch {batch}"
                problem = f"{problem}: {name} by {figures[name]:.3g}, allowed {limit:g}"
                fix = "The plan was not written; try another --level"
                raise GateError(request.output, problem + request.rejected(content), fix)
