"""RTSP for real: a server in a process of its own, killed in mid-run and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.predict.live import live_frames
from hrnet_deploy.predict.sources import Source
from tests.predict.videos import number_of

REPOSITORY = Path(__file__).parents[2]
SERVER = Path(__file__).with_name("rtsp_server.py")


class Camera:
    """The server; ``start`` gives it the same port every time."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), str(self.port)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/clip"


@pytest.fixture
def camera() -> Iterator[Camera]:
    made = Camera()
    yield made
    made.kill()


def predict(engine: Path, folder: Path, url: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hrnet_deploy", "predict", url, "--engine", engine]
    return subprocess.Popen(
        [*map(str, command), "--whole-image", *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_pixels_are_those_that_were_sent(camera: Camera) -> None:
    seen = []
    for frame in live_frames(Source("live", camera.url, PurePath("stream")), patience_s=20):
        assert frame.image_bgr is not None
        seen.append(number_of(frame.image_bgr))
        if len(seen) == 5:
            break
    assert seen == sorted(set(seen))
    assert seen[-1] < 100


def read_to_the_end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What is left to read; ``communicate`` would lose what ``readline`` has taken ahead."""
    assert process.stdout is not None
    assert process.stderr is not None
    rest, talk = process.stdout.read(), process.stderr.read()
    process.wait(timeout=60)
    return rest, talk


def test_a_killed_server_comes_back(camera: Camera, tiny_onnx: Path, tmp_path: Path) -> None:
    """Frames keep their order, the gap is reported, and --duration ends it all the same."""
    process = predict(tiny_onnx, tmp_path, camera.url, "--duration", 5, "--reconnect", 30)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    camera.kill()
    time.sleep(0.5)
    camera.start()
    rest, talk = read_to_the_end(process)
    assert process.returncode == 0, talk
    records = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    numbers, times = ([r[name] for r in records] for name in ("frame", "time_s"))
    assert numbers == sorted(set(numbers))
    assert times == sorted(times)
    assert times[-1] < 5
    assert "lost after frame" in talk
    assert len(records) > 10
    assert {(r["width"], r["height"]) for r in records} == {(64, 48)}


def test_a_server_that_stays_away_ends_the_run_with_what_there_was(
    camera: Camera, tiny_onnx: Path, tmp_path: Path
) -> None:
    words = ("--reconnect", 1, "-o", "poses.jsonl", "-o", "-")
    process = predict(tiny_onnx, tmp_path, camera.url, *words)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    camera.kill()
    rest, talk = read_to_the_end(process)
    camera.start()
    assert process.returncode == 0, talk
    assert "did not come back within 1 s" in talk
    assert (tmp_path / "poses.jsonl").read_text() == "".join(lines) + rest


def test_a_server_that_is_not_there_is_an_error_of_the_environment(
    tiny_onnx: Path, tmp_path: Path
) -> None:
    process = predict(tiny_onnx, tmp_path, "rtsp://127.0.0.1:9/none", "--reconnect", 0.5)
    output, talk = process.communicate(timeout=60)
    assert (process.returncode, output) == (3, "")
    assert "gave no frame within 0.5 s" in talk.splitlines()[-1]
