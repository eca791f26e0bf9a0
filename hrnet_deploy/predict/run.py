"""A whole prediction: sources in, files of poses and drawings out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hrnet_deploy.closing import Closing
from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import DeployError
from hrnet_deploy.predict.drawings import drawn_outputs
from hrnet_deploy.predict.feed import Feed, frames_expected, video_infos
from hrnet_deploy.predict.fingerprint import fingerprint
from hrnet_deploy.predict.follow import followed
from hrnet_deploy.predict.frames import Frame, Predicted
from hrnet_deploy.predict.job import STDOUT, PredictJob, check_choices, check_outputs
from hrnet_deploy.predict.journal import PredictJournal
from hrnet_deploy.predict.outputs import LinesOutput, Output, output_format
from hrnet_deploy.predict.persons import boxes_of_job
from hrnet_deploy.predict.pipeline import BoxesOf, Pipeline
from hrnet_deploy.predict.sources import Sources, find_sources
from hrnet_deploy.predict.video import VideoInfo
from hrnet_deploy.runtime.flip_choice import flip_facts, second_passes
from hrnet_deploy.spec import ModelSpec
from hrnet_deploy.talk import Say
from hrnet_deploy.zoo.pretrained import detector_file, named_engine

Progress = Callable[[int, int], None]
Stop = Callable[[], int | None]


@dataclass
class Summary:
    """What was done: frames are pictures and video frames; ``skipped`` names what could not be.

    ``turned`` counts pictures whose EXIF rotation was ignored. ``flip`` is what an adaptive
    flip-test does, None without one; it looked at ``second_passes`` of the ``inferred`` persons
    twice, those of an earlier run not counted.
    """

    frames: int = 0
    persons: int = 0
    without_persons: int = 0
    replayed: int = 0
    turned: int = 0
    inferred: int = 0
    second_passes: int = 0
    flip: dict[str, Any] | None = None
    skipped: list[tuple[str, DeployError]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, predicted: Predicted) -> None:
        """Add one result."""
        frame = predicted.frame
        if predicted.error is not None:
            name = frame.source if frame.number is None else f"{frame.source}[{frame.number}]"
            self.skipped.append((name, predicted.error))
            return
        self.frames += 1
        self.persons += len(predicted.poses)
        self.without_persons += not len(predicted.poses)
        self.replayed += predicted.replayed
        self.inferred += 0 if predicted.replayed else len(predicted.poses)
        self.second_passes += predicted.second_passes
        self.turned += frame.orientation != 1 and not frame.turned

    @property
    def flip_facts(self) -> dict[str, Any] | None:
        """What the adaptive flip-test did, and how often; None without one."""
        if self.flip is None:
            return None
        return {**self.flip, **second_passes(self.second_passes, self.inferred)}


def predict_to_files(
    job: PredictJob,
    *,
    emit: Callable[[str], None],
    lines: Iterable[str] = (),
    say: Say = lambda line: None,
    progress: Progress = lambda done, total: None,
    stop: Stop = lambda: None,
) -> Summary:
    """Run ``job``; ``emit`` takes the lines for stdout, ``lines`` are those of stdin.

    Everything is checked before the first picture is read. Sources that cannot be read are left
    out and returned in the summary. When ``stop`` gives a signal the run ends after the frame at
    hand: outputs of live sources are completed, others keep a journal to go on from.
    """
    sources = find_sources(job.words, recursive=job.recursive, lines=lines)
    infos = _checked(job, sources)
    if job.detector is not None:
        job = replace(job, detector=detector_file(job.detector, say=say))
    summary = Summary()
    with contextlib.ExitStack() as stack:
        boxes_of = boxes_of_job(job, sources, summary.notes.append)
        if isinstance(boxes_of, Closing):
            stack.enter_context(boxes_of)
        # Last of all checks: a checkpoint that a name means may be exported here.
        engine_file = named_engine(job.engine, say=say)
        engine = stack.enter_context(job.engine_options.open(engine_file, say))
        summary.flip = flip_facts(engine)
        journal = _journal(job, engine, boxes_of, sources, say)
        if journal is not None:
            stack.enter_context(journal)
        made = _outputs(job, engine.spec, infos, emit)
        outputs = [stack.enter_context(output) for output in made]
        if journal is not None and journal.resumed:
            say(f"{journal.path}: going on from an interrupted run")
        feed = Feed(job, sources, journal, summary.notes.append)
        frames = stack.enter_context(contextlib.closing(feed.frames(lambda: stop() is not None)))
        results = _results(job, engine, boxes_of, journal, frames, live=sources.has_live)
        total = frames_expected(job, sources, infos)
        stopped = _write(results, outputs, summary, lambda done: progress(done, total), stop)
        if stopped and not sources.has_live:
            return summary
        _raise_if_nothing_was_done(summary)
        for output in outputs:
            output.complete()
        for output in outputs:
            output.finish()
        if journal is not None:
            journal.remove()
    return summary


def _checked(job: PredictJob, sources: Sources) -> dict[str, VideoInfo]:
    """What the videos say of themselves, once choices and outputs make sense (InputError)."""
    check_choices(job, sources)
    infos = video_infos(sources)
    for path in job.files:
        output_format(path)  # refuses names that say nothing
    check_outputs(job, sources)
    return infos


def _outputs(
    job: PredictJob, spec: ModelSpec, infos: dict[str, VideoInfo], emit: Callable[[str], None]
) -> Iterator[Output]:
    """Everything that is to be written, made when it is asked for."""
    for path in job.files:
        yield output_format(path)(path, spec)
    if STDOUT in job.outputs or not job.outputs:
        yield LinesOutput(spec, emit)
    yield from drawn_outputs(job, spec, infos)


def _results(
    job: PredictJob,
    engine: Engine,
    boxes_of: BoxesOf,
    journal: PredictJournal | None,
    frames: Iterable[Frame],
    *,
    live: bool,
) -> Iterator[Predicted]:
    """Poses with tracks and smoothing; the journal gets them as the network gave them."""
    pipeline = Pipeline(
        engine,
        boxes_of,
        batch_size=job.batch_size,
        heatmaps=job.heatmaps is not None,
        live=live,
        known=(lambda frame: None) if journal is None else journal.known,
        earlier=0 if journal is None else journal.earlier,
    )
    found = pipeline(frames) if journal is None else journal.kept(pipeline.chunks(frames))
    return followed(found, engine.spec, track=job.track, smooth=job.smooth)


def _write(
    results: Iterable[Predicted],
    outputs: Sequence[Output],
    summary: Summary,
    progress: Callable[[int], None],
    stop: Stop,
) -> bool:
    """Write and count every result; True where ``stop`` ended it early."""
    stopped = False
    for predicted in results:
        summary.count(predicted)
        for output in outputs:
            output.write(predicted)
        progress(summary.frames + len(summary.skipped))
        if stopped := stop() is not None:
            break
    if summary.turned:
        turned = f"{summary.turned} pictures carry an EXIF rotation"
        summary.notes.append(f"{turned}, which was ignored (--exif apply turns them)")
    return stopped


def _journal(
    job: PredictJob,
    engine: Engine,
    boxes_of: BoxesOf,
    sources: Sources,
    say: Say,
) -> PredictJournal | None:
    """A journal beside the first output file; none for live sources, lists and heatmaps."""
    if job.journal is None or sources.total is None or job.heatmaps is not None:
        return None
    made_by = fingerprint(job, engine, boxes_of)
    names = engine.spec.keypoint_names
    return PredictJournal(job.journal, made_by, names, fresh=job.fresh, warn=say)


def _raise_if_nothing_was_done(summary: Summary) -> None:
    """A single picture that cannot be read is an error of its own, not a skipped input."""
    if summary.skipped and not summary.frames:
        raise summary.skipped[0][1]
