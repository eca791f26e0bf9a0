"""Repairs of a COCO annotation file: each a rule that can be left out, each change reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hrnet_deploy.datasets import clean_ids, clean_persons
from hrnet_deploy.datasets.changes import Changes
from hrnet_deploy.datasets.check import known_set, unsafe_file_name
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.fields import Record, keypoint_names, name_of, plain, size_of
from hrnet_deploy.datasets.merge import merged, pairs_to_merge
from hrnet_deploy.datasets.pictures import Pictures
from hrnet_deploy.keypoints import KeypointSet
from hrnet_deploy.values import is_whole

_MAX_PASSES = 8


@dataclass(frozen=True)
class CleanOptions:
    """Which rules run, and their figures.

    ``off``: rules of ``rules.RULES`` that are left out. ``hide_outside_box``: None means only for
    tools whose way it is to say "not visible". ``box_margin``: room around the keypoints on each
    side of a box made from them, in parts of its longer side. ``area_factor``: area of a person in
    parts of its box, where no outline tells it. ``keypoints``: the set that categories are to
    have. ``drop_broken`` removes what cannot be repaired, ``drop_missing`` images without their
    picture.
    """

    off: frozenset[str] = frozenset()
    hide_outside_box: bool | None = None
    box_margin: float = 0.1
    area_factor: float = 1.0
    keypoints: KeypointSet | None = None
    drop_broken: bool = False
    drop_missing: bool = False


@dataclass
class Cleaning:
    """The state of a run: the sections are changed in place, ``changes`` says what was done."""

    document: Document
    options: CleanOptions
    pictures: Pictures | None = None
    changes: Changes = field(default_factory=Changes)


def clean_document(
    document: Document, options: CleanOptions, *, pictures: Pictures | None = None
) -> Changes:
    """Repair the content of ``document`` in place, and say every change.

    ``pictures`` are the files of its images: needed for sizes that are not stated and for
    ``drop_missing``. What cannot be repaired is left as it is.
    """
    run = Cleaning(document, options, pictures)
    steps: tuple[tuple[str, Callable[[Cleaning], None]], ...] = (
        ("ids", lambda run: clean_ids.repair_ids(run.document, run.changes)),
        ("file_names", _cut_file_names),
        ("flatten", lambda run: _each_annotation(run, clean_persons.flatten)),
        ("keypoints", _name_keypoints),
        ("skeleton", _add_skeletons),
        ("merge_split", _merge),
        ("sizes", _add_sizes),
        ("persons", _repair_persons),
    )
    if options.drop_broken:
        clean_ids.drop_non_objects(document, run.changes)
    # One repair can make room for another (a box made, a flag gone): until nothing is left to do,
    # so that a second run finds nothing.
    for _ in range(_MAX_PASSES):
        before = len(run.changes)
        for rule, step in steps:
            if rule not in options.off:
                step(run)
        if options.drop_missing and pictures is not None:
            clean_ids.drop_images(document, pictures.missing_ids, "drop-missing", run.changes)
        if options.drop_broken:
            clean_ids.drop_broken(document, run.changes)
        if len(run.changes) == before:
            break
    return run.changes


def _each_annotation(
    run: Cleaning, repair: Callable[[Record, str, Record | None, Changes], None]
) -> None:
    categories = _by_id(run.document.categories)
    for place, entry in enumerate(run.document.annotations):
        if isinstance(entry, dict):
            category = categories.get(_key(entry.get("category_id")))
            repair(entry, name_of(entry, "annotation", place), category, run.changes)


def _by_id(records: list[Any]) -> dict[Any, Record]:
    return {_key(record.get("id")): record for record in records if isinstance(record, dict)}


def _key(value: Any) -> Any:
    return value if is_whole(value) else None


def _cut_file_names(run: Cleaning) -> None:
    for place, image in enumerate(run.document.images):
        name = image.get("file_name") if isinstance(image, dict) else None
        if isinstance(name, str) and unsafe_file_name(name):
            last = name.replace("\\", "/").rstrip("/").split("/")[-1].split("?")[0]
            if last and last != "..":
                run.changes.set(image, "file_name", last, "file-names", _image(image, place))


def _image(image: Record, place: int) -> str:
    return name_of(image, "image", place)


def _name_keypoints(run: Cleaning) -> None:
    """Give categories the names and the order of the wanted set, where that is possible."""
    wanted = run.options.keypoints
    if wanted is None:
        return
    for place, category in enumerate(run.document.categories):
        if not isinstance(category, dict):
            continue
        names, name = keypoint_names(category), name_of(category, "category", place)
        own = [a for a in run.document.annotations if _is_of(a, category) and a.get("keypoints")]
        if not names and own and all(len(a["keypoints"]) == 3 * wanted.count for a in own):
            run.changes.set(category, "keypoints", list(wanted.names), "keypoints", name)
        elif names and names != wanted.names and known_set(names) is wanted:
            order = [list(map(plain, names)).index(plain(n)) for n in wanted.names]
            run.changes.set(category, "keypoints", list(wanted.names), "keypoints", name)
            if order != sorted(order):
                clean_persons.reorder(own, order, run.changes)
                links = [[a + 1, b + 1] for a, b in wanted.skeleton]
                run.changes.set(category, "skeleton", links, "keypoints", name)


def _is_of(entry: Any, category: Record) -> bool:
    return isinstance(entry, dict) and entry.get("category_id") == category.get("id")


def _add_skeletons(run: Cleaning) -> None:
    for place, category in enumerate(run.document.categories):
        names = keypoint_names(category) if isinstance(category, dict) else ()
        if not names:
            continue
        known, links = known_set(names), category.get("skeleton")
        pairs = links if isinstance(links, list) else []
        ends = [k for link in pairs if isinstance(link, list) for k in link]
        good = all(is_whole(k) and 1 <= k <= len(names) for k in ends)
        name = name_of(category, "category", place)
        if known is not None and (not ends or not good):
            order = [list(map(plain, names)).index(plain(n)) for n in known.names]
            new = [[order[a] + 1, order[b] + 1] for a, b in known.skeleton]
            run.changes.set(category, "skeleton", new, "skeleton", name)
        elif ends and not good and all(is_whole(k) and 0 <= k < len(names) for k in ends):
            new = [[k + 1 for k in link] for link in pairs]
            run.changes.set(category, "skeleton", new, "skeleton", name)


def _merge(run: Cleaning) -> None:
    pairs = pairs_to_merge(run.document)
    gone = {id(keypoints) for keypoints, _ in pairs}
    joined = {id(shape): keypoints for keypoints, shape in pairs}
    kept = []
    for place, entry in enumerate(run.document.annotations):
        if id(entry) in joined:
            half = joined[id(entry)]
            text = f"takes the keypoints of annotation {half.get('id')}, which goes"
            run.changes.add("merge-split", name_of(entry, "annotation", place), text)
            entry = merged(half, entry)
        if id(entry) not in gone:
            kept.append(entry)
    run.document.content["annotations"] = kept


def _add_sizes(run: Cleaning) -> None:
    if run.pictures is None:
        return
    for place, image in enumerate(run.document.images):
        if not isinstance(image, dict) or size_of(image) is not None:
            continue
        size_wh = run.pictures.sizes_wh.get(_key(image.get("id")))
        if size_wh is not None:
            for key, value in zip(("width", "height"), size_wh, strict=True):
                run.changes.set(image, key, value, "sizes", _image(image, place))


def _repair_persons(run: Cleaning) -> None:
    images, categories = _by_id(run.document.images), _by_id(run.document.categories)
    options = run.options
    hide = options.hide_outside_box
    if hide is None:
        hide = run.document.tool == "datatorch"
    plan = clean_persons.Plan.of(
        run.document,
        off=options.off | (frozenset() if hide else {"hide_outside_box"}),
        box_margin=options.box_margin,
        area_factor=options.area_factor,
    )
    for place, entry in enumerate(run.document.annotations):
        if isinstance(entry, dict):
            image = images.get(_key(entry.get("image_id")))
            category = categories.get(_key(entry.get("category_id")))
            size_wh = size_of(image) if image is not None else None
            name = name_of(entry, "annotation", place)
            clean_persons.repair(entry, name, category, size_wh, plan, run.changes)
