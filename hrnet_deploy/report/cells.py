"""One engine on one subset: its result, read back from files, and what it looks like close up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.coco import Annotations
from hrnet_deploy.evaluation.metric import STATS, matched
from hrnet_deploy.report.bootstrap import Interval, Matches, intervals, matches_of
from hrnet_deploy.report.curves import keypoint_rows, oks_curve, pck_curve
from hrnet_deploy.report.errors import error_kinds, shares
from hrnet_deploy.report.persons import MATCH_OKS, People, people_of
from hrnet_deploy.spec import ModelSpec


@dataclass(frozen=True)
class Cell:
    """A finished evaluation.

    ``facts`` is the content of the result file, ``detections`` that of the file beside it,
    ``paths`` the pictures by image id.
    """

    engine: str
    subset: str
    facts: dict[str, Any]
    detections: list[dict[str, Any]]
    annotations: Annotations
    spec: ModelSpec
    paths: Mapping[int, Path]

    @property
    def image_ids(self) -> list[int]:
        """The pictures that the figures are about: without those that had to be skipped."""
        limit = self.facts["fingerprint"]["settings"]["limit"]
        skipped = {image["image_id"] for image in self.facts["skipped"]}
        chosen = self.annotations.images[:limit]
        return [image.id for image in chosen if image.id not in skipped]


@dataclass(frozen=True)
class Analysis:
    """What a report says about a cell beyond the figures of its result file."""

    cell: Cell
    matches: Matches
    intervals: dict[str, Interval | None]
    people: People
    kinds: NDArray[np.int8]

    @property
    def stats(self) -> dict[str, float | None]:
        """The ten COCO figures in 0 to 1."""
        return {name: self.cell.facts[name] for name in STATS}

    def as_json(self) -> dict[str, Any]:
        """Figures, intervals, curves and error kinds; no path, no time."""
        people = self.people
        return {
            "engine": self.cell.engine,
            "subset": self.cell.subset,
            "label": self.cell.facts["label"],
            "images": len(self.cell.image_ids),
            "persons": len(people),
            "persons_not_found": int((~people.matched).sum()),
            "poses_of_nobody": people.others,
            **self.stats,
            "intervals": {name: ends and list(ends) for name, ends in self.intervals.items()},
            "errors": shares(self.kinds),
            "pck": pck_curve(people),
            "oks": oks_curve(people),
            "keypoints": keypoint_rows(people, self.kinds, self.cell.spec.keypoint_names),
        }


def analyse(cell: Cell, *, resamples: int, seed: int) -> Analysis:
    """Match persons and poses once, and take everything else from the matches."""
    sigmas = cell.spec.sigmas or ()
    annotations, detections = cell.annotations.annotations, cell.detections
    evaluation = matched(
        annotations,
        detections,
        image_ids=cell.image_ids,
        category_ids=cell.annotations.categories,
        sigmas=sigmas,
        thresholds=(MATCH_OKS, *np.linspace(0.5, 0.95, 10).tolist()),
    )
    matches = matches_of(evaluation, first=1)
    people = people_of(evaluation, annotations, detections, sigmas=sigmas)
    kinds = error_kinds(people, annotations, sigmas=sigmas, flip_pairs=cell.spec.flip_pairs)
    found = intervals(matches, count=resamples, seed=seed)
    return Analysis(cell, matches, found, people, kinds)
