"""Network streams: a local server that breaks off, comes back, or is not there at all."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import cv2
import pytest

from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.predict.job import STDOUT, PredictJob
from hrnet_deploy.predict.live import live_frames
from hrnet_deploy.predict.run import predict_to_files
from hrnet_deploy.predict.sources import Source
from hrnet_deploy.predict.video import VideoChoice
from tests.predict.videos import frame_image, number_of

FRAMES_A_VISIT = 8


class _Camera(http.server.BaseHTTPRequestHandler):
    """Motion JPEG over HTTP; every connection breaks off after a few frames."""

    visits = 0

    def do_GET(self) -> None:
        cls = type(self)
        cls.visits += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for _ in range(FRAMES_A_VISIT):
            jpeg = cv2.imencode(".jpg", frame_image(cls.visits))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def camera() -> Iterator[str]:
    _Camera.visits = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Camera)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/stream.mjpg"
    server.shutdown()
    server.server_close()
    thread.join()


def source(url: str) -> Source:
    return Source("live", url, PurePath("stream"))


def test_a_stream_that_breaks_off_is_opened_again(camera: str) -> None:
    notes: list[str] = []
    frames = live_frames(source(camera), patience_s=20, note=notes.append)
    visits, numbers = set(), []
    for frame in frames:
        assert frame.image_bgr is not None
        assert frame.time_s is not None
        visits.add(number_of(frame.image_bgr))
        numbers.append(frame.number or 0)
        if len(visits) == 3:
            break
    frames.close()  # type: ignore[attr-defined]
    assert numbers == sorted(set(numbers))
    assert sum("lost after frame" in note for note in notes) >= 2


def test_frames_are_dropped_rather_than_delayed(camera: str) -> None:
    frames = live_frames(source(camera), patience_s=20)
    first = next(frames)
    time.sleep(0.12)
    second = next(frames)
    assert first.number is not None
    assert second.number is not None
    assert second.number > first.number + 1
    frames.close()  # type: ignore[attr-defined]


def test_a_duration_ends_it(camera: str) -> None:
    choice = VideoChoice(duration_s=0.1)
    times = [frame.time_s for frame in live_frames(source(camera), choice=choice)]
    assert times
    assert all(t is not None and t < 0.1 for t in times)


def test_a_request_to_stop_ends_it(camera: str) -> None:
    seen: list[int | None] = []
    frames = live_frames(source(camera), patience_s=20, stopped=lambda: len(seen) >= 2)
    for frame in frames:
        seen.append(frame.number)
    assert len(seen) == 2


def test_what_is_not_there_is_given_up_after_the_patience() -> None:
    start = time.perf_counter()
    with pytest.raises(EnvironmentFault, match=r"gave no frame within 0\.5 s.*--reconnect"):
        next(live_frames(source("http://127.0.0.1:9/none"), patience_s=0.5))
    assert time.perf_counter() - start < 10


def test_what_a_stopped_stream_gave_is_complete(
    camera: str, tiny_onnx: Path, tmp_path: Path
) -> None:
    """A live source has no end of its own: a request to stop is one."""
    asked: list[str] = []
    output, drawn = tmp_path / "poses.jsonl", tmp_path / "drawn.mp4"
    job = PredictJob((camera,), tiny_onnx, whole_image=True, outputs=(output, STDOUT), draw=drawn)
    summary = predict_to_files(job, emit=asked.append, stop=lambda: 2 if len(asked) >= 3 else None)
    assert summary.frames == len(asked) == 3
    assert output.read_text() == "".join(asked)
    assert drawn.stat().st_size > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["drawn.mp4", "poses.jsonl"]
