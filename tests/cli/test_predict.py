"""``hrnet-deploy predict`` as a user runs it: real processes, files, pipes and signals."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from tests.world import World, make_world

SLOW = """
import time
import hrnet_deploy.engines.onnxruntime as backend
infer = backend.OnnxRuntimeEngine._infer
def slowly(self, crops, *, heatmaps):
    time.sleep(0.3)
    return infer(self, crops, heatmaps=heatmaps)
backend.OnnxRuntimeEngine._infer = slowly
from hrnet_deploy.cli import main
main()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), images=6)


def predict(
    engine: Path, folder: Path, *words: object, **options: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hrnet_deploy", "predict", "--engine", engine, *words]
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_lines_on_stdout_talk_on_stderr(tiny_onnx: Path, world: World, tmp_path: Path) -> None:
    done = predict(tiny_onnx, tmp_path, world.images, "--boxes", world.annotations)
    assert done.returncode == 0, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 6
    assert done.stderr.splitlines()[0].startswith("note: ")
    assert "no boxes of 2 pictures, e.g. " in done.stderr
    assert done.stderr.splitlines()[1:] == ["7 persons in 6 frames (2 without anybody)"]


def test_adaptive_flip_test(tiny_onnx: Path, world: World, tmp_path: Path) -> None:
    """Order and share; the summary says what was done."""
    words = (world.images, "--boxes", world.annotations, "-o", "out.jsonl", "--json")
    done = predict(tiny_onnx, tmp_path, *words, "--flip", "adaptive", "--flip-threshold", "0")
    assert done.returncode == 0, done.stderr
    flip = json.loads(done.stdout)["flip"]
    assert (flip["mode"], flip["second_passes"], flip["share"]) == ("adaptive", 7, 1)
    assert "adaptive flip-test: 100.0% looked at twice (doubt >= 0)" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [Path(line["image"]).name for line in lines] == [f"picture {n}.png" for n in range(6)]
    done = predict(tiny_onnx, tmp_path, *words, "--force", "--flip", "adaptive")
    assert done.returncode == 2
    assert "calibrate it: hrnet-deploy calibrate-flip" in done.stderr


def test_skipped_inputs_are_listed_and_the_exit_code_is_1(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    names = f"{world.images}/picture 1.png\nnowhere.png\n"
    words = ("-", "--whole-image", "-o", "out.csv", "--json")
    done = predict(tiny_onnx, tmp_path, *words, input=names)
    assert done.returncode == 1
    assert "left out: nowhere.png: no such file" in done.stderr
    assert json.loads(done.stdout)["frames"] == 1
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


def test_without_boxes_one_line_says_the_three_ways(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    done = predict(tiny_onnx, tmp_path, world.images)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for way in ("--boxes", "--detector", "--whole-image"):
        assert way in done.stderr


def test_options_are_checked_before_a_name_is_looked_up(world: World, tmp_path: Path) -> None:
    """A checkpoint of that name would be exported first, which takes a minute."""
    name = Path("mmpose_coco_w32_256x192")
    environment = {**os.environ, "HRNET_DEPLOY_ZOO": str(tmp_path / "zoo")}
    done = predict(name, tmp_path, world.images, env=environment)
    assert (done.returncode, "gives no persons" in done.stderr) == (2, True), done.stderr
    done = predict(name, tmp_path, world.images, "--whole-image", env=environment)
    assert (done.returncode, "is not downloaded yet" in done.stderr) == (2, True), done.stderr
    (tmp_path / "out.csv").write_text("old")
    done = predict(name, tmp_path, world.images, "--whole-image", "-o", "out.csv", env=environment)
    assert (done.returncode, "out.csv: exists" in done.stderr) == (2, True), done.stderr


def test_a_reader_that_goes_away_is_no_error(tiny_onnx: Path, world: World, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hrnet_deploy", "predict", "--engine", str(tiny_onnx)]
    words += ["--whole-image", "--batch", "1", str(world.images)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) in (0, 141)
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_an_interrupted_command_goes_on(tiny_onnx: Path, world: World, tmp_path: Path) -> None:
    words = ["predict", "--engine", str(tiny_onnx), str(world.images), "--whole-image"]
    words += ["--batch", "1", "-o", "out.jsonl"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    journal = tmp_path / "out.jsonl.journal"
    for _ in range(600):
        if journal.exists() and journal.read_bytes().count(b"\n") > 1:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "To go on: hrnet-deploy predict" in errors
    assert not (tmp_path / "out.jsonl").exists()
    done = predict(tiny_onnx, tmp_path, *words[3:])
    assert done.returncode == 0, done.stderr
    assert "going on from an interrupted run" in done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6
    assert os.listdir(tmp_path) == ["out.jsonl"]


@pytest.mark.parametrize("limit", [300, 3000])
def test_a_full_disk_leaves_nothing_behind(
    limit: int, tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    """At 300 bytes the journal does not fit, at 3000 the output does not."""
    old = tmp_path / "out.jsonl"
    old.write_text("old")
    names = "".join(f"{world.images}/picture {n % 6}.png\n" for n in range(60))
    sources = ("-",) if limit == 3000 else (world.images,)

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = (*sources, "--whole-image", "--force", "-o", "out.jsonl")
    done = predict(tiny_onnx, tmp_path, *words, input=names, preexec_fn=full)
    assert done.returncode == 3, done.stderr
    assert "disk full while writing it" in done.stderr
    assert "Traceback" not in done.stderr
    assert old.read_text() == "old"
    left = {file.name for file in tmp_path.iterdir()}
    assert left <= {"out.jsonl", "out.jsonl.journal"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "gpu"], "--device: is 'gpu'. Give cpu"),
        (["--device=gpu"], "--device: is 'gpu'. Give cpu"),
        (["--devices", "0,0"], "--devices: names a GPU twice"),
    ],
)
def test_arguments_are_called_by_their_options(
    tiny_onnx: Path, world: World, tmp_path: Path, words: list[str], message: str
) -> None:
    done = predict(tiny_onnx, tmp_path, world.images, "--whole-image", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"hrnet-deploy: error: {message}")


WITHOUT_LOCKS = """
import os, sys
sys.modules["fcntl"] = None  # its import fails, as where there is none
del os.pread, os.pwrite
from hrnet_deploy.__main__ import main
main()
"""


def test_where_there_are_no_locks_it_works_after_one_warning(
    tiny_onnx: Path, world: World, tmp_path: Path
) -> None:
    words = ["predict", "--engine", tiny_onnx, world.images, "--whole-image", "-o", "out.jsonl"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, *map(str, words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("there are no locks here; do not run twice at once") == 1
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl"]
