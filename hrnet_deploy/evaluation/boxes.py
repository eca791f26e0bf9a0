"""Which persons are evaluated, and in which boxes: the rules of the official HRNet code."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.evaluation.coco import Annotations, CocoImage
from hrnet_deploy.files import read_json
from hrnet_deploy.runtime.checks import MAX_COORDINATE
from hrnet_deploy.values import are_numbers, first_few, is_number

SCORE_THRESHOLD = 0.0
"""Detector boxes below this score are left out (official ``IMAGE_THRE``)."""

_BOXES_FORMAT = "Give COCO detections: image_id, category_id, bbox [x, y, width, height], score"
_WRONG_LAYOUT_MARGIN = 1.1


@dataclass(frozen=True)
class PersonBoxes:
    """M boxes, ordered by picture (the order of the annotation file) and then as they were given.

    ``image_index`` (M,) counts in ``Annotations.images``; ``boxes_xywh`` (M, 4) float64 pixels,
    ``scores`` (M,) float64, ``category_ids`` (M,). ``left_out`` counts what was not taken, by
    reason. M may be 0.
    """

    image_index: NDArray[np.intp]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    category_ids: NDArray[np.int64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def without_extent(self) -> int:
        """How many boxes have no width or no height; they are evaluated like the others."""
        return int((self.boxes_xywh[:, 2:] <= 0).any(axis=1).sum())

    def of_images(self, count: int) -> PersonBoxes:
        """The boxes of the first ``count`` pictures."""
        chosen = self.image_index < count
        return PersonBoxes(
            self.image_index[chosen],
            self.boxes_xywh[chosen],
            self.scores[chosen],
            self.category_ids[chosen],
            self.left_out,
        )

    def spans(self, images: int) -> list[slice]:
        """The boxes of each of ``images`` pictures, as slices."""
        edges = np.searchsorted(self.image_index, np.arange(images + 1))
        return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def ground_truth_boxes(annotations: Annotations) -> PersonBoxes:
    """The annotated persons: no crowd, area above 0, some keypoint; score 1.

    Boxes are clipped to the picture and lose one pixel of width and height, as officially.
    """
    position = {image.id: index for index, image in enumerate(annotations.images)}
    single = [entry for entry in annotations.annotations if not entry["iscrowd"]]
    persons = [entry for entry in single if entry["area"] > 0 and max(entry["keypoints"]) != 0]
    index = np.array([position[entry["image_id"]] for entry in persons], np.intp)
    sizes_wh = _sizes_wh(annotations, index)
    boxes, inside = _clipped(_array([entry["bbox"] for entry in persons], 4), sizes_wh)
    categories = np.array([entry["category_id"] for entry in persons], np.int64)
    left_out = {
        "crowds": len(annotations.annotations) - len(single),
        "without_area_or_keypoints": len(single) - len(persons),
        "outside_image": int((~inside).sum()),
    }
    return _ordered(
        index[inside], boxes[inside], np.ones(int(inside.sum())), categories[inside], left_out
    )


def read_boxes(
    path: Subject, annotations: Annotations, *, threshold: float = SCORE_THRESHOLD
) -> PersonBoxes:
    """Detector boxes of a COCO results file, of the evaluated categories and scored high enough.

    They are used as they are. Raises InputError for an empty list, images that the annotations do
    not know, no box of the right category, values of the wrong type, and corners (x1, y1, x2, y2).
    """
    entries = _entries(read_json(path, what="boxes file"), path)
    position = {image.id: index for index, image in enumerate(annotations.images)}
    _check_images(entries, position, path)
    chosen = set(annotations.categories)
    of_category = [entry for entry in entries if entry["category_id"] in chosen]
    if not of_category:
        found = sorted({entry["category_id"] for entry in entries})
        problem = f"has no box of category {first_few(annotations.categories)}"
        raise InputError(path, f"{problem} (found: {first_few(found)})", _BOXES_FORMAT)
    index = np.array([position[entry["image_id"]] for entry in of_category], np.intp)
    boxes = _array([entry["bbox"] for entry in of_category], 4)
    _refuse_corners(boxes, [annotations.images[i] for i in index], path)
    scores = np.array([entry["score"] for entry in of_category], np.float64)
    categories = np.array([entry["category_id"] for entry in of_category], np.int64)
    good = scores >= threshold
    left_out = {
        "other_categories": len(entries) - len(of_category),
        "below_score_threshold": int((~good).sum()),
    }
    return _ordered(index[good], boxes[good], scores[good], categories[good], left_out)


def _ordered(
    index: NDArray[np.intp],
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    categories: NDArray[np.int64],
    left_out: dict[str, int],
) -> PersonBoxes:
    order = np.argsort(index, kind="stable")
    return PersonBoxes(index[order], boxes[order], scores[order], categories[order], left_out)


def _array(rows: list[list[float]], columns: int) -> NDArray[np.float64]:
    return np.array(rows, np.float64).reshape(-1, columns)


def _sizes_wh(annotations: Annotations, index: NDArray[np.intp]) -> NDArray[np.float64]:
    for i in np.unique(index):
        image = annotations.images[i]
        if image.width is None or image.height is None:
            problem = f"image {image.id} has no width and height, which clip its persons' boxes"
            raise InputError(annotations.path, problem, "Add them, or give detector boxes")
    return _array([[im.width or 0, im.height or 0] for im in annotations.images], 2)[index]


def _clipped(
    boxes_xywh: NDArray[np.float64], sizes_wh: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes (M, 4) within their pictures and one pixel smaller; whether anything is left (M,)."""
    start = np.maximum(0, boxes_xywh[:, :2])
    end = np.minimum(sizes_wh - 1, start + np.maximum(0, boxes_xywh[:, 2:] - 1))
    return np.concatenate([start, end - start], axis=1), (end >= start).all(axis=1)


