"""COCO annotation files as they come out of annotation tools, read without judging them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.errors import InputError, Subject, command_line
from hrnet_deploy.files import atomic_write, check_input_file, read_json
from hrnet_deploy.values import is_whole

SECTIONS = ("images", "annotations", "categories")
_SNIFF_BYTES = 512

TOOLS = {
    "datatorch": "DataTorch",
    "coco-annotator": "COCO Annotator",
    "label-studio": "Label Studio",
    "cvat": "CVAT",
    "coco": "plain COCO",
}


@dataclass(frozen=True)
class Document:
    """A COCO file: ``content`` is what was parsed, its three sections are lists of anything.

    ``tool`` names what exported it, by the marks that the tool leaves (a key of ``TOOLS``).
    """

    path: Path
    content: dict[str, Any]
    tool: str

    @property
    def images(self) -> list[Any]:
        """The picture records."""
        images: list[Any] = self.content["images"]
        return images

    @property
    def annotations(self) -> list[Any]:
        """The annotation records."""
        annotations: list[Any] = self.content["annotations"]
        return annotations

    @property
    def categories(self) -> list[Any]:
        """The category records."""
        categories: list[Any] = self.content["categories"]
        return categories


def read_document(path: Subject) -> Document:
    """Read a COCO file of any state; what is another kind of file is refused by name.

    Raises InputError for files that are not JSON, exports that have to be converted first,
    results files, and files without the three sections.
    """
    _refuse_other_kinds(path)
    content = read_json(path, what="annotation file")
    if isinstance(content, list):
        problem, fix = _kind_of_list(path, content)
        raise InputError(path, problem, fix)
    for name in SECTIONS:
        section = content.get(name) if isinstance(content, dict) else None
        if not isinstance(section, list):
            problem = f"has no list '{name}'" if section is None else f"'{name}' is no list"
            raise InputError(path, problem, "Give a COCO file with images, annotations, categories")
    return Document(Path(path), content, tool_of(content))


def read_sound_document(path: Subject) -> Document:
    """Read a COCO file whose records can be told apart: for commands that take parts of it.

    Raises InputError naming the first record that is no object, has no id or shares it, or refers
    to something that is no id.
    """
    document = read_document(path)
    fix = f"Run: {command_line('dataset', 'clean', path)}"
    for name, kind in zip(SECTIONS, ("image", "annotation", "category"), strict=True):
        seen = set()
        for index, entry in enumerate(document.content[name]):
            if not isinstance(entry, dict):
                raise InputError(path, f"{name}[{index}] is not an object", fix)
            if not is_whole(entry.get("id")):
                problem = f"{name}[{index}] has id {entry.get('id')!r}, not a whole number"
                raise InputError(path, problem, fix)
            if entry["id"] in seen:
                raise InputError(path, f"{kind} id {entry['id']} stands twice", fix)
            seen.add(entry["id"])
    for entry in document.annotations:
        for key in ("image_id", "category_id"):
            if not is_whole(entry.get(key)):
                problem = f"annotation {entry['id']} has {key} {entry.get(key)!r}"
                raise InputError(path, f"{problem}, not a whole number", fix)
    return document


def tool_of(content: dict[str, Any]) -> str:
    """What exported a COCO file: DataTorch, COCO Annotator, Label Studio, CVAT, or "coco"."""
    info = content.get("info") if isinstance(content.get("info"), dict) else {}
    if _any_has(content, "datatorch_id"):
        return "datatorch"
    if _any_has(content, "keypoint_colors") or _any_has(content, "isbbox"):
        return "coco-annotator"
    if isinstance(info, dict) and info.get("contributor") == "Label Studio":
        return "label-studio"
    first = next((a for a in content["annotations"] if isinstance(a, dict)), {})
    attributes = first.get("attributes")
    if isinstance(attributes, dict) and "occluded" in attributes:
        return "cvat"
    return "coco"


def _any_has(content: dict[str, Any], key: str) -> bool:
    """Whether the first records of a section carry a key (tools give it to all or none)."""
    firsts = (entry for name in SECTIONS for entry in content[name][:3])
    return any(isinstance(entry, dict) and key in entry for entry in firsts)


def _refuse_other_kinds(path: Subject) -> None:
    file = check_input_file(path, what="annotation file")
    with open(file, "rb") as stream:
        head = stream.read(_SNIFF_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"PK\x03\x04"):
        raise InputError(path, "is a zip archive", "Unpack it and give the annotation file in it")
    if head.startswith(b"<"):
        fix = f"Run: {command_line('dataset', 'convert', path)}"
        raise InputError(path, "is an XML file, not COCO JSON", fix)


def _kind_of_list(path: Subject, content: list[Any]) -> tuple[str, str]:
    first = content[0] if content else None
    if isinstance(first, dict) and ("annotations" in first or "completions" in first):
        return "is a Label Studio export", f"Run: {command_line('dataset', 'convert', path)}"
    if isinstance(first, dict) and "joints_vis" in first:
        return "is an MPII annotation file, not COCO JSON", "Give a COCO annotation file"
    return (
        "is a list (a results or boxes file), not an annotation file",
        "Give a COCO file with images, annotations and categories",
    )


def write_document(path: Subject, content: dict[str, Any]) -> None:
    """Write a COCO file atomically, one record a line, keys in the order that they have."""
    with atomic_write(path) as stream:
        stream.write(b"{\n")
        for position, (key, value) in enumerate(content.items()):
            separator = b",\n" if position else b""
            stream.write(separator + _text(key) + b": ")
            if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
                stream.write(b"[\n" + b",\n".join(map(_text, value)) + b"\n]")
            else:
                stream.write(_text(value))
        stream.write(b"\n}\n")


def _text(value: Any) -> bytes:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return text.encode(errors="backslashreplace")  # half a character stays the escape it was
