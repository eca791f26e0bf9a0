"""A seeded sample of persons, cut once and looked at in many ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.boxes import PersonBoxes
from hrnet_deploy.evaluation.coco import CocoImage
from hrnet_deploy.evaluation.plan import EvalPlan
from hrnet_deploy.evaluation.resample import PictureMatches, picture_matches
from hrnet_deploy.evaluation.result import detections_of
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image

Read = Callable[[CocoImage, Path], NDArray[np.uint8]]
Cut = Callable[[NDArray[np.uint8], CropGeometry, NDArray[np.uint8]], None]


@dataclass(frozen=True)
class Sample:
    """Some pictures of an evaluation, with their persons.

    ``plan`` is the evaluation of these pictures alone; ``unreadable`` counts those that were drawn
    and could not be read.
    """

    plan: EvalPlan
    unreadable: tuple[str, ...]

    @property
    def persons(self) -> int:
        """How many boxes are evaluated."""
        return len(self.plan.persons)


def draw_sample(plan: EvalPlan, *, persons: int, seed: int) -> Sample:
    """Pictures in seeded random order until ``persons`` boxes are together.

    Raises InputError where none of them can be read.
    """
    usable = [
        index
        for index, (image, span) in enumerate(zip(plan.images, plan.spans, strict=True))
        if span.start < span.stop and image.id in plan.paths
    ]
    chosen: list[int] = []
    unreadable, count = [], 0
    for index in np.random.default_rng(seed).permutation(np.array(usable, np.intp)).tolist():
        image, span = plan.images[index], plan.spans[index]
        try:
            read_image(plan.paths[image.id], max_pixels=plan.settings.max_pixels)
        except InputError:
            unreadable.append(image.file_name)
            continue
        chosen.append(index)
        count += span.stop - span.start
        if count >= persons:
            break
    if not chosen:
        problem = "has no person in a picture that can be read"
        raise InputError(plan.annotations.path, problem, "Check the images folder")
    return Sample(only(plan, sorted(chosen)), tuple(unreadable))


def only(plan: EvalPlan, indices: list[int]) -> EvalPlan:
    """The evaluation of the pictures at ``indices`` (rising)."""
    images = tuple(plan.images[index] for index in indices)
    return with_persons(plan, images, plan.persons, {index: n for n, index in enumerate(indices)})


def with_persons(
    plan: EvalPlan,
    images: tuple[CocoImage, ...],
    persons: PersonBoxes,
    places: dict[int, int],
) -> EvalPlan:
    """``plan`` for other pictures and boxes; ``places`` maps the boxes' image index to theirs."""
    kept = np.array([index in places for index in persons.image_index.tolist()], np.bool_)
    boxes = PersonBoxes(
        np.array([places[i] for i in persons.image_index[kept].tolist()], np.intp),
        persons.boxes_xywh[kept],
        persons.scores[kept],
        persons.category_ids[kept],
        persons.left_out,
    )
    spec = plan.engine.spec
    return dataclasses.replace(
        plan,
        images=images,
        persons=boxes,
        spans=boxes.spans(len(images)),
        geometry=CropGeometry.from_boxes_xywh(
            boxes.boxes_xywh, spec.input_size_wh, padding=spec.box_padding
        ),
    )


def cut_crops(
    plan: EvalPlan,
    *,
    input_size_wh: tuple[int, int] | None = None,
    read: Read | None = None,
    cut: Cut = crop_into,
) -> tuple[CropGeometry, NDArray[np.uint8]]:
    """The crops (M, h, w, 3) of all boxes with their geometry, at another size if wanted."""
    geometry = plan.geometry
    if input_size_wh is not None:
        geometry = CropGeometry.from_boxes_xywh(
            plan.persons.boxes_xywh, input_size_wh, padding=plan.engine.spec.box_padding
        )
    width, height = geometry.input_size_wh
    crops = np.empty((len(geometry), height, width, 3), np.uint8)
    for image, span in zip(plan.images, plan.spans, strict=True):
        if span.start == span.stop:
            continue
        path = plan.paths[image.id]
        picture = read_image(path) if read is None else read(image, path)
        cut(picture, geometry[span], crops[span])
    return geometry, crops


def matches_for(
    plan: EvalPlan,
    keypoints_px: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    settings: EvalSettings | None = None,
    rescore: bool = True,
    geometry: CropGeometry | None = None,
) -> PictureMatches:
    """Match poses (M, K, 2) in picture pixels with scores (M, K) as an evaluation does.

    ``rescore`` off leaves a person the score of its box.
    """
    detections = detections_of(
        plan,
        np.concatenate([keypoints_px, scores[..., None]], axis=2),
        settings=settings,
        geometry=geometry,
        rescore=rescore,
    )
    return picture_matches(plan.matching(detections))
