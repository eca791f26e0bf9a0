"""Boxes out of COCO files: detections, and annotations of persons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import read_json
from hrnet_deploy.predict.box_rows import BoxRow, checked_edges, checked_score
from hrnet_deploy.predict.sources import VIDEO_SUFFIXES
from hrnet_deploy.values import first_few, is_whole

PERSON = "person"
PERSON_CATEGORY = 1
"""COCO's name and id of the category."""

_FORMATS = "Give COCO detections (a list with image_id, bbox, score) or COCO annotations"

Note = Callable[[str], None]


def read_coco(path: Subject, note: Note, *, names: dict[int, str] | None = None) -> list[BoxRow]:
    """Boxes of a COCO detections or annotations file, which its content tells apart.

    ``names`` gives the file name of an image id, for detections without ``file_name``.
    """
    content = read_json(path, what="boxes file")
    if isinstance(content, list):
        return _detections(content, path, note, names or {})
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _annotations(content, path, note)
    raise InputError(path, "is neither COCO detections nor COCO annotations", _FORMATS)


def read_image_names(path: Subject) -> dict[int, str]:
    """The file name of each image id of a COCO annotation file."""
    content = read_json(path, what="annotation file")
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise InputError(path, "has no list 'images'", "Give a COCO annotation file")
    return _names(images, path)


def _names(images: list[Any], path: Subject) -> dict[int, str]:
    names: dict[int, str] = {}
    for index, entry in enumerate(images):
        good = isinstance(entry, dict) and is_whole(entry.get("id"))
        if not good or not isinstance(entry.get("file_name"), str):
            problem = f"images[{index}] has no whole-number 'id' and 'file_name'"
            raise InputError(path, problem, "Repair that entry")
        if entry["id"] in names:
            raise InputError(path, f"image id {entry['id']} stands twice", "Give each image its id")
        names[entry["id"]] = entry["file_name"]
    return names


def _detections(
    entries: list[Any], path: Subject, note: Note, names: dict[int, str]
) -> list[BoxRow]:
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(path, f"box {index} is not an object", _FORMATS)
        if "bbox" not in entry or not ("image_id" in entry or "file_name" in entry):
            missing = "bbox" if "bbox" not in entry else "image_id"
            raise InputError(path, f"box {index} has no '{missing}'", _FORMATS)
    chosen = _category(entries, path, note)
    rows = []
    for index, entry in enumerate(entries):
        if chosen is not None and entry.get("category_id", chosen) != chosen:
            continue
        xyxy = checked_edges(entry["bbox"], "xywh", index=index, path=path)
        score = checked_score(entry.get("score", 1.0), index=index, path=path)
        name, number = _key(entry, index, path, names)
        rows.append(BoxRow(name, number, xyxy, score))
    return rows


def _category(entries: list[dict[str, Any]], path: Subject, note: Note) -> int | None:
    """The category that means persons: 1 where there is one, otherwise the only one there is."""
    found = {entry["category_id"] for entry in entries if is_whole(entry.get("category_id"))}
    if not found:
        return None
    if PERSON_CATEGORY in found:
        if len(found) > 1:
            others = sum(e.get("category_id", 1) != PERSON_CATEGORY for e in entries)
            note(f"{path}: {others} boxes of other categories than 1 (person) are left out")
        return PERSON_CATEGORY
    if len(found) == 1:
        only: int = found.pop()
        note(f"{path}: its only category, {only}, is taken as persons")
        return only
    problem = f"has boxes of categories {first_few(sorted(found))}, none of 1 (person)"
    raise InputError(path, problem, "Give the boxes of persons alone")


def _key(
    entry: dict[str, Any], index: int, path: Subject, names: dict[int, str]
) -> tuple[str | None, int | None]:
    """The picture's name, and its number where the entry has one."""
    name, number = entry.get("file_name"), entry.get("image_id")
    if isinstance(name, str) and name:
        is_video = PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES
        return name, number if is_video and is_whole(number) else None
    if isinstance(number, str) and number:
        return number, None
    if not isinstance(number, int) or isinstance(number, bool):
        raise InputError(path, f"box {index} has image_id {number!r}", _FORMATS)
    if names and number not in names:
        problem = f"box {index} is of image {number}, which --image-ids does not list"
        raise InputError(path, problem, "Give the annotation file of these images")
    return (names[number], None) if names else (None, number)


def _annotations(content: dict[str, Any], path: Subject, note: Note) -> list[BoxRow]:
    images = content.get("images")
    if not isinstance(images, list):
        raise InputError(path, "has no list 'images'", _FORMATS)
    names = _names(images, path)
    persons = _person_categories(content.get("categories"))
    rows: list[BoxRow] = []
    crowds = 0
    for index, entry in enumerate(content["annotations"]):
        if not isinstance(entry, dict):
            raise InputError(path, f"annotations[{index}] is not an object", _FORMATS)
        if persons is not None and entry.get("category_id") not in persons:
            continue
        if entry.get("iscrowd"):
            crowds += 1
            continue
        if entry.get("image_id") not in names:
            problem = f"annotations[{index}] is of image {entry.get('image_id')!r}"
            raise InputError(path, f"{problem}, which is not listed", "Repair that entry")
        xyxy = checked_edges(entry.get("bbox"), "xywh", index=index, path=path)
        rows.append(BoxRow(names[entry["image_id"]], None, xyxy))
    if crowds:
        note(f"{path}: {crowds} boxes of crowds are left out")
    return rows


def _person_categories(categories: Any) -> set[object] | None:
    """Ids of the category "person"; None (all count) where none has that name."""
    if not isinstance(categories, list):
        return None
    named = {c.get("id") for c in categories if isinstance(c, dict) and c.get("name") == PERSON}
    return named or None
