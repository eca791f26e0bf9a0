"""A whole prediction: sources in, files of poses and drawings out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from hrnet_deploy import __version__
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.errors import DeployError, InputError
from hrnet_deploy.files import check_output_file, sha256_file
from hrnet_deploy.predict.boxes import FileBoxes, Format, YoloBoxes, load_boxes
from hrnet_deploy.predict.draw_outputs import DrawnOutput, check_drawn, is_video_name
from hrnet_deploy.predict.frames import Frame, Predicted
from hrnet_deploy.predict.journal import PredictJournal
from hrnet_deploy.predict.live import live_frames
from hrnet_deploy.predict.outputs import LinesOutput, Output, output_format
from hrnet_deploy.predict.overlay import beside, drawn, heated
from hrnet_deploy.predict.pictures import picture_frames
from hrnet_deploy.predict.pipeline import BoxesOf, Pipeline
from hrnet_deploy.predict.smooth import OneEuroSmoother
from hrnet_deploy.predict.sources import Source, Sources, find_sources
from hrnet_deploy.predict.track import OksTracker
from hrnet_deploy.predict.video import (
    DEFAULT_FPS,
    VideoChoice,
    VideoInfo,
    video_frames,
    video_info,
)
from hrnet_deploy.predict.whole import whole_image
from hrnet_deploy.runtime.draw import SCORE_THRESHOLD
from hrnet_deploy.runtime.image import MAX_PIXELS

Talk = Callable[[str], None]
Progress = Callable[[int, int], None]
STDOUT = Path("-")

NO_BOXES = (
    "gives no persons: HRNet needs a box around each",
    "Give --boxes FILE (COCO, CSV, YOLO or MOT), --detector FILE.onnx, "
    "or --whole-image for pictures of one person",
)
"""The one error that says the three ways."""


@dataclass(frozen=True)
class PredictJob:
    """Files and choices of one command.

    Exactly one of ``boxes``, ``detector`` and ``whole_image`` says where persons are.
    ``apply_exif`` None means: not with ``boxes``, which are made in the stored pixels, otherwise
    yes. ``outputs`` are told apart by their names; none, or ``-``, means JSON Lines on stdout.
    """

    words: tuple[str, ...]
    engine: Path
    boxes: Path | None = None
    boxes_format: Format | None = None
    image_ids: Path | None = None
    detector: Path | None = None
    detector_config: Path | None = None
    detector_device: str = "cpu"
    whole_image: bool = False
    score_threshold: float | None = None
    outputs: tuple[Path, ...] = ()
    draw: Path | None = None
    heatmaps: Path | None = None
    side_by_side: bool = False
    draw_boxes: bool = False
    keypoint_threshold: float = SCORE_THRESHOLD
    apply_exif: bool | None = None
    recursive: bool = False
    choice: VideoChoice = field(default_factory=VideoChoice)
    reconnect_s: float = 30.0
    track: bool = False
    smooth: bool = False
    batch_size: int = 32
    device: str | None = None
    threads: int | None = None
    backend: str | None = None
    precision: str = "exact"
    max_pixels: float = MAX_PIXELS
    force: bool = False
    fresh: bool = False


@dataclass
class Summary:
    """What was done: frames are pictures and video frames; ``skipped`` names what could not be."""

    frames: int = 0
    persons: int = 0
    without_persons: int = 0
    replayed: int = 0
    skipped: list[tuple[str, DeployError]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict_to_files(
    job: PredictJob,
    *,
    emit: Callable[[str], None],
    lines: Iterable[str] = (),
    say: Talk = lambda line: None,
    progress: Progress = lambda done, total: None,
    stop: Callable[[], int | None] = lambda: None,
) -> Summary:
    """Run ``job``; ``emit`` takes the lines for stdout, ``lines`` are those of stdin.

    Everything is checked before the first picture is read. Sources that cannot be read are left
    out and returned in the summary. When ``stop`` gives a signal the run ends after the frame at
    hand: outputs of live sources are completed, others keep a journal to go on from.
    """
    sources = find_sources(job.words, recursive=job.recursive, lines=lines)
    _check_choices(job, sources)
    infos = _video_infos(sources)
    makers = [(path, output_format(path)) for path in job.outputs if path != STDOUT]
    _check_outputs(job, sources)
    summary = Summary()

    def note(line: str) -> None:
        summary.notes.append(line)

    with _engine(job, say) as engine:
        boxes_of = _boxes_of(job, sources, note)
        with contextlib.ExitStack() as stack:
            journal = _journal(job, engine, sources, boxes_of, stack)
            outputs = [make(path, engine.spec) for path, make in makers]
            if STDOUT in job.outputs or not job.outputs:
                outputs.append(LinesOutput(engine.spec, emit))
            outputs += _drawn_outputs(job, engine, infos)
            for output in outputs:
                stack.enter_context(output)
            run = _Run(job, sources, infos, engine, boxes_of, journal, note)
            if journal is not None and journal.resumed:
                say(f"{journal.path}: going on from an interrupted run")
            stopped = run(outputs, summary, progress, stop)
            if stopped and not sources.has_live:
                return summary
            _raise_if_nothing_was_done(summary)
            for output in outputs:
                output.finish()
            if journal is not None:
                journal.remove()
    return summary


class _Run:
    """Frames of all sources through the pipeline into the outputs."""

    def __init__(
        self,
        job: PredictJob,
        sources: Sources,
        infos: dict[str, VideoInfo],
        engine: Engine,
        boxes_of: BoxesOf,
        journal: PredictJournal | None,
        note: Talk,
    ) -> None:
        self._job, self._sources, self._infos = job, sources, infos
        self._engine, self._boxes_of, self._journal, self._note = engine, boxes_of, journal, note
        self._pixels_needed = job.draw is not None or job.heatmaps is not None
        self._ignored_turns = 0
        self._stopped = False
        # Tell EXIF by what the boxes refer to: files of boxes are made in the stored pixels.
        self._apply_exif = job.boxes is None if job.apply_exif is None else job.apply_exif

    def __call__(
        self,
        outputs: list[Output],
        summary: Summary,
        progress: Progress,
        stop: Callable[[], int | None],
    ) -> bool:
        """Whether the run was stopped before its end."""
        pipeline = Pipeline(
            self._engine,
            self._boxes_of,
            batch_size=self._job.batch_size,
            heatmaps=self._job.heatmaps is not None,
            live=self._sources.has_live,
            known=(lambda frame: None) if self._journal is None else self._journal.known,
        )
        total = self._total()
        frames = self._frames(stop)
        results = pipeline(frames)
        with contextlib.closing(frames), contextlib.closing(results):
            for predicted in self._finished(results):
                self._count(predicted, summary)
                for output in outputs:
                    output.write(predicted)
                progress(summary.frames + len(summary.skipped), total)
                if stop() is not None:
                    self._stopped = True
                    break
        if self._journal is not None:
            summary.replayed = self._journal.replayed
        if self._ignored_turns:
            turned = f"{self._ignored_turns} pictures carry an EXIF rotation"
            self._note(f"{turned}, which was ignored (--exif apply turns them)")
        return self._stopped

    def _finished(self, results: Iterator[Predicted]) -> Iterator[Predicted]:
        """Results with tracks and smoothing, kept in the journal as the network gave them."""
        place, follow = -1, _Follower(self._job, self._engine)
        for predicted in results:
            if self._journal is not None:
                self._journal.write(predicted)
            if predicted.frame.place != place:
                place, follow = predicted.frame.place, _Follower(self._job, self._engine)
            yield follow(predicted)

    def _frames(self, stop: Callable[[], int | None]) -> Generator[Frame]:
        numbered = enumerate(self._sources.items)
        for kind, group in groupby(numbered, key=lambda item: item[1].kind):
            if kind == "picture":
                yield from picture_frames(
                    group,
                    apply_exif=self._apply_exif,
                    max_pixels=self._job.max_pixels,
                    wanted=self._picture_wanted,
                )
                continue
            for place, source in group:
                yield from self._video(kind, source, place, stop)

    def _video(
        self,
        kind: str,
        source: Source,
        place: int,
        stop: Callable[[], int | None],
    ) -> Iterator[Frame]:
        if kind == "live":
            yield from live_frames(
                source,
                place,
                choice=self._job.choice,
                patience_s=self._job.reconnect_s,
                note=self._note,
                stopped=lambda: stop() is not None,
            )
            return
        try:
            yield from video_frames(
                source,
                place,
                choice=self._job.choice,
                wanted=lambda number: self._frame_wanted(source.name, number),
                note=self._note,
            )
        except InputError as error:
            yield Frame(source.name, source.relative, None, place, error=error)

    def _picture_wanted(self, name: str) -> bool:
        return self._pixels_needed or self._journal is None or not self._journal.has(name)

    def _frame_wanted(self, name: str, number: int) -> bool:
        return self._pixels_needed or self._journal is None or not self._journal.has(name, number)

    def _count(self, predicted: Predicted, summary: Summary) -> None:
        frame = predicted.frame
        if predicted.error is not None:
            name = frame.source if frame.number is None else f"{frame.source}[{frame.number}]"
            summary.skipped.append((name, predicted.error))
            return
        summary.frames += 1
        summary.persons += len(predicted.poses)
        summary.without_persons += not len(predicted.poses)
        self._ignored_turns += frame.orientation != 1 and not frame.turned

    def _total(self) -> int:
        """Frames to be expected; 0 where that is not known."""
        if self._sources.total is None:
            return 0
        counts = [
            self._job.choice.frames_of(self._infos[source.name]) if source.kind == "video" else 1
            for source in self._sources.items
        ]
        return 0 if None in counts else sum(count or 0 for count in counts)


class _Follower:
    """Track numbers and smoothing along one video; numbers that came with boxes are kept."""

    def __init__(self, job: PredictJob, engine: Engine) -> None:
        wanted = job.track or job.smooth
        self._tracker = OksTracker(engine.spec.sigmas, engine.spec.joints) if wanted else None
        self._smoother = OneEuroSmoother() if job.smooth else None

    def __call__(self, predicted: Predicted) -> Predicted:
        if predicted.frame.number is None or predicted.error is not None:
            return predicted
        if self._tracker is not None and predicted.ids is None:
            predicted = replace(predicted, ids=self._tracker(predicted))
        return predicted if self._smoother is None else self._smoother(predicted)


def _check_choices(job: PredictJob, sources: Sources) -> None:
    ways = {
        "--boxes": job.boxes is not None,
        "--detector": job.detector is not None,
        "--whole-image": job.whole_image,
    }
    given = [name for name, chosen in ways.items() if chosen]
    if not given:
        raise InputError(job.words[0] if job.words else "SOURCE", *NO_BOXES)
    if len(given) > 1:
        raise InputError(given[1], f"contradicts {given[0]}", "Give one of them")
    if (job.track or job.smooth) and not (sources.has_videos or sources.has_live):
        raise InputError("--track" if job.track else "--smooth", "needs a video", "Leave it away")
    if sources.has_live and not (isinstance(sources.items, list) and len(sources.items) == 1):
        raise InputError("SOURCE", "has a camera or stream and others", "Give a live source alone")
    if job.detector_config is not None and job.detector is None:
        raise InputError("--detector-config", "needs --detector", "Give the detector")
    if not job.side_by_side and not job.draw_boxes:
        return
    if job.draw is None:
        name = "--side-by-side" if job.side_by_side else "--draw-boxes"
        raise InputError(name, "needs --draw", "Say where to draw, or leave it away")


def _check_outputs(job: PredictJob, sources: Sources) -> None:
    inputs = tuple(path for path in (job.engine, job.boxes, job.detector) if path is not None)
    names: list[Path] = []
    for path in [p for p in job.outputs if p != STDOUT]:
        check_output_file(path, force=job.force or job.fresh, inputs=inputs)
        names.append(path)
    for path in [p for p in (job.draw, job.heatmaps) if p is not None]:
        names.append(path)
        check_drawn(path, force=_may_replace_drawings(job))
        if is_video_name(path) and (sources.has_pictures or sources.total not in (1, None)):
            raise InputError(path, "is a single video for several sources", "Give a folder")
    for path in names:
        if names.count(path) > 1:
            raise InputError(path, "is given twice", "Give each output a name of its own")


def _engine(job: PredictJob, say: Talk) -> Engine:
    return load_engine(
        job.engine,
        device=job.device,
        threads=job.threads,
        backend=job.backend,
        precision=job.precision,
        say=say,
    )


def _journal_path(output: Path) -> Path:
    return output.with_name(output.name + ".journal")


def _may_replace_drawings(job: PredictJob) -> bool:
    """On the user's word, or where an interrupted run has left its own half-filled folder."""
    unfinished = any(_journal_path(path).exists() for path in job.outputs if path != STDOUT)
    return job.force or job.fresh or unfinished


