"""Frames, times and drawn videos; odd files are read as far as they go, and reported."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.job import PredictJob
from hrnet_deploy.predict.run import Summary, predict_to_files
from hrnet_deploy.predict.sources import Source
from hrnet_deploy.predict.video import VideoChoice, video_frames, video_info
from tests.predict.videos import (
    FPS,
    SIZE_WH,
    break_frame,
    make_uneven,
    number_of,
    rotate,
    write_video,
)


def source(path: Path) -> Source:
    return Source("video", str(path), PurePath(path.name))


def read(path: Path, **choice: Any) -> tuple[list[int | None], list[float | None], list[str]]:
    """Numbers, times and notes; the pixels must be those of the numbers."""
    notes: list[str] = []
    frames = list(video_frames(source(path), choice=VideoChoice(**choice), note=notes.append))
    for frame in frames:
        assert frame.image_bgr is not None
    return [f.number for f in frames], [f.time_s for f in frames], notes


def run(engine: Path, *words: object, **options: Any) -> tuple[list[dict[str, Any]], Summary]:
    lines: list[str] = []
    stop = options.pop("stop", lambda: None)
    job = PredictJob(tuple(map(str, words)), engine, whole_image=True, **options)
    summary = predict_to_files(job, emit=lines.append, stop=stop)
    return [json.loads(line) for line in lines], summary


def drawn_numbers(path: Path) -> list[int]:
    capture = cv2.VideoCapture(str(path))
    numbers = []
    while (good_image := capture.read())[0]:
        numbers.append(number_of(good_image[1]))
    capture.release()
    return numbers


def test_all_frames_come_with_their_numbers_times_and_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=30)
    frames = list(video_frames(source(path)))
    assert [f.number for f in frames] == list(range(30))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(30) / FPS, atol=1e-3)
    assert [number_of(f.image_bgr) for f in frames if f.image_bgr is not None] == list(range(30))
    assert video_info(source(path)).frames == 30


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"every": 7}, [0, 7, 14, 21, 28]),
        ({"start_s": 1.0}, list(range(20, 30))),
        ({"start_s": 0.5, "duration_s": 0.25}, [10, 11, 12, 13, 14]),
        ({"every": 3, "start_s": 0.5, "duration_s": 0.5}, [10, 13, 16, 19]),
    ],
)
def test_the_choice_of_frames(choice: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=30)
    numbers, _, notes = read(path, **choice)
    assert numbers == expected
    assert not notes
    assert VideoChoice(**choice).frames_of(video_info(source(path))) == len(expected)


def test_a_video_that_ends_before_the_start_has_no_frames_and_a_note(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=30)
    choice = {"start_s": 9.0}
    numbers, _, notes = read(path, **choice)
    assert numbers == []
    assert notes == [f"{path}: ends at 1.45 s, before 9 s, where it is to start"]
    assert VideoChoice(**choice).frames_of(video_info(source(path))) == 0


def test_a_broken_frame_is_passed_over_and_reported(tmp_path: Path) -> None:
    path = break_frame(write_video(tmp_path / "a.avi"))
    numbers, _, notes = read(path)
    assert len(numbers) == 39
    assert any("1 of 40 frames cannot be decoded" in note for note in notes)


def test_a_cut_file_is_read_to_its_end_and_reported(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    numbers, _, notes = read(path)
    assert 3 < len(numbers) < 37
    assert any("frames cannot be decoded" in note for note in notes)


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    path = make_uneven(write_video(tmp_path / "a.mp4", frames=20, codec="mp4v"))
    _, times, notes = read(path)
    expected = [*np.arange(10) / FPS, *(10 / FPS + np.arange(10) * 2 / FPS)]
    np.testing.assert_allclose(times, expected, atol=1e-3)
    assert any("variable frame rate, 10 to 20" in note for note in notes)


def test_a_rotation_tag_turns_the_frames(tmp_path: Path) -> None:
    path = rotate(write_video(tmp_path / "a.mp4", frames=3, codec="mp4v"))
    notes: list[str] = []
    frames = list(video_frames(source(path), note=notes.append))
    assert {f.size_wh for f in frames} == {(SIZE_WH[1], SIZE_WH[0])}
    assert any("turned by 90 degrees" in note for note in notes)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 50])
def test_what_is_no_video_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is empty|is not a video"):
        video_info(source(path))


def test_leaving_early_ends_the_thread(tmp_path: Path) -> None:
    frames = video_frames(source(write_video(tmp_path / "a.avi")))
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("hrnet-deploy-decode") for name in names)


def test_records_and_a_drawn_video(tiny_onnx: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    records, summary = run(tiny_onnx, path, draw=tmp_path / "drawn.mp4", side_by_side=True)
    assert [record["frame"] for record in records] == list(range(40))
    assert summary.frames == 40
    info = video_info(source(tmp_path / "drawn.mp4"))
    assert (info.frames, info.fps, info.size_wh) == (40, FPS, (2 * SIZE_WH[0], SIZE_WH[1]))


def test_a_drawn_video_keeps_time(tiny_onnx: Path, tmp_path: Path) -> None:
    """Where the frame rate drops to half, every frame is shown twice as long."""
    path = make_uneven(write_video(tmp_path / "a.mp4", frames=20, codec="mp4v"))
    run(tiny_onnx, path, draw=tmp_path / "drawn", keypoint_threshold=1.0)
    info = video_info(source(path))
    shown = drawn_numbers(tmp_path / "drawn" / "a.mp4")
    times = [f.time_s for f in video_frames(source(path))]
    assert times[-1] is not None
    assert len(shown) == pytest.approx(times[-1] * info.fps + 1, abs=1)


def test_several_videos_and_a_damaged_one(tiny_onnx: Path, tmp_path: Path) -> None:
    first, second = (write_video(tmp_path / f"{n}.avi", frames=4) for n in "ac")
    (tmp_path / "b.avi").write_bytes(b"damaged")
    records, summary = run(tiny_onnx, first, tmp_path / "b.avi", second, draw=tmp_path / "d")
    assert [name for name, _ in summary.skipped] == [str(tmp_path / "b.avi")]
    assert sum("frame" in record for record in records) == 8
    assert sorted(file.name for file in (tmp_path / "d").iterdir()) == ["a.mp4", "c.mp4"]


def stopping_after(frames: int) -> Callable[[], int | None]:
    asked = iter(range(10**6))
    return lambda: 2 if next(asked) >= frames - 1 else None


def test_an_interrupted_video_goes_on_without_working_twice(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hrnet_deploy.engines.onnxruntime import OnnxRuntimeEngine

    path = write_video(tmp_path / "a.avi")
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    run(tiny_onnx, path, outputs=(whole,))
    options: dict[str, Any] = {"outputs": (cut,), "batch_size": 4, "draw": tmp_path / "drawn"}
    run(tiny_onnx, path, **options, stop=stopping_after(17))
    assert not cut.exists()
    crops = 0
    infer = OnnxRuntimeEngine._infer

    def counted(self: OnnxRuntimeEngine, crops_nhwc: Any, *, heatmaps: bool) -> Any:
        nonlocal crops
        crops += len(crops_nhwc)
        return infer(self, crops_nhwc, heatmaps=heatmaps)

    monkeypatch.setattr(OnnxRuntimeEngine, "_infer", counted)
    _, summary = run(tiny_onnx, path, **options)
    assert summary.replayed + crops == 40
    assert crops < 30
    assert cut.read_bytes() == whole.read_bytes()
    assert drawn_numbers(tmp_path / "drawn" / "a.mp4")[-1] == 39


def test_tracks_and_smoothing_are_the_same_after_an_interruption(
    small_onnx: Path, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "a.avi", frames=12)
    boxes = tmp_path / "boxes.csv"
    rows = "".join(f"{n},{4 + n},4,{40 + n},44\n" for n in range(12))
    boxes.write_text("frame,x1,y1,x2,y2\n" + rows)

    def go(name: str, **options: Any) -> Path:
        output = tmp_path / name
        job = PredictJob(
            (str(path),),
            small_onnx,
            boxes=boxes,
            outputs=(output,),
            smooth=True,
            batch_size=3,
            **{key: value for key, value in options.items() if key != "stop"},
        )
        predict_to_files(job, emit=lambda text: None, stop=options.get("stop", lambda: None))
        return output

    whole = go("whole.jsonl")
    go("cut.jsonl", stop=stopping_after(5))
    assert go("cut.jsonl").read_bytes() == whole.read_bytes()
    records = [json.loads(line) for line in whole.read_text().splitlines()]
    assert all("id" in person for record in records for person in record["persons"])
