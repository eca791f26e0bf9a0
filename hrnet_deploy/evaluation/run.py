"""An evaluation from engine and files to COCO figures: prepare, infer with a journal, measure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hrnet_deploy.engines import Engine, NonFiniteOutput
from hrnet_deploy.errors import (
    DeployError,
    EnvironmentFault,
    GateError,
    InputError,
    InterruptedRun,
    Subject,
)
from hrnet_deploy.evaluation.coco import CocoImage
from hrnet_deploy.evaluation.journal import FinishedImage, Journal
from hrnet_deploy.evaluation.plan import EvalPlan, SkippedImage, prepare
from hrnet_deploy.evaluation.result import EvalResult, Inferred, measure
from hrnet_deploy.evaluation.resume import remaining_jobs
from hrnet_deploy.evaluation.settings import EvalSettings
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImagePoses
from hrnet_deploy.runtime.stream import poses_of_images

Progress = Callable[[int, int], None]
"""Called with the number of persons done and of all persons."""
StopSignal = Callable[[], int | None]
"""Gives the number of the signal that asked to stop, None while nothing did."""

_AGAIN = "Run the same command again to go on"


def evaluate(
    engine: Engine,
    annotations: Subject,
    images: Subject,
    *,
    boxes: Subject | None = None,
    settings: EvalSettings | None = None,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> EvalResult:
    """COCO keypoint AP of an engine, in ground-truth boxes or in those of a detector.

    ``annotations`` is a COCO keypoints file, ``images`` the folder of its pictures, ``boxes`` a
    COCO detections file. With ``journal`` an interrupted evaluation goes on where it stopped; the
    file is left there. Wrong or missing input raises InputError before anything is inferred.
    """
    plan = prepare(engine, annotations, images, boxes=boxes, settings=settings or EvalSettings())
    if journal is None:
        return run(plan, None, progress=progress)
    with Journal(journal, plan.fingerprint, joints=engine.spec.joints) as opened:
        return run(plan, opened, progress=progress)


def run(plan: EvalPlan, journal: Journal | None, *, progress: Progress | None = None) -> EvalResult:
    """Infer what the journal does not hold yet, then measure."""
    return measure(plan, infer(plan, journal, progress=progress))


def infer(
    plan: EvalPlan,
    journal: Journal | None,
    *,
    progress: Progress | None = None,
    stop: StopSignal = lambda: None,
) -> Inferred:
    """Poses by image id, those of the journal included, and what had to be left out.

    ``stop`` is asked before each batch: a signal ends the run with InterruptedRun after the batch
    that was at work. Faults of the machine say how to go on.
    """
    finished = journal.finished if journal else []
    poses = {image.image_id: image.keypoints for image in finished}
    inferred = Inferred(poses, list(plan.missing), sum(image.second_passes for image in finished))
    try:
        _infer(plan, journal, inferred, progress or (lambda done, total: None), stop)
    except _Stopped as stopped:
        raise _interrupted(stopped.signal_number, len(poses), len(plan.jobs), journal) from None
    except MemoryError as error:
        raise EnvironmentFault("memory", "ran out of memory", f"Lower --batch. {_AGAIN}") from error
    except EnvironmentFault as fault:
        fix = fault.fix if "again" in fault.fix else f"{fault.fix}. {_AGAIN}"
        raise EnvironmentFault(fault.subject, fault.problem, fix) from fault
    finally:
        if journal:
            journal.flush()
    return inferred


def _infer(
    plan: EvalPlan,
    journal: Journal | None,
    inferred: Inferred,
    progress: Progress,
    stop: StopSignal,
) -> None:
    """Add to ``inferred`` what is not there yet."""
    poses, check = inferred.poses, _unless(stop)
    read = functools.partial(read_image, max_pixels=plan.settings.max_pixels)
    batch_size = plan.settings.batch_size
    images = {image.id: image for image in plan.images}
    done, total = sum(map(len, poses.values())), len(plan.persons)
    progress(done, total)
    for jobs in remaining_jobs(plan.jobs, poses, batch_size):
        results = poses_of_images(
            plan.engine, jobs, batch_size=batch_size, read=read, before_batch=check
        )
        for result in results:
            if result.job.key is None:
                continue
            image = images[_image_id(result)]
            if result.error is not None:
                skip = _skip(result.error, image, keep_going=plan.settings.keep_going)
                inferred.skipped.append(skip)
                continue
            keypoints = np.concatenate([result.keypoints_px, result.scores[..., None]], axis=2)
            poses[image.id] = keypoints
            inferred.second_passes += result.second_passes
            if journal:
                journal.add(FinishedImage(image.id, keypoints, result.second_passes))
            done += len(keypoints)
            progress(done, total)


def _image_id(result: ImagePoses) -> int:
    key = result.job.key
    if not isinstance(key, int):
        raise TypeError(f"job with key {key!r}, expected an image id")
    return key


def _skip(error: DeployError, image: CocoImage, *, keep_going: bool | None) -> SkippedImage:
    """Note a picture that is left out, or raise what is wrong with it."""
    if isinstance(error, EnvironmentFault):
        raise error
    if keep_going:
        return SkippedImage(image.id, image.file_name, error.problem)
    fix = error.fix if keep_going is None else f"{error.fix}, or pass --keep-going to leave it out"
    if isinstance(error, NonFiniteOutput):
        problem = f"{error.problem} (image id {image.id}, {image.file_name})"
        raise GateError(error.subject, problem, fix) from error
    raise InputError(error.subject, error.problem, fix) from error


def _interrupted(
    signal_number: int, done: int, total: int, journal: Journal | None
) -> InterruptedRun:
    kept = f"{done} of {total} images are done"
    subject = journal.path if journal else "evaluation"
    problem = f"interrupted, {kept}" + ("" if journal else " and lost (no journal)")
    return InterruptedRun(subject, problem, _AGAIN, signal_number=signal_number)


class _Stopped(BaseException):
    """A signal asked to stop; no error, so that no handler of errors takes it for one."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


def _unless(stop: StopSignal) -> Callable[[], None]:
    """What raises ``_Stopped`` once a signal has asked to stop."""

    def check() -> None:
        signal_number = stop()
        if signal_number is not None:
            raise _Stopped(signal_number)

    return check
