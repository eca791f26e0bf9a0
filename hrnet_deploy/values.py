"""What a value that was read from a file is, and how many values are named in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number that a float can hold (true and false are not)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def are_numbers(values: list[object]) -> TypeGuard[list[float]]:
    """The same of every value of a list out of JSON, without a call for each."""
    try:
        return set(map(type, values)) <= {int, float} and all(map(math.isfinite, values))  # type: ignore[arg-type]
    except OverflowError:
        return False


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, as an id has to be (true, false and 1.0 are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def first_few(values: Sequence[object], count: int = 3) -> str:
    """The first values as text, with the number of the others."""
    more = len(values) - count
    return ", ".join(map(str, values[:count])) + (f" and {more} more" if more > 0 else "")
