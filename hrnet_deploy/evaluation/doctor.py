"""The AP doctor: why a measured AP is not the expected one, by undoing one cause after the other.

Every cause that can be undone from outside the engine is undone on a seeded sample, and the AP of
the same pictures compared. What stands inside the engine (flip-test, shift, pairs, input size) is
tried on the bare network where that can be taken out of the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine
from hrnet_deploy.evaluation.boxes import ground_truth_boxes
from hrnet_deploy.evaluation.files_seen import FilesSeen, look_at_files
from hrnet_deploy.evaluation.findings import Finding, judged, ranked
from hrnet_deploy.evaluation.heatmaps import RawHeatmaps, Treatment
from hrnet_deploy.evaluation.resample import (
    Interval,
    Matches,
    average_precision,
    draws_of,
    interval_of,
    resampled_ap,
    resampled_similarity,
)
from hrnet_deploy.evaluation.run import EvalPlan
from hrnet_deploy.evaluation.sample import Sample, cut_crops, draw_sample, matches_for

SAMPLE_PERSONS = 200
TIME_LIMIT_S = 120.0
MEMORY_FOR_HEATMAPS = 1 << 30
FEWEST_PERSONS = 30
RUNS = 12
"""About so many runs over the sample are wanted, the larger input sizes counted in."""

BareNetwork = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Raw heatmaps of crops of any size (N, h, w, 3) that are a multiple of 32."""


@dataclass(frozen=True)
class DoctorSettings:
    """How much is looked at: persons of the sample, seconds, and the seed of the choice."""

    persons: int = SAMPLE_PERSONS
    seconds: float = TIME_LIMIT_S
    seed: int = 0


@dataclass(frozen=True)
class Explanation:
    """What was expected, what was measured, and the causes, the most likely first.

    ``sample_ap`` is the AP of the sample as the engine is, with its interval; ``worth`` is what a
    step takes away on this sample where it is left out (nothing is wrong with it here).
    """

    expected: float | None
    expected_from: str
    measured: float | None
    measured_from: str
    sample_images: int
    sample_persons: int
    sample_ap: Interval
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The content of the JSON output; no time and no path."""
        return {
            "kind": "hrnet-deploy explanation",
            "schema": 1,
            "expected": self.expected,
            "expected_from": self.expected_from,
            "measured": self.measured,
            "measured_from": self.measured_from,
            "sample": {
                "images": self.sample_images,
                "persons": self.sample_persons,
                "ap": self.sample_ap.as_json(),
            },
            "findings": [finding.as_json() for finding in self.findings],
            "notes": self.notes,
        }


@dataclass
class Case:
    """One patient: the plan of its evaluation, the sample, and what was found in it as it is."""

    plan: EvalPlan
    sample: Sample
    files: FilesSeen
    crops: NDArray[np.uint8]
    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    base: Matches
    drawn: NDArray[np.float64]
    network: BareNetwork | None
    any_size: bool
    expected_boxes: str | None
    expected_images: int | None
    raw: RawHeatmaps | None
    deadline: float

    @property
    def engine(self) -> Engine:
        """The engine under examination."""
        return self.plan.engine

    @property
    def treatment(self) -> Treatment:
        """What the engine does with its heatmaps."""
        return Treatment.of(self.engine.spec)

    def in_time(self) -> bool:
        """Whether there is time for another inference."""
        return time.perf_counter() < self.deadline

    def poses(self, keypoints_heatmap: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keypoints of the sample's crops, moved into their pictures."""
        spec = self.engine.spec
        return self.sample.plan.geometry.to_image(keypoints_heatmap, spec.heatmap_size_wh)

    def treated(self, treatment: Treatment) -> Matches | None:
        """The sample with its raw heatmaps treated otherwise; None where there are none."""
        if self.raw is None:
            return None
        keypoints, scores = self.raw.decoded(treatment)
        return matches_for(self.sample.plan, self.poses(keypoints), scores)

    def rerun(self, plan: EvalPlan, crops: NDArray[np.uint8]) -> Matches:
        """The sample with other crops in the engine as it is."""
        output = self.engine.run(crops)
        spec = self.engine.spec
        points = plan.geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh)
        return matches_for(plan, points, output.scores)

    def judge(self, cause: str, tried: str, other: Matches, remedy: str) -> Finding:
        """What a change that would undo ``cause`` tells."""
        gains = self.gains(other)
        return judged(cause, tried, average_precision(other), gains, remedy=remedy)

    def gains(self, other: Matches) -> tuple[Interval, Interval]:
        """Gains in AP and mean OKS over the sample as it is."""
        return (
            interval_of(resampled_ap(other, self.drawn) - self.base_ap),
            interval_of(resampled_similarity(other, self.drawn) - self.base_similarity),
        )

    @cached_property
    def base_ap(self) -> NDArray[np.float64]:
        """AP of every drawing as the engine is."""
        return resampled_ap(self.base, self.drawn)

    @cached_property
    def base_similarity(self) -> NDArray[np.float64]:
        """Mean OKS of every drawing as the engine is."""
        return resampled_similarity(self.base, self.drawn)


