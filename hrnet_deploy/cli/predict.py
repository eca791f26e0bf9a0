"""``hrnet-deploy predict``: poses in pictures, videos and cameras, without annotations."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrnet_deploy.cli.options import (
    FILE,
    FiniteRange,
    batch_option,
    force_option,
    max_pixels_option,
    print_json,
    say,
    with_engine_options,
)
from hrnet_deploy.cli.progress import progress_bar
from hrnet_deploy.cli.signals import stop_on_signal
from hrnet_deploy.errors import EXIT_GATE

if TYPE_CHECKING:
    from hrnet_deploy.runtime.engine_options import EngineOptions

LISTED = 20
"""Skipped inputs that are named; the others are counted."""


@click.command("predict")
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.option(
    "--engine", "engine_path", type=FILE, required=True, help="An .onnx or .plan file, or zoo name."
)
@click.option("--boxes", type=FILE, help="Person boxes: COCO, CSV or MOT file, YOLO folder.")
@click.option(
    "--boxes-format",
    type=click.Choice(["coco", "csv", "yolo", "mot"]),
    help="Default: told by name and content.",
)
@click.option("--image-ids", type=FILE, help="COCO annotations that name the boxes' image ids.")
@click.option("--detector", type=FILE, help="A person detector: .onnx, .plan, or zoo name.")
@click.option("--detector-config", type=FILE, help="What the detector expects and gives (.toml).")
@click.option(
    "--detector-device", help="cpu, cuda[:N] or tensorrt[:N]. Default: cpu; a plan: cuda."
)
@click.option(
    "--detector-backend",
    type=click.Choice(["onnxruntime", "openvino", "tensorrt"]),
    help="What runs the detector. Default: onnxruntime, tensorrt for plans.",
)
@click.option("--whole-image", is_flag=True, help="Take each picture as one person.")
@click.option(
    "--score-threshold", type=FiniteRange(), help="Leave out boxes below it. Default: 0, 0.4."
)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=FILE,
    multiple=True,
    help="Poses as .jsonl, .json (COCO results), .csv or .parquet; - for stdout. Repeatable.",
)
@click.option("--draw", type=FILE, help="Folder (or .mp4) for pictures (or video) with the poses.")
@click.option("--heatmaps", type=FILE, help="The same with the heatmaps laid over.")
@click.option("--side-by-side", is_flag=True, help="Draw beside the original.")
@click.option("--draw-boxes", is_flag=True, help="Draw boxes and scores as well.")
@click.option(
    "--keypoint-threshold",
    type=FiniteRange(0, 1),
    default=0.2,
    show_default=True,
    help="Draw keypoints scored as high.",
)
@click.option(
    "--exif",
    type=click.Choice(["apply", "ignore"]),
    help="EXIF rotation. Default: ignore with --boxes, else apply.",
)
@click.option("--recursive", is_flag=True, help="Pictures in subfolders too.")
@click.option("--every", type=click.IntRange(1), default=1, help="Every so many video frames.")
@click.option("--start", type=FiniteRange(0), default=0.0, help="Seconds into the video.")
@click.option("--duration", type=FiniteRange(0, min_open=True), help="Seconds of video.")
@click.option("--track", is_flag=True, help="Number the persons of a video.")
@click.option("--smooth", is_flag=True, help="One-Euro smoothing along the tracks.")
@click.option(
    "--reconnect",
    type=FiniteRange(0),
    default=30.0,
    show_default=True,
    help="Seconds to try for a camera or stream that went away.",
)
@batch_option
@with_engine_options(flip=True)
@max_pixels_option
@force_option
@click.option("--fresh", is_flag=True, help="Start over, and replace earlier output.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON (not the poses).")
def command(
    sources: tuple[str, ...],
    engine_path: Path,
    boxes: Path | None,
    boxes_format: str | None,
    image_ids: Path | None,
    detector: Path | None,
    detector_config: Path | None,
    detector_device: str | None,
    detector_backend: str | None,
    whole_image: bool,
    score_threshold: float | None,
    outputs: tuple[Path, ...],
    draw: Path | None,
    heatmaps: Path | None,
    side_by_side: bool,
    draw_boxes: bool,
    keypoint_threshold: float,
    exif: str | None,
    recursive: bool,
    every: int,
    start: float,
    duration: float | None,
    track: bool,
    smooth: bool,
    reconnect: float,
    batch: int,
    engine_options: EngineOptions,
    max_pixels: float,
    force: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    """Poses in pictures, folders, patterns, videos, a camera (0), a stream (rtsp://...) or -.

    "-" reads a list of pictures from stdin. Poses go to stdout as JSON Lines unless -o is given.
    A run with -o that was interrupted goes on when the same command is given again. Exit code 1:
    inputs that cannot be read were left out.
    """
    from hrnet_deploy.predict.job import STDOUT, PredictJob
    from hrnet_deploy.predict.run import predict_to_files
    from hrnet_deploy.predict.video import VideoChoice
    from hrnet_deploy.runtime.flip_choice import second_passes_text

    if as_json and (not outputs or STDOUT in outputs):
        raise click.UsageError("--json prints a summary on stdout: give the poses a file with -o")
    job = PredictJob(
        words=sources,
        engine=engine_path,
        boxes=boxes,
        boxes_format=boxes_format,  # type: ignore[arg-type]
        image_ids=image_ids,
        detector=detector,
        detector_config=detector_config,
        detector_device=detector_device,
        detector_backend=detector_backend,
        whole_image=whole_image,
        score_threshold=score_threshold,
        outputs=outputs,
        draw=draw,
        heatmaps=heatmaps,
        side_by_side=side_by_side,
        draw_boxes=draw_boxes,
        keypoint_threshold=keypoint_threshold,
        apply_exif=None if exif is None else exif == "apply",
        recursive=recursive,
        choice=VideoChoice(every, start, duration),
        reconnect_s=reconnect,
        track=track,
        smooth=smooth,
        batch_size=batch,
        engine_options=engine_options,
        max_pixels=max_pixels,
        force=force,
        fresh=fresh,
    )
    bar = progress_bar(unit="frames", speed=True)
    with stop_on_signal() as stop, bar as progress, stop.deferred():
        summary = predict_to_files(
            job, emit=_emit, lines=_stdin_lines(), say=say, progress=progress, stop=stop
        )
    for line in summary.notes:
        say(f"note: {line}")
    persons = f"{_counted(summary.persons, 'person')} in {_counted(summary.frames, 'frame')}"
    say(f"{persons} ({summary.without_persons} without anybody)")
    made = [path for path in (*job.files, draw, heatmaps) if path is not None]
    if made:
        say(f"written: {', '.join(map(str, made))}")
    flipped = summary.flip_facts
    if flipped is not None:
        say(second_passes_text(flipped))
    for name, error in summary.skipped[:LISTED]:
        say(f"left out: {name}: {error.problem}")
    if len(summary.skipped) > LISTED:
        say(f"left out: {len(summary.skipped) - LISTED} more")
    if as_json:
        print_json(
            {
                "frames": summary.frames,
                "persons": summary.persons,
                "replayed": summary.replayed,
                **({} if flipped is None else {"flip": flipped}),
                "skipped": [{"file": n, "problem": e.problem} for n, e in summary.skipped],
                "notes": summary.notes,
            }
        )
    if summary.skipped:
        raise click.exceptions.Exit(EXIT_GATE)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _emit(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _stdin_lines() -> Iterator[str]:
    """Names on stdin; bytes that are no UTF-8 survive as they do on the command line."""
    for line in sys.stdin.buffer:
        yield os.fsdecode(line)
