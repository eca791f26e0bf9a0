"""Cameras and network streams: always the newest frame, and another try when they go away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import EnvironmentFault
from hrnet_deploy.predict.frames import Frame
from hrnet_deploy.predict.sources import Source
from hrnet_deploy.predict.video import VideoChoice, quiet_decoders

OPEN_TIMEOUT_MS = 10_000
READ_TIMEOUT_MS = 10_000
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
"""Pauses between tries double from the first to the longest."""
POLL_SECONDS = 0.2

Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Shot:
    image_bgr: NDArray[np.uint8]
    number: int
    time_s: float


def live_frames(
    source: Source,
    place: int = 0,
    *,
    choice: VideoChoice | None = None,
    patience_s: float = 30.0,
    note: Note = lambda line: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Frame]:
    """Frames of a camera (its number) or stream (its URL), the newest whenever one is asked for.

    Frames that come faster than they are asked for are dropped, so that results do not fall
    behind; ``number`` counts all of them, ``time_s`` the seconds since the first. When the source
    goes away it is opened again for ``patience_s``; then the frames end, or, where there never
    was one, EnvironmentFault is raised. Ends when ``stopped`` says so.
    """
    choice = choice or VideoChoice()
    reader = _Reader(source, patience_s, note)
    reader.start()
    try:
        while not stopped() and (shot := reader.newest(stopped)) is not None:
            if choice.duration_s is not None and shot.time_s >= choice.start_s + choice.duration_s:
                break
            if shot.time_s >= choice.start_s and shot.number % choice.every == 0:
                yield Frame(
                    source.name,
                    source.relative,
                    shot.image_bgr,
                    place,
                    number=shot.number,
                    time_s=shot.time_s,
                )
    finally:
        reader.stop()


class _Reader(threading.Thread):
    """Reads all the time and keeps the newest frame."""

    def __init__(self, source: Source, patience_s: float, note: Note) -> None:
        super().__init__(name="hrnet-deploy-live", daemon=True)
        self._source, self._patience_s, self._note = source, patience_s, note
        self._fresh = threading.Condition()
        self._shot: _Shot | None = None
        self._ended = False
        self._wanted = True
        self._count = 0
        self._first_at: float | None = None

    def newest(self, stopped: Callable[[], bool]) -> _Shot | None:
        """The newest frame that was not given yet; None at the end."""
        with self._fresh:
            while self._shot is None and not self._ended and not stopped():
                self._fresh.wait(POLL_SECONDS)
            shot, self._shot = self._shot, None
        if shot is None and self._count == 0 and not stopped():
            raise EnvironmentFault(
                self._source.name,
                f"gave no frame within {self._patience_s:g} s",
                "Check the camera's number or the URL, or raise --reconnect",
            )
        return shot

    def stop(self) -> None:
        """End the thread; a read that hangs is left to its own time limit."""
        self._wanted = False
        self.join(timeout=2 * POLL_SECONDS)

    def run(self) -> None:
        lost_at, pause = time.perf_counter(), FIRST_PAUSE_S
        while self._wanted and time.perf_counter() - lost_at < self._patience_s:
            before = self._count
            self._read_until_it_breaks()
            if self._count > before:
                lost_at, pause = time.perf_counter(), FIRST_PAUSE_S
                if self._wanted:
                    self._note(f"{self._source.name}: lost after frame {self._count - 1}, trying")
            else:
                pause = min(2 * pause, LONGEST_PAUSE_S)
            self._pause(pause, lost_at)
        if self._wanted and self._count:
            self._note(f"{self._source.name}: did not come back within {self._patience_s:g} s")
        with self._fresh:
            self._ended = True
            self._fresh.notify()

    def _pause(self, seconds: float, lost_at: float) -> None:
        end = min(time.perf_counter() + seconds, lost_at + self._patience_s)
        while self._wanted and time.perf_counter() < end:
            time.sleep(min(POLL_SECONDS, max(0.0, end - time.perf_counter())))

    def _read_until_it_breaks(self) -> None:
        capture = _opened(self._source.name)
        try:
            while self._wanted and capture.isOpened():
                good, image = capture.read()
                if not good:
                    return
                self._keep(image.astype(np.uint8, copy=False))
        finally:
            capture.release()

    def _keep(self, image_bgr: NDArray[np.uint8]) -> None:
        now = time.perf_counter()
        self._first_at = now if self._first_at is None else self._first_at
        with self._fresh:
            self._shot = _Shot(image_bgr, self._count, now - self._first_at)
            self._count += 1
            self._fresh.notify()


def _opened(name: str) -> cv2.VideoCapture:
    quiet_decoders()
    if name.isdecimal():
        return cv2.VideoCapture(int(name))
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        OPEN_TIMEOUT_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        READ_TIMEOUT_MS,
    ]
    return cv2.VideoCapture(name, cv2.CAP_FFMPEG, limits)