def _video_infos(sources: Sources) -> dict[str, VideoInfo]:
    """What the videos say of themselves; one that is damaged is met again, and listed, later."""
    infos = {}
    if sources.has_videos and isinstance(sources.items, list):
        for source in sources.items:
            if source.kind == "video":
                try:
                    infos[source.name] = video_info(source)
                except InputError:
                    infos[source.name] = VideoInfo(DEFAULT_FPS, 0, (0, 0), 0)
    return infos


def _boxes_of(job: PredictJob, sources: Sources, note: Talk) -> BoxesOf:
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

    if job.detector is None:  # _check_choices has seen to that
        raise InputError("--detector", "is not given", NO_BOXES[1])
    return PersonDetector(
        job.detector,
        job.detector_config,
        score_threshold=job.score_threshold,
        device=job.detector_device,
        threads=job.threads,
    )


def _check_known(boxes: FileBoxes | YoloBoxes, sources: Sources, path: Path, note: Talk) -> None:
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


def _journal(
    job: PredictJob,
    engine: Engine,
    sources: Sources,
    boxes_of: BoxesOf,
    stack: contextlib.ExitStack,
) -> PredictJournal | None:
    """A journal beside the first output file; none for live sources, lists and heatmaps."""
    files = [path for path in job.outputs if path != STDOUT]
    if not files or sources.total is None or job.heatmaps is not None:
        return None
    persons = [job.boxes, job.detector, job.detector_config, job.image_ids]
    fingerprint: dict[str, Any] = {
        "version": __version__,
        "engine": engine.info.sha256,
        "backend": engine.info.backend,
        "precision": engine.info.precision,
        "boxes": [sha256_file(p) if p is not None and p.is_file() else str(p) for p in persons],
        "boxes_format": job.boxes_format,
        "score_threshold": job.score_threshold,
        "exif": job.apply_exif,
        "every": job.choice.every,
        "start": job.choice.start_s,
        "sources": list(job.words),
    }
    journal = PredictJournal(
        _journal_path(files[0]), fingerprint, engine.spec.keypoint_names, fresh=job.fresh
    )
    return stack.enter_context(journal)


def _drawn_outputs(
    job: PredictJob, engine: Engine, infos: dict[str, VideoInfo]
) -> Iterator[DrawnOutput]:
    spec = engine.spec

    def poses(predicted: Predicted) -> Any:
        picture = drawn(predicted, spec, threshold=job.keypoint_threshold, boxes=job.draw_boxes)
        if job.side_by_side and predicted.frame.image_bgr is not None:
            return beside(predicted.frame.image_bgr, picture)
        return picture

    def fps_of(source: str) -> float:
        info = infos.get(source)
        fps = DEFAULT_FPS if info is None else info.fps
        return max(fps / job.choice.every, 1.0)

    def heat(predicted: Predicted) -> Any:
        return heated(predicted, spec)

    for target, draw in ((job.draw, poses), (job.heatmaps, heat)):
        if target is not None:
            yield DrawnOutput(target, draw, fps_of=fps_of, force=_may_replace_drawings(job))


def _raise_if_nothing_was_done(summary: Summary) -> None:
    """A single picture that cannot be read is an error of its own, not a skipped input."""
    if summary.skipped and not summary.frames:
        raise summary.skipped[0][1]
