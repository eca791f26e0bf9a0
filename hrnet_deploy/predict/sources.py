"""What the user named: pictures, folders, patterns, lists, videos, cameras and streams."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from hrnet_deploy.errors import InputError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
    | {".wmv", ".flv", ".3gp", ".ogv", ".mjpeg", ".mjpg"}
)
LIST_WORD = "-"
_CAMERA_DIGITS = 3


@dataclass(frozen=True)
class Source:
    """A picture, a video file, or a live camera or stream.

    ``name`` is what the user wrote (a path, a camera's number, a URL), ``relative`` the name for
    outputs: below the folder that was given, otherwise the file's own name.
    """

    kind: Literal["picture", "video", "live"]
    name: str
    relative: PurePath


@dataclass(frozen=True)
class Sources:
    """All sources in order; ``total`` is None where a list on stdin is still being written."""

    items: Iterable[Source]
    total: int | None
    has_pictures: bool
    has_videos: bool
    has_live: bool


def find_sources(
    words: Sequence[str], *, recursive: bool = False, lines: Iterable[str] = ()
) -> Sources:
    """Find what ``words`` name: files, folders, patterns, camera numbers, URLs, or ``-``.

    ``lines`` are those of stdin, one path each, and are read only as they are needed. A folder
    stands for the pictures in it, with ``recursive`` also in its subfolders, ordered by name.
    Raises InputError for a word that names nothing.
    """
    if not words:
        raise InputError("SOURCE", "is missing", "Give a picture, a folder, a video or -")
    found: list[list[Source] | None] = []
    for word in words:
        found.append(None if word == LIST_WORD else _of_word(word, recursive))
    if found.count(None) > 1:
        raise InputError("SOURCE", "has - more than once", "Give the list on stdin once")
    known = [source for part in found if part is not None for source in part]
    kinds = {source.kind for source in known}
    listed = None in found
    return Sources(
        _chained(found, lines) if listed else known,
        None if listed or "live" in kinds else len(known),
        listed or "picture" in kinds,
        "video" in kinds,
        "live" in kinds,
    )


def _chained(found: list[list[Source] | None], lines: Iterable[str]) -> Iterator[Source]:
    for part in found:
        if part is not None:
            yield from part
            continue
        for line in lines:
            if name := line.rstrip("\r\n"):
                yield _file(name)


def _of_word(word: str, recursive: bool) -> list[Source]:
    path = Path(word)
    if "://" in word:
        return [Source("live", word, PurePath("stream"))]
    if path.is_dir():
        return _of_folder(path, recursive)
    if path.exists():
        return [_file(word)]
    if word.isdecimal() and len(word) <= _CAMERA_DIGITS:
        return [Source("live", word, PurePath(f"camera{word}"))]
    if glob.has_magic(word):
        names = [
            name for name in sorted(glob.glob(word, recursive=True)) if not os.path.isdir(name)
        ]
        if not names:
            raise InputError(word, "matches no file", "Check the pattern")
        return [_file(name) for name in names]
    raise InputError(word, "no such file", "Give a picture, a folder, a video, a camera or -")


def _file(name: str) -> Source:
    path = PurePath(name)
    kind: Literal["picture", "video"] = "picture"
    if path.suffix.lower() in VIDEO_SUFFIXES:
        kind = "video"
    return Source(kind, name, PurePath(path.name))


def _of_folder(folder: Path, recursive: bool) -> list[Source]:
    names: list[Path] = []
    for base, subfolders, files in os.walk(folder):
        subfolders.sort()
        names += [Path(base, name) for name in sorted(files) if not name.startswith(".")]
        if not recursive:
            break
    pictures = [name for name in names if name.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise InputError(folder, *_why_empty(names, recursive))
    return [Source("picture", str(name), name.relative_to(folder)) for name in pictures]


def _why_empty(names: list[Path], recursive: bool) -> tuple[str, str]:
    where = "has no pictures" if recursive else "has no pictures (subfolders need --recursive)"
    if not names:
        return where, "Give a folder of JPEG, PNG, BMP or WebP files"
    suffixes = Counter(name.suffix.lower() or "no extension" for name in names)
    found = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(3))
    return f"{where}; it holds {found}", "Give pictures, or name the videos themselves"
