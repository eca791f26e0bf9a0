"""The case that the AP doctor examines: a seeded sample, its poses, and a try with a change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine
from hrnet_deploy.evaluation.boxes import ground_truth_boxes
from hrnet_deploy.evaluation.files_seen import FilesSeen, look_at_files
from hrnet_deploy.evaluation.findings import Finding, judged
from hrnet_deploy.evaluation.heatmaps import RawHeatmaps, Treatment
from hrnet_deploy.evaluation.plan import EvalPlan
from hrnet_deploy.evaluation.resample import (
    Interval,
    PictureMatches,
    average_precision,
    draws_of,
    interval_of,
    resampled_ap,
    resampled_similarity,
)
from hrnet_deploy.evaluation.sample import Sample, cut_crops, draw_sample, matches_for, with_persons
from hrnet_deploy.talk import Say

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
class Expected:
    """The AP that was expected, in 0 to 1, and ``source``, where it is from, in words.

    ``boxes`` ("ground truth" or "detector") and ``images`` are what it is of; None where unknown.
    """

    ap: float | None = None
    source: str = ""
    boxes: str | None = None
    images: int | None = None


@dataclass(frozen=True)
class Case:
    """One patient: the plan of its evaluation, the sample, and what was found in it as it is.

    ``crops`` (M, h, w, 3) uint8 BGR are those of the sample's M boxes, ``keypoints_px`` (M, K, 2)
    in picture pixels and ``scores`` (M, K) what the engine found in them, ``base`` the matches of
    these poses. ``drawn`` (B, I) says how often each picture stands in each drawing. ``network``
    gives raw heatmaps, ``raw`` are those of the crops; None where they cannot be had. Nothing new
    is run after ``deadline``, a time of ``time.perf_counter`` in seconds.
    """

    plan: EvalPlan
    sample: Sample
    files: FilesSeen
    crops: NDArray[np.uint8]
    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    base: PictureMatches
    drawn: NDArray[np.float64]
    network: BareNetwork | None
    any_size: bool
    raw: RawHeatmaps | None
    deadline: float
    expected: Expected

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

    def treated(self, treatment: Treatment) -> PictureMatches | None:
        """The sample with its raw heatmaps treated otherwise; None where there are none."""
        if self.raw is None:
            return None
        keypoints, scores = self.raw.decoded(treatment)
        return matches_for(self.sample.plan, self.poses(keypoints), scores)

    def rerun(self, plan: EvalPlan, crops: NDArray[np.uint8]) -> PictureMatches:
        """The sample with other crops in the engine as it is."""
        output = self.engine.run(crops)
        spec = self.engine.spec
        points = plan.geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh)
        return matches_for(plan, points, output.scores)

    def judge(self, cause: str, tried: str, other: PictureMatches, remedy: str) -> Finding:
        """What a change that would undo ``cause`` tells."""
        gains = self.gains(other)
        return judged(cause, tried, average_precision(other), gains, remedy=remedy)

    def gains(self, other: PictureMatches) -> tuple[Interval, Interval]:
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


def examine(
    plan: EvalPlan,
    network: BareNetwork | None,
    any_size: bool,
    expected: Expected,
    settings: DoctorSettings,
    say: Say,
) -> Case:
    """Draw the sample of ``plan`` and run it as it is, once through the engine and the network."""
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
        raw=raw,
        deadline=deadline,
        expected=expected,
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
    known = case.plan.annotations
    chosen = {image.id: place for place, image in enumerate(case.sample.plan.images)}
    places = {
        index: chosen[image.id] for index, image in enumerate(known.images) if image.id in chosen
    }
    return with_persons(
        case.sample.plan, case.sample.plan.images, ground_truth_boxes(known), places
    )
