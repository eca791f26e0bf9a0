"""Repairs of ids, copies and what cannot be used at all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.changes import Changes
from hrnet_deploy.datasets.document import SECTIONS, Document
from hrnet_deploy.datasets.fields import Record, name_of
from hrnet_deploy.values import is_whole

_KINDS = dict(zip(SECTIONS, ("image", "annotation", "category"), strict=True))


def repair_ids(document: Document, changes: Changes) -> None:
    """Whole-number ids, each once; references follow.

    Two images (categories) with one id are only resolved where they are copies: which of them an
    annotation means is not known otherwise.
    """
    for section in ("images", "categories"):
        kind = _KINDS[section]
        _numbers_from_text(document, section, changes)
        _drop_copies(document, section, "file_name" if kind == "image" else "name", changes)
        _fill_missing(document.content[section], kind, changes, first=1)
    _numbers_from_text(document, "annotations", changes)
    _drop_copies(document, "annotations", None, changes)
    _fill_missing(document.annotations, "annotation", changes, first=1)
    _renumber_annotations(document.annotations, changes)


def _numbers_from_text(document: Document, section: str, changes: Changes) -> None:
    """Turn ids like "12" into 12, and the references to them."""
    kind = _KINDS[section]
    for place, record in enumerate(document.content[section]):
        number = _as_number(record.get("id")) if isinstance(record, dict) else None
        if number is not None:
            changes.set(record, "id", number, "ids", f"{section}[{place}]")
    if section == "annotations":
        return
    for place, entry in enumerate(document.annotations):
        number = _as_number(entry.get(f"{kind}_id")) if isinstance(entry, dict) else None
        if number is not None:
            changes.set(entry, f"{kind}_id", number, "ids", name_of(entry, "annotation", place))


def _as_number(value: Any) -> int | None:
    """The whole number that a text or a float stands for; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return None


def _drop_copies(document: Document, section: str, key: str | None, changes: Changes) -> None:
    """Drop later records of an id that have the same ``key`` (None: that are equal throughout)."""
    first: dict[int, Record] = {}
    kept = []
    for place, record in enumerate(document.content[section]):
        if isinstance(record, dict) and is_whole(record.get("id")):
            earlier = first.setdefault(record["id"], record)
            same = earlier == record if key is None else earlier.get(key) == record.get(key)
            if earlier is not record and same:
                changes.add("ids", f"{section}[{place}]", f"a copy of id {record['id']} goes")
                continue
        kept.append(record)
    document.content[section] = kept


def _fill_missing(records: list[Any], kind: str, changes: Changes, *, first: int) -> None:
    used = {record["id"] for record in records if _has_id(record)}
    fresh = max(used | {first - 1}) + 1
    for place, record in enumerate(records):
        if isinstance(record, dict) and not is_whole(record.get("id")):
            changes.set(record, "id", fresh, "ids", name_of({}, kind, place))
            fresh += 1


def _has_id(record: Any) -> bool:
    return isinstance(record, dict) and is_whole(record.get("id"))


def _renumber_annotations(records: list[Any], changes: Changes) -> None:
    """New ids for those that stand twice and for 0, which pycocotools takes for "no match"."""
    used = {record["id"] for record in records if _has_id(record)}
    fresh, seen = max(used | {0}) + 1, {0}
    for place, record in enumerate(records):
        if _has_id(record):
            if record["id"] in seen:
                changes.set(record, "id", fresh, "ids", f"annotations[{place}]")
                fresh += 1
            seen.add(record["id"])


def drop_non_objects(document: Document, changes: Changes) -> None:
    """Remove entries that are no objects from all three sections."""
    for section in SECTIONS:
        kept = []
        for place, record in enumerate(document.content[section]):
            if isinstance(record, dict):
                kept.append(record)
            else:
                changes.add("drop-broken", f"{section}[{place}]", "is no object and goes")
        document.content[section] = kept


def drop_images(
    document: Document, image_ids: Collection[int], rule: str, changes: Changes
) -> None:
    """Remove images with their annotations."""
    kept_images, kept = [], []
    for place, image in enumerate(document.images):
        if _has_id(image) and image["id"] in image_ids:
            name = f"{name_of(image, 'image', place)} ({image.get('file_name')})"
            changes.add(rule, name, "goes with its annotations")
        else:
            kept_images.append(image)
    for place, entry in enumerate(document.annotations):
        key = entry.get("image_id") if isinstance(entry, dict) else None
        if is_whole(key) and key in image_ids:
            changes.add(rule, name_of(entry, "annotation", place), "goes with its image")
        else:
            kept.append(entry)
    document.content["images"], document.content["annotations"] = kept_images, kept


def drop_broken(document: Document, changes: Changes) -> None:
    """Remove images without a name, and annotations that no rule could repair."""
    nameless = {
        image["id"]
        for image in document.images
        if _has_id(image) and not _is_text(image.get("file_name"))
    }
    drop_images(document, nameless, "drop-broken", changes)
    images = {image["id"] for image in document.images if _has_id(image)}
    categories = {c["id"]: c for c in document.categories if _has_id(c)}
    kept = []
    for place, entry in enumerate(document.annotations):
        why = _why_broken(entry, images, categories)
        if why is None:
            kept.append(entry)
        else:
            changes.add("drop-broken", name_of(entry, "annotation", place), f"{why}; it goes")
    document.content["annotations"] = kept


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _why_broken(entry: Any, images: set[int], categories: dict[int, Record]) -> str | None:
    if not isinstance(entry, dict):
        return "is no object"
    for kind, known in (("image", images), ("category", categories)):
        key = entry.get(f"{kind}_id")
        if not is_whole(key) or key not in known:
            return f"{kind} {key!r} is not listed"
    names = fields.keypoint_names(categories[entry["category_id"]])
    if "keypoints" in entry:
        points = fields.triplets(entry)
        if points is None:
            return "keypoints are damaged"
        if names and len(points) != len(names):
            return f"has {len(points)} of {len(names)} keypoints"
    if not fields.has_extent(fields.box_of(entry)):
        return "has no box and no keypoints to make one from"
    return None
