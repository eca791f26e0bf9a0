"""Strict reading of one table of a recipe: every fault is one line that names its place."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, cast

from hrnet_deploy.errors import InputError
from hrnet_deploy.keypoints import KeypointSet, Pairs, keypoint_set
from hrnet_deploy.spec import MAX_SIDE
from hrnet_deploy.values import is_number, is_whole

_FIX = "See export/example_custom.toml"
Choice = TypeVar("Choice", bound=str)
Triple = tuple[float, float, float]


class TableReader:
    """Takes typed values out of a table; ``finish`` refuses whatever nobody asked for."""

    def __init__(self, path: Path, name: str, table: dict[str, Any]) -> None:
        self.path = path
        self.name = name
        self._table = dict(table)
        self._known: list[str] = []

    def fault(self, key: str, problem: str, fix: str = _FIX) -> InputError:
        """The error for ``key``, with its full place."""
        return InputError(self.path, f"{self._place(key)} {problem}", fix)

    def finish(self) -> None:
        """Refuse keys that are not known, with the nearest one that is."""
        for key in self._table:
            near = difflib.get_close_matches(key, self._known, n=1)
            known = f"Did you mean '{near[0]}'? " if near else ""
            raise InputError(
                self.path,
                f"unknown key {self._place(key)}",
                f"{known}Known keys: {', '.join(self._known)}",
            )

    def table(self, key: str, *, required: bool = False) -> TableReader:
        """A table inside this one; empty where absent and not required."""
        value = self._take(key)
        if value is None:
            if required:
                raise self.fault(key, "is missing; a recipe needs this table")
            value = {}
        if not isinstance(value, dict):
            raise self.fault(key, f"is {_shown(value)}, expected a table")
        return TableReader(self.path, key, value)

    def text(self, key: str, default: str | None = None) -> str | None:
        """A string; an empty one counts as absent."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.fault(key, f"is {_shown(value)}, expected text")
        return value or default

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fault(key, f"is {_shown(value)}, expected true or false")
        return value

    def choice(self, key: str, allowed: tuple[Choice, ...], default: Choice) -> Choice:
        """One of a few words."""
        value = self._take(key)
        if value is None:
            return default
        if value not in allowed:
            raise self.fault(key, f"is {_shown(value)}, expected one of {', '.join(allowed)}")
        return cast("Choice", value)

    def number(self, key: str, low: float, high: float, default: float) -> float:
        """A finite number in a range."""
        value = self._take(key)
        if value is None:
            return default
        if not is_number(value) or not low <= value <= high:
            raise self.fault(key, f"is {_shown(value)}, expected a number from {low} to {high}")
        return float(value)

    def hexadecimal(self, key: str, shortest: int, longest: int) -> str | None:
        """Lower-case hexadecimal digits, as of a hash."""
        value = self.text(key)
        if value is None:
            return None
        digits = value.lower()
        if not shortest <= len(digits) <= longest or set(digits) - set("0123456789abcdef"):
            wanted = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
            raise self.fault(key, f"is {_shown(value)}, expected {wanted} hexadecimal digits")
        return digits

    def size(self, key: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """[height, width] in pixels."""
        value = self._take(key)
        if value is None:
            if default is None:
                raise self.fault(key, "is missing", "Add it as [height, width], such as [256, 192]")
            return default
        fine = isinstance(value, list) and len(value) == 2
        if not fine or not all(is_whole(side) and 1 <= side <= MAX_SIDE for side in value):
            wanted = f"expected [height, width], each from 1 to {MAX_SIDE}"
            raise self.fault(key, f"is {_shown(value)}, {wanted}")
        return value[0], value[1]

    def triple(self, key: str, low: float, default: Triple) -> Triple:
        """Three numbers in units of 1/255 grey levels, red first."""
        value = self._take(key)
        if value is None:
            return default
        fine = isinstance(value, list) and len(value) == 3
        if not fine or not all(is_number(item) and low <= item <= 1 for item in value):
            wanted = "expected [red, green, blue], each at most 1 (grey levels over 255)"
            raise self.fault(key, f"is {_shown(value)}, {wanted}")
        return float(value[0]), float(value[1]), float(value[2])

    def figures(self, known: tuple[str, ...]) -> dict[str, float]:
        """The published figures that are present, in percent."""
        found = {}
        for key in known:
            if key in self._table:
                found[key] = self.number(key, 0, 100, 0)
            self._known.append(key)
        return found

    def geometry(self) -> None:
        """Only the official one is supported; UDP is refused by name."""
        value = self.choice("geometry", ("official", "udp"), "official")
        if value == "udp":
            raise self.fault(
                "geometry",
                "is 'udp' (unbiased data processing), which is not supported",
                "Use a model that was trained without UDP",
            )

    def keypoint_set(self, default_name: str) -> KeypointSet:
        """A known set by ``set``, or one spelled out by ``names`` and what goes with them."""
        known = self.text("set")
        inline_keys = ("name", "names", "flip_pairs", "sigmas", "skeleton")
        given = [key for key in inline_keys if key in self._table]
        if known is not None:
            if given:
                raise self.fault(given[0], "stands beside set", "Give either set or names")
            self._known += inline_keys
            return keypoint_set(known, source=f"{self.path}: keypoints.set")
        name = self.text("name", default_name) or default_name
        names = self._names()
        flip_pairs = self._pairs("flip_pairs", names)
        flat = [k for pair in flip_pairs or () for k in pair]
        if len(flat) != len(set(flat)):
            raise self.fault("flip_pairs", "names a keypoint twice", "Each may stand in one pair")
        skeleton = self._pairs("skeleton", names) or ()
        return KeypointSet(name, names, flip_pairs, self._sigmas(len(names)), skeleton)

    def _names(self) -> tuple[str, ...]:
        value = self._take("names")
        if value is None:
            raise self.fault("names", "is missing", 'Give set = "coco_17" or a list of names')
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(name, str) and name for name in value)
            or len(set(value)) != len(value)
        ):
            raise self.fault("names", "is not a list of different names")
        return tuple(value)

    def _pairs(self, key: str, names: tuple[str, ...]) -> Pairs | None:
        """Pairs of names or of indices from 0; None where absent."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.fault(key, f"is {_shown(value)}, expected a list of pairs")
        return tuple(self._pair(key, pair, names) for pair in value)

    def _pair(self, key: str, pair: object, names: tuple[str, ...]) -> tuple[int, int]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise self.fault(key, f"holds {_shown(pair)}, expected two keypoints")
        indices = []
        for item in pair:
            if isinstance(item, str) and item in names:
                indices.append(names.index(item))
            elif is_whole(item) and 0 <= item < len(names):
                indices.append(item)
            else:
                wanted = f"expected a keypoint's name or an index from 0 to {len(names) - 1}"
                raise self.fault(key, f"holds {_shown(item)}, {wanted}")
        if indices[0] == indices[1]:
            raise self.fault(key, f"pairs {_shown(pair[0])} with itself")
        return indices[0], indices[1]

    def _sigmas(self, count: int) -> tuple[float, ...] | None:
        value = self._take("sigmas")
        if value is None:
            return None
        fine = isinstance(value, list) and len(value) == count
        if not fine or not all(is_number(item) and 0 < item < 10 for item in value):
            raise self.fault("sigmas", f"is not a list of {count} positive numbers")
        return tuple(float(item) for item in value)

    def _take(self, key: str) -> Any:
        self._known.append(key)
        return self._table.pop(key, None)

    def _place(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
