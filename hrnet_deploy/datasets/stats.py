"""What a data set consists of, in figures: sizes, keypoints, boxes, people per image, facing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.document import TOOLS, Document
from hrnet_deploy.datasets.fields import SIZES, plain
from hrnet_deploy.datasets.orientation import FACINGS
from hrnet_deploy.datasets.persons import UNKNOWN, Person, people_per_image, persons_of

ASPECT_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
"""Edges of the classes of box width / height; 0.75 is the input of 192x256 networks."""
MANY_PEOPLE = 5


def statistics(document: Document) -> dict[str, Any]:
    """The figures of a sound document, ready for JSON.

    Persons are annotations with labelled keypoints that are no crowds; the others are counted.
    Means are None where nothing was counted.
    """
    everybody = persons_of(document)
    persons = [p for p in everybody if p.labelled and not p.crowd]
    people = people_per_image(document)
    counts = [people[image["id"]] for image in document.images]
    return {
        "file": str(document.path),
        "tool": TOOLS[document.tool],
        "images": len(document.images),
        "images_without_person": sum(not count for count in counts),
        "persons": len(persons),
        "unlabelled": sum(not p.labelled and not p.crowd for p in everybody),
        "crowds": sum(p.crowd for p in everybody),
        "sizes": _sizes(persons),
        "facing": {name: sum(p.facing == name for p in persons) for name in FACINGS},
        "people_per_image": _people(counts),
        "keypoints": _keypoints(document, persons),
        "labelled_per_person": _numbers(Counter(p.labelled for p in persons)),
        "aspect": _aspects(persons),
        "mean_area": _mean([p.area for p in persons if p.area is not None]),
        "mean_people": _mean([float(count) for count in counts]),
    }


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


def _sizes(persons: list[Person]) -> dict[str, int]:
    """Persons by COCO's size class; those without an area are unknown."""
    counts = Counter(person.size for person in persons)
    return {name: counts[name] for name in (*SIZES, UNKNOWN)}


def _people(counts: list[int]) -> dict[str, int]:
    tally = Counter(min(count, MANY_PEOPLE) for count in counts)
    names = [*map(str, range(MANY_PEOPLE)), f"{MANY_PEOPLE}+"]
    return {name: tally[count] for count, name in enumerate(names)}


def _numbers(counts: Counter[int]) -> dict[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}


def _keypoints(document: Document, persons: list[Person]) -> list[dict[str, Any]]:
    """For each keypoint name: on how many persons it is visible, hidden, not labelled."""
    rows = []
    for category in document.categories:
        own = [p for p in persons if p.category is category]
        for name in fields.keypoint_names(category) if own else ():
            flags = Counter(person.flags.get(plain(name), 0) for person in own)
            rows.append(
                {
                    "category": category.get("name"),
                    "keypoint": name,
                    "visible": flags[2],
                    "hidden": len(own) - flags[2] - flags[0],
                    "not_labelled": flags[0],
                }
            )
    return rows


def _aspects(persons: list[Person]) -> dict[str, int]:
    """Persons by class of box width / height."""
    values = [p.aspect for p in persons if p.aspect is not None]
    names = [f"{a:g}-{b:g}" for a, b in pairwise(ASPECT_EDGES)]
    counts = dict.fromkeys([*names, f"{ASPECT_EDGES[-1]:g}+"], 0)
    for value in values:
        place = sum(value >= edge for edge in ASPECT_EDGES[1:])
        counts[list(counts)[place]] += 1
    return counts
