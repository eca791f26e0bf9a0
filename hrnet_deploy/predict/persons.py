"""Where the persons are: boxes of a file, a detector, or whole pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.boxes import FileBoxes, YoloBoxes, load_boxes
from hrnet_deploy.predict.job import NO_BOXES, PredictJob
from hrnet_deploy.predict.pipeline import BoxesOf
from hrnet_deploy.predict.sources import Sources
from hrnet_deploy.predict.whole import whole_image

Note = Callable[[str], None]


def boxes_of_job(job: PredictJob, sources: Sources, note: Note) -> BoxesOf:
    """What gives the boxes of a frame; ``note`` hears of pictures that a file does not know."""
    if job.whole_image:
        return whole_image
    if job.boxes is not None:
        boxes = load_boxes(
            job.boxes,
            form=job.boxes_format,
            image_ids=job.image_ids,
            threshold=job.score_threshold or 0.0,
            note=note,
        )
        _check_known(boxes, sources, job.boxes, note)
        return boxes
    from hrnet_deploy.predict.detector.detector import PersonDetector

    if job.detector is None:  # check_choices has seen to that
        raise InputError("--detector", "is not given", NO_BOXES[1])
    return PersonDetector(
        job.detector,
        job.detector_config,
        score_threshold=job.score_threshold,
        device=job.detector_device,
        backend=job.detector_backend,
        threads=job.engine_options.threads,
    )


def _check_known(boxes: FileBoxes | YoloBoxes, sources: Sources, path: Path, note: Note) -> None:
    """Whether the file's boxes are of these pictures at all."""
    if sources.total is None or not isinstance(sources.items, list):
        return
    unknown = [source.name for source in sources.items if not boxes.knows(source)]
    if unknown and len(unknown) == len(sources.items):
        problem = f"has no boxes of {unknown[0]} or any other of the {len(unknown)} pictures"
        problem = f"{problem}; it has some of {boxes.examples()}"
        raise InputError(path, problem, "Give the boxes of these pictures (--image-ids names ids)")
    if unknown:
        note(f"{path}: no boxes of {len(unknown)} pictures, e.g. {unknown[0]}")
