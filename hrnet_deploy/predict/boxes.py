"""Boxes that somebody else found, in COCO, CSV, YOLO or MOT files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file
from hrnet_deploy.predict.box_json import read_coco, read_image_names
from hrnet_deploy.predict.box_rows import BoxRow
from hrnet_deploy.predict.box_text import (
    MOT_FIRST_FRAME,
    read_csv,
    read_mot,
    read_text,
    read_yolo,
)
from hrnet_deploy.predict.frames import Boxes, Frame, no_boxes
from hrnet_deploy.predict.sources import Source

Format = Literal["coco", "csv", "yolo", "mot"]
FORMATS: tuple[Format, ...] = ("coco", "csv", "yolo", "mot")

_KNOWN = "Give a .json, .csv or .txt file, a folder of YOLO .txt files, or --boxes-format"
_DIGITS = re.compile(r"\d+")


class FileBoxes:
    """Boxes of one file, found by the picture's name or number: call it with a frame.

    A name fits where one path is the end of the other (``a/b.jpg`` and ``/data/a/b.jpg``). A
    number fits a video's frame, and a picture whose name without extension is that number.
    """

    def __init__(self, path: Subject, rows: list[BoxRow], first_number: int = 0) -> None:
        self.path, self.count = path, len(rows)
        self._first_number = first_number
        grouped: dict[tuple[str | None, int | None], list[BoxRow]] = defaultdict(list)
        for row in rows:
            grouped[(row.name, row.number)].append(row)
        self._groups = {key: _boxes(group) for key, group in grouped.items()}
        self._names: dict[str, list[str]] = defaultdict(list)
        for name in {row.name for row in rows if row.name is not None}:
            self._names[PurePath(name).name].append(name)
        self._numbers = {n for name, n in self._groups if name is None and n is not None}
        self._resolved: tuple[str, str | None] = ("", None)

    def __call__(self, frame: Frame) -> Boxes:
        """The boxes of ``frame``; nobody where the file does not name it."""
        name = self._name_of(frame.source)
        keys: list[tuple[str | None, int | None]]
        if frame.number is not None:
            keys = [(name, frame.number), (None, frame.number)]
        else:
            keys = [(name, None), (None, self._own_number(frame.source))]
        for key in keys:
            if any(part is not None for part in key) and key in self._groups:
                return self._groups[key]
        return no_boxes()

    def knows(self, source: Source) -> bool:
        """Whether the file says anything about a picture; of a video it is taken for granted."""
        if source.kind != "picture":
            return True
        return self._name_of(source.name) is not None or (
            self._own_number(source.name) in self._numbers
        )

    def examples(self) -> str:
        """A few of the names or numbers that the file has boxes of."""
        names = sorted(name for group in self._names.values() for name in group)
        return ", ".join(names[:3] or [str(number) for number in sorted(self._numbers)[:3]])

    def _own_number(self, source: str) -> int | None:
        stem = PurePath(source).stem
        return int(stem) - self._first_number if _DIGITS.fullmatch(stem) else None

    def _name_of(self, source: str) -> str | None:
        """The file's own name for a source; InputError where two fit equally well."""
        if self._resolved[0] == source:
            return self._resolved[1]
        path = PurePath(source)
        known = self._names.get(path.name) or self._names.get(path.stem) or []
        fitting = [name for name in known if _fits(PurePath(name), path)]
        if len(fitting) > 1:
            longest = max(len(PurePath(name).parts) for name in fitting)
            fitting = [name for name in fitting if len(PurePath(name).parts) == longest]
        if len(fitting) > 1:
            problem = f"has boxes of {fitting[0]} and {fitting[1]}, which both fit {source}"
            raise InputError(self.path, problem, "Name the pictures from a folder further up")
        self._resolved = (source, fitting[0] if fitting else None)
        return self._resolved[1]


