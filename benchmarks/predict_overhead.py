"""What ``hrnet-deploy predict`` adds to the engine's own time, and whether memory grows.

    python benchmarks/predict_overhead.py --engine w32.onnx

Made-up pictures (640x480 JPEG) and a made-up video, with boxes from a file, go through the whole
command: read, crop, run, write JSON Lines. Each round also runs the engine alone on the same
crops in the same batches, in turn with the others, so that what decoding takes away from the
engine counts as overhead too. Memory is the peak of a process of its own with an engine that
answers at once, for a short video and one ten times as long. Writes
benchmarks/results/predict_overhead.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import script
from made_up import PICTURE_SIZE_WH, Timed, boxes_in, machine, named, picture_files

import hrnet_deploy.predict.run as predict_run
from hrnet_deploy.engines import Engine, EngineOutput, load_engine
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.runtime.engine_options import EngineOptions
from hrnet_deploy.runtime.image import read_image

FPS = 25
SHORT, LONG = 200, 2000
"""Frames of the videos whose memory is compared."""


class Recording(Timed):
    """A timed engine that keeps the crops that came, and the time from which it was there."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.batches: list[Any] = []
        self.loaded = time.perf_counter()

    def _infer(self, crops_nhwc: Any, *, heatmaps: bool) -> EngineOutput:
        self.batches.append(crops_nhwc.copy())
        return super()._infer(crops_nhwc, heatmaps=heatmaps)


class Instant(Engine):
    """An engine that answers at once: nobody is seen anywhere."""

    def _infer(self, crops_nhwc: Any, *, heatmaps: bool) -> EngineOutput:
        count, joints = len(crops_nhwc), self.spec.joints
        points = np.zeros((count, joints, 2), np.float32)
        return EngineOutput(points, np.zeros((count, joints), np.float32))


