"""The estimator on videos and streams, in ordinary and in asynchronous programs."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy import PoseEstimator
from hrnet_deploy.errors import InputError
from hrnet_deploy.predict import PersonDetector, live
from hrnet_deploy.predict.aside import stream
from hrnet_deploy.predict.frames import Boxes, Frame
from hrnet_deploy.predict.options import EstimatorOptions, VideoOptions
from tests.predict import detectors
from tests.predict.videos import SIZE_WH, write_video


def whole(frame: Frame) -> list[list[float]]:
    return [[0, 0, *SIZE_WH]]


def picture(level: int) -> Any:
    return np.full((SIZE_WH[1], SIZE_WH[0], 3), level, np.uint8)


@pytest.fixture
def estimator(tiny_onnx: Path) -> Iterator[PoseEstimator]:
    with PoseEstimator(tiny_onnx, batch_size=4) as made:
        yield made


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path: Path = write_video(tmp_path / "a.avi", frames=9)
    return path


def test_a_video_is_a_generator_of_poses(
    estimator: PoseEstimator, video: Path, tmp_path: Path
) -> None:
    results = list(estimator.video(video, whole, every=2, smooth=True))
    assert [r.frame.number for r in results] == [0, 2, 4, 6, 8]
    assert all(r.ids is not None and len(r.poses) == 1 for r in results)
    detector = PersonDetector(detectors.yolox(tmp_path / "d.onnx"))
    assert len(list(estimator.video(video, detector))) == 9


def test_boxes_of_a_detector_bring_their_scores(estimator: PoseEstimator) -> None:
    box = [[10.0, 10, 60, 50]]
    plain = estimator(picture(255), box)
    found = estimator(picture(255), Boxes(np.array(box), np.array([0.5])))
    np.testing.assert_array_equal(found.keypoints_px, plain.keypoints_px)
    np.testing.assert_allclose(found.instance_scores, plain.instance_scores / 2)


@pytest.mark.parametrize(
    ("xyxy", "scores", "ids", "message"),
    [
        ([[10.0, np.nan, 60, 50]], [1.0], None, "box 0 has y1 = nan"),
        ([[10.0, 10, 5, 50]], [1.0], None, "box 0 has x2 <= x1"),
        ([[10.0, 10, 60, 50]], [1.0, 0.5], None, "has 1 boxes with scores"),
        ([[10.0, 10, 60, 50]], [np.inf], None, "has 1 boxes with scores"),
        ([[10.0, 10, 60, 50]], [1.0], [1, 2], "has 1 boxes with 2 ids"),
    ],
)
def test_boxes_with_scores_are_checked_like_plain_ones(
    estimator: PoseEstimator, xyxy: Any, scores: Any, ids: Any, message: str
) -> None:
    boxes = Boxes(np.array(xyxy), np.array(scores), None if ids is None else np.array(ids))
    with pytest.raises(InputError, match=message):
        estimator(picture(255), boxes)
    (result,) = estimator.video([picture(255)], lambda frame: boxes)
    assert message in str(result.error)


def test_what_gives_no_boxes_is_said(estimator: PoseEstimator, video: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="boxes_of: expected a detector or a function, got None"):
        estimator.video(video, None)  # type: ignore[arg-type]
    (first, *_) = estimator.video(video, lambda frame: [1, 2, 3, 4])
    assert "Put a single box into a list" in str(first.error)
    with pytest.raises(InputError, match="image_bgr: expected"):
        PersonDetector(detectors.yolox(tmp_path / "d.onnx")).detect("a.jpg")  # type: ignore[arg-type]


def test_frames_may_come_from_anywhere(estimator: PoseEstimator) -> None:
    asked: list[int] = []

    def frames() -> Iterator[Any]:
        for level in (0, 51, 255, 255):
            asked.append(level)
            yield picture(level)

    results = estimator.video(frames(), whole, track=True)
    found = next(results)
    assert asked == [0]  # each is answered before the next is asked for
    rest = [found, *results]
    assert [round(float(r.poses.scores[0, 0]), 2) for r in rest] == [0, 0.2, 1, 1]
    assert [r.frame.time_s for r in rest] == [0, 0.04, 0.08, 0.12]
    assert [r.frame.number for r in estimator.video(frames(), whole, every=3)] == [0, 3]


def test_what_is_no_video_is_said_before_the_first_frame(
    estimator: PoseEstimator, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for source, message in (
        (tmp_path / "a.mp4", "a.mp4: is not a video"),
        (tmp_path / "b.mp4", "b.mp4: no such file"),
        (tmp_path, "names a folder, not a video"),
        (picture(0), "source: expected a path or an iterable of pictures, got ndarray"),
        (3, "source: expected a path or an iterable of pictures, got int"),
    ):
        with pytest.raises(InputError, match=message):
            estimator.video(source, whole)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="every: is 0"):
        estimator.video(tmp_path / "a.mp4", whole, every=0)
    with pytest.raises(InputError, match="start_s: needs a video: frames have no times"):
        estimator.video([picture(0)], whole, start_s=1.0)
    with pytest.raises(InputError, match="image_bgr: expected"):
        list(estimator.video([np.zeros((4, 4))], whole))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": "x"}, r"^threads: is 'x'\. Give a whole number from 1 on"),
        ({"threads": 0}, "^threads: is 0"),
        ({"threads": True}, "^threads: is True"),
        ({"device": 3}, "^device: is 3"),
        ({"backend": "torch"}, "^backend: is 'torch'"),
        ({"precision": 16}, "^precision: is '16'"),
    ],
)
def test_arguments_are_named(tiny_onnx: Path, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PoseEstimator(tiny_onnx, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "^device: is 'cuda', but the engine is loaded already"),
        ({"threads": 1}, "^threads: is 1, but the engine is loaded already"),
        ({"backend": "auto"}, "^backend: is 'auto', but"),
        ({"precision": "bf16"}, r"^precision: is 'bf16', but .*\. Load it so, or give its path"),
    ],
)
def test_a_loaded_engine_takes_no_options_of_loading(
    estimator: PoseEstimator, options: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PoseEstimator(estimator.engine, **options)
    PoseEstimator(estimator.engine, flip="off", batch_size=2)


@pytest.mark.parametrize(
    ("options", "method", "own"),
    [
        (EstimatorOptions, PoseEstimator.__init__, {"self", "engine"}),
        (VideoOptions, PoseEstimator.video, {"self", "source", "boxes_of", "stopped"}),
    ],
)
def test_options_that_are_handed_on_are_those_that_there_are(
    options: Any, method: Any, own: set[str]
) -> None:
    taken = {k: p.annotation for k, p in inspect.signature(method).parameters.items()}
    written = {k: kind.__forward_arg__ for k, kind in options.__annotations__.items()}
    assert written == {k: kind for k, kind in taken.items() if k not in own}


def test_an_asynchronous_program_is_not_held_up(estimator: PoseEstimator, video: Path) -> None:
    held_up = threading.Event()

    def boxes_of(frame: Frame) -> list[list[float]]:
        assert held_up.wait(30)  # set by the event loop while this thread waits
        return [[0, 0, *SIZE_WH]]

    async def work() -> list[int | None]:
        asyncio.get_running_loop().call_later(0.05, held_up.set)
        return [found.frame.number async for found in estimator.astream(video, boxes_of)]

    assert asyncio.run(work()) == list(range(9))


def test_frames_may_arrive_asynchronously(estimator: PoseEstimator) -> None:
    async def arriving() -> AsyncIterator[Any]:
        for level in (0, 51, 255):
            await asyncio.sleep(0)
            yield picture(level)

    async def work() -> list[float]:
        results = estimator.astream(arriving(), whole)
        return [round(float(found.poses.scores[0, 0]), 2) async for found in results]

    assert asyncio.run(work()) == [0, 0.2, 1]


def test_an_error_surfaces_in_the_asynchronous_program(estimator: PoseEstimator) -> None:
    async def broken() -> AsyncIterator[Any]:
        yield picture(0)
        raise OSError("the camera is gone")

    async def work() -> None:
        async for _ in estimator.astream(broken(), whole):
            pass

    with pytest.raises(OSError, match="the camera is gone"):
        asyncio.run(work())


def test_leaving_a_stream_early_closes_what_it_reads_from() -> None:
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    async def work() -> None:
        results = stream(items())
        assert await anext(results) == 0
        await results.aclose()

    asyncio.run(work())
    assert closed == ["hrnet-deploy-stream_0"]


def test_a_cancelled_stream_closes_what_it_reads_from() -> None:
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            begun.set()
            assert go_on.wait(30)
            yield 1
        finally:
            closed.set()

    async def consume() -> None:
        async for _ in stream(items()):
            pass

    async def work() -> None:
        task = asyncio.create_task(consume())
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert closed.wait(30)


def test_a_cancelled_stream_does_not_wait_for_an_idle_source(estimator: PoseEstimator) -> None:
    waiting, ended = threading.Event(), threading.Event()

    async def work() -> None:
        never = asyncio.Event()

        async def idle() -> AsyncIterator[Any]:
            yield picture(0)
            try:
                waiting.set()
                await never.wait()
            finally:
                ended.set()

        async def consume() -> None:
            async for _ in estimator.astream(idle(), whole):
                pass

        task = asyncio.create_task(consume())
        assert await asyncio.to_thread(waiting.wait, 30)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        in_time = ended.is_set()
        never.set()  # a stream that hangs fails the test instead of holding it up
        assert done == {task}
        assert task.cancelled()
        assert in_time

    asyncio.run(work())


def test_leaving_the_stream_of_a_silent_camera_does_not_wait_for_it(
    estimator: PoseEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, go_on = threading.Event(), threading.Event()

    class Silent:
        def isOpened(self) -> bool:
            return True

        def read(self) -> tuple[bool, None]:
            opened.set()
            go_on.wait(60)
            return False, None

        def release(self) -> None:
            pass

    monkeypatch.setattr(live, "_opened", lambda name: Silent())

    async def consume() -> None:
        async for _ in estimator.astream("rtsp://nowhere/camera", whole):
            pass

    async def work() -> None:
        task = asyncio.create_task(consume())
        assert await asyncio.to_thread(opened.wait, 30)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        go_on.set()
        assert done == {task}

    asyncio.run(work())