def _entries(content: Any, path: Subject) -> list[dict[str, Any]]:
    if not isinstance(content, list):
        raise InputError(path, "is not a list of boxes", _BOXES_FORMAT)
    if not content:
        raise InputError(path, "has no boxes (an empty list)", _BOXES_FORMAT)
    for index, entry in enumerate(content):
        problem = _fault(entry)
        if problem:
            raise InputError(path, f"box [{index}] {problem}", _BOXES_FORMAT)
    return content


def _fault(entry: Any) -> str | None:
    """What is wrong with one entry of a boxes file."""
    if not isinstance(entry, dict):
        return "is not an object"
    for key in ("image_id", "category_id", "bbox", "score"):
        if key not in entry:
            return f"has no '{key}'"
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not are_numbers(box):
        return f"has bbox {box!r}, not four finite numbers"
    if max(map(abs, box)) > MAX_COORDINATE:
        return f"has bbox {box!r}, beyond {MAX_COORDINATE:g} px"
    if not is_number(entry["score"]):
        return f"has score {entry['score']!r}, not a finite number"
    if not isinstance(entry["category_id"], int):
        return f"has category_id {entry['category_id']!r}, not a whole number"
    return None


def _check_images(entries: list[dict[str, Any]], position: dict[int, int], path: Subject) -> None:
    # A list, not a set: ids of any JSON type end in the same sentence.
    unknown = [entry["image_id"] for entry in entries if not _known(entry["image_id"], position)]
    if unknown:
        distinct = list(dict.fromkeys(map(str, unknown)))
        problem = (
            f"{len(unknown)} of {len(entries)} boxes are of {len(distinct)} images that the"
            f" annotations do not list: {first_few(distinct)}"
        )
        raise InputError(path, problem, "Give the boxes that were made for these images")


def _known(image_id: object, position: dict[int, int]) -> bool:
    return isinstance(image_id, int) and image_id in position


def _refuse_corners(boxes: NDArray[np.float64], images: list[CocoImage], path: Subject) -> None:
    """Recognise x1, y1, x2, y2: as corners all boxes lie inside, as sizes half of them leave."""
    sizes_wh = _array([[im.width or np.inf, im.height or np.inf] for im in images], 2)
    as_corners = (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes_wh + 1)
    beyond = (boxes[:, :2] + boxes[:, 2:] > sizes_wh * _WRONG_LAYOUT_MARGIN).any(axis=1)
    if as_corners.all() and beyond.mean() >= 0.5:
        problem = (
            f"looks like x1, y1, x2, y2: {int(beyond.sum())} of {len(boxes)} boxes leave their"
        )
        raise InputError(path, f"{problem} images as x, y, width, height", _BOXES_FORMAT)
