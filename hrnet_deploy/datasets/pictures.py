"""The picture files of a data set: which are there, how large they are, what is wrong with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hrnet_deploy.datasets.check import unsafe_file_name
from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.fields import name_of, size_of
from hrnet_deploy.datasets.problems import Findings
from hrnet_deploy.errors import DeployError, InputError, Subject
from hrnet_deploy.files import contained, files_below
from hrnet_deploy.runtime.picture_header import UPRIGHT, read_header
from hrnet_deploy.values import is_whole

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".jpe", ".jfif"}
_TURNED_SIDES = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True)
class Pictures:
    """The files of a document's images, by image id.

    ``paths`` are those that were found, ``sizes_wh`` those that could be read, ``turned`` the EXIF
    orientations that are not upright, ``faults`` why a file cannot be read.
    """

    root: Path
    paths: dict[int, Path] = field(default_factory=dict)
    sizes_wh: dict[int, tuple[int, int]] = field(default_factory=dict)
    turned: dict[int, int] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    missing: tuple[int, ...] = ()

    @property
    def missing_ids(self) -> frozenset[int]:
        """Images without a file, or with one that cannot be read."""
        return frozenset(self.missing) | frozenset(self.faults)


def look_at_pictures(document: Document, folder: Subject) -> Pictures:
    """Find and read the header of every picture, and check that the file is complete.

    A picture lies at ``folder/file_name``, or anywhere below where its last name is found exactly
    once, as in evaluation. Raises InputError where ``folder`` is none.
    """
    root = Path(folder)
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "no such folder"
        raise InputError(folder, problem, "Give the folder of the images")
    pictures, missing = Pictures(root), []
    below: dict[str, list[str]] | None = None
    for image in document.images:
        if not isinstance(image, dict) or not is_whole(image.get("id")):
            continue
        name, image_id = image.get("file_name"), image["id"]
        if not isinstance(name, str) or not name:
            continue
        path = _direct(root, name, document.path)
        if path is None:
            below = files_below(root) if below is None else below
            path = _by_last_name(root, name, below, document.path)
        if path is None:
            missing.append(image_id)
            continue
        pictures.paths[image_id] = path
        try:
            size_wh, orientation = read_header(path)
        except DeployError as error:
            pictures.faults[image_id] = error.problem
            continue
        pictures.sizes_wh[image_id] = size_wh
        if orientation != UPRIGHT:
            pictures.turned[image_id] = orientation
    return Pictures(
        root, pictures.paths, pictures.sizes_wh, pictures.turned, pictures.faults, tuple(missing)
    )


def check_pictures(document: Document, pictures: Pictures, findings: Findings) -> None:
    """Add pictures that are missing, unreadable, of another size, turned by EXIF or unused."""
    missing = set(pictures.missing)
    for place, image in enumerate(document.images):
        if not isinstance(image, dict) or not is_whole(image.get("id")):
            continue
        image_id = image["id"]
        name = f"{name_of(image, 'image', place)} ({image.get('file_name')})"
        if image_id in missing:
            findings.add("picture-missing", name)
        elif image_id in pictures.faults:
            findings.add("picture-unreadable", f"{name} {pictures.faults[image_id]}")
        elif image_id in pictures.sizes_wh:
            size_wh, stated = pictures.sizes_wh[image_id], size_of(image)
            orientation = pictures.turned.get(image_id)
            if stated is not None and stated != size_wh:
                text = f"{name} {size_wh[0]}x{size_wh[1]}, stated {stated[0]:g}x{stated[1]:g}"
                swapped = orientation in _TURNED_SIDES and stated == size_wh[::-1]
                findings.add("picture-turned" if swapped else "picture-size", text)
            elif orientation is not None:
                findings.add("picture-turned", f"{name} EXIF orientation {orientation}")
    used = {os.path.realpath(path) for path in pictures.paths.values()}
    for relative in _picture_files(pictures.root):
        if os.path.realpath(pictures.root / relative) not in used:
            findings.add("picture-unused", relative)


def _direct(root: Path, name: str, source: Path) -> Path | None:
    if unsafe_file_name(name):
        return None
    try:
        path = contained(root, name, source=source)
    except (InputError, OSError):
        return None
    return path if os.path.isfile(path) else None


def _by_last_name(root: Path, name: str, below: dict[str, list[str]], source: Path) -> Path | None:
    places = below.get(PurePosixPath(name.replace("\\", "/")).name, [])
    return _direct(root, os.path.relpath(places[0], root), source) if len(places) == 1 else None


def _picture_files(root: Path) -> list[str]:
    """All pictures below a folder, relative to it, in order of their names."""
    return sorted(
        os.path.relpath(place, root)
        for places in files_below(root).values()
        for place in places
        if Path(place).suffix.lower() in SUFFIXES
    )
