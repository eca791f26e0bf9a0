"""One engine on one subset: its result, read back from files, and what it looks like close up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.evaluation.coco import Annotations
from hrnet_deploy.evaluation.detections import Detections
from hrnet_deploy.evaluation.matching import THRESHOLDS, matched
from hrnet_deploy.evaluation.metric import STATS, Matches, matches_of
from hrnet_deploy.report.bootstrap import intervals, resampled
from hrnet_deploy.report.curves import keypoint_rows, oks_curve, pck_curve
from hrnet_deploy.report.errors import error_kinds, shares
from hrnet_deploy.report.persons import MATCH_OKS, People, people_of
from hrnet_deploy.spec import ModelSpec


@dataclass(frozen=True)
class Cell:
    """A finished evaluation.

    ``facts`` is the content of the result file, ``detections`` those of the file beside it,
    ``paths`` the pictures by image id.
    """

    engine: str
    subset: str
    facts: dict[str, Any]
    detections: Detections
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
    """What a report says about a cell beyond the figures of its result file.

    ``draws`` (count, 10) are the figures of resampled pictures, in the order of ``STATS``.
    """

    cell: Cell
    matches: Matches
    draws: NDArray[np.float64]
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
            "intervals": {
                name: ends and list(ends) for name, ends in intervals(self.draws).items()
            },
            "errors": shares(self.kinds),
            "pck": pck_curve(people),
            "oks": oks_curve(people),
            "keypoints": keypoint_rows(people, self.kinds, self.cell.spec.keypoint_names),
        }


def analyse(cell: Cell, *, resamples: int, seed: int) -> Analysis:
    """Match persons and poses once, and take everything else from the matches."""
    sigmas = cell.spec.sigmas or ()
    annotations, detections = cell.annotations.annotations, cell.detections
    matching = matched(
        annotations,
        detections,
        image_ids=cell.image_ids,
        category_ids=cell.annotations.categories,
        sigmas=sigmas,
        thresholds=(MATCH_OKS, *THRESHOLDS),
    )
    matches = matches_of(matching, first=1)
    people = people_of(matching, annotations, detections, sigmas=sigmas)
    kinds = error_kinds(people, annotations, sigmas=sigmas, flip_pairs=cell.spec.flip_pairs)
    draws = resampled(matches, count=resamples, seed=seed)
    return Analysis(cell, matches, draws, people, kinds)


def ap_difference(analysis: Analysis, first: Analysis) -> dict[str, Any] | None:
    """AP minus that of another engine on the same pictures, with its paired interval.

    None where the pictures are not the same or an AP is undefined.
    """
    ours, theirs = analysis.stats["AP"], first.stats["AP"]
    if ours is None or theirs is None or analysis.matches.image_ids != first.matches.image_ids:
        return None
    ends = intervals(analysis.draws - first.draws)["AP"]
    return {"value": ours - theirs, "interval": ends and list(ends)}
