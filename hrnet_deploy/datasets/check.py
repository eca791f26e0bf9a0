"""Everything that is wrong with a COCO annotation file, found in one pass over its records."""

from __future__ import annotations

import ntpath
import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.check_persons import check_person
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.fields import Record, name_of, plain
from hrnet_deploy.datasets.merge import pairs_to_merge
from hrnet_deploy.datasets.problems import Findings
from hrnet_deploy.keypoints import KEYPOINT_SETS, KeypointSet
from hrnet_deploy.values import is_whole


@dataclass
class Index:
    """Where the records of a file are found: pictures and categories by id, persons per picture."""

    images: dict[int, Record] = field(default_factory=dict)
    categories: dict[int, Record] = field(default_factory=dict)
    persons: Counter[int] = field(default_factory=Counter)


def check_document(document: Document, *, expected: KeypointSet | None = None) -> Findings:
    """All problems of a file, without looking at any picture.

    ``expected`` is the keypoint set that the categories are to have; without it their names are
    compared with the known set that has the same ones.
    """
    findings, index = Findings(), Index()
    _check_categories(document, expected, index, findings)
    _check_images(document, index, findings)
    pairs = pairs_to_merge(document)
    halves = {id(points): shape for points, shape in pairs}
    shapes = {id(shape) for _, shape in pairs}
    only_ones = flags_are_all_one(document)
    _check_annotation_ids(document, findings)
    for place, entry in enumerate(document.annotations):
        if not isinstance(entry, dict):
            findings.add("broken-entry", f"annotations[{place}]")
            continue
        name = name_of(entry, "annotation", place)
        image, category = _owners(entry, name, index, findings)
        if fields.has_keypoints(entry) and image is not None and not fields.is_crowd(entry):
            index.persons[image["id"]] += 1
        if id(entry) in halves:
            findings.add("split-annotation", name)
        check_person(
            entry,
            name,
            image=image,
            category=category,
            shape=halves.get(id(entry)),
            is_shape=id(entry) in shapes,
            only_ones=only_ones,
            outside_hides=document.tool == "datatorch",
            findings=findings,
        )
    for image_id, image in index.images.items():
        if not index.persons[image_id]:
            findings.add("no-person", f"image {image_id} ({image.get('file_name')})")
    return findings


def flags_are_all_one(document: Document) -> bool:
    """Whether no keypoint of the file has v = 2 and some have 1: a tool that knows no hidden."""
    ones = False
    for entry in document.annotations:
        if isinstance(entry, dict) and fields.are_numbers(entry.get("keypoints")):
            flags = set(entry["keypoints"][2::3])
            if any(v > 0 and v != 1 for v in flags):
                return False
            ones |= 1 in flags
    return ones


def unsafe_file_name(name: str) -> bool:
    """Whether a file name is absolute or leads out of the folder, on any system, or is a URL."""
    parts = name.replace("\\", "/").split("/")
    return posixpath.isabs(name) or ntpath.isabs(name) or ".." in parts or "://" in name


def known_set(names: tuple[str, ...]) -> KeypointSet | None:
    """The known keypoint set that has exactly these names, in any order and spelling."""
    wanted = {plain(name) for name in names}
    for known in KEYPOINT_SETS.values():
        if len(names) == known.count and wanted == {plain(name) for name in known.names}:
            return known
    return None


def _check_categories(
    document: Document, expected: KeypointSet | None, index: Index, findings: Findings
) -> None:
    used = {
        entry["category_id"]
        for entry in document.annotations
        if isinstance(entry, dict)
        and isinstance(entry.get("category_id"), int)
        and fields.has_keypoints(entry)
    }
    for place, category in enumerate(document.categories):
        name = name_of(category, "category", place)
        if not isinstance(category, dict):
            findings.add("broken-entry", f"categories[{place}]")
            continue
        if not is_whole(category.get("id")):
            findings.add("category-id", f"categories[{place}] ({category.get('id')!r})")
            continue
        if category["id"] in index.categories:
            findings.add("category-id-twice", name)
        index.categories.setdefault(category["id"], category)
        names = fields.keypoint_names(category)
        if names:
            _check_names(category, names, name, expected, findings)
        elif category["id"] in used:
            findings.add("category-keypoints", f"{name} ({category.get('name')!r})")


def _check_names(
    category: Record,
    names: tuple[str, ...],
    name: str,
    expected: KeypointSet | None,
    findings: Findings,
) -> None:
    wanted = expected or known_set(names)
    # Spelling is no difference, as in evaluation: "Left Eye" is "left_eye".
    if wanted is not None and list(map(plain, names)) != list(map(plain, wanted.names)):
        findings.add("keypoint-names", f"{name}: {_difference(names, wanted)}")
    links = category.get("skeleton")
    if not isinstance(links, list) or not links:
        findings.add("category-skeleton", f"{name} ({category.get('name')!r})")
    elif not all(_is_link(link, len(names)) for link in links):
        wrong = next(link for link in links if not _is_link(link, len(names)))
        findings.add("skeleton-range", f"{name}: {wrong}, keypoints count from 1 to {len(names)}")


def _difference(names: tuple[str, ...], wanted: KeypointSet) -> str:
    if len(names) != wanted.count:
        return f"{len(names)} keypoints, {wanted.name} has {wanted.count}"
    place = next(k for k in range(wanted.count) if plain(names[k]) != plain(wanted.names[k]))
    return f"keypoint {place + 1} is '{names[place]}', in {wanted.name} '{wanted.names[place]}'"


def _is_link(link: Any, count: int) -> bool:
    return (
        isinstance(link, list)
        and len(link) == 2
        and all(is_whole(k) and 1 <= k <= count for k in link)
    )


def _check_images(document: Document, index: Index, findings: Findings) -> None:
    files: Counter[str] = Counter()
    for place, image in enumerate(document.images):
        if not isinstance(image, dict):
            findings.add("broken-entry", f"images[{place}]")
            continue
        name = name_of(image, "image", place)
        if not is_whole(image.get("id")):
            findings.add("image-id", f"images[{place}] ({image.get('id')!r})")
        elif image["id"] in index.images:
            findings.add("image-id-twice", name)
        else:
            index.images[image["id"]] = image
        file_name = image.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            findings.add("image-name", name)
        else:
            if unsafe_file_name(file_name):
                findings.add("image-name-path", f"{name} ({file_name})")
            files[file_name] += 1
            if files[file_name] == 2:
                findings.add("image-name-twice", f"{name} ({file_name})")
        if fields.size_of(image) is None:
            findings.add("image-size", name)


def _check_annotation_ids(document: Document, findings: Findings) -> None:
    seen: set[int] = set()
    for place, entry in enumerate(document.annotations):
        if not isinstance(entry, dict):
            continue
        identity = entry.get("id")
        if not is_whole(identity):
            findings.add("annotation-id", f"annotations[{place}] ({identity!r})")
            continue
        if identity in seen:
            findings.add("annotation-id-twice", f"annotation {identity}")
        elif identity == 0:
            findings.add("annotation-id-zero", f"annotations[{place}]")
        seen.add(identity)


def _owners(
    entry: Record, name: str, index: Index, findings: Findings
) -> tuple[Record | None, Record | None]:
    """The picture and the category of an annotation; an unknown one is a problem."""
    owners: list[Record | None] = []
    for kind, known in (("image", index.images), ("category", index.categories)):
        key = entry.get(f"{kind}_id")
        owner = known.get(key) if is_whole(key) else None
        if owner is None:
            findings.add(f"unknown-{kind}", f"{name} ({kind} {key!r})")
        owners.append(owner)
    return owners[0], owners[1]
