"""From poses to the result: rescoring, suppression, figures, and the two files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.fingerprint import another_run, differences
from hrnet_deploy.evaluation.metric import Stats, figures, matches_of
from hrnet_deploy.evaluation.oks import person_scores, suppress
from hrnet_deploy.evaluation.plan import EvalPlan, SkippedImage
from hrnet_deploy.evaluation.protocols import further_stats
from hrnet_deploy.evaluation.settings import EvalSettings, metric_versions
from hrnet_deploy.files import atomic_write, read_json, write_json
from hrnet_deploy.runtime.flip_choice import flip_facts, second_passes
from hrnet_deploy.runtime.geometry import CropGeometry

KIND = "hrnet-deploy evaluation"
SCHEMA = 1


@dataclass
class Inferred:
    """What the engine gave: poses (n, K, 3) float32 by image id, x and y in pixels and score.

    ``skipped`` are pictures that had to be left out, ``second_passes`` counts the persons that an
    adaptive flip-test looked at twice.
    """

    poses: dict[int, NDArray[np.float32]]
    skipped: list[SkippedImage]
    second_passes: int = 0


@dataclass(frozen=True)
class EvalResult:
    """The figures in 0 to 1 (None where undefined), what they count, and what they belong to.

    ``detections`` are ordered like the annotation file. ``subset`` says
    that ``limit`` left pictures out, ``partial`` that some could not be evaluated: neither can be
    compared with a published figure. ``label`` says so in words, "full" otherwise. ``further``
    holds the figures that the protocol of a set adds, by name; ``flip`` says what an adaptive
    flip-test did, None without one.
    """

    stats: Stats
    counts: dict[str, Any]
    detections: Detections
    skipped: list[SkippedImage]
    subset: bool
    partial: bool
    label: str
    notes: list[str]
    fingerprint: dict[str, Any]
    versions: dict[str, str]
    further: dict[str, Stats] = field(default_factory=dict)
    flip: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The content of the result file: everything but the detections, and no time or path."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            **self.stats,
            **({"further": self.further} if self.further else {}),
            "label": self.label,
            "subset": self.subset,
            "partial": self.partial,
            "comparable": not (self.subset or self.partial),
            "counts": self.counts,
            **({} if self.flip is None else {"flip": self.flip}),
            "skipped": [asdict(image) for image in self.skipped],
            "notes": self.notes,
            "fingerprint": self.fingerprint,
            "versions": self.versions,
        }


def measure(plan: EvalPlan, inferred: Inferred) -> EvalResult:
    """Score, suppress and compare with the annotations.

    Pictures that were skipped are left out of the ground truth as well.
    """
    poses, skipped = inferred.poses, inferred.skipped
    left_out = {image.image_id for image in skipped}
    image_ids = [image.id for image in plan.images if image.id not in left_out]
    present = [
        (span, poses[image.id])
        for image, span in zip(plan.images, plan.spans, strict=True)
        if image.id in poses and image.id not in left_out
    ]
    nobody = np.zeros((0, plan.engine.spec.joints, 3), np.float32)
    detections = detections_of(
        plan,
        np.concatenate([nobody, *(keypoints for _, keypoints in present)]),
        np.concatenate([np.arange(0), *(np.arange(s.start, s.stop) for s, _ in present)]),
    )
    stats = figures(matches_of(plan.matching(detections, image_ids)))
    subset = len(plan.images) < len(plan.annotations.images)
    return EvalResult(
        stats=stats,
        counts=_counts(plan, detections, skipped),
        detections=detections,
        skipped=skipped,
        subset=subset,
        partial=bool(skipped),
        label=_label(plan, subset, skipped),
        notes=_notes(plan, stats, detections),
        fingerprint=plan.fingerprint,
        versions=metric_versions(),
        further=further_stats(plan.annotations, detections, image_ids, plan.engine.spec),
        flip=_flip(plan, inferred),
    )


def _flip(plan: EvalPlan, inferred: Inferred) -> dict[str, Any] | None:
    """What the adaptive flip-test did, and how often; None without one."""
    facts = flip_facts(plan.engine)
    if facts is None:
        return None
    persons = sum(map(len, inferred.poses.values()))
    return {**facts, **second_passes(inferred.second_passes, persons)}


def detections_of(
    plan: EvalPlan,
    keypoints: NDArray[np.float32],
    rows: NDArray[np.intp] | slice = slice(None),
    *,
    settings: EvalSettings | None = None,
    geometry: CropGeometry | None = None,
    rescore: bool = True,
) -> Detections:
    """The persons that stay, of poses (N, K, 3) for the ``rows`` (N,) of the plan's boxes.

    ``rescore`` off leaves a person the score of its box; ``geometry`` says where the crops of all
    boxes were if not where the plan says.
    """
    settings = settings or plan.settings
    geometry, persons = (geometry or plan.geometry)[rows], plan.persons
    scores = persons.scores[rows]
    if rescore:
        threshold = settings.keypoint_threshold
        scores = person_scores(scores, keypoints[..., 2], threshold=threshold)
    pictures = persons.image_index[rows]
    kept = suppress(
        keypoints,
        scores,
        geometry.area,
        plan.engine.spec.sigmas or (),
        pictures=pictures,
        kind=settings.nms,
        threshold=settings.nms_threshold,
    )
    image_ids = np.array([image.id for image in plan.images])
    return Detections(
        image_ids[pictures[kept]],
        persons.category_ids[rows][kept],
        keypoints[kept],
        scores[kept],
        geometry.center[kept],
        geometry.scale[kept],
    )


def _counts(plan: EvalPlan, detections: Detections, skipped: list[SkippedImage]) -> dict[str, Any]:
    without = sum(span.start == span.stop for span in plan.spans)
    return {
        "images_in_file": len(plan.annotations.images),
        "images": len(plan.images) - len(skipped),
        "images_skipped": len(skipped),
        "images_without_person": without,
        "persons": len(plan.persons),
        "boxes_without_extent": plan.persons.without_extent,
        "boxes_left_out": plan.persons.left_out,
        "detections": len(detections),
    }


def _label(plan: EvalPlan, subset: bool, skipped: list[SkippedImage]) -> str:
    parts = []
    if subset:
        listed = len(plan.annotations.images)
        parts.append(f"subset (the first {len(plan.images)} of {listed} images)")
    if skipped:
        parts.append(f"partial ({len(skipped)} images left out)")
    return ", ".join([*parts, "not comparable"]) if parts else "full"


def _notes(plan: EvalPlan, stats: Stats, detections: Detections) -> list[str]:
    notes = list(plan.annotations.notes)
    if plan.persons.without_extent:
        notes.append(
            f"{plan.persons.without_extent} boxes have no width or height; they are evaluated"
            " like the others, as the official code does"
        )
    if stats["AP"] is None:
        notes.append("no labelled person in the ground truth: AP is undefined")
    elif not detections:
        notes.append("no person box is left to evaluate: AP is 0")
    return notes


def detections_path(output: Path) -> Path:
    """Where the detections lie that belong to a result file."""
    return output.with_name(f"{output.stem}.keypoints.json")


def write_result(result: EvalResult, output: Path) -> None:
    """Write the detections, then the result file: where that is, the evaluation is complete."""
    with atomic_write(detections_path(output)) as stream:
        separator = b"[\n"
        for line in result.detections.as_json():
            stream.write(separator + line)
            separator = b",\n"
        stream.write(b"\n]\n" if result.detections else b"[]\n")
    write_json(output, result.as_json())


def read_finished(output: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of the same run that lies there already, None where there is none.

    Raises InputError for a file that is no result, or that of another run.
    """
    if not output.exists():
        return None
    try:
        content = read_json(output)
    except InputError:
        content = None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        problem = "exists and is no result of an evaluation"
        raise InputError(output, problem, "Pass --fresh to replace it, or -o for another output")
    if different := differences(content.get("fingerprint"), fingerprint):
        raise another_run(output, different)
    return content if detections_path(output).exists() else None
