"""The fields of COCO records as they really come: absent, empty, of the wrong type."""

from __future__ import annotations

import functools
import re
from typing import Any, TypeGuard

from hrnet_deploy import values as values_of
from hrnet_deploy.values import is_number

Box = tuple[float, float, float, float]
Record = dict[str, Any]

SMALL_BELOW = 32.0**2
LARGE_FROM = 96.0**2
"""COCO's size classes by area in px^2 (cocoapi, ``cocoeval.py``, ``Params.areaRng``)."""
SIZES = ("small", "medium", "large")

BOX_TOLERANCE = 1.0
"""A keypoint names a pixel, a box edge lies between two: so far outside counts as inside."""
EDGE_TOLERANCE = 0.01
"""Boxes are rounded when they are written; so much past the picture is no fault."""


def name_of(record: Record, kind: str, index: int) -> str:
    """How a record is called in messages: "annotation 12", or by its place where it has no id."""
    identity = record.get("id") if isinstance(record, dict) else None
    if isinstance(identity, (int, str)) and not isinstance(identity, bool):
        return f"{kind} {identity}"
    return f"{kind}s[{index}]" if kind != "category" else f"categories[{index}]"


@functools.lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A name without case and separators: "Left Eye" and "left_eye" are the same keypoint."""
    return re.sub(r"[\W_]+", "", name.lower())


def box_of(record: Record) -> Box | None:
    """The box (x, y, width, height) in pixels, None where it is absent or not four numbers."""
    box = record.get("bbox")
    if not are_numbers(box) or len(box) != 4:
        return None
    x, y, width, height = map(float, box)
    return x, y, width, height


def has_extent(box: Box | None) -> bool:
    """Whether a box is there and has width and height."""
    return box is not None and box[2] > 0 and box[3] > 0


def size_of(image: Record) -> tuple[float, float] | None:
    """Width and height of a picture as its record states them, None where it does not."""
    width, height = image.get("width"), image.get("height")
    if not (is_number(width) and is_number(height)) or width <= 0 or height <= 0:
        return None
    return float(width), float(height)


def clipped(box: Box, size_wh: tuple[float, float]) -> Box | None:
    """The part of a box within its picture; None where nothing of it is."""
    x1, y1 = max(0.0, box[0]), max(0.0, box[1])
    x2, y2 = min(size_wh[0], box[0] + box[2]), min(size_wh[1], box[1] + box[3])
    return (x1, y1, x2 - x1, y2 - y1) if x2 > x1 and y2 > y1 else None


def are_numbers(values: object) -> TypeGuard[list[float]]:
    """Whether this is a list of finite numbers (true and false are not)."""
    return isinstance(values, list) and values_of.are_numbers(values)


def triplets(record: Record) -> list[tuple[float, float, float]] | None:
    """The keypoints as (x, y, v); None where they are absent or not in COCO's form."""
    values = record.get("keypoints")
    if not are_numbers(values) or len(values) % 3:
        return None
    return list(zip(values[0::3], values[1::3], values[2::3], strict=True))


def has_keypoints(record: Record) -> bool:
    """Whether a record holds any labelled keypoint, in whatever form."""
    values = record.get("keypoints")
    if not isinstance(values, list) or not values:
        return False
    # Called several times for each record: the flags alone, without a look at the rest.
    return isinstance(values[0], list) or len(values) % 3 != 0 or any(values[2::3])


def keypoint_box(points: list[tuple[float, float, float]]) -> Box | None:
    """The smallest box around the labelled keypoints; None where there are none."""
    xs = [x for x, _, v in points if v > 0]
    ys = [y for _, y, v in points if v > 0]
    if not xs:
        return None
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def outside_box(x: float, y: float, box: Box, tolerance: float = BOX_TOLERANCE) -> bool:
    """Whether a point lies outside a box by more than ``tolerance`` pixels."""
    return not (
        box[0] - tolerance <= x <= box[0] + box[2] + tolerance
        and box[1] - tolerance <= y <= box[1] + box[3] + tolerance
    )


def polygons(record: Record) -> list[list[float]]:
    """The polygons of a segmentation as x, y, x, y, ...; run lengths and damage give none."""
    parts = record.get("segmentation")
    if not isinstance(parts, list):
        return []
    return [part for part in parts if are_numbers(part) and len(part) >= 6 and not len(part) % 2]


def polygon_area(polygon: list[float]) -> float:
    """The area in px^2 that a polygon encloses."""
    xs, ys = polygon[0::2], polygon[1::2]
    count = len(xs)
    twice = sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(count))
    return abs(twice) / 2


def inside_polygon(x: float, y: float, polygon: list[float]) -> bool:
    """Whether a point lies within a polygon (even-odd rule)."""
    xs, ys = polygon[0::2], polygon[1::2]
    inside = False
    for i in range(len(xs)):
        if (ys[i] > y) != (ys[i - 1] > y):
            crossing = xs[i] + (y - ys[i]) / (ys[i - 1] - ys[i]) * (xs[i - 1] - xs[i])
            inside ^= x < crossing
    return inside


def area_of(record: Record) -> float | None:
    """The stated area in px^2, None where it is absent or not above 0."""
    area = record.get("area")
    return float(area) if area is not None and is_number(area) and area > 0 else None


def size_class(area: float) -> str:
    """COCO's size class of an area in px^2."""
    return "small" if area < SMALL_BELOW else "medium" if area < LARGE_FROM else "large"


def is_crowd(record: Record) -> bool:
    """Whether a record marks a group instead of one person."""
    return bool(record.get("iscrowd"))


def keypoint_names(category: Record) -> tuple[str, ...]:
    """The names of a category's keypoints; () where it has none or they are no list of names."""
    names = category.get("keypoints")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)
