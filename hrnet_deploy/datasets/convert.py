"""Exports of annotation tools to COCO keypoint files, told apart by their content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.datasets.changes import Changes
from hrnet_deploy.datasets.clean import CleanOptions, clean_document
from hrnet_deploy.datasets.cvat import read_cvat
from hrnet_deploy.datasets.document import TOOLS, Document, read_document
from hrnet_deploy.datasets.label_studio import read_label_studio
from hrnet_deploy.datasets.pictures import Pictures, look_at_pictures
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file, read_json
from hrnet_deploy.keypoints import KeypointSet, keypoint_set

FORMATS = ("auto", "cvat", "label-studio", "coco")
_LABEL_STUDIO_PREFIX = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True)
class Converted:
    """The result: COCO content, what the file was, notes, and the repairs that were made."""

    document: Document
    source: str
    notes: tuple[str, ...]
    changes: Changes


def convert(
    path: Subject,
    *,
    kind: str = "auto",
    keypoints: KeypointSet | None = None,
    images: Subject | None = None,
    area_factor: float = 1.0,
) -> Converted:
    """Read an export and make a complete COCO keypoint file of it.

    CVAT's XML, Label Studio's JSON, and COCO files of any tool; all rules of ``clean`` run on the
    result (``area_factor`` as there). With the folder of the ``images``, sizes that the export does
    not state are read from the pictures, and file names that Label Studio gave a prefix are found
    without it.
    """
    kind = _kind_of(path) if kind == "auto" else kind
    if kind == "cvat":
        content, notes = read_cvat(path, keypoints)
        document = Document(Path(path), content, "cvat")
        source = "CVAT for images 1.1"
    elif kind == "label-studio":
        content, notes = read_label_studio(_tasks(path), path, keypoints)
        document = Document(Path(path), content, "label-studio")
        source = "Label Studio JSON"
    else:
        document, notes = read_document(path), []
        source = f"COCO JSON ({TOOLS[document.tool]})"
    pictures = None
    if images is not None:
        pictures = _find(document, images, notes)
    options = CleanOptions(keypoints=keypoints, area_factor=area_factor)
    changes = clean_document(document, options, pictures=pictures)
    return Converted(document, source, tuple(notes), changes)


def parse_keypoints(text: str) -> KeypointSet:
    """A known set by its name, or names separated by commas as a set of one's own."""
    if "," not in text:
        return keypoint_set(text)
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise InputError("--keypoints", f"'{text}' has an empty name or one twice", "Correct it")
    return KeypointSet("--keypoints", names, flip_pairs=None, sigmas=None, skeleton=())


def _kind_of(path: Subject) -> str:
    file = check_input_file(path, what="annotation export")
    with open(file, "rb") as stream:
        head = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<"):
        return "cvat"
    return "label-studio" if head.startswith(b"[") else "coco"


def _tasks(path: Subject) -> list[Any]:
    content = read_json(path, what="Label Studio export")
    tasks = content if isinstance(content, list) else [content]
    if not tasks:
        raise InputError(path, "has no tasks", "Export the project again")
    first = tasks[0]
    if isinstance(first, dict) and ("annotations" in first or "completions" in first):
        return tasks
    if isinstance(first, dict) and {"annotation_id", "annotator"} & first.keys():
        problem = "is Label Studio's JSON-MIN, which does not say which keypoints are one person"
        raise InputError(path, problem, "Export it as JSON")
    raise InputError(path, "is not a Label Studio export", "Give one, or a COCO file or CVAT's XML")


def _find(document: Document, images: Subject, notes: list[str]) -> Pictures:
    """The pictures; names with Label Studio's prefix are changed where only the rest is a file."""
    pictures = look_at_pictures(document, images)
    renamed = 0
    for image in document.images:
        name = image.get("file_name") if isinstance(image, dict) else None
        if isinstance(name, str) and image.get("id") in pictures.missing:
            last = name.split("/")[-1]
            short = _LABEL_STUDIO_PREFIX.sub("", last)
            if short != last and (Path(images) / short).is_file():
                image["file_name"] = short
                renamed += 1
    if renamed:
        notes.append(f"{renamed} file names lose the prefix that Label Studio gave them")
        pictures = look_at_pictures(document, images)
    return pictures
