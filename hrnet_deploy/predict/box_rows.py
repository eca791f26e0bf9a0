"""One box of a file: checked when it is read, with its place in the file in every refusal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.runtime.checks import MAX_COORDINATE, MIN_SIDE

Layout = Literal["xyxy", "xywh"]

_LAYOUTS = {
    "xyxy": "Give each box as its left, top, right and bottom edge in pixels",
    "xywh": "Give each box as left, top, width and height in pixels",
}


@dataclass(frozen=True)
class BoxRow:
    """A person of a boxes file.

    ``name`` is the picture's (or video's) name where the file has one, ``number`` the frame's or
    the picture's. ``xyxy`` are the edges in pixels.
    """

    name: str | None
    number: int | None
    xyxy: tuple[float, float, float, float]
    score: float = 1.0
    id: int | None = None


def checked_edges(
    values: object, layout: Layout, *, index: int | str, path: Subject
) -> tuple[float, float, float, float]:
    """Four finite numbers as edges x1, y1, x2, y2, at least one pixel apart; InputError if not."""
    fix = _LAYOUTS[layout]
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        raise InputError(path, f"box {index} is {values!r}, not four numbers", fix)
    numbers = [float("nan") if isinstance(v, bool) else _number(v) for v in values]
    for name, value in zip(_names(layout), numbers, strict=True):
        if not math.isfinite(value) or abs(value) > MAX_COORDINATE:
            raise InputError(path, f"box {index} has {name} = {value}", "Give finite pixels")
    left, top, third, fourth = numbers
    if layout == "xywh":
        _check_sides(third, fourth, ("width", "height"), index, path, fix)
        return left, top, left + third, top + fourth
    for low, high, pair in ((left, third, ("x2", "x1")), (top, fourth, ("y2", "y1"))):
        if high <= low:
            problem = f"box {index} has {pair[0]} <= {pair[1]}; boxes are x1,y1,x2,y2 (got xywh?)"
            raise InputError(path, problem, fix)
    _check_sides(third - left, fourth - top, ("x2 - x1", "y2 - y1"), index, path, fix)
    return left, top, third, fourth


def checked_score(value: object, *, index: int | str, path: Subject) -> float:
    """A finite number."""
    number = float("nan") if isinstance(value, bool) else _number(value)
    if not math.isfinite(number):
        raise InputError(path, f"box {index} has score {value!r}", "Give a finite number")
    return number


def whole_number(value: object, what: str, *, index: int | str, path: Subject) -> int:
    """A whole number, also where it is written as 3.0."""
    number = float("nan") if isinstance(value, bool) else _number(value)
    if not math.isfinite(number) or number != int(number):
        raise InputError(path, f"box {index} has {what} {value!r}", "Give a whole number")
    return int(number)


def _check_sides(
    width: float, height: float, names: tuple[str, str], index: int | str, path: Subject, fix: str
) -> None:
    for name, side in zip(names, (width, height), strict=True):
        if side < MIN_SIDE:
            hint = " (fractions of 1 instead of pixels?)" if side > 0 else ""
            raise InputError(path, f"box {index} has {name} {side:.4g} px{hint}", fix)


def _names(layout: Layout) -> tuple[str, str, str, str]:
    return ("x1", "y1", "x2", "y2") if layout == "xyxy" else ("x", "y", "width", "height")


def _number(value: object) -> float:
    """A number, or the text of one; NaN for anything else."""
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return float("nan")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return float("nan")
    return float("nan")
