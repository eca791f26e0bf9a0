"""Frames out of a video file, with their true times and without trust in its header."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2

from hrnet_deploy.errors import InputError
from hrnet_deploy.files import check_input_file
from hrnet_deploy.predict.frames import Frame
from hrnet_deploy.predict.overlap import produced_ahead
from hrnet_deploy.predict.sources import Source

FRAMES_AHEAD = 8
TRIES_AFTER_A_BROKEN_FRAME = 25
"""Decoders skip what they cannot decode; after so many failures in a row the file has ended."""
UNEVEN = 0.1
"""A step of time that differs by more than this share of a frame makes a variable frame rate."""
DEFAULT_FPS = 25.0
"""For files that state none."""
_LOG_LEVEL_SILENT = 0


@dataclass(frozen=True)
class VideoChoice:
    """Which frames: every so many, from ``start_s`` on for ``duration_s`` (None for all)."""

    every: int = 1
    start_s: float = 0.0
    duration_s: float | None = None

    def frames_of(self, video: VideoInfo) -> int | None:
        """How many frames that makes; None where the file does not say."""
        if not video.frames:
            return None
        left = max(0.0, video.frames / video.fps - self.start_s)
        if self.duration_s is not None:
            left = min(left, self.duration_s)
        return math.ceil(round(left * video.fps, 3) / self.every)


@dataclass(frozen=True)
class VideoInfo:
    """What the file says of itself: frames a second, number of frames (0 if unknown), rotation.

    ``rotation`` are the degrees by which the tag asks to turn the frames; they come turned.
    ``size_wh`` is the size before that.
    """

    fps: float
    frames: int
    size_wh: tuple[int, int]
    rotation: int


def quiet_decoders() -> None:
    """Keep what FFmpeg and OpenCV say about damaged frames off stderr; we report it ourselves."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    logging = getattr(cv2.utils, "logging", cv2)  # in cv2 itself before OpenCV 4.13
    logging.setLogLevel(_LOG_LEVEL_SILENT)


def video_info(source: Source) -> VideoInfo:
    """Open a video and look; InputError for what is no video."""
    capture = _opened(source)
    try:
        return _info(capture)
    finally:
        capture.release()


def video_frames(
    source: Source,
    place: int = 0,
    *,
    choice: VideoChoice | None = None,
    wanted: Callable[[int], bool] = lambda number: True,
    note: Callable[[str], None] = lambda line: None,
) -> Iterator[Frame]:
    """The chosen frames, decoded in a thread a few frames ahead.

    ``number`` counts all frames of the file from 0, ``time_s`` is the file's own time, so that
    a variable frame rate stays true. A frame that is not ``wanted`` comes without pixels. ``note``
    hears at the end what was odd: frames that cannot be decoded, a variable frame rate, a turn.
    """
    reader = _Reader(source, place, choice or VideoChoice(), wanted, note)
    return produced_ahead(reader.frames, ahead=FRAMES_AHEAD)


class _Reader:
    """One pass through a file."""

    def __init__(
        self,
        source: Source,
        place: int,
        choice: VideoChoice,
        wanted: Callable[[int], bool],
        note: Callable[[str], None],
    ) -> None:
        self._source, self._place, self._choice = source, place, choice
        self._wanted, self._note = wanted, note
        self._capture = _opened(source)
        self.info = _info(self._capture)
        self._steps: tuple[float, float] = (math.inf, 0.0)

    def frames(self) -> Iterator[Frame]:
        try:
            yield from self._frames()
        finally:
            self._capture.release()

    def _frames(self) -> Iterator[Frame]:
        number, chosen, last_time = -1, 0, -math.inf
        end = math.inf
        if self._choice.duration_s is not None:
            end = self._choice.start_s + self._choice.duration_s
        half = 0.5 / self.info.fps
        while self._next():
            number += 1
            time_s = self._time(number, last_time)
            if number:
                step = time_s - last_time
                self._steps = (min(self._steps[0], step), max(self._steps[1], step))
            last_time = time_s
            if time_s >= end - half:
                self._say_what_was_odd(number, complete=False)
                return
            if time_s < self._choice.start_s - half:
                continue
            if chosen % self._choice.every == 0:
                yield self._frame(number, time_s)
            chosen += 1
        self._say_what_was_odd(number + 1, complete=True)
        if number < 0:
            raise InputError(self._source.name, "has no frame that can be decoded", _AGAIN)
        if not chosen:
            start = f"{self._choice.start_s:g} s, where it is to start"
            self._note(f"{self._source.name}: ends at {last_time:.2f} s, before {start}")

    def _next(self) -> bool:
        """Go to the next frame that can be decoded."""
        return any(self._capture.grab() for _ in range(TRIES_AFTER_A_BROKEN_FRAME))

    def _time(self, number: int, last_time: float) -> float:
        """The frame's time in seconds; by the frame rate where the file has no times."""
        time_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if not math.isfinite(time_s) or time_s <= last_time or (number and time_s <= 0):
            return max(number / self.info.fps, last_time)
        return time_s

    def _frame(self, number: int, time_s: float) -> Frame:
        image = None
        if self._wanted(number):
            good, image = self._capture.retrieve()
            if not good or image is None:
                problem = f"frame {number} cannot be decoded"
                error = InputError(self._source.name, problem, "Download or copy it again")
                return self._made(number, time_s, None, error)
        return self._made(number, time_s, image, None)

    def _made(self, number: int, time_s: float, image: object, error: InputError | None) -> Frame:
        return Frame(
            self._source.name,
            self._source.relative,
            image,  # type: ignore[arg-type]
            self._place,
            number=number,
            time_s=time_s,
            error=error,
        )

    def _say_what_was_odd(self, decoded: int, *, complete: bool) -> None:
        name, (shortest, longest) = self._source.name, self._steps
        if complete and decoded < self.info.frames:
            lost = self.info.frames - decoded
            self._note(f"{name}: {lost} of {self.info.frames} frames cannot be decoded (damaged?)")
        if longest - shortest > UNEVEN / self.info.fps:
            rates = f"{1 / longest:.4g} to {1 / max(shortest, 1e-6):.4g} frames a second"
            self._note(f"{name}: variable frame rate, {rates}; time_s is each frame's own")
        if self.info.rotation:
            self._note(f"{name}: turned by {self.info.rotation} degrees, as its rotation tag says")


_AGAIN = "Give a video that OpenCV's FFmpeg reads, or download it again"


def _opened(source: Source) -> cv2.VideoCapture:
    check_input_file(source.name, what="video")
    quiet_decoders()
    capture = cv2.VideoCapture(os.path.abspath(source.name), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise InputError(source.name, "is not a video, or is damaged", _AGAIN)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _info(capture: cv2.VideoCapture) -> VideoInfo:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    frames = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rotation = float(capture.get(cv2.CAP_PROP_ORIENTATION_META))
    return VideoInfo(
        fps if math.isfinite(fps) and 0 < fps < 1000 else DEFAULT_FPS,
        int(frames) if math.isfinite(frames) and 0 < frames < 1e9 else 0,
        (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        ),
        int(rotation) % 360 if math.isfinite(rotation) else 0,
    )
