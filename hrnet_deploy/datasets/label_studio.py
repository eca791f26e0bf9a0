"""Label Studio's own export (JSON): rectangles and keypoints of each task, in percent.

Keypoints belong to the rectangle (or polygon) that they are children of (``parentID``) or have a
relation to; without either, to the smallest one around them that has no keypoint of that name yet;
in a task without any rectangle all of them are one person. Label Studio has no flag for a hidden
keypoint: a choice of its region named hidden, occluded or "not visible" gives v = 1, anything else
v = 2. Of several annotations of a task the latest that was not cancelled counts.
"""

from __future__ import annotations

import re
from typing import Any

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.fields import plain
from hrnet_deploy.datasets.label_studio_task import PERSON, Person, Task
from hrnet_deploy.errors import Subject
from hrnet_deploy.keypoints import KEYPOINT_SETS, KeypointSet
from hrnet_deploy.values import is_number, is_whole

_UPLOAD = re.compile(r"^/data/upload/\d+/")
_LOCAL = re.compile(r"^/data/local-files/\?d=")


def read_label_studio(
    tasks: list[Any], path: Subject, wanted: KeypointSet | None
) -> tuple[dict[str, Any], list[str]]:
    """The tasks as COCO content, and notes.

    ``wanted`` gives the order of the keypoints; without it they get that of the first known set
    that has all their names, or else the order of their names. Raises InputError naming the task
    for damaged values and for pictures that were turned while they were annotated.
    """
    images, persons, notes = [], [], []
    for place, entry in enumerate(tasks):
        name = f"task {entry['id']}" if isinstance(entry, dict) and "id" in entry else f"[{place}]"
        task, doubts = _task(entry, name, path)
        image_id = entry["id"] if is_whole(entry.get("id")) else place + 1
        images.append(_image(entry.get("data"), image_id, task))
        found, more = task.persons()
        notes += doubts + more
        persons += [(image_id, person) for person in found]
    names = _order({name for _, person in persons for name in person.points}, wanted, notes)
    return _content(images, persons, names), notes


def _task(entry: Any, name: str, path: Subject) -> tuple[Task, list[str]]:
    """The results of an entry's latest annotation that was not cancelled, and notes."""
    task = Task(name, path, [])
    annotations = None
    if isinstance(entry, dict):
        annotations = entry.get("annotations", entry.get("completions"))
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise task.fault("has no list 'annotations'")
    good = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
    notes = []
    if len(good) > 1:
        notes.append(f"{name} has {len(good)} annotations; the latest counts")
    latest: dict[str, Any] = max(good, key=lambda a: str(a.get("created_at", "")), default={})
    results = latest.get("result", [])
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise task.fault("has a result that is no list of objects")
    return Task(name, path, results), notes


def _image(data: Any, image_id: int, task: Task) -> dict[str, Any]:
    """The picture that the ``data`` of a task name, with its size where a region tells it."""
    texts = [v for v in data.values() if isinstance(v, str)] if isinstance(data, dict) else []
    source = data.get("image") if isinstance(data, dict) else None
    source = source if isinstance(source, str) else next(iter(texts), None)
    if not source:
        raise task.fault("names no picture (data.image)")
    image: dict[str, Any] = {"id": image_id, "file_name": file_name_of(source)}
    for result in task.results:
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
    images: list[dict[str, Any]], persons: list[tuple[int, Person]], names: list[str]
) -> dict[str, Any]:
    labels = list(dict.fromkeys(person.label for _, person in persons)) or [PERSON]
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
