"""Parts of a data set: the persons or pictures that fit, as a COCO file of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet_deploy.datasets.document import Document
from hrnet_deploy.datasets.expression import Expression, parse_expression
from hrnet_deploy.datasets.fields import SIZES, plain
from hrnet_deploy.datasets.orientation import FACINGS
from hrnet_deploy.datasets.persons import Person, people_per_image, persons_of
from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.files import check_input_file
from hrnet_deploy.values import first_few

FACTS = frozenset(
    {
        *("id", "image_id", "file_name", "image_width", "image_height", "category"),
        *("x", "y", "width", "height", "aspect", "area", "size"),
        *("labelled_keypoints", "visible_keypoints", "people", "facing", "crowd"),
    }
)
"""What an expression can ask of a person."""
FUNCTIONS = frozenset({"labelled", "visible", "abs", "min", "max", "contains"})


@dataclass(frozen=True)
class Selection:
    """What a subset is made of: everything that is given has to hold.

    ``people`` is an inclusive range of persons per picture. ``others`` says what becomes of persons
    that do not fit, on pictures where somebody does: "drop" them, or "ignore" them as crowds, which
    no metric counts for or against (needed where a detector finds them too).
    """

    annotation_ids: frozenset[int] | None = None
    image_ids: frozenset[int] | None = None
    files: frozenset[str] | None = None
    sizes: frozenset[str] | None = None
    facings: frozenset[str] | None = None
    people: tuple[int, int | None] | None = None
    where: Expression | None = None
    others: str = "drop"

    @property
    def of_persons(self) -> bool:
        """Whether single persons are chosen, and not only whole pictures."""
        given = (self.annotation_ids, self.sizes, self.facings, self.where)
        return any(value is not None for value in given)


def take_subset(document: Document, selection: Selection) -> dict[str, Any]:
    """The content of the subset's file; ``document`` has to be sound and is not changed.

    Pictures are kept where a person is, and, when only pictures are chosen, without any too.
    Raises InputError for ids and files that the data set does not have, and where nothing is left.
    """
    _refuse_unknown(document, selection)
    people = people_per_image(document)
    chosen_images = {
        image["id"]
        for image in document.images
        if _fits_image(image, people[image["id"]], selection)
    }
    if selection.of_persons:
        fitting = {
            id(person.record)
            for person in persons_of(document)
            if person.image["id"] in chosen_images and _fits_person(person, selection)
        }
        chosen_images = {a["image_id"] for a in document.annotations if id(a) in fitting}
        annotations = _with_others(document, chosen_images, fitting, selection.others)
    else:
        annotations = [a for a in document.annotations if a.get("image_id") in chosen_images]
    if not chosen_images:
        raise InputError(document.path, "nothing in it fits", "Widen the selection")
    return {
        **document.content,
        "images": [image for image in document.images if image["id"] in chosen_images],
        "annotations": annotations,
    }


def _fits_image(image: dict[str, Any], people: int, selection: Selection) -> bool:
    if selection.image_ids is not None and image["id"] not in selection.image_ids:
        return False
    if selection.files is not None and not _names(image) & selection.files:
        return False
    if selection.people is not None:
        least, most = selection.people
        return people >= least and (most is None or people <= most)
    return True


def _names(image: dict[str, Any]) -> frozenset[str]:
    """A picture is named by its path, its file name or that without the ending."""
    name = str(image.get("file_name"))
    last = name.replace("\\", "/").split("/")[-1]
    return frozenset({name, last, last.rsplit(".", 1)[0]})


def _fits_person(person: Person, selection: Selection) -> bool:
    chosen = selection.annotation_ids
    if chosen is not None and person.record["id"] not in chosen:
        return False
    if selection.sizes is not None and (person.crowd or person.size not in selection.sizes):
        return False
    if selection.facings is not None and (person.crowd or person.facing not in selection.facings):
        return False
    if selection.where is not None:
        return selection.where(facts_of(person), functions_of(person))
    return True


def _with_others(
    document: Document, images: set[int], fitting: set[int], others: str
) -> list[dict[str, Any]]:
    kept = []
    for entry in document.annotations:
        if id(entry) in fitting:
            kept.append(entry)
        elif others == "ignore" and entry.get("image_id") in images:
            kept.append({**entry, "iscrowd": 1})
    return kept


def facts_of(person: Person) -> dict[str, Any]:
    """The facts of one person for an expression."""
    box = person.box_xywh or (None, None, None, None)
    return {
        "id": person.record["id"],
        "image_id": person.image["id"],
        "file_name": person.image.get("file_name"),
        "image_width": person.image.get("width"),
        "image_height": person.image.get("height"),
        "category": person.category.get("name"),
        "x": box[0],
        "y": box[1],
        "width": box[2],
        "height": box[3],
        "aspect": person.aspect,
        "area": person.area,
        "size": person.size,
        "labelled_keypoints": person.labelled,
        "visible_keypoints": person.visible,
        "people": person.people,
        "facing": person.facing,
        "crowd": person.crowd,
    }


def functions_of(person: Person) -> dict[str, Callable[..., Any]]:
    """The functions of one person for an expression."""
    return {
        "labelled": lambda name: plain(name) in person.flags,
        "visible": lambda name: person.flags.get(plain(name)) == 2,
        "contains": lambda text, part: part in text,
        "abs": abs,
        "min": min,
        "max": max,
    }


def _refuse_unknown(document: Document, selection: Selection) -> None:
    wanted: tuple[tuple[str, frozenset[Any] | None, set[Any]], ...] = (
        ("annotation ids", selection.annotation_ids, {a["id"] for a in document.annotations}),
        ("image ids", selection.image_ids, {image["id"] for image in document.images}),
        ("files", selection.files, {name for i in document.images for name in _names(i)}),
    )
    for kind, asked, there in wanted:
        unknown = sorted((asked or frozenset()) - there)
        if unknown:
            problem = f"has no {kind} {first_few(unknown)}"
            raise InputError(document.path, problem, "Choose among those that it has")


def parse_where(text: str) -> Expression:
    """The expression of ``--where``."""
    return parse_expression(text, names=FACTS, functions=FUNCTIONS)


def parse_people(text: str, *, source: Subject = "--people") -> tuple[int, int | None]:
    """``3``, ``2-4`` or ``5+`` as an inclusive range."""
    found = re.fullmatch(r"(\d{1,9})(?:(\+)|-(\d{1,9}))?", text.strip())
    if found is None:
        raise InputError(source, f"'{text}' is no count", "Write 3, 2-4 or 5+")
    least = int(found[1])
    most = None if found[2] else int(found[3]) if found[3] else least
    if most is not None and most < least:
        raise InputError(source, f"'{text}' runs backwards", "Write 3, 2-4 or 5+")
    return least, most


def parse_ids(text: str, *, source: Subject) -> frozenset[int]:
    """Whole numbers separated by commas or spaces, or ``@FILE`` with such a list."""
    ids = set()
    for word in re.split(r"[\s,]+", _text(text)):
        if word:
            if not re.fullmatch(r"-?\d{1,18}", word):
                raise InputError(source, f"'{word[:40]}' is no id", "Give whole numbers")
            ids.add(int(word))
    if not ids:
        raise InputError(source, "has no ids", "Give whole numbers, or @FILE with them")
    return frozenset(ids)


def _text(text: str) -> str:
    if not text.startswith("@"):
        return text
    return _read_text(Path(text[1:]), what="list of ids")


def _read_text(path: Path, *, what: str) -> str:
    file = check_input_file(path, what=what)
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8 text at byte {error.start}", "Save it so") from None


def read_file_list(path: Path) -> frozenset[str]:
    """File names, one a line; empty lines and those that begin with # are left out."""
    lines = (line.strip() for line in _read_text(path, what="list of files").splitlines())
    names = frozenset(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise InputError(path, "lists no files", "Write one file name a line")
    return names


def parse_choice(text: str, allowed: tuple[str, ...], *, source: Subject) -> frozenset[str]:
    """Words separated by commas, each one of ``allowed``."""
    words = frozenset(word.strip() for word in text.split(",") if word.strip())
    wrong = sorted(words - set(allowed))
    if wrong or not words:
        what = f"'{wrong[0]}' is unknown" if wrong else "is empty"
        raise InputError(source, what, f"Choose among: {', '.join(allowed)}")
    return words


CHOICES = {"--size": SIZES, "--facing": FACINGS}
