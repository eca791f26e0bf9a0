"""Peak memory, every way in a process of its own, and of a picture with a crowd on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cpu_suite import Context, pipelines, say
from cpu_suite.prepare import Files
from hrnet_deploy import PoseEstimator
from hrnet_deploy.benchmark.contenders import Way, ways
from hrnet_deploy.benchmark.memory import high_water_mark_mb, peak_mb
from hrnet_deploy.engines.signature import read_engine_file

BATCH = 32
CROWDS = (1, 100, 10_000)
PICTURE_HW = (1080, 1920)


def run(context: Context) -> dict[str, Any]:
    """Peaks of the engines at batch 32, and of the host with crowds of several sizes."""
    files = Files.of(context)
    found: dict[str, float | None] = {}
    for way in _ways(context, files):
        name = f"{way.path.name}, {way.backend} {way.precision}"
        say(f"memory of {name}")
        found[name] = peak_mb(way, files.spec, BATCH, say=say)
    return {"batch": BATCH, "peak_mb": found, "crowds": _crowds(files.fp32)}


def _ways(context: Context, files: Files) -> list[Way]:
    paths = [files.fp32, files.int8, files.checkpoint]
    return ways(paths, (), (), device=None, threads=context.threads)


def _crowds(onnx: Path) -> dict[str, Any]:
    """Megabytes by the number of boxes, with an engine that takes none."""
    say(f"memory with {', '.join(map(str, CROWDS))} boxes on one picture")
    code = f"from cpu_suite.memory import crowd; crowd({str(onnx)!r}, %d)"
    suite = Path(__file__).resolve().parents[1]
    paths = [str(suite), str(suite.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    found = {}
    for boxes in CROWDS:
        done = subprocess.run(
            [sys.executable, "-c", code % boxes], env=environment, capture_output=True, check=True
        )
        found[str(boxes)] = json.loads(done.stdout)
    return {"picture_hw": list(PICTURE_HW), "peak_mb": found}


def crowd(onnx: str, boxes: int) -> None:
    """The other side: prints the peak of cropping and placing ``boxes`` persons."""
    spec = read_engine_file(Path(onnx))[1]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*PICTURE_HW, 3), np.uint8)
    height, width = PICTURE_HW
    corner = rng.random((boxes, 2)) * (width - 200, height - 300)
    boxes_xyxy = np.hstack([corner, corner + rng.random((boxes, 2)) * (150, 200) + 50])
    poses = PoseEstimator(pipelines.StubEngine(spec))(image, boxes_xyxy)
    assert len(poses) == boxes
    print(json.dumps(high_water_mark_mb()))
