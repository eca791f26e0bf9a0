"""Crops of one's own pictures, to compare engines on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.evaluation.boxes import ground_truth_boxes, read_boxes
from hrnet_deploy.evaluation.coco import read_annotations
from hrnet_deploy.evaluation.pictures import find_pictures
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.spec import ModelSpec

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class LabelledCrops:
    """``crops_nhwc`` (N, h, w, 3) uint8 BGR, and for each the picture it was cut from."""

    crops_nhwc: NDArray[np.uint8]
    pictures: tuple[str, ...]


def annotated_crops(
    images: Subject, annotations: Subject, boxes: Subject | None, spec: ModelSpec, limit: int
) -> LabelledCrops:
    """The first ``limit`` persons of an annotation file, in its boxes or a detector's."""
    known = read_annotations(annotations, spec)
    persons = ground_truth_boxes(known) if boxes is None else read_boxes(boxes, known)
    used = sorted({int(index) for index in persons.image_index[:limit]})
    paths = find_pictures(images, known, [known.images[index] for index in used])
    places = [
        (paths[known.images[index].id], box)
        for index, box in zip(persons.image_index[:limit], persons.boxes_xywh, strict=False)
    ]
    if not places:
        raise InputError(annotations, "has no persons to compare on", "Give other annotations")
    return _cut(places, spec)


def whole_picture_crops(images: Subject, spec: ModelSpec, limit: int) -> LabelledCrops:
    """The first ``limit`` pictures of a folder (or one picture), each as a single box."""
    root = Path(images)
    if not root.exists():
        raise InputError(images, "no such file or folder", "Give a picture or a folder of them")
    found = sorted(root.rglob("*")) if root.is_dir() else [root]
    paths = [path for path in found if path.suffix.lower() in PICTURE_SUFFIXES][:limit]
    if not paths:
        raise InputError(images, "has no pictures", f"Give {', '.join(PICTURE_SUFFIXES)} files")
    return _cut([(path, None) for path in paths], spec)


def _cut(places: list[tuple[Path, NDArray[np.float64] | None]], spec: ModelSpec) -> LabelledCrops:
    """One crop for each picture and box; consecutive boxes of a picture share its reading."""
    crops = np.empty((len(places), *spec.input_size_hw, 3), np.uint8)
    last, image = None, np.empty((0, 0, 3), np.uint8)
    for index, (path, box) in enumerate(places):
        if path != last:
            last, image = path, read_image(path)
        height, width = image.shape[:2]
        box_xywh = np.array([0, 0, width, height], np.float64) if box is None else box
        geometry = CropGeometry.from_boxes_xywh(
            box_xywh, spec.input_size_wh, padding=spec.box_padding
        )
        crop_into(image, geometry, crops[index : index + 1])
    return LabelledCrops(crops, _labels(places))


def _labels(places: list[tuple[Path, NDArray[np.float64] | None]]) -> tuple[str, ...]:
    """The picture, with the number of the person where boxes were given."""
    counted: Counter[Path] = Counter()
    labels = []
    for path, box in places:
        counted[path] += 1
        labels.append(str(path) if box is None else f"person {counted[path]} in {path}")
    return tuple(labels)
