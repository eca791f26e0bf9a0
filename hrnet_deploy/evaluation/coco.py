"""COCO keypoint annotations, checked before any work is done with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import read_json, sha256_file
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.values import are_numbers, first_few, is_number, is_whole

PERSON = "person"
_USE_KEYPOINTS_FILE = "Give a keypoints file such as person_keypoints_val2017.json"
_REPAIR = "Repair or leave out that entry"


@dataclass(frozen=True)
class CocoImage:
    """One picture of an annotation file; width and height in pixels, None where not stated.

    ``crowd_index`` (0 to 1) is CrowdPose's measure of how crowded it is.
    """

    id: int
    file_name: str
    width: float | None
    height: float | None
    crowd_index: float | None = None


@dataclass(frozen=True)
class Annotations:
    """A checked annotation file.

    ``images`` are in the file's order, ``annotations`` those of the ``categories`` (ids) that are
    evaluated, in the file's order and with every key that the metric reads. ``notes`` say what
    was assumed or left out.
    """

    path: Path
    sha256: str
    images: tuple[CocoImage, ...]
    categories: tuple[int, ...]
    annotations: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def read_annotations(path: Subject, spec: ModelSpec) -> Annotations:
    """Read a COCO keypoint annotation file that fits the keypoints of ``spec``.

    The categories that count are "person", or all that have keypoints where none has that name.
    Raises InputError naming the entry for a file of another kind, other keypoints than the
    engine's, ids that stand twice and values that are missing or of the wrong type.
    """
    content = read_json(path, what="annotation file")
    sections = _sections(content, path)
    images = _images(sections["images"], path)
    categories = _categories(sections["categories"], sections["annotations"], path)
    if spec.keypoint_set == WHOLEBODY:
        sections, categories = _joined(sections, categories, path)
    notes = _compare_keypoints(categories, spec, path)
    ids = tuple(category["id"] for category in categories)
    known = {image.id for image in images}
    annotations, more = _annotations(sections["annotations"], ids, known, spec.joints, path)
    return Annotations(Path(path), sha256_file(path), images, ids, annotations, tuple(notes + more))


def _joined(
    sections: dict[str, list[dict[str, Any]]], categories: list[dict[str, Any]], path: Subject
) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """COCO-WholeBody's five lists of keypoints as one of 133, in its official order.

    A person counts where any of the 133 is labelled, as in its official evaluation.
    """
    entries = []
    for entry in sections["annotations"]:
        if not all(isinstance(entry.get(part), list) for part in WHOLEBODY_PARTS):
            if "keypoints" in entry and any(part in entry for part in WHOLEBODY_PARTS[1:]):
                name = f"annotation {entry.get('id')}"
                missing = [p for p in WHOLEBODY_PARTS if not isinstance(entry.get(p), list)]
                raise InputError(path, f"{name} has no list '{missing[0]}'", _REPAIR)
            entries.append(entry)
            continue
        joined = [value for part in WHOLEBODY_PARTS for value in entry[part]]
        entries.append({**entry, "keypoints": joined, "num_keypoints": None})
    nameless = [{**category, "keypoints": []} for category in categories]
    return {**sections, "annotations": entries}, nameless


WHOLEBODY = "coco_wholebody_133"
WHOLEBODY_PARTS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
"""Keys of COCO-WholeBody's annotations, in the order of its 133 keypoints."""

AREA_OF_BOX = 0.53
"""Area of a person by its box where a set states none (CrowdPose, AIC: xtcocotools' rule)."""


def _sections(content: Any, path: Subject) -> dict[str, list[dict[str, Any]]]:
    if isinstance(content, list):
        problem = "is a list (a results or boxes file), not an annotation file"
        raise InputError(path, problem, _USE_KEYPOINTS_FILE)
    for name in ("images", "annotations", "categories"):
        section = content.get(name) if isinstance(content, dict) else None
        if not isinstance(section, list):
            raise InputError(path, f"has no list '{name}'", _USE_KEYPOINTS_FILE)
        for index, entry in enumerate(section):
            if not isinstance(entry, dict):
                raise InputError(path, f"{name}[{index}] is not an object", _REPAIR)
    result: dict[str, list[dict[str, Any]]] = content
    return result


def _images(entries: list[dict[str, Any]], path: Subject) -> tuple[CocoImage, ...]:
    if not entries:
        raise InputError(path, "lists no images", "Give an annotation file with images")
    for index, entry in enumerate(entries):
        if not is_whole(entry.get("id")):
            problem = f"images[{index}] has id {entry.get('id')!r}, not a whole number"
            raise InputError(path, problem, _REPAIR)
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            raise InputError(path, f"image {entry['id']} has no 'file_name'", _REPAIR)
    _refuse_twice([entry["id"] for entry in entries], "image", path)
    return tuple(
        CocoImage(
            entry["id"],
            entry["file_name"],
            _side(entry, "width"),
            _side(entry, "height"),
            float(entry["crowdIndex"]) if is_number(entry.get("crowdIndex")) else None,
        )
        for entry in entries
    )


def _side(entry: dict[str, Any], name: str) -> float | None:
    value = entry.get(name)
    return float(value) if value is not None and is_number(value) and value > 0 else None


