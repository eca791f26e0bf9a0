"""CVAT's own export, "CVAT for images 1.1" (XML): skeletons, boxes, outlines, grouped points.

A skeleton holds one ``points`` element a keypoint: outside="1" is not there (v = 0), occluded="1"
is hidden (v = 1). A box belongs to the skeleton of its group_id, or else to the one that it holds.
Points without a skeleton make a person by their group_id, one label a keypoint, or all keypoints of
a person stand in one element, in the order of the keypoint set.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from hrnet_deploy.datasets.xml_tree import parse_xml, read_xml
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.keypoints import KeypointSet

_FORMATS = "Export the task as 'CVAT for images 1.1' or 'COCO Keypoints 1.0'"
_PERSON = "person"
_NO_GROUP = "0"
Corners = tuple[float, float, float, float]


@dataclass
class _Reading:
    """What was read so far; ``keypoints`` and ``links`` are those of each category, by name."""

    path: Subject
    wanted: KeypointSet | None
    keypoints: dict[str, list[str]] = field(default_factory=dict)
    links: dict[str, list[list[int]]] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_cvat(path: Subject, wanted: KeypointSet | None) -> tuple[dict[str, Any], list[str]]:
    """The export as COCO content, and notes on what was left out.

    ``wanted`` gives the names where points stand in one element. Raises InputError naming the image
    for damaged values, and for CVAT's export of videos.
    """
    root = read_xml(path)
    if root.tag != "annotations" or root.find("meta") is None:
        raise InputError(path, f"is XML of <{root.tag}>, not a CVAT export", _FORMATS)
    if root.find("track") is not None:
        raise InputError(path, "is a CVAT export of a video (it has tracks)", _FORMATS)
    reading = _Reading(path, wanted)
    _read_labels(root, reading)
    images = []
    for image_id, element in enumerate(root.findall("image"), start=1):
        images.append(_image(element, image_id, path))
        _read_shapes(element, image_id, reading)
    if not images:
        raise InputError(path, "lists no images", _FORMATS)
    notes = [f"{n} <{tag}> left out: no persons" for tag, n in sorted(reading.left_out.items())]
    return _content(images, reading), notes


def _read_labels(root: Element, reading: _Reading) -> None:
    """Keypoint names of each skeleton in their order, and its links from the drawn template."""
    labels = [label for labels in root.findall("meta//labels") for label in labels.iter("label")]
    for label in labels:
        parent, name = label.findtext("parent"), label.findtext("name")
        if parent and name:
            reading.keypoints.setdefault(parent, []).append(name)
    for label in labels:
        name, svg = label.findtext("name"), label.findtext("svg")
        if name in reading.keypoints and svg:
            reading.links[name] = _links(svg, reading.keypoints[name], reading.path)


def _links(svg: str, names: list[str], path: Subject) -> list[list[int]]:
    """Links, counted from one, of a skeleton's template: nodes name their label, edges two nodes.

    A template that is damaged or of another form gives none.
    """
    try:
        root = parse_xml(f"<svg>{svg}</svg>".encode(), source=path)
    except InputError:
        return []
    nodes = {
        node.get("data-node-id"): node.get("data-label-name")
        for node in root.iter("circle")
        if node.get("data-label-name") in names
    }
    links = []
    for edge in root.iter("line"):
        ends = [nodes.get(edge.get(f"data-node-{end}")) for end in ("from", "to")]
        if ends[0] is not None and ends[1] is not None:
            links.append([names.index(str(end)) + 1 for end in ends])
    return links


def _image(element: Element, image_id: int, path: Subject) -> dict[str, Any]:
    name = element.get("name")
    if not name:
        raise InputError(path, f"image number {image_id} has no name", "Export it again")
    place = f"image {name}"
    return {
        "id": image_id,
        "file_name": name,
        "width": round(_number(element.get("width"), "width", place, path)),
        "height": round(_number(element.get("height"), "height", place, path)),
    }


def _read_shapes(image: Element, image_id: int, reading: _Reading) -> None:
    grouped: dict[str, list[Element]] = {}
    skeleton_groups = {shape.get("group_id") for shape in image.findall("skeleton")}
    boxes: dict[str, dict[str, Any]] = {}
    place = f"image {image.get('name')}"
    for shape in image:
        label, group = shape.get("label") or _PERSON, shape.get("group_id") or _NO_GROUP
        if shape.tag == "skeleton":
            points = {p.get("label") or "": p for p in shape.findall("points")}
            reading.annotations.append(_skeleton(points, label, image_id, place, reading))
            reading.annotations[-1]["group"] = group
        elif shape.tag == "points" and group != _NO_GROUP and group not in skeleton_groups:
            grouped.setdefault(group, []).append(shape)
        elif shape.tag == "points":
            _lone_points(shape, label, image_id, place, reading)
        elif shape.tag in ("box", "polygon"):
            box = _box(shape, label, image_id, place, reading.path)
            if group == _NO_GROUP or group in boxes:
                reading.annotations.append(box)
            else:
                boxes[group] = box
        else:
            reading.left_out[shape.tag] += 1
    for group, shapes in grouped.items():
        label = boxes[group]["label"] if group in boxes else _PERSON
        points = {p.get("label") or "": p for p in shapes}
        reading.annotations.append(_skeleton(points, label, image_id, place, reading))
        reading.annotations[-1]["group"] = group
    _join_groups(reading.annotations, boxes, image_id)


def _join_groups(
    annotations: list[dict[str, Any]], boxes: dict[str, dict[str, Any]], image_id: int
) -> None:
    for entry in annotations:
        group = entry.pop("group", None)
        if entry["image_id"] == image_id and group in boxes and "points" in entry:
            box = boxes.pop(group)
            entry.update({key: box[key] for key in ("bbox", "segmentation", "area")})
    annotations.extend(boxes.values())


def _skeleton(
    points: dict[str, Element], label: str, image_id: int, place: str, reading: _Reading
) -> dict[str, Any]:
    """A person by keypoint name; names that the head of the file does not list are added."""
    names = reading.keypoints.setdefault(label, [])
    named = {}
    for name, element in points.items():
        ((x, y),) = _pairs(element, f"{place}, {label} {name}", reading.path, count=1)
        if name not in names:
            names.append(name)
        named[name] = [x, y, _flag(element)] if _flag(element) else [0, 0, 0]
    return {"image_id": image_id, "label": label, "points": named, "segmentation": [], "bbox": []}


def _flag(element: Element) -> int:
    if element.get("outside") == "1":
        return 0
    return 1 if element.get("occluded") == "1" else 2


def _lone_points(shape: Element, label: str, image_id: int, place: str, reading: _Reading) -> None:
    """All keypoints of a person in one element, if their number is that of the wanted set."""
    pairs = _pairs(shape, f"{place}, {label}", reading.path)
    if reading.wanted is None or len(pairs) != reading.wanted.count:
        reading.left_out["points"] += 1
        return
    names = reading.keypoints.setdefault(label, [])
    names.extend(name for name in reading.wanted.names if name not in names)
    flag = _flag(shape)
    named = {n: [x, y, flag] for n, (x, y) in zip(reading.wanted.names, pairs, strict=True)}
    reading.annotations.append(
        {"image_id": image_id, "label": label, "points": named, "segmentation": [], "bbox": []}
    )


def _box(shape: Element, label: str, image_id: int, place: str, path: Subject) -> dict[str, Any]:
    place = f"{place}, {label}"
    if shape.tag == "polygon":
        outline = [value for pair in _pairs(shape, place, path) for value in pair]
        xs, ys = outline[0::2], outline[1::2]
        corners, segmentation = (min(xs), min(ys), max(xs), max(ys)), [outline]
    else:
        x1, y1, x2, y2 = (
            _number(shape.get(key), key, place, path) for key in ("xtl", "ytl", "xbr", "ybr")
        )
        corners = _turned(
            (x1, y1, x2, y2), _number(shape.get("rotation", "0"), "rotation", place, path)
        )
        segmentation = []
    x1, y1, x2, y2 = corners
    return {
        "image_id": image_id,
        "label": label,
        "segmentation": segmentation,
        "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
        "area": 0,
    }


def _turned(corners: Corners, degrees: float) -> Corners:
    """The upright box around a box that is turned about its middle."""
    x1, y1, x2, y2 = corners
    if not degrees:
        return corners
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width = (x2 - x1) * cos + (y2 - y1) * sin
    height = (x2 - x1) * sin + (y2 - y1) * cos
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _pairs(
    element: Element, place: str, path: Subject, *, count: int | None = None
) -> list[tuple[float, float]]:
    """The points "x,y;x,y" of an element."""
    text = element.get("points") or ""
    pairs = [pair.split(",") for pair in text.split(";")]
    if any(len(pair) != 2 for pair in pairs) or (count is not None and len(pairs) != count):
        raise InputError(path, f"{place} has points '{text[:40]}'", "Export it again")
    return [
        (_number(x, "points", place, path), _number(y, "points", place, path)) for x, y in pairs
    ]


def _number(text: str | None, key: str, place: str, path: Subject) -> float:
    # Not float(): that takes "nan", "1_0" and "inf" too.
    if text is None or not re.fullmatch(r"-?\d{1,9}(\.\d{1,12})?", text.strip()):
        raise InputError(path, f"{place} has {key} {text!r}, not a number", "Export it again")
    return float(text)


def _content(images: list[dict[str, Any]], reading: _Reading) -> dict[str, Any]:
    used = dict.fromkeys([*reading.keypoints, *(a["label"] for a in reading.annotations)])
    ids = {label: number for number, label in enumerate(used, start=1)}
    annotations: list[dict[str, Any]] = []
    for number, entry in enumerate(reading.annotations, start=1):
        names = reading.keypoints.get(entry["label"], [])
        record = {"id": number, "image_id": entry["image_id"], "category_id": ids[entry["label"]]}
        if "points" in entry:
            record["keypoints"] = _flat(entry["points"], names)
        record |= {"bbox": entry["bbox"], "segmentation": entry["segmentation"]}
        record |= {"area": entry.get("area", 0), "iscrowd": 0}
        annotations.append(record)
    categories = []
    for label, number in ids.items():
        category: dict[str, Any] = {"id": number, "name": label, "supercategory": label}
        if reading.keypoints.get(label):
            category["keypoints"] = reading.keypoints[label]
            category["skeleton"] = reading.links.get(label, [])
        categories.append(category)
    info = {"description": "converted from CVAT for images 1.1"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _flat(points: dict[str, list[float]], names: Sequence[str]) -> list[float]:
    return [value for name in names for value in points.get(name, [0, 0, 0])]
