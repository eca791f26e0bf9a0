"""A finished report on two small engines and three sets, made once by the command itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hrnet_deploy.cli import main
from tests.world import NAMES, SIGMAS, make_world

HOSTILE = "<b id=evil>&quot;.png"
SKELETON = ((0, 1), (1, 2))
FAST = ("--bootstrap", "100")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(folder: Path, *words: str) -> Done:
    """The command line in ``folder``, within this process."""
    out, err, former = io.StringIO(), io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main(list(words))
    finally:
        os.chdir(former)
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Bench:
    """A folder with two engines, a set, and two subsets of it."""

    folder: Path

    def words(self, *more: str) -> tuple[str, ...]:
        fixed = ("--annotations", "kp.json", "--images", "images", *FAST)
        return ("eval", "--engine", "a.onnx", *fixed, *more)

    def both(self, *more: str) -> tuple[str, ...]:
        subsets = ("--subset", "first=first.json", "--subset", "nobody=nobody.json")
        return self.words("--engine", "wide.onnx", *subsets, *more)

    def __call__(self, *words: str) -> Done:
        return run(self.folder, *words)

    def report(self, name: str = "out") -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / name / "report.json").read_text())
        return facts


def make_bench(folder: Path) -> Bench:
    for module in ("onnxruntime", "onnx", "matplotlib"):
        pytest.importorskip(module)
    from tests.tiny import write_tiny_onnx

    world = make_world(folder, images=7)
    shared = {
        "sigmas": SIGMAS,
        "keypoint_names": NAMES,
        "skeleton": SKELETON,
        "flip_pairs": ((0, 2),),
    }
    write_tiny_onnx(folder / "a.onnx", **shared)
    write_tiny_onnx(folder / "wide.onnx", **shared, box_padding=2.2)
    images, annotations = world.content["images"], world.content["annotations"]
    (world.images / images[3]["file_name"]).rename(world.images / HOSTILE)
    images[3]["file_name"] = HOSTILE
    # Wrong labels are errors of the engine: blue and red exchanged, and one far away.
    points = annotations[2]["keypoints"]
    points[0:3], points[6:9] = points[6:9], points[0:3]
    annotations[4]["keypoints"][0] += 30
    world.rewrite(images=images, annotations=annotations)
    ids = {image["id"] for image in images[:4]}
    first = [entry for entry in annotations if entry["image_id"] in ids]
    parts = {"first": (images[:4], first), "nobody": ([images[0]], [])}
    for name, (some_images, some) in parts.items():
        content = {**world.content, "images": some_images, "annotations": some}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return Bench(folder)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "here")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Done]:
    """The report in ``out``, and what the command said; not to be changed."""
    bench = make_bench(tmp_path_factory.mktemp("report") / "here")
    return bench, bench(*bench.both("--report", "out"))


@pytest.fixture(scope="session")
def command_line() -> Callable[..., Done]:
    """Run the command line in a folder."""
    return run
