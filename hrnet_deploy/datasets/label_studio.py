"""Label Studio's own export (JSON): rectangles and keypoints of each task, in percent.

Keypoints belong to the rectangle (or polygon) that they are children of (``parentID``) or have a
relation to; without either, to the smallest one around them that has no keypoint of that name yet;
in a task without any rectangle all of them are one person. Label Studio has no flag for a hidden
keypoint: a choice of its region named hidden, occluded or "not visible" gives v = 1, anything else
v = 2. Of several annotations of a task the latest that was not cancelled counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.fields import plain
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.keypoints import KEYPOINT_SETS, KeypointSet
from hrnet_deploy.values import is_number, is_whole

HIDDEN_CHOICES = frozenset({"hidden", "occluded", "invisible", "notvisible"})
_PERSON = "person"
_UPLOAD = re.compile(r"^/data/upload/\d+/")
_LOCAL = re.compile(r"^/data/local-files/\?d=")
_EXPORT = "Export it again as JSON"


@dataclass
class _Shape:
    """A rectangle or an outline of a task, with the keypoints found for it by name."""

    label: str
    box: fields.Box
    outline: list[float] | None
    points: dict[str, list[float]] = field(default_factory=dict)


def read_label_studio(
    tasks: list[Any], path: Subject, wanted: KeypointSet | None
) -> tuple[dict[str, Any], list[str]]:
    """The tasks as COCO content, and notes.

    ``wanted`` gives the order of the keypoints; without it they get that of the first known set
    that has all their names, or else the order of their names. Raises InputError naming the task
    for damaged values and for pictures that were turned while they were annotated.
    """
    images, persons, notes = [], [], []
    for place, task in enumerate(tasks):
        name = f"task {task['id']}" if isinstance(task, dict) and "id" in task else f"[{place}]"
        results, more = _results(task, name, path)
        notes += more
        image_id = task["id"] if is_whole(task.get("id")) else place + 1
        images.append(_image(task, image_id, results, name, path))
        found, more = _persons(results, name, path)
        notes += more
        persons += [(image_id, person) for person in found]
    names = _order({name for _, person in persons for name in person.points}, wanted, notes)
    return _content(images, persons, names), notes


def _results(task: Any, name: str, path: Subject) -> tuple[list[dict[str, Any]], list[str]]:
    annotations = None
    if isinstance(task, dict):
        annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise InputError(path, f"{name} has no list 'annotations'", _EXPORT)
    good = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
    notes = []
    if len(good) > 1:
        notes.append(f"{name} has {len(good)} annotations; the latest counts")
    latest: dict[str, Any] = max(good, key=lambda a: str(a.get("created_at", "")), default={})
    results = latest.get("result", [])
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise InputError(path, f"{name} has a result that is no list of objects", _EXPORT)
    return results, notes


def _image(
    task: dict[str, Any], image_id: int, results: list[dict[str, Any]], name: str, path: Subject
) -> dict[str, Any]:
    data = task.get("data")
    texts = [v for v in data.values() if isinstance(v, str)] if isinstance(data, dict) else []
    source = data.get("image") if isinstance(data, dict) else None
    source = source if isinstance(source, str) else next(iter(texts), None)
    if not source:
        raise InputError(path, f"{name} names no picture (data.image)", _EXPORT)
    image: dict[str, Any] = {"id": image_id, "file_name": file_name_of(source)}
    for result in results:
        if is_number(result.get("original_width")) and is_number(result.get("original_height")):
            image["width"] = round(result["original_width"])
            image["height"] = round(result["original_height"])
            break
    return image


def file_name_of(source: str) -> str:
    """The file of a picture that Label Studio names by URL, upload or local path."""
    text = _LOCAL.sub("", _UPLOAD.sub("", source))
    if "://" in text or text.startswith("/"):
        text = text.split("?")[0].split("#")[0].rstrip("/").split("/")[-1]
    return _unquoted(text)


def _unquoted(text: str) -> str:
    """Percent signs of a URL as the characters that they stand for."""
    octets = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return octets.decode("utf-8", "replace")


def _persons(
    results: list[dict[str, Any]], name: str, path: Subject
) -> tuple[list[_Shape], list[str]]:
    shapes: dict[str, _Shape] = {}
    points: list[tuple[str, str, float, float, str | None]] = []
    hidden = _hidden_regions(results)
    parents = _parents(results)
    for result in results:
        kind, region = result.get("type"), str(result.get("id"))
        if kind in ("rectanglelabels", "polygonlabels", "rectangle", "polygon"):
            shapes[region] = _shape(result, name, path)
        elif kind == "keypointlabels":
            label = _label(result, name, path)
            x, y = _pixels(result, name, path)
            points.append((region, label, x, y, parents.get(region)))
    notes: list[str] = []
    shared = 0
    if not shapes and points:
        shapes[""] = _Shape(_PERSON, (0.0, 0.0, 0.0, 0.0), None)
    # Those with a parent first: they take their names before the others are shared out.
    for region, label, x, y, parent in sorted(points, key=lambda p: p[4] not in shapes):
        shape = shapes.get(parent or "")
        if shape is None:
            around = _around(shapes.values(), x, y)
            shared += len(around) > 1
            shape = next(
                (s for s in around if label not in s.points), around[0] if around else None
            )
        if shape is None:
            notes.append(f"{name}: '{label}' at {x:.0f}, {y:.0f} lies in no rectangle; left out")
        elif label in shape.points:
            notes.append(f"{name}: '{label}' stands twice in one person; the first counts")
        else:
            shape.points[label] = [x, y, 1 if region in hidden else 2]
    if shared:
        notes.append(
            f"{name}: {shared} keypoints lie in several rectangles and went to the smallest; "
            "make them children of theirs to be sure"
        )
    return list(shapes.values()), notes


def _hidden_regions(results: list[dict[str, Any]]) -> set[str]:
    hidden = set()
    for result in results:
        value = result.get("value")
        choices = value.get("choices") if isinstance(value, dict) else None
        if isinstance(choices, list) and {plain(str(c)) for c in choices} & HIDDEN_CHOICES:
            hidden.add(str(result.get("id")))
    return hidden


def _parents(results: list[dict[str, Any]]) -> dict[str, str]:
    """The region that each region belongs to, by parentID or by relation in either direction."""
    parents: dict[str, str] = {}
    kinds = {str(r.get("id")): r.get("type") for r in results if "id" in r}
    for result in results:
        if result.get("type") == "relation":
            ends = [str(result.get("from_id")), str(result.get("to_id"))]
            for child, parent in (ends, ends[::-1]):
                if kinds.get(child) == "keypointlabels" != kinds.get(parent):
                    parents.setdefault(child, parent)
        elif result.get("parentID"):
            parents[str(result.get("id"))] = str(result["parentID"])
    return parents


def _around(shapes: Iterable[_Shape], x: float, y: float) -> list[_Shape]:
    """The shapes around a point, the smallest first."""
    fitting = [s for s in shapes if _is_whole(s) or not fields.outside_box(x, y, s.box)]
    return sorted(fitting, key=lambda s: s.box[2] * s.box[3])


def _is_whole(shape: _Shape) -> bool:
    """Whether this stands for the only person of a task without rectangles."""
    return not fields.has_extent(shape.box) and shape.outline is None


def _value(result: dict[str, Any], name: str, path: Subject) -> dict[str, Any]:
    value = result.get("value")
    if not isinstance(value, dict):
        raise InputError(path, f"{name} has a region without value", _EXPORT)
    if result.get("image_rotation"):
        problem = f"{name} was annotated on a picture turned by {result['image_rotation']} degrees"
        raise InputError(path, problem, "Turn the picture itself and annotate it again")
    return value


def _label(result: dict[str, Any], name: str, path: Subject) -> str:
    value = _value(result, name, path)
    for key in ("keypointlabels", "rectanglelabels", "polygonlabels", "labels"):
        labels = value.get(key)
        if isinstance(labels, list) and labels and isinstance(labels[0], str):
            return labels[0]
    if result.get("type") == "keypointlabels":
        raise InputError(path, f"{name} has a keypoint without a label", "Label it")
    return _PERSON


def _scale(result: dict[str, Any], name: str, path: Subject) -> tuple[float, float]:
    """Pixels of one percent, across and down."""
    size = fields.size_of(
        {"width": result.get("original_width"), "height": result.get("original_height")}
    )
    if size is None:
        raise InputError(path, f"{name} has a region without original_width and height", _EXPORT)
    return size[0] / 100, size[1] / 100


def _numbers(value: dict[str, Any], keys: tuple[str, ...], name: str, path: Subject) -> list[float]:
    for key in keys:
        if not is_number(value.get(key)):
            raise InputError(path, f"{name} has {key} {value.get(key)!r}, not a number", _EXPORT)
    return [float(value[key]) for key in keys]


def _pixels(result: dict[str, Any], name: str, path: Subject) -> tuple[float, float]:
    x, y = _numbers(_value(result, name, path), ("x", "y"), name, path)
    across, down = _scale(result, name, path)
    return round(x * across, 3), round(y * down, 3)


def _shape(result: dict[str, Any], name: str, path: Subject) -> _Shape:
    value, label = _value(result, name, path), _label(result, name, path)
    across, down = _scale(result, name, path)
    if "points" in value:
        pairs = value["points"]
        if not isinstance(pairs, list) or not all(
            fields.are_numbers(pair) and len(pair) == 2 for pair in pairs
        ):
            raise InputError(path, f"{name} has a polygon that is no list of points", _EXPORT)
        outline = [round(v, 3) for x, y in pairs for v in (x * across, y * down)]
        return _Shape(label, _hull(outline), outline)
    x, y, width, height = _numbers(value, ("x", "y", "width", "height"), name, path)
    turn = value.get("rotation", 0)
    angle = math.radians(turn) if is_number(turn) else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    w, h = width * across, height * down
    # Turned about its upper left corner, clockwise; the box is the upright one around it.
    offsets = (
        (0.0, 0.0),
        (w * cos, w * sin),
        (w * cos - h * sin, w * sin + h * cos),
        (-h * sin, h * cos),
    )
    corners = [v for dx, dy in offsets for v in (x * across + dx, y * down + dy)]
    return _Shape(label, _hull(corners), None)


def _hull(values: list[float]) -> fields.Box:
    xs, ys = values[0::2], values[1::2]
    if not xs:
        return (0.0, 0.0, 0.0, 0.0)
    box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return (round(box[0], 3), round(box[1], 3), round(box[2], 3), round(box[3], 3))


def _order(found: set[str], wanted: KeypointSet | None, notes: list[str]) -> list[str]:
    """The keypoint names of the file, in order; notes say where the order comes from."""
    plain_found = {plain(name) for name in found}
    sets = [wanted] if wanted is not None else list(KEYPOINT_SETS.values())
    for known in sets:
        if plain_found and plain_found <= {plain(name) for name in known.names}:
            if wanted is None:
                notes.append(f"keypoints are taken as {known.name}, which has all their names")
            return list(known.names)
    if wanted is not None and found:
        strange = sorted(name for name in found if plain(name) not in map(plain, wanted.names))
        notes.append(f"keypoints that {wanted.name} does not have are left out: {strange}")
        return list(wanted.names)
    if found:
        notes.append("keypoints are in the order of their names; give --keypoints for another one")
    return sorted(found)


def _content(
    images: list[dict[str, Any]], persons: list[tuple[int, _Shape]], names: list[str]
) -> dict[str, Any]:
    labels = list(dict.fromkeys(person.label for _, person in persons)) or [_PERSON]
    ids = {label: number for number, label in enumerate(labels, start=1)}
    annotations = []
    for number, (image_id, person) in enumerate(persons, start=1):
        named = {plain(name): point for name, point in person.points.items()}
        entry: dict[str, Any] = {
            "id": number,
            "image_id": image_id,
            "category_id": ids[person.label],
            "bbox": list(person.box) if fields.has_extent(person.box) else [],
            "segmentation": [person.outline] if person.outline else [],
            "iscrowd": 0,
        }
        if names:
            entry["keypoints"] = [v for n in names for v in named.get(plain(n), [0, 0, 0])]
        annotations.append(entry)
    categories = [
        {
            "id": ids[label],
            "name": label,
            "supercategory": label,
            "keypoints": names,
            "skeleton": [],
        }
        for label in labels
    ]
    info = {"description": "converted from Label Studio"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}
