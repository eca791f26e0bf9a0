"""Longer videos: killed again and again, in constant memory, and as an encoder makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path, PurePath

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.predict.sources import Source
from hrnet_deploy.predict.video import video_frames
from tests.predict.videos import FPS, frame_image, number_of, write_video

REPOSITORY = Path(__file__).parents[2]
MEMORY = """
import sys
from hrnet_deploy.benchmark.memory import high_water_mark_mb
from hrnet_deploy.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print(high_water_mark_mb())
"""


def predict(engine: Path, video: Path, output: Path) -> list[str]:
    words = ["predict", str(video), "--engine", str(engine), "--whole-image", "--track"]
    return [*words, "--batch", "4", "-o", str(output)]


def test_a_run_that_is_killed_again_and_again_gives_the_same_bytes(
    tiny_onnx: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "long.avi", frames=4000)
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    module = [sys.executable, "-m", "hrnet_deploy"]
    subprocess.run([*module, *predict(tiny_onnx, video, whole)], check=True, timeout=120)
    journal, kept = tmp_path / "cut.jsonl.journal", 0
    for _ in range(3):
        process = subprocess.Popen([*module, *predict(tiny_onnx, video, cut)])
        while process.poll() is None and _lines(journal) < kept + 200:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not cut.exists()
        kept = _lines(journal)
    assert kept >= 600
    done = subprocess.run(
        [*module, *predict(tiny_onnx, video, cut)], stderr=subprocess.PIPE, check=True, timeout=120
    )
    assert b"going on from an interrupted run" in done.stderr
    assert cut.read_bytes() == whole.read_bytes()
    # Hidden leftovers of what was killed are removed by a run an hour later or more.
    names = {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")}
    assert names == {"long.avi", "cut.jsonl", "whole.jsonl"}


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def test_memory_does_not_depend_on_the_length(tiny_onnx: Path, tmp_path: Path) -> None:
    peaks = []
    for frames in (200, 4000):
        video = write_video(tmp_path / f"{frames}.avi", frames=frames)
        output = tmp_path / f"{frames}.jsonl"
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *predict(tiny_onnx, video, output)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        peaks.append(float(done.stdout))
        assert len(output.read_text().splitlines()) == frames
    assert peaks[1] - peaks[0] < 20


@pytest.fixture
def encoder() -> str:
    found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip("ffmpeg is not installed")
    return found


def test_h264_of_a_variable_frame_rate_with_reordered_frames(encoder: str, tmp_path: Path) -> None:
    """B-frames come out in the order of their times, which are those of the file."""
    source, path = write_video(tmp_path / "a.avi", frames=60), tmp_path / "vfr.mp4"
    slower = f"setpts='if(lt(N,30),N,30+3*(N-30))/({FPS}*TB)'"
    words = ["-i", source, "-vf", slower, "-fps_mode", "vfr", "-c:v", "libx264", "-bf", "3"]
    encode(encoder, *words, "-pix_fmt", "yuv420p", "-crf", "10", path)
    notes: list[str] = []
    frames = list(video_frames(of(path), note=notes.append))
    assert [number_of(f.image_bgr) for f in frames if f.image_bgr is not None] == list(range(60))
    expected = [n / FPS if n < 30 else (30 + 3 * (n - 30)) / FPS for n in range(60)]
    np.testing.assert_allclose([f.time_s for f in frames], expected, atol=2e-3)
    assert any("variable frame rate" in note for note in notes)


def test_a_rotation_that_an_encoder_wrote(encoder: str, tmp_path: Path) -> None:
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    encode(encoder, "-i", write_video(tmp_path / "a.avi", frames=5), "-c:v", "mpeg4", plain)
    encode(encoder, "-i", plain, "-c", "copy", "-metadata:s:v:0", "rotate=90", turned)
    frames = list(video_frames(of(turned)))
    height, width = frame_image(0).shape[:2]
    assert {frame.size_wh for frame in frames} == {(height, width)}


def test_h264_with_a_hole_goes_on_behind_it(encoder: str, tmp_path: Path) -> None:
    path = tmp_path / "hole.ts"
    source = write_video(tmp_path / "a.avi", frames=200)
    words = ["-c:v", "libx264", "-g", "20", "-pix_fmt", "yuv420p", "-crf", "10"]
    encode(encoder, "-i", source, *words, path)
    content = bytearray(path.read_bytes())
    third = len(content) // 3 // 188 * 188
    content[third : third + 188 * 20] = bytes(188 * 20)
    path.write_bytes(content)
    numbers = [number_of(f.image_bgr) for f in video_frames(of(path)) if f.image_bgr is not None]
    assert 100 < len(numbers) <= 200
    assert numbers[-1] == 199


def of(path: Path) -> Source:
    return Source("video", str(path), PurePath(path.name))


def encode(encoder: str, *words: object) -> None:
    command = [encoder, "-loglevel", "error", "-y", *map(str, words)]
    subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
