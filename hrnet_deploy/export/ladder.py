"""The AP ladder: one checkpoint in every form that is at hand, with what each step costs.

PyTorch, ONNX in both precisions and finished engines are evaluated on the same pictures, with and
without flip-test and in both kinds of boxes. Differences come with paired bootstrap intervals:
the pictures are drawn again, the same ones on both sides.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.metric import Stats
from hrnet_deploy.evaluation.plan import EvalPlan, prepare
from hrnet_deploy.evaluation.resample import (
    Interval,
    draws_of,
    interval_of,
    picture_matches,
    resampled_ap,
)
from hrnet_deploy.evaluation.result import EvalResult, measure
from hrnet_deploy.evaluation.run import Progress, StopSignal, infer
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.export.checkpoint import read_checkpoint
from hrnet_deploy.export.model import build_hrnet
from hrnet_deploy.export.promise import with_precision
from hrnet_deploy.export.run import checkpoint_spec, reference_engine
from hrnet_deploy.export.settings import ExportSettings, Precision
from hrnet_deploy.files import check_input_file, write_scratch
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say

REFERENCE = "PyTorch"
BESIDE = (".int8.onnx", ".int8.fp16.onnx", ".fp8.onnx", ".plan", ".fp16.plan", ".int8.plan")
"""Finished engines of these names beside the checkpoint are rungs too."""


@dataclass(frozen=True)
class LadderJob:
    """What is climbed: a checkpoint, data with its boxes, and more engines of the same network."""

    checkpoint: Path
    annotations: Path
    images: Path
    boxes: Path | None = None
    engines: tuple[Path, ...] = ()
    device: str | None = None
    threads: int | None = None
    seed: int = 0
    settings: EvalSettings = field(default_factory=EvalSettings)


@dataclass(frozen=True)
class Rung:
    """One row: figures, the interval of AP, and AP minus PyTorch's and minus that without flip.

    The differences are of the same boxes and pictures; None for what they are measured from, and
    where other pictures had to be left out.
    """

    name: str
    flip_test: bool
    boxes: str
    stats: Stats
    label: str
    ap: Interval
    to_reference: Interval | None
    flip_gain: Interval | None

    def as_json(self) -> dict[str, Any]:
        """The row for machines."""
        return {
            "name": self.name,
            "flip_test": self.flip_test,
            "boxes": self.boxes,
            **self.stats,
            "label": self.label,
            "ap": self.ap.as_json(),
            "to_reference": self.to_reference and self.to_reference.as_json(),
            "flip_gain": self.flip_gain and self.flip_gain.as_json(),
        }


def climb(
    job: LadderJob,
    *,
    say: Say,
    progress: Progress | None = None,
    stop: StopSignal = lambda: None,
) -> list[Rung]:
    """All rows, those of one kind of boxes and flip-test together, PyTorch first.

    Raises InputError for what ``prepare`` refuses and for engines of other keypoints.
    """
    found: dict[tuple[str, bool, str], Figures] = {}
    kinds = {"ground truth": None} | ({"detector": job.boxes} if job.boxes else {})
    with tempfile.TemporaryDirectory(prefix="hrnet-deploy-ladder-") as folder:
        for name, opened in _engines(job, Path(folder), say):
            with opened() as engine:
                flip = engine.spec.flip_test
                for boxes, path in kinds.items():
                    say(f"{name}, {'' if flip else 'no '}flip-test, {boxes} boxes")
                    plan = prepare(
                        engine, job.annotations, job.images, boxes=path, settings=job.settings
                    )
                    result = measure(plan, infer(plan, None, progress=progress, stop=stop))
                    found[name, flip, boxes] = (result, _resampled(plan, result, seed=job.seed))
    return _rungs(found)


Figures = tuple[EvalResult, NDArray[np.float64]]
"""A result, and AP of the drawings of its pictures: those of all that were made from as many."""


def _resampled(plan: EvalPlan, result: EvalResult, *, seed: int) -> NDArray[np.float64]:
    left_out = _left_out(result)
    image_ids = [image.id for image in plan.images if image.id not in left_out]
    matching = plan.matching(result.detections, image_ids)
    return resampled_ap(picture_matches(matching), draws_of(len(image_ids), seed=seed))


def _left_out(result: EvalResult) -> set[int]:
    return {image.image_id for image in result.skipped}


def _rungs(found: dict[tuple[str, bool, str], Figures]) -> list[Rung]:
    rungs = []
    for (name, flip, boxes), own in found.items():
        result, values = own
        reference = None if name == REFERENCE else found.get((REFERENCE, flip, boxes))
        plain = found.get((name, False, boxes)) if flip else None
        rungs.append(
            Rung(
                name=name,
                flip_test=flip,
                boxes=boxes,
                stats=result.stats,
                label=result.label,
                ap=interval_of(values),
                to_reference=_minus(own, reference),
                flip_gain=_minus(own, plain),
            )
        )
    order = {name: place for place, name in enumerate(dict.fromkeys(key[0] for key in found))}
    return sorted(rungs, key=lambda r: (r.boxes != "ground truth", not r.flip_test, order[r.name]))


def _minus(own: Figures, other: Figures | None) -> Interval | None:
    """AP minus that of ``other``; None without one, and where other pictures were left out."""
    if other is None or _left_out(own[0]) != _left_out(other[0]):
        return None
    return interval_of(own[1] - other[1])


Opened = Callable[[], Any]
"""Gives a context manager of an engine."""


def _engines(job: LadderJob, folder: Path, say: Say) -> Iterator[tuple[str, Opened]]:
    """Every form of the network, one after the other; files in ``folder`` are passing."""
    more = [check_input_file(path, what="engine (.onnx or .plan)") for path in job.engines]
    checkpoint = read_checkpoint(check_input_file(job.checkpoint, what="checkpoint"))
    base = checkpoint_spec(checkpoint, ExportSettings(), say=say)
    specs = [
        dataclasses.replace(base, flip_test=flip)
        for flip in (True, False)
        if not flip or base.flip_pairs
    ]
    for spec in specs:
        yield REFERENCE, functools.partial(reference_engine, checkpoint, spec)
    weights = checkpoint.arrays
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        for spec in specs:
            typed = with_precision(spec, precision)
            model = build_hrnet(typed, checkpoint.architecture, weights, source=job.checkpoint)
            path = folder / f"{precision}.{'flip' if spec.flip_test else 'plain'}.onnx"
            write_scratch(path, model.SerializeToString(deterministic=True))
            del model
            yield f"ONNX {precision}", functools.partial(load_engine, path, threads=job.threads)
    for path in dict.fromkeys([*more, *_beside(job.checkpoint)]):
        yield path.name, functools.partial(_finished, path, base, job, say)


def _beside(checkpoint: Path) -> list[Path]:
    names = [checkpoint.with_name(checkpoint.stem + suffix) for suffix in BESIDE]
    return [path for path in names if path.is_file()]


@contextmanager
def _finished(path: Path, spec: ModelSpec, job: LadderJob, say: Say) -> Iterator[Engine]:
    """A finished engine file of the same network."""
    with load_engine(path, device=job.device, threads=job.threads) as engine:
        if engine.spec.keypoint_names != spec.keypoint_names:
            problem = f"gives other keypoints ({engine.spec.keypoint_set}) than the checkpoint"
            raise InputError(path, problem, "Give engines of one network")
        if engine.spec.source_sha256 != spec.source_sha256:
            say(f"{path}: was exported from another file than {job.checkpoint} (another sha256)")
        yield engine
