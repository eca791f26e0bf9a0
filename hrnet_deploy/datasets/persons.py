"""The persons of a data set with the facts by which they are counted and chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.fields import Box, Record, plain
from hrnet_deploy.datasets.orientation import facing

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Person:
    """One annotation of a category with keypoints.

    ``box_xywh`` and ``area`` are None where the file states none; ``size`` is COCO's class of the
    area, or "unknown". ``flags`` are v of the labelled keypoints by plain name. ``people`` counts
    the annotations with labelled keypoints on the same picture.
    """

    record: Record = field(repr=False)
    image: Record = field(repr=False)
    category: Record = field(repr=False)
    box_xywh: Box | None
    area: float | None
    size: str
    facing: str
    flags: dict[str, int]
    people: int
    crowd: bool

    @property
    def labelled(self) -> int:
        """How many keypoints have a label."""
        return len(self.flags)

    @property
    def visible(self) -> int:
        """How many keypoints are seen (v = 2)."""
        return sum(v == 2 for v in self.flags.values())

    @property
    def aspect(self) -> float | None:
        """Width of the box in heights."""
        box = self.box_xywh
        return box[2] / box[3] if box is not None and fields.has_extent(box) else None


def persons_of(document: Document) -> list[Person]:
    """Every annotation of a category with keypoints whose picture is listed, in the file's order.

    ``document`` has to be sound (``read_sound_document``).
    """
    images = {image["id"]: image for image in document.images}
    categories = {category["id"]: category for category in document.categories}
    people = people_per_image(document)
    persons = []
    for entry in document.annotations:
        image = images.get(entry.get("image_id"))
        category = categories.get(entry.get("category_id"))
        if image is None or category is None:
            continue
        names = fields.keypoint_names(category)
        if names or "keypoints" in entry:
            persons.append(_person(entry, image, category, names, people[image["id"]]))
    return persons


def people_per_image(document: Document) -> Counter[int]:
    """How many annotations with labelled keypoints (no crowds) each picture has, by image id."""
    return Counter(
        entry["image_id"]
        for entry in document.annotations
        if isinstance(entry.get("image_id"), int)
        and fields.has_keypoints(entry)
        and not fields.is_crowd(entry)
    )


def _person(
    entry: Record, image: Record, category: Record, names: tuple[str, ...], people: int
) -> Person:
    points = fields.triplets(entry) or []
    labels = names if len(names) == len(points) else tuple(str(k + 1) for k in range(len(points)))
    named = {plain(n): p for n, p in zip(labels, points, strict=True) if p[2] > 0}
    area = fields.area_of(entry)
    return Person(
        record=entry,
        image=image,
        category=category,
        box_xywh=fields.box_of(entry),
        area=area,
        size=fields.size_class(area) if area is not None else UNKNOWN,
        facing=facing(named),
        flags={name: int(v) for name, (_, _, v) in named.items()},
        people=people,
        crowd=fields.is_crowd(entry),
    )
