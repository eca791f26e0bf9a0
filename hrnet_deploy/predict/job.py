"""What one prediction is to do, and whether its choices go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hrnet_deploy.errors import InputError
from hrnet_deploy.files import check_output_file
from hrnet_deploy.predict.boxes import Format
from hrnet_deploy.predict.draw_outputs import check_drawn, is_video_name
from hrnet_deploy.predict.sources import Sources
from hrnet_deploy.predict.video import VideoChoice
from hrnet_deploy.runtime.draw import SCORE_THRESHOLD
from hrnet_deploy.runtime.engine_options import EngineOptions
from hrnet_deploy.runtime.image import MAX_PIXELS

STDOUT = Path("-")

NO_BOXES = (
    "gives no persons: HRNet needs a box around each",
    "Give --boxes FILE (COCO, CSV, YOLO or MOT), --detector FILE.onnx or NAME (zoo list), "
    "or --whole-image for pictures of one person",
)
"""The one error that says the three ways."""


@dataclass(frozen=True)
class PredictJob:
    """Files and choices of one command.

    ``engine`` and ``detector`` may be names in the zoo. Exactly one of ``boxes``, ``detector`` and
    ``whole_image`` says where persons are.
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
    detector_device: str | None = None
    detector_backend: str | None = None
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
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    max_pixels: float = MAX_PIXELS
    force: bool = False
    fresh: bool = False

    @property
    def files(self) -> list[Path]:
        """The outputs that are files."""
        return [path for path in self.outputs if path != STDOUT]

    @property
    def journal(self) -> Path | None:
        """Where an interrupted run leaves what it found; None without an output file."""
        return self.files[0].with_name(self.files[0].name + ".journal") if self.files else None

    @property
    def may_replace_drawings(self) -> bool:
        """On the user's word, or where an interrupted run has left its own half-filled folder."""
        unfinished = self.journal is not None and self.journal.exists()
        return self.force or self.fresh or unfinished


def check_choices(job: PredictJob, sources: Sources) -> None:
    """Refuse options that are missing or contradict each other (InputError)."""
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
    of_videos = {
        "--track": job.track,
        "--smooth": job.smooth,
        "--every": job.choice.every != VideoChoice.every,
        "--start": job.choice.start_s != VideoChoice.start_s,
        "--duration": job.choice.duration_s is not None,
    }
    useless = [name for name, chosen in of_videos.items() if chosen]
    if useless and not (sources.has_videos or sources.has_live):
        raise InputError(useless[0], "needs a video", "Leave it away")
    if sources.has_live and not (isinstance(sources.items, list) and len(sources.items) == 1):
        raise InputError("SOURCE", "has a camera or stream and others", "Give a live source alone")
    if job.reconnect_s != PredictJob.reconnect_s and not sources.has_live:
        raise InputError("--reconnect", "needs a camera or stream", "Leave it away")
    _check_heeded(job)


def _check_heeded(job: PredictJob) -> None:
    """Refuse options of drawing, or of a way to find persons, where that was not chosen."""
    of_detector = {
        "--detector-config": job.detector_config,
        "--detector-device": job.detector_device,
        "--detector-backend": job.detector_backend,
    }
    of_boxes = {"--boxes-format": job.boxes_format, "--image-ids": job.image_ids}
    of_drawings = {
        "--side-by-side": job.side_by_side,
        "--draw-boxes": job.draw_boxes,
        "--keypoint-threshold": job.keypoint_threshold != SCORE_THRESHOLD,
    }
    for name, given in of_detector.items():
        if given is not None and job.detector is None:
            raise InputError(name, "needs --detector", "Give the detector")
    for name, given in of_boxes.items():
        if given is not None and job.boxes is None:
            raise InputError(name, "needs --boxes", "Give the boxes, or leave it away")
    for name, chosen in of_drawings.items():
        if chosen and job.draw is None:
            raise InputError(name, "needs --draw", "Say where to draw, or leave it away")
    if job.score_threshold is not None and job.whole_image:
        problem = "is for boxes with scores, whole pictures have none"
        raise InputError("--score-threshold", problem, "Leave it away")


def check_outputs(job: PredictJob, sources: Sources) -> None:
    """Refuse outputs that exist, cannot be written, or stand in each other's way (InputError)."""
    inputs = tuple(path for path in (job.engine, job.boxes, job.detector) if path is not None)
    names: list[Path] = []
    for path in job.files:
        check_output_file(path, force=job.force or job.fresh, inputs=inputs)
        names.append(path)
    for path in [p for p in (job.draw, job.heatmaps) if p is not None]:
        names.append(path)
        check_drawn(path, force=job.may_replace_drawings)
        if is_video_name(path) and (sources.has_pictures or sources.total not in (1, None)):
            raise InputError(path, "is a single video for several sources", "Give a folder")
    for path in names:
        if names.count(path) > 1:
            raise InputError(path, "is given twice", "Give each output a name of its own")
