"""The worst persons of every engine on every subset, with their pictures, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.report.cells import Analysis
from hrnet_deploy.report.crops import PersonCrop, crop_person
from hrnet_deploy.report.errors import KINDS, person_kinds

WORST_PERSONS = 60
"""Shown for each engine on each subset."""

MAX_CROPS = 400
MAX_CROP_BYTES = 16 << 20
"""One page stays small enough for a mail; persons beyond are listed without a picture."""


def failures(
    analyses: Sequence[Analysis],
    *,
    worst: int = WORST_PERSONS,
    max_crops: int = MAX_CROPS,
    max_bytes: int = MAX_CROP_BYTES,
) -> dict[str, Any]:
    """Persons, worst first, with both skeletons in pixels of the picture, and shared crops."""
    chosen = [
        (float(analysis.people.oks[row]), number, rank, row)
        for number, analysis in enumerate(analyses)
        for rank, row in enumerate(np.argsort(analysis.people.oks, kind="stable")[:worst].tolist())
    ]
    crops = _Crops(max_crops, max_bytes)
    # The worst of each cell get their pictures first, so that a limit leaves no cell without.
    for _, number, _, row in sorted(chosen, key=lambda item: item[2]):
        crops.add(analyses[number], row)
    names = [{i.id: i.file_name for i in a.cell.annotations.images} for a in analyses]
    return {
        "engines": list(dict.fromkeys(a.cell.engine for a in analyses)),
        "subsets": list(dict.fromkeys(a.cell.subset for a in analyses)),
        "kinds": list(KINDS),
        "sets": [_set(analysis) for analysis in analyses],
        "crops": [{"src": crop.uri, "xywh": list(crop.xywh)} for crop in crops.made],
        "persons": [
            {"set": n, "crop": crops.place(analyses[n], row), **_person(analyses[n], names[n], row)}
            for _, n, _, row in sorted(chosen)
        ],
        "all": sum(len(analysis.people) for analysis in analyses),
    }


class _Crops:
    """Crops by picture and box: engines and overlapping subsets share them."""

    def __init__(self, most: int, max_bytes: int) -> None:
        self.made: list[PersonCrop] = []
        self._places: dict[tuple[Path, tuple[float, ...]], int | None] = {}
        self._most = most
        self._bytes_left = max_bytes

    def add(self, analysis: Analysis, row: int) -> None:
        key = _key(analysis, row)
        if key is None or key in self._places or len(self.made) >= self._most:
            return
        crop = crop_person(key[0], analysis.people.boxes_xywh[row])
        if crop is None or crop.size_bytes > self._bytes_left:
            self._places[key] = None
            return
        self._bytes_left -= crop.size_bytes
        self._places[key] = len(self.made)
        self.made.append(crop)

    def place(self, analysis: Analysis, row: int) -> int | None:
        key = _key(analysis, row)
        return None if key is None else self._places.get(key)


def _key(analysis: Analysis, row: int) -> tuple[Path, tuple[float, ...]] | None:
    path = analysis.cell.paths.get(int(analysis.people.image_ids[row]))
    return None if path is None else (path, tuple(analysis.people.boxes_xywh[row].tolist()))


def _set(analysis: Analysis) -> dict[str, Any]:
    """What the page has to know about one engine on one subset."""
    spec = analysis.cell.spec
    return {
        "engine": analysis.cell.engine,
        "subset": analysis.cell.subset,
        "names": list(spec.keypoint_names),
        "skeleton": [list(pair) for pair in spec.skeleton],
        "persons": len(analysis.people),
    }


def _person(analysis: Analysis, names: dict[int, str], row: int) -> dict[str, Any]:
    people, kinds = analysis.people, analysis.kinds[row]
    image_id = int(people.image_ids[row])
    found = people.found[row]
    return {
        "file": names[image_id],
        "image": image_id,
        "box": _rounded(people.boxes_xywh[row]),
        "size": people.sizes[row],
        "oks": round(float(people.oks[row]), 3),
        "errors": person_kinds(kinds),
        "kinds": kinds.tolist(),
        "truth": [_rounded(point) for point in people.truth[row]],
        "found": None if np.isnan(found).all() else [_rounded(point, 2) for point in found],
    }


def _rounded(values: NDArray[np.float64], digits: int = 1) -> list[float]:
    return [round(value, digits) for value in values.tolist()]
