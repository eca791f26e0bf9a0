"""What an evaluation was asked to do, and the fingerprint that ties a result to its inputs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.boxes import SCORE_THRESHOLD
from hrnet_deploy.evaluation.fingerprint import engine_facts, versions
from hrnet_deploy.evaluation.oks import KEYPOINT_THRESHOLD, NMS_THRESHOLD, Nms
from hrnet_deploy.files import sha256_file
from hrnet_deploy.runtime.flip_choice import flip_facts
from hrnet_deploy.runtime.image import MAX_PIXELS
from hrnet_deploy.runtime.stream import PICTURES_PER_BATCH

BATCH_SIZE = 32

MAX_BATCH_SIZE = PICTURES_PER_BATCH
"""In larger batches the borders would depend on where a run was interrupted."""


@dataclass(frozen=True)
class EvalSettings:
    """Choices of one evaluation; the defaults are those of the official HRNet code.

    ``limit`` takes the first pictures of the annotation file only. ``allow_missing`` leaves out
    pictures that are not there, ``keep_going`` those that cannot be read or give no finite pose;
    the result is marked as partial then. None for these two leaves nothing out either, and no error
    advises what the caller does not offer. ``max_pixels`` is the size from which a picture is
    refused. These three and ``batch_size`` may change when an interrupted run goes on; whatever
    else differs is another run.
    """

    score_threshold: float = SCORE_THRESHOLD
    keypoint_threshold: float = KEYPOINT_THRESHOLD
    nms: Nms = "hard"
    nms_threshold: float = NMS_THRESHOLD
    limit: int | None = None
    batch_size: int = BATCH_SIZE
    allow_missing: bool | None = False
    keep_going: bool | None = False
    max_pixels: float = MAX_PIXELS

    def __post_init__(self) -> None:
        _check("nms", self.nms, self.nms in ("hard", "soft", "none"), "hard, soft or none")
        _check("nms_threshold", self.nms_threshold, 0 < self.nms_threshold <= 1, "0 to 1")
        finite = math.isfinite(self.score_threshold)
        _check("score_threshold", self.score_threshold, finite, "a finite number")
        _check("limit", self.limit, self.limit is None or self.limit >= 1, "1 or more")
        good_batch = 1 <= self.batch_size <= MAX_BATCH_SIZE
        _check("batch_size", self.batch_size, good_batch, f"1 to {MAX_BATCH_SIZE}")

    def that_matter(self) -> dict[str, Any]:
        """The settings that make another result."""
        free = ("batch_size", "allow_missing", "keep_going", "max_pixels")
        return {name: value for name, value in asdict(self).items() if name not in free}


def _check(name: str, value: object, good: bool, allowed: str) -> None:
    if not good:
        raise InputError(name, f"is {value!r}", f"Give {allowed}")


def fingerprint(
    engine: Engine, annotations_sha256: str, boxes: Path | None, settings: EvalSettings
) -> dict[str, Any]:
    """Hashes, settings and versions: equal ones give an equal result."""
    flip = flip_facts(engine)
    return {
        "engine": engine_facts(engine),
        "data": {
            "annotations_sha256": annotations_sha256,
            "boxes": "ground truth" if boxes is None else "detector",
            "boxes_sha256": None if boxes is None else sha256_file(boxes),
        },
        "settings": settings.that_matter(),
        **({} if flip is None else {"flip": flip}),
        "versions": versions(),
    }


def metric_versions() -> dict[str, str]:
    """Versions that compute the figures from the poses; they do not make another run."""
    return {"numpy": np.__version__}
