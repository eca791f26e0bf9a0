"""Keypoints that a tool exports apart from the shape that they belong to, and which shape it is.

DataTorch writes one annotation with the shape (bbox, area, segmentation) and another one with the
keypoints (empty bbox, area 0, empty segmentation); Label Studio's COCO export does the same with
rectangles of another category. A shape and keypoints belong together where most keypoints lie
within the shape; the best pairs of a picture are taken first, each half once.
"""

from __future__ import annotations

from collections import defaultdict

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.fields import Record

MIN_INSIDE = 0.5
"""So much of the keypoints has to lie within the box of a shape."""

ACROSS_CATEGORIES = ("label-studio", "cvat")
"""Tools where the rectangle of a person needs a label of its own."""

Pair = tuple[Record, Record]


def pairs_to_merge(document: Document) -> list[Pair]:
    """(keypoints, shape) records that are one person, in the order of the keypoints."""
    halves: dict[object, tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    for entry in document.annotations:
        if not isinstance(entry, dict) or isinstance(entry.get("image_id"), (list, dict)):
            continue
        if is_keypoint_half(entry):
            halves[entry.get("image_id")][0].append(entry)
        elif not fields.has_keypoints(entry) and fields.has_extent(fields.box_of(entry)):
            halves[entry.get("image_id")][1].append(entry)
    across = document.tool in ACROSS_CATEGORIES
    return [
        pair
        for points, shapes in halves.values()
        if points and shapes
        for pair in _pairs(points, shapes, across_categories=across)
    ]


def is_keypoint_half(entry: Record) -> bool:
    """Whether a record has keypoints but no shape of its own."""
    if not fields.has_keypoints(entry) or entry.get("segmentation"):
        return False
    # Label Studio puts the hull of the keypoints into bbox, but writes neither area nor shape.
    hull_only = "area" not in entry and "segmentation" not in entry
    return not fields.has_extent(fields.box_of(entry)) or hull_only


def _pairs(points: list[Record], shapes: list[Record], *, across_categories: bool) -> list[Pair]:
    scored = []
    for p, keypoints in enumerate(points):
        for s, shape in enumerate(shapes):
            same = keypoints.get("category_id") == shape.get("category_id")
            inside, fit = _match(keypoints, shape)
            if (same or across_categories) and inside >= MIN_INSIDE:
                scored.append((-inside, -fit, p, s))
    taken: dict[int, int] = {}
    for _, _, p, s in sorted(scored):
        if p not in taken and s not in taken.values():
            taken[p] = s
    return [(points[p], shapes[s]) for p, s in sorted(taken.items())]


def _match(keypoints: Record, shape: Record) -> tuple[float, float]:
    """How much of the keypoints lies in a shape, and how well their hull fills its box (IoU)."""
    labelled = [(x, y) for x, y, v in fields.triplets(keypoints) or [] if v > 0]
    box = fields.box_of(shape)
    if not labelled or box is None:
        return 0.0, 0.0
    in_box = sum(not fields.outside_box(x, y, box) for x, y in labelled) / len(labelled)
    outlines = fields.polygons(shape)
    inside = in_box
    if outlines:
        hits = sum(any(fields.inside_polygon(x, y, o) for o in outlines) for x, y in labelled)
        # The outline decides among shapes whose boxes overlap; the box counts where it is coarse.
        inside = (in_box + hits / len(labelled)) / 2 if in_box >= MIN_INSIDE else 0.0
    hull = fields.keypoint_box(fields.triplets(keypoints) or [])
    return inside, _overlap(hull, box) if hull else 0.0


def _overlap(a: fields.Box, b: fields.Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    union = a[2] * a[3] + b[2] * b[3] - common
    return common / union if union > 0 else 0.0


def merged(keypoints: Record, shape: Record) -> Record:
    """One record: the shape's place, box, area and outline, with the keypoints (and their kind)."""
    return {
        **shape,
        "category_id": keypoints.get("category_id"),
        "keypoints": keypoints["keypoints"],
    }
