"""From which doubt on an adaptive flip-test needs its second pass, by a budget of AP."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput
from hrnet_deploy.errors import GateError, InputError, Subject
from hrnet_deploy.evaluation.plan import EvalPlan, prepare
from hrnet_deploy.evaluation.resample import (
    Interval,
    draws_of,
    interval_of,
    picture_matches,
    resampled_ap,
)
from hrnet_deploy.evaluation.result import Inferred, detections_of
from hrnet_deploy.evaluation.run import Progress, StopSignal, infer
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.runtime.flip import MEASURE, FlipEngine, check_flippable, doubt
from hrnet_deploy.runtime.flip_choice import KIND, SCHEMA, second_passes
from hrnet_deploy.talk import Say

MAX_AP_DROP = 0.1
"""Points of AP, of 100, that are lost at most by default."""

STEPS = 20
"""Shares of second passes that are tried: every twentieth of the persons."""

POINTS = 100
FEW_PERSONS = 1000
"""With fewer persons AP moves by more than a tenth of a point when one of them changes."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class FlipCalibration:
    """A threshold and what it costs; AP in 0 to 1, drops in points with 95 % intervals.

    ``single`` and ``exact`` are the AP of one pass and of two for everybody. ``held_out`` is the
    drop where each half of the pictures was evaluated with the threshold of the other half, and
    ``held_out_share`` the share of second passes there. ``curve`` holds (share, threshold, AP).
    """

    threshold: float
    share: float
    single: float
    adaptive: float
    exact: float
    drop: Interval
    held_out: Interval
    held_out_share: float
    curve: tuple[tuple[float, float, float], ...]
    persons: int
    images: int
    max_ap_drop: float
    fingerprint: dict[str, Any]

    @property
    def notes(self) -> list[str]:
        """What to know before relying on it."""
        notes = []
        if self.exact <= self.single:
            notes.append(
                "the flip-test gains nothing here, --flip off serves as well; if the engine was"
                " exported by version 0.1.0, export it again: it lost its one-pixel shift"
            )
        if self.persons < FEW_PERSONS:
            notes.append(
                f"AP of {self.persons} persons is coarse; from about {FEW_PERSONS} on it can tell"
                f" {self.max_ap_drop:g} points"
            )
        return notes

    def as_json(self) -> dict[str, Any]:
        """The content of the file beside the engine."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "measure": MEASURE,
            "threshold": self.threshold,
            "max_ap_drop": self.max_ap_drop,
            **second_passes(round(self.share * self.persons), self.persons),
            "ap": {"single": self.single, "adaptive": self.adaptive, "exact": self.exact},
            "drop": self.drop.as_json(),
            "held_out": {"drop": self.held_out.as_json(), "share": self.held_out_share},
            "curve": [{"share": s, "threshold": t, "ap": ap} for s, t, ap in self.curve],
            "persons": self.persons,
            "images": self.images,
            "notes": self.notes,
            **self.fingerprint,
        }


def calibrate_flip(
    engine: Engine,
    annotations: Subject,
    images: Subject,
    *,
    boxes: Subject | None = None,
    settings: EvalSettings | None = None,
    max_ap_drop: float = MAX_AP_DROP,
    say: Say = lambda line: None,
    progress: Progress | None = None,
    stop: StopSignal = lambda: None,
) -> FlipCalibration:
    """The threshold with the fewest second passes that loses at most ``max_ap_drop`` points.

    ``engine`` is one without flip-test. Raises what ``prepare`` raises, InputError where AP is
    undefined, and GateError where only a second pass for everybody holds the budget. No picture
    is left out, whatever ``settings`` say of it.
    """
    check_flippable(engine)
    settings = dataclasses.replace(settings or EvalSettings(), allow_missing=None, keep_going=None)
    plan = prepare(engine, annotations, images, boxes=boxes, settings=settings)
    say("two passes for everybody")
    both = _BothPasses(engine)
    exact = infer(dataclasses.replace(plan, engine=both), None, progress=progress, stop=stop)
    return Trial.of(plan, both.single(plan), exact).calibration(max_ap_drop)


class _BothPasses(FlipEngine):
    """A flip-test of everybody that remembers the poses of the first pass, person by person."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, 0)
        self._firsts: list[EngineOutput] = []

    def first(self, crops_nhwc: NDArray[np.uint8]) -> EngineOutput:
        """The first pass; its heatmaps are not kept."""
        output = super().first(crops_nhwc)
        self._firsts.append(EngineOutput(output.keypoints_heatmap, output.scores))
        return output

    def single(self, plan: EvalPlan) -> Inferred:
        """The poses of the first pass, of all pictures of ``plan`` in its order."""
        heatmap_px = np.concatenate([self._empty, *(o.keypoints_heatmap for o in self._firsts)])
        scores = np.concatenate([self._empty[..., 0], *(o.scores for o in self._firsts)])
        poses, first = {}, 0
        for image, span in zip(plan.images, plan.spans, strict=True):
            if image.id in plan.paths:
                rows = slice(first, first := first + span.stop - span.start)
                size_wh = self.spec.heatmap_size_wh
                points = plan.geometry[span].to_image(heatmap_px[rows], size_wh)
                poses[image.id] = np.concatenate([points, scores[rows, :, None]], axis=2)
        return Inferred(poses, list(plan.missing))

    @property
    def _empty(self) -> Floats:
        return np.zeros((0, self.spec.joints, 2), np.float32)


