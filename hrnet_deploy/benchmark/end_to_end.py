"""From picture files to keypoints: the whole way, and its stages one by one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.benchmark.contenders import Contender
from hrnet_deploy.benchmark.measure import Progress, Stop, Task, Timings, interleaved
from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError
from hrnet_deploy.evaluation.boxes import ground_truth_boxes, read_boxes
from hrnet_deploy.evaluation.coco import read_annotations
from hrnet_deploy.evaluation.pictures import find_pictures
from hrnet_deploy.export.crops import seeded_crops
from hrnet_deploy.runtime.crops import crop_batches, crop_into
from hrnet_deploy.runtime.flip import FlipEngine
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.runtime.stream import poses_of_images
from hrnet_deploy.spec import ModelSpec

STAGES = ("read and decode", "crop", "engine", "to picture")


@dataclass(frozen=True)
class Pictures:
    """Where pictures and boxes are; ``limit`` pictures that have persons are taken."""

    images: Path
    annotations: Path
    boxes: Path | None
    limit: int


def jobs_for(pictures: Pictures, spec: ModelSpec) -> list[ImageJob]:
    """One job for each of the first pictures with persons; InputError where there are none."""
    known = read_annotations(pictures.annotations, spec)
    boxes = pictures.boxes
    persons = ground_truth_boxes(known) if boxes is None else read_boxes(boxes, known)
    spans = persons.spans(len(known.images))
    chosen = [
        (image, span)
        for image, span in zip(known.images, spans, strict=True)
        if span.start < span.stop
    ][: pictures.limit]
    if not chosen:
        raise InputError(pictures.annotations, "has no persons", "Give other annotations")
    paths = find_pictures(pictures.images, known, [image for image, _ in chosen])
    geometry = CropGeometry.from_boxes_xywh(
        persons.boxes_xywh, spec.input_size_wh, padding=spec.box_padding
    )
    return [ImageJob(image.id, paths[image.id], geometry[span]) for image, span in chosen]


def end_to_end(
    contenders: Sequence[Contender],
    jobs: dict[str, list[ImageJob]],
    *,
    batch: int,
    rounds: int,
    stop: Stop,
    progress: Progress,
) -> Timings:
    """Seconds of all pictures by contender: overlapped as in ``eval``, interleaved rounds."""

    def work(contender: Contender) -> None:
        for result in poses_of_images(contender.engine, jobs[contender.name], batch_size=batch):
            if result.error is not None:
                raise result.error

    tasks = [Task(c.name, lambda c=c: work(c)) for c in contenders]  # type: ignore[misc]
    return interleaved(tasks, rounds=rounds, warmup=1, stop=stop, progress=progress)


def crops_for(engine: Engine, jobs: Sequence[ImageJob], batch: int) -> NDArray[np.uint8]:
    """A batch of noise; for an adaptive flip-test of persons, since it matters what they show."""
    if not isinstance(engine, FlipEngine):
        return seeded_crops(engine.spec.input_size_hw, batch)
    pictures = [read_image(job.path) for job in jobs[:batch]]
    geometries = [job.geometry for job in jobs[:batch]]
    crops = next(crop_batches(pictures, geometries, engine.spec.input_size_hw, batch))
    return np.resize(crops, (batch, *crops.shape[1:]))


def second_pass_share(contender: Contender, jobs: Sequence[ImageJob], batch: int) -> float | None:
    """The share of the persons that an adaptive flip-test looks at twice; None without one."""
    if not isinstance(contender.engine, FlipEngine):
        return None
    results = list(poses_of_images(contender.engine, jobs, batch_size=batch))
    return sum(r.second_passes for r in results) / sum(len(job.geometry) for job in jobs)


def stage_seconds(engine: Engine, jobs: Sequence[ImageJob], batch: int) -> dict[str, float]:
    """Seconds of each stage of ``STAGES`` when nothing overlaps, one thread on the host's side."""
    clock = time.perf_counter
    start = clock()
    images = [read_image(job.path) for job in jobs]
    decoded = clock()
    spec = engine.spec
    persons = [len(job.geometry) for job in jobs]
    crops = np.empty((sum(persons), *spec.input_size_hw, 3), np.uint8)
    places = np.split(crops, np.cumsum(persons)[:-1])
    ready = clock()
    for job, image, place in zip(jobs, images, places, strict=True):
        crop_into(image, job.geometry[:], place)  # a copy has no matrices yet, as a new picture
    cropped = clock()
    outputs = [engine.run(crops[first : first + batch]) for first in range(0, len(crops), batch)]
    inferred = clock()
    keypoints = np.concatenate([output.keypoints_heatmap for output in outputs])
    for job, own in zip(jobs, np.split(keypoints, np.cumsum(persons)[:-1]), strict=True):
        job.geometry.to_image(own, spec.heatmap_size_wh)
    times = (decoded - start, cropped - ready, inferred - cropped, clock() - inferred)
    return dict(zip(STAGES, times, strict=True))