def _refuse_twice(ids: list[Any], kind: str, path: Subject) -> None:
    repeated = [id_ for id_, count in Counter(ids).items() if count > 1]
    if repeated:
        problem = f"{len(repeated)} {kind} ids stand twice: {first_few(repeated)}"
        raise InputError(path, problem, "Give every entry an id of its own")


def _categories(
    entries: list[dict[str, Any]], annotations: list[dict[str, Any]], path: Subject
) -> list[dict[str, Any]]:
    """The categories that are evaluated."""
    for index, entry in enumerate(entries):
        if not is_whole(entry.get("id")):
            problem = f"categories[{index}] has id {entry.get('id')!r}, not a whole number"
            raise InputError(path, problem, _REPAIR)
    _refuse_twice([entry["id"] for entry in entries], "category", path)
    used = {entry.get("category_id") for entry in annotations if "keypoints" in entry}
    with_keypoints = [entry for entry in entries if entry.get("keypoints") or entry["id"] in used]
    if not with_keypoints:
        raise InputError(
            path, "has no 'keypoints'; use person_keypoints_val2017.json", _USE_KEYPOINTS_FILE
        )
    persons = [entry for entry in with_keypoints if entry.get("name") == PERSON]
    return persons or with_keypoints


def _compare_keypoints(
    categories: list[dict[str, Any]], spec: ModelSpec, path: Subject
) -> list[str]:
    """Refuse another number or another order of keypoints; say where the names differ."""
    notes = []
    for category in categories:
        names = category.get("keypoints") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            problem = f"category {category.get('name')!r} has keypoints that are no list of names"
            raise InputError(path, problem, _REPAIR)
        if not names:
            continue
        kind = f"category {category.get('name')!r}"
        if len(names) != spec.joints:
            problem = f"{kind} has {len(names)} keypoints, the engine gives {spec.joints}"
            raise InputError(path, f"{problem} ({spec.keypoint_set})", _OTHER_ENGINE)
        ours, theirs = _plain(spec.keypoint_names), _plain(names)
        if ours != theirs and set(ours) == set(theirs):
            place = next(
                k for k, pair in enumerate(zip(ours, theirs, strict=True)) if len(set(pair)) > 1
            )
            problem = f"{kind} has the engine's keypoints in another order: {place} is"
            problem += f" '{names[place]}' there and '{spec.keypoint_names[place]}' in the engine"
            raise InputError(path, problem, _OTHER_ENGINE)
        if other := sum(a != b for a, b in zip(ours, theirs, strict=True)):
            notes.append(
                f"{other} of {spec.joints} keypoints of {kind} have other names than the"
                f" engine's ({spec.keypoint_set}); they are compared by their order"
            )
    return notes


_OTHER_ENGINE = "Use an engine that was trained for these annotations"


def _plain(names: Sequence[str]) -> list[str]:
    """Names without case and separators: "Left Eye" and "left_eye" are the same keypoint."""
    return [re.sub(r"[\W_]+", "", name.lower()) for name in names]


def _annotations(
    entries: list[dict[str, Any]],
    categories: tuple[int, ...],
    images: set[int],
    joints: int,
    path: Subject,
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    kept, foreign, unlabelled, without_area = [], 0, 0, 0
    chosen = set(categories)
    for index, entry in enumerate(entries):
        if entry.get("category_id") not in chosen:
            continue
        if entry.get("image_id") not in images:
            foreign += 1
            continue
        unlabelled += "keypoints" not in entry
        without_area += "area" not in entry
        kept.append(_annotation(entry, f"annotation {entry.get('id', f'[{index}]')}", joints, path))
    _refuse_twice([entry["id"] for entry in entries if "id" in entry], "annotation", path)
    notes = []
    if foreign:
        notes.append(f"{foreign} annotations are of images that the file does not list; left out")
    if unlabelled:
        notes.append(f"{unlabelled} annotations have no 'keypoints'; taken as unlabelled persons")
    if without_area:
        notes.append(
            f"{without_area} annotations state no area; {AREA_OF_BOX} of their box is taken"
        )
    return tuple(kept), notes


def _annotation(entry: dict[str, Any], name: str, joints: int, path: Subject) -> dict[str, Any]:
    """The keys that selection and metric read, with the defaults of COCO where one is absent."""
    box, area = entry.get("bbox"), entry.get("area")
    if not isinstance(box, list) or len(box) != 4 or not are_numbers(box):
        raise InputError(path, f"{name} has bbox {box!r}, not four numbers", _REPAIR)
    if "area" not in entry:
        area = AREA_OF_BOX * box[2] * box[3]
    if not is_number(area):
        raise InputError(path, f"{name} has area {area!r}, not a number", _REPAIR)
    keypoints = entry.get("keypoints", [0] * (3 * joints))
    if not isinstance(keypoints, list) or not are_numbers(keypoints):
        raise InputError(path, f"{name} has keypoints that are no list of numbers", _REPAIR)
    if len(keypoints) != 3 * joints:
        problem = f"{name} has {len(keypoints) / 3:g} keypoints, the engine gives {joints}"
        raise InputError(path, problem, _OTHER_ENGINE)
    labelled = sum(v > 0 for v in keypoints[2::3])
    count = entry.get("num_keypoints", labelled)
    return {
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "iscrowd": 1 if entry.get("iscrowd") else 0,
        "bbox": box,
        "area": area,
        "keypoints": keypoints,
        "num_keypoints": count if is_whole(count) else labelled,
    }