def explain(
    plan: EvalPlan,
    *,
    network: BareNetwork | None = None,
    any_size: bool = False,
    settings: DoctorSettings | None = None,
    expected: float | None = None,
    expected_from: str = "",
    expected_boxes: str | None = None,
    expected_images: int | None = None,
    measured: float | None = None,
    measured_from: str = "",
    trained_size_hw: tuple[int, int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Explanation:
    """Look for the cause on a sample of ``plan`` (prepared with ``allow_missing``).

    ``network`` gives raw heatmaps without flip-test (None where they cannot be had), of crops of
    any size with ``any_size``. ``expected`` and ``measured`` are AP in 0 to 1; ``expected_boxes``
    ("ground truth" or "detector") and ``expected_images`` are what the expected one is of, None
    where not known, and ``trained_size_hw`` is the recipe's input size. Raises InputError where no
    picture can be read.
    """
    from hrnet_deploy.evaluation.causes import every_cause

    settings = settings or DoctorSettings()
    started = time.perf_counter()
    case = _examine(plan, network, any_size, settings, say)
    case.expected_boxes, case.expected_images = expected_boxes, expected_images
    sample_ap = interval_of(case.base_ap)
    if measured is None:
        measured, measured_from = sample_ap.value, "the sample"
    findings: list[Finding] = []
    for finding in every_cause(case, expected, measured, trained_size_hw):
        say(f"{finding.cause}: {finding.says}")
        findings.append(finding)
    if time.perf_counter() - started > settings.seconds:
        say(f"stopped new runs after {settings.seconds:g} s; the rest is marked 'cannot tell'")
    notes = [
        f"the sample's AP is that of {case.sample.persons} boxes in"
        f" {len(case.sample.plan.images)} images: only its changes tell something"
    ]
    return Explanation(
        expected,
        expected_from,
        measured,
        measured_from,
        len(case.sample.plan.images),
        case.sample.persons,
        sample_ap,
        ranked(findings),
        notes,
    )


def _examine(
    plan: EvalPlan,
    network: BareNetwork | None,
    any_size: bool,
    settings: DoctorSettings,
    say: Callable[[str], None],
) -> Case:
    spec = plan.engine.spec
    deadline = time.perf_counter() + settings.seconds
    persons = min(settings.persons, _affordable(plan.engine, settings.seconds))
    files = look_at_files(plan, seed=settings.seed)
    sample = draw_sample(plan, persons=persons, seed=settings.seed)
    say(f"sample: {sample.persons} boxes in {len(sample.plan.images)} images")
    _, crops = cut_crops(sample.plan)
    raw = None if network is None else RawHeatmaps.run(network, crops)
    output = plan.engine.run(crops)
    keypoints_px = sample.plan.geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh)
    return Case(
        plan=plan,
        sample=sample,
        files=files,
        crops=crops,
        keypoints_px=keypoints_px,
        scores=output.scores,
        base=matches_for(sample.plan, keypoints_px, output.scores),
        drawn=draws_of(len(sample.plan.images), seed=settings.seed),
        network=network,
        any_size=any_size,
        expected_boxes=None,
        expected_images=None,
        raw=raw,
        deadline=deadline,
    )


def _affordable(engine: Engine, seconds: float) -> int:
    """Persons for which time and memory suffice, at least ``FEWEST_PERSONS``."""
    spec = engine.spec
    crops = np.zeros((2, *spec.input_size_hw, 3), np.uint8)
    engine.run(crops[:1])
    started = time.perf_counter()
    engine.run(crops)
    each = (time.perf_counter() - started) / len(crops)
    heatmaps = 2 * 4 * spec.joints * int(np.prod(spec.heatmap_size_hw))
    return max(
        FEWEST_PERSONS,
        min(int(seconds / (RUNS * each)), MEMORY_FOR_HEATMAPS // heatmaps),
    )


def truth_plan(case: Case) -> EvalPlan:
    """The sample's pictures with ground-truth boxes instead of the given ones."""
    from hrnet_deploy.evaluation.sample import with_persons

    known = case.plan.annotations
    chosen = {image.id: place for place, image in enumerate(case.sample.plan.images)}
    places = {
        index: chosen[image.id] for index, image in enumerate(known.images) if image.id in chosen
    }
    return with_persons(
        case.sample.plan, case.sample.plan.images, ground_truth_boxes(known), places
    )
