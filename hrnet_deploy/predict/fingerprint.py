"""What decides on the results of a run, so that another one does not go on from its journal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hrnet_deploy.engines import Engine
from hrnet_deploy.evaluation.fingerprint import engine_facts, versions
from hrnet_deploy.files import sha256_file
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.predict.pipeline import BoxesOf
from hrnet_deploy.runtime.flip_choice import flip_facts


def fingerprint(job: PredictJob, engine: Engine, boxes_of: BoxesOf) -> dict[str, Any]:
    """Hashes, choices and versions: equal ones give equal results.

    The batch size is left out: a run may go on with a smaller one, in batches that round otherwise.
    """
    choice = job.choice
    return {
        "engine": engine_facts(engine),
        "flip": flip_facts(engine),
        "persons": _persons(job, boxes_of),
        "exif": job.apply_exif,
        "video": {
            "every": choice.every,
            "start": choice.start_s,
            "duration": choice.duration_s,
        },
        "sources": list(job.words),
        "versions": versions(),
    }


def _persons(job: PredictJob, boxes_of: BoxesOf) -> dict[str, Any]:
    from hrnet_deploy.predict.detector.detector import PersonDetector

    if isinstance(boxes_of, PersonDetector):
        return {"detector": boxes_of.facts()}
    if job.boxes is None:
        return {"boxes": "whole image"}
    return {
        "boxes": _content_sha256(job.boxes),
        "format": job.boxes_format,
        "image_ids": None if job.image_ids is None else sha256_file(job.image_ids),
        "score_threshold": job.score_threshold,
    }


def _content_sha256(boxes: Path) -> str:
    """Of a file, or of the names and contents of all YOLO files below a folder."""
    if not boxes.is_dir():
        return sha256_file(boxes)
    digest = hashlib.sha256()
    for file in sorted(boxes.rglob("*.txt")):
        name = file.relative_to(boxes).as_posix()
        digest.update(f"{name}\0{sha256_file(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
