"""Standard names for pictures (000000000012.jpg), with a file that takes everything back."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.datasets.changes import Changes
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.pictures import Pictures
from hrnet_deploy.datasets.rules import IMAGE_DIGITS, RENAME_MODES
from hrnet_deploy.errors import EnvironmentFault, InputError, Subject
from hrnet_deploy.files import (
    disk_full,
    is_disk_full,
    read_json,
    sha256_file,
    write_json,
)
from hrnet_deploy.values import first_few, is_whole

_MARK = "hrnet-deploy-rename"
_VERSION = 1
_PARKED = ".hrnet-deploy-parked"


@dataclass(frozen=True)
class Move:
    """One picture: where it is, where it goes, and the record that names it."""

    image: dict[str, Any]
    source: Path
    target: Path


def plan_names(
    document: Document, pictures: Pictures, target: Path, *, mode: str, digits: int = IMAGE_DIGITS
) -> list[Move]:
    """Which picture gets which name below ``target``; nothing is touched.

    Raises InputError where a picture is missing, two would share a name, or a target exists that is
    not itself about to move.
    """
    moves = []
    for image in document.images:
        if not isinstance(image, dict) or not is_whole(image.get("id")):
            continue
        source = pictures.paths.get(image["id"])
        if source is None:
            problem = f"image {image['id']} ({image.get('file_name')}) is missing"
            fix = "Add it, or pass --drop-missing"
            raise InputError(pictures.root, problem, fix)
        if image["id"] < 0:
            raise InputError(document.path, f"image id {image['id']} is negative", "Change it")
        name = f"{image['id']:0{digits}d}{source.suffix.lower()}"
        moves.append(Move(image, source, target / name))
    _refuse_collisions(moves, mode)
    return moves


def _refuse_collisions(moves: list[Move], mode: str) -> None:
    shared = [path for path, n in Counter(move.source for move in moves).items() if n > 1]
    if shared:
        problem = f"is the picture of several images ({first_few([p.name for p in shared])})"
        raise InputError(shared[0], problem, "Keep one image for each picture")
    leaving = {os.path.abspath(move.source) for move in moves} if mode == "rename" else set()
    for move in moves:
        if os.path.abspath(move.target) == os.path.abspath(move.source):
            continue
        if os.path.lexists(move.target) and os.path.abspath(move.target) not in leaving:
            raise InputError(move.target, "exists", "Choose an empty folder (--images-to)")


def say_names(moves: list[Move], mode: str, changes: Changes) -> None:
    """Name the pictures anew in their records, and say so."""
    for move in moves:
        changed = move.source != move.target
        if changed and not _same_path(move.source, move.target):
            changes.add(
                "picture-names", f"image {move.image['id']}", f"{mode} {move.source} {move.target}"
            )
        changes.set(
            move.image, "file_name", move.target.name, "file-names", f"image {move.image['id']}"
        )


def _same_path(first: Path, second: Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def carry_out(moves: list[Move], mode: str, undo: Subject) -> bool:
    """Copy, hard-link or rename the pictures, after writing the file that takes it back.

    Where one fails, those before it are taken back and the undo file goes again. False where every
    picture has its name already: then there is nothing to undo either.
    """
    todo = [move for move in moves if not _same_path(move.source, move.target)]
    if not todo:
        return False
    record = {
        _MARK: _VERSION,
        "mode": mode,
        "pictures": [
            {
                "from": os.path.abspath(move.source),
                "to": os.path.abspath(move.target),
                "sha256": sha256_file(move.source),
            }
            for move in todo
        ],
    }
    write_json(undo, record)
    done: list[tuple[Path, Path]] = []
    try:
        for folder in {move.target.parent for move in todo}:
            folder.mkdir(parents=True, exist_ok=True)
        _carry(todo, mode, done)
    except BaseException as error:
        _take_back(done, mode)
        Path(undo).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _fault(error, todo, mode) from error
        raise
    return True


def _carry(todo: list[Move], mode: str, done: list[tuple[Path, Path]]) -> None:
    if mode != "rename":
        for move in todo:
            done.append((move.source, move.target))
            if mode == "copy":
                shutil.copyfile(move.source, move.target)
            else:
                os.link(move.source, move.target)
        return
    # By way of a parking name, since one picture's new name may be another's old one.
    for move in todo:
        parked = move.source.with_name(move.source.name + _PARKED)
        os.rename(move.source, parked)
        done.append((move.source, parked))
    for place, move in enumerate(todo):
        _, parked = done[place]
        os.rename(parked, move.target)
        done[place] = (move.source, move.target)


def _take_back(done: list[tuple[Path, Path]], mode: str) -> None:
    if mode != "rename":
        for _, target in done:
            target.unlink(missing_ok=True)
        return
    parked = []
    for source, place in done:
        away = source.with_name(source.name + _PARKED)
        if place != away:
            with contextlib.suppress(OSError):
                os.rename(place, away)
        parked.append((source, away))
    for source, away in parked:
        with contextlib.suppress(OSError):
            os.rename(away, source)


def _fault(error: OSError, todo: list[Move], mode: str) -> InputError | EnvironmentFault:
    if is_disk_full(error):
        return disk_full(todo[0].target.parent)
    what = f"cannot {mode} pictures here ({error.strerror})"
    return EnvironmentFault(todo[0].target.parent, what, "Try --rename copy, or another folder")


def undo_names(path: Subject) -> tuple[str, int]:
    """Take back what the undo file says; the mode and the number of pictures.

    Copies and links are removed, renamed pictures get their old names. Raises InputError before
    anything is touched where a picture is gone, was changed, or its old place is taken.
    """
    record = read_json(path, what="undo file")
    mode, entries = _undo_entries(record, path)
    pairs = [(Path(entry["from"]), Path(entry["to"])) for entry in entries]
    leaving = {os.path.abspath(target) for _, target in pairs}
    for entry, (source, target) in zip(entries, pairs, strict=True):
        if not target.is_file() or target.is_symlink():
            raise InputError(target, "is not there any more", "Nothing was undone; put it back")
        if sha256_file(target) != entry["sha256"]:
            raise InputError(target, "was changed since", "Nothing was undone; move it away first")
        if mode != "rename" and not (source.is_file() and sha256_file(source) == entry["sha256"]):
            raise InputError(source, "the original is gone or changed", "Nothing was undone")
        if mode == "rename" and source.exists() and os.path.abspath(source) not in leaving:
            raise InputError(source, "exists again", "Nothing was undone; move it away first")
    if mode == "rename":
        moves = [Move({}, target, source) for source, target in pairs]
        done: list[tuple[Path, Path]] = []
        try:
            _carry(moves, mode, done)
        except OSError as error:
            _take_back(done, mode)
            raise _fault(error, moves, mode) from error
    else:
        for _, target in pairs:
            target.unlink()
    Path(path).unlink()
    return mode, len(pairs)


def _undo_entries(record: Any, path: Subject) -> tuple[str, list[dict[str, str]]]:
    if not isinstance(record, dict) or record.get(_MARK) != _VERSION:
        raise InputError(path, "is no undo file", "Give the .undo.json of dataset clean --rename")
    mode, entries = record.get("mode"), record.get("pictures")
    if mode not in RENAME_MODES or not isinstance(entries, list):
        raise InputError(path, "is a damaged undo file", "Nothing was undone")
    for index, entry in enumerate(entries):
        texts = [entry.get(key) if isinstance(entry, dict) else None for key in _UNDO_KEYS]
        if not all(isinstance(text, str) and text and "\0" not in text for text in texts):
            raise InputError(path, f"pictures[{index}] is damaged", "Nothing was undone")
    return mode, entries


_UNDO_KEYS = ("from", "to", "sha256")