def main() -> None:
    """Measure, write the result and show it."""
    arguments = parsed()
    if arguments.memory_of is not None:
        print(memory_of(arguments.engine, arguments.memory_of))
        return
    script.run(
        "predict_overhead", arguments.output, lambda folder: measured(arguments, folder), show
    )


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", type=Path, required=True, help="an .onnx file")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the result has medians")
    parser.add_argument("--pictures", type=int, default=8, help="pictures a round")
    parser.add_argument("--frames", type=int, default=16, help="frames of video a round")
    parser.add_argument("--persons", type=int, default=2, help="persons in each")
    parser.add_argument("--batch", type=int, default=8, help="crops at a time")
    parser.add_argument("--threads", type=int, help="threads of the engine")
    parser.add_argument("--note", default="", help="kept in the result, such as other load")
    parser.add_argument("--output", type=Path, default=script.RESULTS / "predict_overhead.json")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that goes into the result."""
    jobs = jobs_of(arguments, folder)
    with load_engine(arguments.engine, threads=arguments.threads) as engine:
        size = (arguments.batch, *engine.spec.input_size_hw, 3)
        engine.run(np.zeros(size, np.uint8))
        rounds = [
            {name: one_run(engine, job, folder) for name, job in jobs.items()}
            for _ in range(arguments.rounds)
        ]
        name = named(engine)
    short, long = (peak_mb(arguments.engine, folder, frames) for frames in (SHORT, LONG))
    return {
        "machine": machine(arguments.threads),
        "command": script.command(),
        "note": arguments.note,
        "engine": name,
        "persons_in_each": arguments.persons,
        "batch": arguments.batch,
        "runs": {way: summary([rounds_of[way] for rounds_of in rounds]) for way in jobs},
        "peak_memory_mb": {f"{SHORT} frames": short, f"{LONG} frames": long},
    }


def jobs_of(arguments: argparse.Namespace, folder: Path) -> dict[str, PredictJob]:
    """The command on pictures, on a video, and on a video that is drawn."""
    files = (picture_files(None, folder) * arguments.pictures)[: arguments.pictures]
    size_hw = read_image(files[0]).shape
    names = [str(file) for file in files]
    boxes = write_boxes(folder / "pictures.csv", "image", sorted(set(names)), size_hw, arguments)
    common = PredictJob((), arguments.engine, batch_size=arguments.batch, force=True)
    video = write_video(folder / "video.mp4", arguments.frames)
    frames = range(arguments.frames)
    video_boxes = write_boxes(folder / "video.csv", "frame", frames, size_hw, arguments)
    on_video = replace(common, words=(str(video),), boxes=video_boxes)
    return {
        "pictures": replace(common, words=tuple(names), boxes=boxes),
        "video": on_video,
        "video, tracked and drawn": replace(on_video, track=True, draw=folder / "drawn.mp4"),
    }


def write_boxes(
    path: Path, key: str, names: Any, size_hw: tuple[int, ...], arguments: argparse.Namespace
) -> Path:
    """The same persons in each picture or frame, as CSV."""
    boxes = boxes_in(size_hw, arguments.persons).round(1).tolist()
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([key, "x", "y", "width", "height"])
        writer.writerows([name, *box] for name in names for box in boxes)
    return path


def write_video(path: Path, frames: int) -> Path:
    """A bright disc that wanders over noise."""
    width, height = PICTURE_SIZE_WH
    noise = np.random.default_rng(0).integers(0, 80, (height, width, 3), np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, PICTURE_SIZE_WH)
    for number in range(frames):
        place = (number * 7 % width, number * 5 % height)
        writer.write(cv2.circle(noise.copy(), place, 60, (200, 220, 240), -1))
    writer.release()
    return path


def one_run(engine: Engine, job: PredictJob, folder: Path) -> dict[str, float]:
    """Seconds of the command after its engine was loaded, inside the engine, and of it alone."""
    made: list[Recording] = []

    def loader(*_: Any, **__: Any) -> Engine:
        made.append(Recording(engine))
        return made[0]

    job = replace(job, outputs=(folder / "poses.jsonl",))
    done = with_loader(loader, lambda: predict_run.predict_to_files(job, emit=print))
    wall = time.perf_counter() - made[0].loaded
    start = time.perf_counter()
    for batch in made[0].batches:
        engine.run(batch)
    alone = time.perf_counter() - start
    return {"wall_s": wall, "inside_s": made[0].seconds, "alone_s": alone, "persons": done.persons}


def with_loader(loader: Callable[..., Engine], work: Callable[[], Any]) -> Any:
    """``work`` with another way to load its engine."""
    with mock.patch.object(EngineOptions, "open", loader):
        return work()


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds, and every round's overhead."""
    outside = [round(1 - one["inside_s"] / one["wall_s"], 4) for one in rounds]
    added = [round(one["wall_s"] / one["alone_s"] - 1, 4) for one in rounds]
    return {
        "persons": rounds[0]["persons"],
        "persons_per_second": round(
            statistics.median(one["persons"] / one["wall_s"] for one in rounds), 3
        ),
        "added_to_engine_alone": statistics.median(added),
        "share_outside_engine": statistics.median(outside),
        "added_to_engine_alone_all": added,
        "share_outside_engine_all": outside,
    }


def peak_mb(engine: Path, folder: Path, frames: int) -> float:
    """Peak memory of the command on a video of ``frames`` frames, in a process of its own."""
    video = write_video(folder / f"{frames}.mp4", frames)
    words = [sys.executable, __file__, "--engine", str(engine), "--memory-of", str(video)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def memory_of(path: Path, video: Path) -> float:
    """Peak memory of this process in MB after the command on ``video``."""
    from hrnet_deploy.engines import EngineInfo
    from hrnet_deploy.engines.signature import read_engine_file

    spec = read_engine_file(path)[1]
    instant = Instant(spec, EngineInfo("none", "cpu", str(path), "0" * 64, spec.precision), None)
    job = PredictJob((str(video),), path, whole_image=True, batch_size=8, track=True)
    job = replace(job, outputs=(video.with_suffix(".jsonl"),))
    with_loader(lambda *_, **__: instant, lambda: predict_run.predict_to_files(job, emit=print))
    # Not ru_maxrss, which a child inherits from the process that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kb = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return round(int(peak_kb) / 1024, 1)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{result['machine']['cpu']}, load {result['machine']['load_average_1min']}")
    print(result["engine"])
    for name, row in result["runs"].items():
        print(
            f"{name:<26}{row['persons_per_second']:>7.2f} persons/s, "
            f"{row['added_to_engine_alone']:>7.2%} added to the engine alone, "
            f"{row['share_outside_engine']:>6.2%} outside of it"
        )
    print("peak memory: " + json.dumps(result["peak_memory_mb"], allow_nan=False))


if __name__ == "__main__":
    main()
