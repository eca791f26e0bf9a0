"""Where the pictures of an annotation file lie on disk, whatever the folder layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.evaluation.coco import Annotations, CocoImage
from hrnet_deploy.files import contained, files_below
from hrnet_deploy.values import first_few


def find_pictures(
    folder: Subject,
    annotations: Annotations,
    wanted: Sequence[CocoImage],
    *,
    allow_missing: bool | None = None,
) -> dict[int, Path]:
    """The file of each wanted picture, by image id; missing ones are left out where allowed.

    A picture lies at ``folder/file_name``, or anywhere below ``folder`` where its last name is
    found exactly once. Raises InputError for a file name that leaves the folder, for a folder
    with none of the pictures, and for missing ones.
    """
    root = Path(folder)
    if not root.exists():
        raise InputError(folder, "no such folder", "Give the folder of the images")
    if not root.is_dir():
        raise InputError(folder, "is not a folder", "Give the folder of the images")
    paths = {image.id: _inside(root, image.file_name, annotations) for image in annotations.images}
    found = {image.id: paths[image.id] for image in wanted if os.path.isfile(paths[image.id])}
    if len(found) < len(wanted):
        below = files_below(root)
        for image in wanted:
            places = below.get(_last_name(image.file_name), ())
            if image.id not in found and len(places) == 1:
                found[image.id] = _inside(root, os.path.relpath(places[0], root), annotations)
    _check_found(root, wanted, found, allow_missing=allow_missing)
    return found


def _inside(root: Path, file_name: str, annotations: Annotations) -> Path:
    """The file of that name, refused where the name leads out of the folder."""
    if os.path.isabs(file_name):
        problem = f"names the absolute path '{file_name}', which may lie outside {root}"
        raise InputError(annotations.path, problem, "Use paths inside that folder")
    return contained(root, file_name, source=annotations.path)


def _last_name(file_name: str) -> str:
    return PurePosixPath(file_name.replace("\\", "/")).name


def _check_found(
    root: Path, wanted: Sequence[CocoImage], found: dict[int, Path], *, allow_missing: bool | None
) -> None:
    missing = [image.file_name for image in wanted if image.id not in found]
    if not missing:
        return
    if not found:
        problem = f"0 of {len(wanted)} images found; expected e.g. {missing[0]}"
        raise InputError(root, problem, "Give the folder that belongs to the annotations")
    if not allow_missing:
        problem = f"{len(missing)} of {len(wanted)} images are missing: {first_few(missing)}"
        otherwise = (
            "" if allow_missing is None else ", or pass --allow-missing for a partial result"
        )
        raise InputError(root, problem, f"Add them{otherwise}")
