"""One task of a Label Studio export: its regions put together to persons."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hrnet_deploy.datasets import fields
from hrnet_deploy.datasets.fields import plain
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.values import is_number

HIDDEN_CHOICES = frozenset({"hidden", "occluded", "invisible", "notvisible"})
PERSON = "person"
"""The label of a region that has none."""
_EXPORT_AGAIN = "Export it again as JSON"

_OUTLINES = ("rectanglelabels", "polygonlabels", "rectangle", "polygon")
_KEYPOINT = "keypointlabels"

Result = dict[str, Any]


@dataclass
class Person:
    """A rectangle or an outline of a task, with its keypoints (x, y in pixels, v) by name."""

    label: str
    box: fields.Box
    outline: list[float] | None
    points: dict[str, list[float]] = field(default_factory=dict)

    def is_around(self, x: float, y: float) -> bool:
        """Whether a point lies in it; the only person of a task without rectangles has no box."""
        everywhere = not fields.has_extent(self.box) and self.outline is None
        return everywhere or not fields.outside_box(x, y, self.box)


class _Point(NamedTuple):
    region: str
    label: str
    x: float
    y: float
    parent: str | None


@dataclass(frozen=True)
class Task:
    """The results of the annotation that counts; errors call it ``name`` of the file ``path``."""

    name: str
    path: Subject
    results: list[Result]

    def persons(self) -> tuple[list[Person], list[str]]:
        """Everybody in the picture, and notes on keypoints that could not be told or placed.

        Raises InputError for damaged values and for a picture that was turned.
        """
        persons, points = self._regions()
        if not persons and points:
            persons[""] = Person(PERSON, (0.0, 0.0, 0.0, 0.0), None)
        hidden = _hidden_regions(self.results)
        notes: list[str] = []
        shared = 0
        # Those with a parent first: they take their names before the others are shared out.
        for point in sorted(points, key=lambda point: point.parent not in persons):
            person = persons.get(point.parent or "")
            if person is None:
                around = _around(persons.values(), point)
                shared += len(around) > 1
                free = (one for one in around if point.label not in one.points)
                person = next(free, around[0] if around else None)
            if person is None:
                place = f"'{point.label}' at {point.x:.0f}, {point.y:.0f}"
                notes.append(f"{self.name}: {place} lies in no rectangle; left out")
            elif point.label in person.points:
                twice = f"'{point.label}' stands twice in one person; the first counts"
                notes.append(f"{self.name}: {twice}")
            else:
                visible = 1 if point.region in hidden else 2
                person.points[point.label] = [point.x, point.y, visible]
        if shared:
            notes.append(
                f"{self.name}: {shared} keypoints lie in several rectangles and went to the "
                "smallest; make them children of theirs to be sure"
            )
        return list(persons.values()), notes

    def fault(self, problem: str, fix: str = _EXPORT_AGAIN) -> InputError:
        """What is wrong with this task."""
        return InputError(self.path, f"{self.name} {problem}", fix)

    def _regions(self) -> tuple[dict[str, Person], list[_Point]]:
        """Rectangles and outlines by their region, and all keypoints."""
        persons: dict[str, Person] = {}
        points: list[_Point] = []
        parents = _parents(self.results)
        for result in self.results:
            kind, region = result.get("type"), str(result.get("id"))
            if kind in _OUTLINES:
                persons[region] = self._person(result)
            elif kind == _KEYPOINT:
                label = self._label(result)
                points.append(_Point(region, label, *self._pixels(result), parents.get(region)))
        return persons, points

    def _value(self, result: Result) -> dict[str, Any]:
        value = result.get("value")
        if not isinstance(value, dict):
            raise self.fault("has a region without value")
        if turn := result.get("image_rotation"):
            problem = f"was annotated on a picture turned by {turn} degrees"
            raise self.fault(problem, "Turn the picture itself and annotate it again")
        return value

    def _label(self, result: Result) -> str:
        value = self._value(result)
        for key in ("keypointlabels", "rectanglelabels", "polygonlabels", "labels"):
            labels = value.get(key)
            if isinstance(labels, list) and labels and isinstance(labels[0], str):
                return labels[0]
        if result.get("type") == _KEYPOINT:
            raise self.fault("has a keypoint without a label", "Label it")
        return PERSON

    def _scale(self, result: Result) -> tuple[float, float]:
        """Pixels of one percent, across and down."""
        size = fields.size_of(
            {"width": result.get("original_width"), "height": result.get("original_height")}
        )
        if size is None:
            raise self.fault("has a region without original_width and height")
        return size[0] / 100, size[1] / 100

    def _numbers(self, value: dict[str, Any], *keys: str) -> list[float]:
        for key in keys:
            if not is_number(value.get(key)):
                raise self.fault(f"has {key} {value.get(key)!r}, not a number")
        return [float(value[key]) for key in keys]

    def _pixels(self, result: Result) -> tuple[float, float]:
        x, y = self._numbers(self._value(result), "x", "y")
        across, down = self._scale(result)
        return round(x * across, 3), round(y * down, 3)

    def _person(self, result: Result) -> Person:
        value, label = self._value(result), self._label(result)
        across, down = self._scale(result)
        if "points" in value:
            pairs = value["points"]
            if not isinstance(pairs, list) or not all(
                fields.are_numbers(pair) and len(pair) == 2 for pair in pairs
            ):
                raise self.fault("has a polygon that is no list of points")
            outline = [round(v, 3) for x, y in pairs for v in (x * across, y * down)]
            return Person(label, _box_around(outline), outline)
        x, y, width, height = self._numbers(value, "x", "y", "width", "height")
        turn = value.get("rotation", 0)
        degrees = turn if is_number(turn) else 0.0
        corners = _corners(x * across, y * down, width * across, height * down, degrees)
        return Person(label, _box_around(corners), None)


def _hidden_regions(results: list[Result]) -> set[str]:
    hidden = set()
    for result in results:
        value = result.get("value")
        choices = value.get("choices") if isinstance(value, dict) else None
        if isinstance(choices, list) and {plain(str(c)) for c in choices} & HIDDEN_CHOICES:
            hidden.add(str(result.get("id")))
    return hidden


def _parents(results: list[Result]) -> dict[str, str]:
    """The region that each region belongs to, by parentID or by relation in either direction."""
    parents: dict[str, str] = {}
    kinds = {str(r.get("id")): r.get("type") for r in results if "id" in r}
    for result in results:
        if result.get("type") == "relation":
            ends = [str(result.get("from_id")), str(result.get("to_id"))]
            for child, parent in (ends, ends[::-1]):
                if kinds.get(child) == _KEYPOINT != kinds.get(parent):
                    parents.setdefault(child, parent)
        elif result.get("parentID"):
            parents[str(result.get("id"))] = str(result["parentID"])
    return parents


def _around(persons: Iterable[Person], point: _Point) -> list[Person]:
    """Those around a point, the smallest first."""
    fitting = [person for person in persons if person.is_around(point.x, point.y)]
    return sorted(fitting, key=lambda person: person.box[2] * person.box[3])


def _corners(x: float, y: float, width: float, height: float, degrees: float) -> list[float]:
    """Corners x, y, x, y, ... of a rectangle turned clockwise about its upper left one."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    offsets = (
        (0.0, 0.0),
        (width * cos, width * sin),
        (width * cos - height * sin, width * sin + height * cos),
        (-height * sin, height * cos),
    )
    return [v for dx, dy in offsets for v in (x + dx, y + dy)]


def _box_around(values: list[float]) -> fields.Box:
    """The upright box around points x, y, x, y, ..."""
    xs, ys = values[0::2], values[1::2]
    if not xs:
        return (0.0, 0.0, 0.0, 0.0)
    box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return (round(box[0], 3), round(box[1], 3), round(box[2], 3), round(box[3], 3))