@dataclass(frozen=True)
class Trial:
    """Poses (N, K, 3) of one pass and of two, for the ``rows`` (N,) of the plan's boxes.

    ``doubts`` (N,) says how ambiguous the first is; another measure may stand there.
    """

    plan: EvalPlan
    image_ids: tuple[int, ...]
    rows: NDArray[np.intp]
    single: Floats
    exact: Floats
    doubts: NDArray[np.float64]

    @classmethod
    def of(cls, plan: EvalPlan, single: Inferred, exact: Inferred) -> Trial:
        """Poses of the pictures that both runs have."""
        left_out = {image.image_id for run in (single, exact) for image in run.skipped}
        there = [
            (image.id, span)
            for image, span in zip(plan.images, plan.spans, strict=True)
            if image.id in single.poses and image.id in exact.poses
        ]
        if not there:
            fix = "Give annotations with persons and their pictures"
            raise InputError("annotations", "has no person to calibrate on", fix)
        first = np.concatenate([single.poses[image_id] for image_id, _ in there])
        return cls(
            plan,
            tuple(sorted(image.id for image in plan.images if image.id not in left_out)),
            np.concatenate([np.arange(span.start, span.stop) for _, span in there]),
            first,
            np.concatenate([exact.poses[image_id] for image_id, _ in there]),
            doubt(first[..., 2]),
        )

    def calibration(self, max_ap_drop: float) -> FlipCalibration:
        """The fewest second passes within the budget, with what they cost."""
        thresholds = self.thresholds()
        values = self.curve(thresholds)
        chosen, even, odd = (chosen_step(column, max_ap_drop) for column in values.T)
        if chosen == len(thresholds) - 1:
            problem = f"loses more than {max_ap_drop:g} points of AP unless everybody is mirrored"
            problem = f"{problem} (measured on {len(self.rows)} persons)"
            fix = "Use an engine exported with --flip, or allow more with --max-ap-drop"
            raise GateError(self.plan.engine.info.path, problem, fix)
        limit = float(thresholds[chosen])
        # Each half of the pictures with the threshold that the other half asks for.
        of_others = np.where(self.in_odd_half, thresholds[even], thresholds[odd])
        drop, held_out = self.drops([self.doubts >= limit, self.doubts >= of_others])
        return FlipCalibration(
            threshold=limit,
            share=self.share(limit),
            single=float(values[0, 0]),
            adaptive=float(values[chosen, 0]),
            exact=float(values[-1, 0]),
            drop=drop,
            held_out=held_out,
            held_out_share=self.share(of_others),
            curve=tuple(
                (self.share(step), float(step), float(ap))
                for step, ap in zip(thresholds, values[:, 0], strict=True)
            ),
            persons=len(self.rows),
            images=len(self.image_ids),
            max_ap_drop=max_ap_drop,
            fingerprint=self.plan.fingerprint,
        )

    def share(self, threshold: float | NDArray[np.float64]) -> float:
        """How many of the persons get a second pass."""
        return round(float((self.doubts >= threshold).mean()), 6)

    def curve(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """AP (S, 3) from each threshold on: of all pictures, of every other one, of the rest."""
        odd = np.arange(len(self.image_ids)) % 2 == 1
        sets = np.stack([np.ones(len(odd), np.bool_), ~odd, odd])
        values = np.stack([self.ap(self.doubts >= limit, sets) for limit in thresholds])
        if np.isnan(values).any():
            problem = "has no labelled person in half of the pictures: AP is undefined there"
            raise InputError("annotations", problem, "Give more pictures")
        return values

    def drops(self, choices: Sequence[NDArray[np.bool_]]) -> list[Interval]:
        """Points of AP lost where each of ``choices`` (N,) says who has two passes."""
        drawn = draws_of(len(self.image_ids))
        exact = self.ap(np.ones(len(self.rows), np.bool_), drawn)
        return [interval_of(POINTS * (exact - self.ap(twice, drawn))) for twice in choices]

    def thresholds(self) -> NDArray[np.float64]:
        """From nobody (just above the largest doubt) to everybody (0), falling."""
        ranked = np.sort(self.doubts)[::-1]
        places = (len(ranked) * np.arange(1, STEPS)) // STEPS
        nobody = min(np.nextafter(ranked[0], np.inf), 1.0)
        return np.concatenate([[nobody], ranked[np.maximum(places - 1, 0)], [0.0]])

    @property
    def in_odd_half(self) -> NDArray[np.bool_]:
        """Whether each person (N,) is in the second half of ``curve``."""
        ids = np.array([image.id for image in self.plan.images], np.int64)
        pictures = ids[self.plan.persons.image_index[self.rows]]
        return np.isin(pictures, self.image_ids[1::2])

    def ap(self, twice: NDArray[np.bool_], weights: NDArray[Any]) -> NDArray[np.float64]:
        """AP (B,) where ``twice`` (N,) says who has the pose of two passes.

        ``weights`` (B, I) say how often each picture counts.
        """
        poses = np.where(twice[:, None, None], self.exact, self.single)
        detections = detections_of(self.plan, poses, self.rows)
        matching = self.plan.matching(detections, self.image_ids)
        return resampled_ap(picture_matches(matching), np.asarray(weights, np.float64))


def chosen_step(values: NDArray[np.float64], max_ap_drop: float) -> int:
    """The first of rising shares from which on every AP (S,) is within the budget of the last.

    One that holds the budget by chance, between others that do not, is passed over.
    """
    within = POINTS * (values[-1] - values) <= max_ap_drop
    broken = np.flatnonzero(~within)
    return int(broken[-1]) + 1 if len(broken) else 0
