"""Repairs of single annotations: keypoints, flags, boxes, area and counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.changes import Changes
from hrnet_deploy.datasets.check import flags_are_all_one
from hrnet_deploy.datasets.check_persons import FLAGS, outside_image
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.fields import EDGE_TOLERANCE, Record
from hrnet_deploy.values import is_number, is_whole

AREA_FROM_BOX = "area-from-box"
"""The rule's name in changes where no outline told the area: OKS gets milder, AP higher."""

Size = tuple[float, float] | None
_OF_KEYPOINTS = frozenset(
    {"visibility", "hide_outside_image", "hide_outside_box", "boxes", "counts"}
)


@dataclass(frozen=True)
class Plan:
    """What is done to every annotation: rules that are off, figures, facts of the whole file."""

    off: frozenset[str]
    box_margin: float
    area_factor: float
    only_ones: bool

    @classmethod
    def of(
        cls, document: Document, *, off: frozenset[str], box_margin: float, area_factor: float
    ) -> Plan:
        """The plan for one file."""
        return cls(off, box_margin, area_factor, flags_are_all_one(document))


def flatten(entry: Record, name: str, category: Record | None, changes: Changes) -> None:
    """Make one list x, y, v, ... of [[x, y], ...], [[x, y, v], ...] and x, y, x, y, ...; v is 2."""
    values = entry.get("keypoints")
    if not isinstance(values, list) or not values:
        return
    if all(isinstance(point, list) and len(point) in (2, 3) for point in values):
        points = [[*point, 2] if len(point) == 2 else point for point in values]
        flat: list[Any] = [int(v) if isinstance(v, bool) else v for p in points for v in p]
    else:
        flat = [int(v) if isinstance(v, bool) else v for v in values]
        count = len(fields.keypoint_names(category)) if category is not None else 0
        if count and len(flat) == 2 * count and len(flat) != 3 * count:
            flat = [v for x, y in zip(flat[::2], flat[1::2], strict=True) for v in (x, y, 2)]
    # Compared as text: true and 1 are equal here but not in a file.
    if fields.are_numbers(flat) and repr(flat) != repr(values):
        changes.set(entry, "keypoints", flat, "flatten", name)


def reorder(entries: list[Record], order: list[int], changes: Changes) -> None:
    """Put the keypoints of annotations into another order: new k is old ``order[k]``."""
    for entry in entries:
        points = fields.triplets(entry)
        if points is not None and len(points) == len(order):
            flat = [v for k in order for v in points[k]]
            changes.set(entry, "keypoints", flat, "keypoints", f"annotation {entry.get('id')}")


def repair(
    entry: Record, name: str, category: Record | None, size_wh: Size, plan: Plan, changes: Changes
) -> None:
    """Run all rules on one annotation.

    Keypoints of another number than the category's may be anything: they are left alone.
    """
    names = fields.keypoint_names(category) if category is not None else ()
    if names and len(fields.triplets(entry) or names) != len(names):
        plan = replace(plan, off=plan.off | _OF_KEYPOINTS)
    if "visibility" not in plan.off:
        _repair_flags(entry, name, plan, changes)
    if "clip" not in plan.off and size_wh is not None:
        _clip(entry, name, size_wh, changes)
    if "hide_outside_image" not in plan.off and size_wh is not None:
        size = size_wh
        _hide(entry, name, "hide-outside-image", lambda x, y: outside_image(x, y, size), changes)
    box = fields.box_of(entry)
    if "hide_outside_box" not in plan.off and box is not None and fields.has_extent(box):
        known = box
        _hide(
            entry, name, "hide-outside-box", lambda x, y: fields.outside_box(x, y, known), changes
        )
    if "boxes" not in plan.off:
        _make_box(entry, name, size_wh, plan, changes)
    if "area" not in plan.off:
        _compute_area(entry, name, plan, changes)
    if "counts" not in plan.off:
        _count(entry, name, category, changes)
    crowd = entry.get("iscrowd")
    if "crowd" not in plan.off and not (is_whole(crowd) and crowd in (0, 1)):
        changes.set(entry, "iscrowd", int(bool(crowd)), "crowd", name)


