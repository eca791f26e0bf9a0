"""What the host costs: crops per second on one core, and the share of time outside the engine.

    python benchmarks/host_side.py --engine w32.onnx

Pictures are made up (640x480 JPEG files from a seed, read from a temporary folder) unless
``--images`` names a folder. Prints a table and writes benchmarks/results/host_side.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import script
from made_up import Timed, boxes_in, machine, named, picture_files

from hrnet_deploy import PoseEstimator
from hrnet_deploy.engines import Engine, load_engine
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImageJob
from hrnet_deploy.runtime.stream import poses_of_images

INPUT_SIZE_WH = (192, 256)


def main() -> None:
    """Measure, write the result and show it."""
    arguments = parsed()
    script.run("host_side", arguments.output, lambda folder: measured(arguments, folder), show)


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that goes into the result."""
    files = picture_files(arguments.images, folder)
    result = {
        "command": script.command(),
        "note": arguments.note,
        "crops": crop_rates(files, arguments.rounds),
    }
    if arguments.engine:
        with load_engine(arguments.engine, threads=arguments.threads) as engine:
            result["end_to_end"] = end_to_end(engine, files, arguments)
    return {"machine": machine(arguments.threads), **result}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", type=Path, help="an .onnx file; without it only crops")
    parser.add_argument("--images", type=Path, help="a folder of pictures (default: made up)")
    parser.add_argument("--persons", type=int, default=2, help="persons a picture, end to end")
    parser.add_argument("--batch", type=int, default=8, help="batch size, end to end")
    parser.add_argument("--pictures", type=int, default=16, help="pictures a round, end to end")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions; the table has medians")
    parser.add_argument("--threads", type=int, help="threads of the engine")
    parser.add_argument("--note", default="", help="kept in the result, such as other load")
    parser.add_argument("--output", type=Path, default=script.RESULTS / "host_side.json")
    return parser.parse_args()


def crop_rates(files: list[Path], rounds: int) -> dict[str, Any]:
    """Crops of 256x192 per second on one core, from decoded pictures, geometry included."""
    images = [read_image(file) for file in files]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {
            f"{persons} in a picture": rates(images, persons, rounds) for persons in (1, 4, 16)
        } | {"pictures decoded": decode_rates(files, rounds)}
    finally:
        cv2.setNumThreads(threads)


def rates(images: list[Any], persons: int, rounds: int) -> dict[str, float]:
    """Crops per second with ``persons`` boxes in each picture."""
    crops = np.empty((persons, INPUT_SIZE_WH[1], INPUT_SIZE_WH[0], 3), np.uint8)
    boxes = [boxes_in(image.shape, persons) for image in images]

    def work() -> int:
        for image, boxes_xywh in zip(images, boxes, strict=True):
            crop_into(image, CropGeometry.from_boxes_xywh(boxes_xywh, INPUT_SIZE_WH), crops)
        return persons * len(images)

    return per_second(work, rounds)


def decode_rates(files: list[Path], rounds: int) -> dict[str, float]:
    """Pictures read, checked and decoded per second."""

    def work() -> int:
        for file in files:
            read_image(file)
        return len(files)

    return per_second(work, rounds)


def per_second(work: Callable[[], int], rounds: int) -> dict[str, float]:
    """Median and best of ``rounds`` by the clock, and the median by this thread's CPU time.

    The last one does not suffer from other load on the machine.
    """
    work()
    by_clock, by_cpu = [], []
    for _ in range(rounds):
        done, clock, cpu = 0, time.perf_counter(), time.thread_time()
        while time.perf_counter() - clock < 0.5:
            done += work()
        by_clock.append(done / (time.perf_counter() - clock))
        by_cpu.append(done / (time.thread_time() - cpu))
    return {
        "per_second": round(statistics.median(by_clock), 1),
        "per_second_best": round(max(by_clock), 1),
        "per_cpu_second": round(statistics.median(by_cpu), 1),
    }


def end_to_end(engine: Engine, files: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """From files to poses: the share of the whole time that the engine does not run.

    "Overlapped" reads and crops while the engine runs, as ``eval`` does; "in turn" does one after
    the other in one thread, so that nothing of the host's work is hidden.
    """
    spec = engine.spec
    chosen = (files * arguments.pictures)[: arguments.pictures]
    boxes = [boxes_in(read_image(file).shape, arguments.persons) for file in chosen]
    jobs = [
        ImageJob(file, file, CropGeometry.from_boxes_xywh(boxes_xywh, spec.input_size_wh))
        for file, boxes_xywh in zip(chosen, boxes, strict=True)
    ]

    def overlapped(timed: Timed) -> None:
        for _ in poses_of_images(timed, jobs, batch_size=arguments.batch):
            pass

    def in_turn(timed: Timed) -> None:
        estimator = PoseEstimator(timed, batch_size=arguments.batch)
        step = max(1, arguments.batch // arguments.persons)
        for start in range(0, len(chosen), step):
            part = slice(start, start + step)
            boxes_xyxy = [np.hstack([b[:, :2], b[:, :2] + b[:, 2:]]) for b in boxes[part]]
            estimator.predict_many([read_image(file) for file in chosen[part]], boxes_xyxy)

    engine.run(np.zeros((arguments.batch, *spec.input_size_hw, 3), np.uint8))
    return {
        "engine": named(engine),
        "engine_sha256": engine.info.sha256,
        "persons_a_picture": arguments.persons,
        "pictures": arguments.pictures,
        "batch": arguments.batch,
        "overlapped": shares(overlapped, engine, len(chosen) * arguments.persons, arguments.rounds),
        "in_turn": shares(in_turn, engine, len(chosen) * arguments.persons, arguments.rounds),
    }


def shares(
    work: Callable[[Timed], None], engine: Engine, persons: int, rounds: int
) -> dict[str, Any]:
    """Persons per second and the share of time outside the engine, medians over ``rounds``."""
    outside, speeds = [], []
    for _ in range(rounds):
        timed = Timed(engine)
        start = time.perf_counter()
        work(timed)
        whole = time.perf_counter() - start
        outside.append(round(1 - timed.seconds / whole, 5))
        speeds.append(round(persons / whole, 3))
    return {
        "persons_per_second": statistics.median(speeds),
        "share_outside_engine": statistics.median(outside),
        "persons_per_second_all": speeds,
        "share_outside_engine_all": outside,
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{result['machine']['cpu']}, load {result['machine']['load_average_1min']}")
    print(f"{'one core':<20}{'per second':>12}{'best':>12}{'per CPU s':>12}")
    for name, row in result["crops"].items():
        values = (row["per_second"], row["per_second_best"], row["per_cpu_second"])
        print(f"{name:<20}" + "".join(f"{value:>12,.0f}" for value in values))
    if end := result.get("end_to_end"):
        print(end["engine"])
        for name in ("overlapped", "in_turn"):
            row = end[name]
            print(
                f"  {name.replace('_', ' '):<12}{row['persons_per_second']:>8.2f} persons/s,",
                end=" ",
            )
            print(f"{row['share_outside_engine']:.2%} of the time outside the engine")


if __name__ == "__main__":
    main()
