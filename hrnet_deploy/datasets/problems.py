"""What can be wrong with a data set: every kind with its sentence and its remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

FIRST_PLACES = 3
_CLEAN = "dataset clean repairs it"
_LOOK = "look at it in the annotation tool"


@dataclass(frozen=True)
class Kind:
    """A kind of problem; a ``hint`` is worth a look but does not make a data set faulty."""

    what: str
    remedy: str
    hint: bool = False


@dataclass(frozen=True)
class Problem:
    """One kind of problem as found: how often, and the first places in the file's order."""

    code: str
    what: str
    count: int
    places: tuple[str, ...]
    remedy: str
    hint: bool

    def as_json(self) -> dict[str, object]:
        """The same facts for ``--json``."""
        return {
            "code": self.code,
            "what": self.what,
            "count": self.count,
            "first": list(self.places),
            "remedy": self.remedy,
            "hint": self.hint,
        }


KINDS: dict[str, Kind] = {
    "broken-entry": Kind(
        "entries that are no objects", "remove them, or: dataset clean --drop-broken"
    ),
    "category-id": Kind("category ids that are missing or no whole numbers", _CLEAN),
    "category-id-twice": Kind(
        "category ids that stand twice", "give each category an id of its own; clean drops copies"
    ),
    "category-keypoints": Kind(
        "categories with annotated keypoints but without their names",
        "dataset clean --keypoints NAME, such as coco_17",
    ),
    "keypoint-names": Kind(
        "keypoint names unlike those of the keypoint set",
        "dataset clean --keypoints NAME renames and reorders where the names allow it",
    ),
    "category-skeleton": Kind(
        "categories with keypoints but without a skeleton",
        "only drawing needs it; clean adds the one of a known keypoint set",
        hint=True,
    ),
    "skeleton-range": Kind("skeleton links to keypoints that do not exist", _CLEAN),
    "image-id": Kind("image ids that are missing or no whole numbers", _CLEAN),
    "image-id-twice": Kind(
        "image ids that stand twice",
        "which picture an annotation belongs to is not known: give them ids of their own; "
        "clean drops exact copies",
    ),
    "image-name": Kind("images without a file_name", "add the names; --drop-broken removes them"),
    "image-name-path": Kind("file names that are absolute or leave the folder", _CLEAN),
    "image-name-twice": Kind("images that share their file", "keep one of them"),
    "image-size": Kind(
        "images without width and height", "dataset clean --images FOLDER reads them from the files"
    ),
    "annotation-id": Kind("annotation ids that are missing or no whole numbers", _CLEAN),
    "annotation-id-twice": Kind("annotation ids that stand twice", _CLEAN),
    "annotation-id-zero": Kind(
        "annotations with id 0, which pycocotools counts as never found", _CLEAN
    ),
    "unknown-image": Kind(
        "annotations of images that are not listed",
        "add the images, or: dataset clean --drop-broken",
    ),
    "unknown-category": Kind(
        "annotations of categories that are not listed",
        "add the categories, or: dataset clean --drop-broken",
    ),
    "split-annotation": Kind("keypoints in another annotation than their shape", _CLEAN),
    "keypoints-form": Kind(
        "keypoints that are no list x, y, v, x, y, v, ...",
        "dataset clean flattens lists of points; other damage: --drop-broken",
    ),
    "keypoints-count": Kind(
        "annotations with another number of keypoints than their category",
        "annotate them again, or: dataset clean --drop-broken",
    ),
    "keypoints-missing": Kind(
        "annotations without keypoints, taken as unlabelled persons", _LOOK, hint=True
    ),
    "bbox-missing": Kind("boxes that are missing or not four numbers", _CLEAN),
    "bbox-empty": Kind("boxes without width or height", _CLEAN),
    "bbox-negative": Kind("boxes with negative coordinates", _CLEAN),
    "bbox-outside": Kind("boxes past the image", _CLEAN),
    "visibility": Kind("visibility flags other than 0, 1 and 2", _CLEAN),
    "visibility-one": Kind(
        "annotations whose keypoints all have v = 1 (hidden), as in the whole file", _CLEAN
    ),
    "visibility-zero": Kind("keypoints with v = 0 that have coordinates", _CLEAN),
    "visibility-origin": Kind("keypoints that are labelled at 0, 0", _CLEAN),
    "keypoint-outside-image": Kind("keypoints outside their image", _CLEAN),
    "keypoint-outside-box": Kind(
        "keypoints outside their box, this tool's way to say not visible", _CLEAN
    ),
    "keypoint-beyond-box": Kind(
        "keypoints outside their box",
        "widen the box; where it means not visible: dataset clean --hide-outside-box",
        hint=True,
    ),
    "num-keypoints-missing": Kind("annotations without num_keypoints", _CLEAN),
    "num-keypoints-wrong": Kind("num_keypoints that is not the number of labelled ones", _CLEAN),
    "area-missing": Kind("areas that are missing or not above 0", _CLEAN),
    "area-beyond-box": Kind("areas larger than their box", _LOOK, hint=True),
    "area-of-box": Kind(
        "areas that are those of the box, which makes OKS milder and AP higher",
        "outline the persons, or compare only with data sets that do the same",
        hint=True,
    ),
    "iscrowd-missing": Kind("iscrowd that is missing or not 0 or 1", _CLEAN),
    "swap-suspected": Kind("persons whose left and right may be swapped", _LOOK, hint=True),
    "picture-missing": Kind(
        "pictures that are not there", "add them, or: dataset clean --drop-missing"
    ),
    "picture-unreadable": Kind(
        "pictures that cannot be read", "copy them again, or: dataset clean --drop-missing"
    ),
    "picture-size": Kind(
        "pictures of another size than stated", "annotate these files, not scaled copies of them"
    ),
    "picture-turned": Kind(
        "pictures that EXIF turns, while evaluation reads them as stored",
        "store them upright (exiftran -ai FILE) and annotate those",
    ),
    "picture-unused": Kind("pictures in the folder that no image names", "none needed", hint=True),
    "no-person": Kind("images without a person", "none needed: they are kept", hint=True),
}
"""Every kind by its code, in the order in which they are reported."""


class Findings:
    """A tally of problems by kind that keeps the first places of each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}

    def add(self, code: str, place: str) -> None:
        """Count one more problem of a kind, at a place."""
        self._counts[code] += 1
        places = self._places.setdefault(code, [])
        if len(places) < FIRST_PLACES:
            places.append(place)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found, in the order of ``KINDS``."""
        return tuple(
            Problem(
                code,
                kind.what,
                self._counts[code],
                tuple(self._places[code]),
                kind.remedy,
                kind.hint,
            )
            for code, kind in KINDS.items()
            if self._counts[code]
        )