class YoloBoxes:
    """A YOLO text file for each picture, of the same name: call it with a frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._single = not path.is_dir()

    def __call__(self, frame: Frame) -> Boxes:
        """The persons of ``frame``; a picture without a file has nobody in it."""
        if frame.size_wh is None:
            return no_boxes()
        file = self._file_of(frame.source, frame.relative, frame.number)
        if not file.is_file() or not file.stat().st_size:  # nobody was found
            return no_boxes()
        return read_yolo(file, frame.size_wh)

    def knows(self, source: Source) -> bool:
        """Whether there is a file for a picture."""
        return source.kind != "picture" or self._file_of(source.name, source.relative).is_file()

    def examples(self) -> str:
        """A few of the files that there are."""
        if self._single:
            return self.path.name
        return ", ".join(sorted(file.name for file in self.path.glob("*.txt"))[:3])

    def _file_of(self, source: str, relative: PurePath, number: int | None = None) -> Path:
        if self._single:
            return self.path if PurePath(source).stem == self.path.stem else self.path / "absent"
        if number is not None:  # as trackers write them: video_12.txt, counted from 1
            return self.path / f"{PurePath(source).stem}_{number + 1}.txt"
        below = self.path / relative.with_suffix(".txt")
        return below if below.is_file() else self.path / f"{PurePath(source).stem}.txt"


def load_boxes(
    path: Path,
    *,
    form: Format | None = None,
    image_ids: Path | None = None,
    threshold: float = 0.0,
    note: Callable[[str], None] = lambda line: None,
) -> FileBoxes | YoloBoxes:
    """Read a file of boxes; ``form`` None tells the format by name and content.

    ``image_ids`` is a COCO annotation file that says which picture an id means. Boxes scored
    below ``threshold`` are left out. ``note`` hears what was assumed. Raises InputError naming the
    box for whatever is not a box.
    """
    chosen = form or _recognised(path)
    if chosen == "yolo":
        if not path.is_dir():
            check_input_file(path, what="boxes file")
        elif not any(path.glob("*.txt")) and not any(path.rglob("*.txt")):
            raise InputError(path, "holds no .txt file", _KNOWN)
        return YoloBoxes(path)
    if chosen == "mot":
        rows = read_mot(path)
    elif chosen == "csv":
        rows = read_csv(path)
    else:
        names = None if image_ids is None else read_image_names(image_ids)
        rows = read_coco(path, note, names=names)
    kept = [row for row in rows if row.score >= threshold]
    if not kept:
        below = f" ({len(rows)} below the threshold {threshold:g})" if rows else ""
        raise InputError(path, f"has no boxes of persons{below}", _KNOWN)
    return FileBoxes(path, kept, MOT_FIRST_FRAME if chosen == "mot" else 0)


def _recognised(path: Path) -> Format:
    if path.is_dir():
        return "yolo"
    check_input_file(path, what="boxes file")
    suffix = path.suffix.lower()
    if suffix == ".json":
        return "coco"
    if suffix in (".csv", ".tsv"):
        return "csv"
    if suffix == ".txt":
        lines = read_text(path, "boxes file").splitlines()
        return "mot" if "," in (lines or [""])[0] else "yolo"
    raise InputError(path, f"has the unknown extension '{suffix}'", _KNOWN)


def _fits(a: PurePath, b: PurePath) -> bool:
    """Whether one path is the end of the other, or names it without its extension."""
    if not a.suffix:
        b = b.with_suffix("")
    short, long = sorted((_parts(a), _parts(b)), key=len)
    return long[len(long) - len(short) :] == short


def _parts(path: PurePath) -> tuple[str, ...]:
    return tuple(part for part in path.parts if part not in (".", path.anchor))


def _boxes(rows: list[BoxRow]) -> Boxes:
    with_ids = all(row.id is not None for row in rows)
    return Boxes(
        np.array([row.xyxy for row in rows], np.float64),
        np.array([row.score for row in rows], np.float64),
        np.array([row.id for row in rows], np.int64) if with_ids else None,
    )
