"""Figures that the protocols of other sets add to COCO's ten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hrnet_deploy.evaluation.coco import WHOLEBODY, Annotations
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.metric import Stats, coco_stats
from hrnet_deploy.spec import ModelSpec

CROWDPOSE = "crowdpose_14"
EASY_BELOW, HARD_FROM = 0.2, 0.8
"""Bounds of the crowd index as the published code has them (crowdposetools, xtcocotools:
``get_type_result(first=0.2, second=0.8)``); the paper's text says 0.1 and 0.8."""

PARTS = {
    "body": slice(0, 17),
    "foot": slice(17, 23),
    "face": slice(23, 91),
    "lefthand": slice(91, 112),
    "righthand": slice(112, 133),
}
"""The parts that COCO-WholeBody evaluates on their own, as joints of its 133."""


def further_stats(
    annotations: Annotations,
    detections: Detections,
    image_ids: Sequence[int],
    spec: ModelSpec,
) -> dict[str, Stats]:
    """CrowdPose's figures of easy, medium and hard pictures, COCO-WholeBody's of its parts.

    Empty for other sets, and for CrowdPose files without crowd indices.
    """
    if spec.keypoint_set == CROWDPOSE:
        return _by_crowd(annotations, detections, image_ids, spec)
    if spec.keypoint_set == WHOLEBODY:
        return _by_part(annotations, detections, image_ids, spec)
    return {}


def _by_crowd(
    annotations: Annotations,
    detections: Detections,
    image_ids: Sequence[int],
    spec: ModelSpec,
) -> dict[str, Stats]:
    wanted = set(image_ids)
    index = {im.id: im.crowd_index for im in annotations.images if im.id in wanted}
    groups: dict[str, list[int]] = {"easy": [], "medium": [], "hard": []}
    for image_id, value in index.items():
        if value is None:
            return {}
        name = "easy" if value < EASY_BELOW else "medium" if value < HARD_FROM else "hard"
        groups[name].append(image_id)
    return {
        name: coco_stats(
            annotations.annotations,
            detections,
            image_ids=ids,
            category_ids=annotations.categories,
            sigmas=spec.sigmas or (),
        )
        for name, ids in groups.items()
    }


def _by_part(
    annotations: Annotations,
    detections: Detections,
    image_ids: Sequence[int],
    spec: ModelSpec,
) -> dict[str, Stats]:
    wanted = set(image_ids)
    persons = [entry for entry in annotations.annotations if entry["image_id"] in wanted]
    return {
        name: coco_stats(
            [_part(entry, joints) for entry in persons],
            replace(detections, keypoints=detections.keypoints[:, joints]),
            image_ids=image_ids,
            category_ids=annotations.categories,
            sigmas=(spec.sigmas or ())[joints],
        )
        for name, joints in PARTS.items()
    }


def _part(entry: Mapping[str, Any], joints: slice) -> dict[str, Any]:
    """The entry with some of its keypoints only; the area stays that of the person."""
    keypoints = entry["keypoints"][3 * joints.start : 3 * joints.stop]
    labelled = sum(value > 0 for value in keypoints[2::3])
    return {**entry, "keypoints": keypoints, "num_keypoints": labelled}
