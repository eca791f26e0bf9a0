"""What can be wrong with one annotation: box, keypoints, flags, counts, area."""

from __future__ import annotations

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.fields import BOX_TOLERANCE, EDGE_TOLERANCE, Box, Record, plain
from hrnet_deploy.datasets.orientation import swap_suspicion
from hrnet_deploy.datasets.problems import Findings
from hrnet_deploy.values import is_whole

Points = list[tuple[float, float, float]]
FLAGS = (0, 1, 2)
SAME_AREA = 0.001
"""No outline of a person fills its box so nearly."""


def check_person(
    entry: Record,
    name: str,
    *,
    image: Record | None,
    category: Record | None,
    shape: Record | None,
    is_shape: bool,
    only_ones: bool,
    outside_hides: bool,
    findings: Findings,
) -> None:
    """Add the problems of one annotation.

    ``shape`` is the other half of keypoints that stand apart from their box; ``is_shape`` says that
    this is such a half itself.
    ``only_ones``: no keypoint of the file has v = 2. ``outside_hides``: the file comes from a tool
    where a keypoint outside its box means that it is not visible.
    """
    size_wh = fields.size_of(image) if image is not None else None
    if shape is not None:
        box = fields.box_of(shape)
    else:
        box = _check_box(entry, name, size_wh, findings)
        _check_area(entry, name, box, findings)
    if not _is_flag(entry.get("iscrowd")):
        findings.add("iscrowd-missing", f"{name} ({entry.get('iscrowd')!r})")
    names = fields.keypoint_names(category) if category is not None else ()
    if "keypoints" not in entry:
        if names and not is_shape:
            findings.add("keypoints-missing", name)
        return
    points = fields.triplets(entry)
    if points is None:
        findings.add("keypoints-form", name)
        return
    if names and len(points) != len(names):
        findings.add("keypoints-count", f"{name} ({len(points)} of {len(names)})")
        return
    labelled = sum(v > 0 for _, _, v in points)
    _check_count(entry, name, labelled, findings)
    if labelled and only_ones:
        findings.add("visibility-one", name)
    labels = names or tuple(str(k + 1) for k in range(len(points)))
    _check_points(points, labels, name, size_wh, box, outside_hides, findings)
    if names and labelled and not fields.is_crowd(entry):
        named = {plain(n): p for n, p in zip(names, points, strict=True) if p[2] > 0}
        if why := swap_suspicion(named):
            findings.add("swap-suspected", f"{name}: {why}")


def _is_flag(value: object) -> bool:
    return value in (0, 1) and is_whole(value)


def _check_box(
    entry: Record, name: str, size_wh: tuple[float, float] | None, findings: Findings
) -> Box | None:
    """Add what is wrong with the box; it is returned where it has an extent."""
    box = fields.box_of(entry)
    if box is None:
        findings.add("bbox-missing", f"{name} ({entry.get('bbox')!r})")
        return None
    text = ", ".join(f"{value:g}" for value in box)
    if not fields.has_extent(box):
        findings.add("bbox-empty", f"{name} ({text})")
        return None
    if min(box[:2]) < -EDGE_TOLERANCE:
        findings.add("bbox-negative", f"{name} ({text})")
    if size_wh is not None and (
        box[0] + box[2] > size_wh[0] + EDGE_TOLERANCE
        or box[1] + box[3] > size_wh[1] + EDGE_TOLERANCE
    ):
        findings.add("bbox-outside", f"{name} ({text} in {size_wh[0]:g}x{size_wh[1]:g})")
    return box


def _check_area(entry: Record, name: str, box: Box | None, findings: Findings) -> None:
    if fields.area_of(entry) is None:
        findings.add("area-missing", f"{name} ({entry.get('area')!r})")
        return
    if box is None:
        return
    text = f"{name} ({entry['area']:g} of {box[2] * box[3]:g} px2)"
    if entry["area"] > (box[2] + 1) * (box[3] + 1) + 1:
        findings.add("area-beyond-box", text)
    elif abs(entry["area"] - box[2] * box[3]) <= SAME_AREA * box[2] * box[3]:
        findings.add("area-of-box", text)


def _check_count(entry: Record, name: str, labelled: int, findings: Findings) -> None:
    count = entry.get("num_keypoints")
    if not is_whole(count):
        findings.add("num-keypoints-missing", name)
    elif count != labelled:
        findings.add("num-keypoints-wrong", f"{name} ({count}, labelled are {labelled})")


def _check_points(
    points: Points,
    labels: tuple[str, ...],
    name: str,
    size_wh: tuple[float, float] | None,
    box: Box | None,
    outside_hides: bool,
    findings: Findings,
) -> None:
    for label, (x, y, v) in zip(labels, points, strict=True):
        if v not in FLAGS:
            findings.add("visibility", f"{name}, {label} (v = {v:g})")
        elif v == 0:
            if x != 0 or y != 0:
                findings.add("visibility-zero", f"{name}, {label} ({x:g}, {y:g})")
            continue
        if x == 0 and y == 0:
            findings.add("visibility-origin", f"{name}, {label}")
        elif size_wh is not None and outside_image(x, y, size_wh):
            findings.add("keypoint-outside-image", f"{name}, {label} ({x:g}, {y:g})")
        elif box is not None and fields.outside_box(x, y, box):
            code = "keypoint-outside-box" if outside_hides else "keypoint-beyond-box"
            findings.add(code, f"{name}, {label} ({x:g}, {y:g})")


def outside_image(x: float, y: float, size_wh: tuple[float, float]) -> bool:
    """Whether a point lies outside its picture by more than the tolerance."""
    return fields.outside_box(x, y, (0.0, 0.0, *size_wh), BOX_TOLERANCE)
