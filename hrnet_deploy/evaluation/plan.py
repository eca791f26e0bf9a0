"""What is known and checked before an evaluation begins: engine, files, persons, settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.evaluation.boxes import PersonBoxes, ground_truth_boxes, read_boxes
from hrnet_deploy.evaluation.coco import Annotations, CocoImage, read_annotations
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import Matching, matched
from hrnet_deploy.evaluation.pictures import find_pictures
from hrnet_deploy.evaluation.settings import EvalSettings, fingerprint
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.jobs import ImageJob


@dataclass(frozen=True)
class SkippedImage:
    """A picture that was left out, and why."""

    image_id: int
    file_name: str
    reason: str


@dataclass(frozen=True)
class EvalPlan:
    """Everything that is known, and checked, before the first inference.

    ``images`` are those that are evaluated (the first ``limit``), ``spans`` the persons of each.
    """

    engine: Engine
    annotations: Annotations
    images: tuple[CocoImage, ...]
    persons: PersonBoxes
    spans: list[slice]
    geometry: CropGeometry
    paths: dict[int, Path]
    settings: EvalSettings
    fingerprint: dict[str, Any]

    @property
    def jobs(self) -> list[ImageJob]:
        """One job for each picture that has persons and is there."""
        return [
            ImageJob(image.id, self.paths[image.id], self.geometry[span])
            for image, span in zip(self.images, self.spans, strict=True)
            if image.id in self.paths
        ]

    def matching(self, detections: Detections, image_ids: Sequence[int] | None = None) -> Matching:
        """Which of ``detections`` finds which labelled person, in ``image_ids`` or all pictures."""
        return matched(
            self.annotations.annotations,
            detections,
            image_ids=[image.id for image in self.images] if image_ids is None else image_ids,
            category_ids=self.annotations.categories,
            sigmas=self.engine.spec.sigmas or (),
        )

    @property
    def missing(self) -> list[SkippedImage]:
        """Pictures with persons whose files are not there."""
        return [
            SkippedImage(image.id, image.file_name, "missing")
            for image, span in zip(self.images, self.spans, strict=True)
            if span.start < span.stop and image.id not in self.paths
        ]


def prepare(
    engine: Engine,
    annotations: Subject,
    images: Subject,
    *,
    boxes: Subject | None,
    settings: EvalSettings,
) -> EvalPlan:
    """Read and check all input files; InputError for the first that is wrong."""
    spec = engine.spec
    if spec.sigmas is None:
        problem = f"has no OKS sigmas for its keypoints ({spec.keypoint_set})"
        raise InputError(engine.info.path, problem, "Export it with a recipe that gives sigmas")
    known = read_annotations(annotations, spec)
    if boxes is None:
        persons = ground_truth_boxes(known)
    else:
        persons = read_boxes(boxes, known, threshold=settings.score_threshold)
    chosen = known.images[: settings.limit]
    persons = persons.of_images(len(chosen))
    spans = persons.spans(len(chosen))
    with_persons = [im for im, span in zip(chosen, spans, strict=True) if span.start < span.stop]
    paths = find_pictures(images, known, with_persons, allow_missing=settings.allow_missing)
    return EvalPlan(
        engine=engine,
        annotations=known,
        images=chosen,
        persons=persons,
        spans=spans,
        geometry=CropGeometry.from_boxes_xywh(
            persons.boxes_xywh, spec.input_size_wh, padding=spec.box_padding
        ),
        paths=paths,
        settings=settings,
        fingerprint=fingerprint(
            engine, known.sha256, None if boxes is None else Path(boxes), settings
        ),
    )