def _repair_flags(entry: Record, name: str, plan: Plan, changes: Changes) -> None:
    points = fields.triplets(entry)
    if points is None:
        return
    flat: list[float] = []
    altered = []
    for k, (x, y, v) in enumerate(points, start=1):
        flag = 0 if v <= 0 or (x == 0 and y == 0) else int(v) if v in FLAGS else 2
        if flag == 1 and plan.only_ones:
            flag = 2
        new = [x, y, flag] if flag else [0, 0, 0]
        if new != [x, y, v]:
            altered.append(f"keypoint {k} at {x:g}, {y:g}: v {v:g} -> {flag}")
        flat += new
    if altered:
        more = f", and {len(altered) - 1} more like it" if len(altered) > 1 else ""
        entry["keypoints"] = flat
        changes.add("visibility", name, altered[0] + more)


def _clip(entry: Record, name: str, size_wh: tuple[float, float], changes: Changes) -> None:
    box = fields.box_of(entry)
    if box is None or not fields.has_extent(box):
        return
    beyond = max(-box[0], -box[1], box[0] + box[2] - size_wh[0], box[1] + box[3] - size_wh[1])
    if beyond > EDGE_TOLERANCE:
        part = fields.clipped(box, size_wh)
        changes.set(entry, "bbox", list(part) if part else [0, 0, 0, 0], "clip", name)


def _hide(entry: Record, name: str, rule: str, is_outside: Any, changes: Changes) -> None:
    points = fields.triplets(entry)
    if points is None:
        return
    hidden = [k for k, (x, y, v) in enumerate(points) if v > 0 and is_outside(x, y)]
    if hidden:
        flat = list(entry["keypoints"])
        for k in hidden:
            x, y = points[k][:2]
            changes.add(rule, name, f"keypoint {k + 1} at {x:g}, {y:g} -> not labelled")
            flat[3 * k : 3 * k + 3] = [0, 0, 0]
        entry["keypoints"] = flat


def _make_box(entry: Record, name: str, size_wh: Size, plan: Plan, changes: Changes) -> None:
    """A box around outline or keypoints, where there is none; keypoints get some room."""
    if fields.has_extent(fields.box_of(entry)):
        return
    outlines = fields.polygons(entry)
    around = _outline_box(outlines) if outlines else None
    if around is None:
        around = fields.keypoint_box(fields.triplets(entry) or [])
        if around is None:
            return
        room = plan.box_margin * max(around[2:])
        # One keypoint alone, or a line of them, still gets a box with an extent.
        room = max(room, 1.0)
        around = (around[0] - room, around[1] - room, around[2] + 2 * room, around[3] + 2 * room)
    if size_wh is not None:
        around = fields.clipped(around, size_wh)
    if around is not None:
        changes.set(entry, "bbox", [round(v, 2) for v in around], "boxes", name)


def _outline_box(outlines: list[list[float]]) -> fields.Box | None:
    xs = [x for outline in outlines for x in outline[0::2]]
    ys = [y for outline in outlines for y in outline[1::2]]
    box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return box if fields.has_extent(box) else None


def _compute_area(entry: Record, name: str, plan: Plan, changes: Changes) -> None:
    """The area of the outline, or that of the box times the factor."""
    box = fields.box_of(entry)
    if fields.area_of(entry) is not None or box is None or not fields.has_extent(box):
        return
    area = sum(fields.polygon_area(outline) for outline in fields.polygons(entry))
    rule = "area"
    if area <= 0:
        area, rule = max(box[2] * box[3] * plan.area_factor, 0.01), AREA_FROM_BOX
    changes.set(entry, "area", round(area, 2), rule, name)


def _count(entry: Record, name: str, category: Record | None, changes: Changes) -> None:
    points = fields.triplets(entry) if "keypoints" in entry else None
    if points is None:
        if "keypoints" in entry or category is None or not fields.keypoint_names(category):
            return
        points = []
    labelled = sum(v > 0 for _, _, v in points)
    count = entry.get("num_keypoints")
    if not is_whole(count) or not is_number(count) or count != labelled:
        changes.set(entry, "num_keypoints", labelled, "counts", name)
