"""Folders of annotated pictures, and annotated videos."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path, PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.files import StagedFile, check_output_file, write_bytes
from hrnet_deploy.predict.frames import Frame, Predicted
from hrnet_deploy.predict.outputs import Output
from hrnet_deploy.predict.overlap import Behind
from hrnet_deploy.predict.sources import VIDEO_SUFFIXES
from hrnet_deploy.predict.video import quiet_decoders

WRITTEN_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
JPEG_QUALITY = 92
FRAMES_BEHIND = 4
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""Codecs that OpenCV's own FFmpeg can always write."""
LONGEST_STILL_S = 10.0
"""A gap in a stream is shown as a still, but not for longer."""

Draw = Callable[[Predicted], NDArray[np.uint8]]


class DrawnOutput(Output):
    """Every picture and video with something drawn on it, in a thread of its own.

    Pictures go into ``target``, a folder, under their own names; a video becomes an ``.mp4``
    there, or ``target`` itself where that names a video. ``fps_of`` gives the frames a second of
    a source.
    """

    def __init__(
        self, target: Path, draw: Draw, *, fps_of: Callable[[str], float], force: bool
    ) -> None:
        self._target, self._draw, self._fps_of = target, draw, fps_of
        self._is_video = is_video_name(target)
        check_drawn(target, force=force)
        if not self._is_video:
            target.mkdir(parents=True, exist_ok=True)
        self._names: set[PurePath] = set()
        self._behind = Behind(limit=FRAMES_BEHIND)
        self._video: _VideoFile | None = None

    def write(self, predicted: Predicted) -> None:
        if predicted.frame.image_bgr is not None:
            self._behind(self._write, predicted)

    def complete(self) -> None:
        self._behind.wait()
        if self._video is not None:
            self._video.complete()

    def finish(self) -> None:
        if self._video is not None:
            video, self._video = self._video, None
            video.finish()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # what went wrong is on its way up already
            self._behind.close()
        if self._video is not None:
            self._video.close()

    def _write(self, predicted: Predicted) -> None:
        frame = predicted.frame
        if frame.number is None:
            self._finish_video()
            write_bytes(self._picture_path(frame.relative), _encoded(self._draw(predicted), frame))
            return
        if self._video is None or self._video.place != frame.place:
            self._finish_video()
            path = self._target
            if not self._is_video:
                path = self._target / self._free(PurePath(frame.relative.stem + ".mp4"))
            self._video = _VideoFile(path, frame.place, self._fps_of(frame.source))
        self._video.write(self._draw(predicted), frame.time_s or 0.0)

    def _finish_video(self) -> None:
        if self._video is not None:
            self._video.complete()
            self.finish()

    def _picture_path(self, relative: PurePath) -> Path:
        if relative.suffix.lower() not in WRITTEN_SUFFIXES:
            relative = relative.with_name(relative.name + ".jpg")
        path = self._target / self._free(relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _free(self, relative: PurePath) -> PurePath:
        """A name that no earlier picture of this run has taken."""
        name, count = relative, 1
        while name in self._names:
            count += 1
            name = relative.with_name(f"{relative.stem}-{count}{relative.suffix}")
        self._names.add(name)
        return name


class _VideoFile:
    """A video that keeps the times of its frames: gaps are stills, a crowd of frames is thinned."""

    def __init__(self, path: Path, place: int, fps: float) -> None:
        self.place = place
        self._path, self._fps = path, fps
        self._stack = contextlib.ExitStack()
        self._staged = self._stack.enter_context(StagedFile(path))
        self._writer: cv2.VideoWriter | None = None
        self._start_s: float | None = None
        self._count = 0
        self._size_wh = (0, 0)
        self._last: NDArray[np.uint8] | None = None

    def write(self, image_bgr: NDArray[np.uint8], time_s: float) -> None:
        if self._writer is None:
            self._open(image_bgr)
        if self._writer is None or self._start_s is None:
            self._start_s = time_s
        height, width = image_bgr.shape[:2]
        if (width, height) != self._size_wh:  # a stream may change it on the way
            image_bgr = cv2.resize(image_bgr, self._size_wh).astype(np.uint8, copy=False)
        position = round((time_s - self._start_s) * self._fps)
        still = min(position - self._count, round(LONGEST_STILL_S * self._fps))
        if self._last is not None:
            for _ in range(still):
                self._put(self._last)
        if still < 0 and self._count:
            return
        self._put(image_bgr)
        if position > self._count:  # a longer gap than is shown: go on from here
            self._start_s = time_s - (self._count - 1) / self._fps
        self._last = image_bgr

    def _put(self, image_bgr: NDArray[np.uint8]) -> None:
        if self._writer is not None:
            self._writer.write(image_bgr)
            self._count += 1

    def _open(self, image_bgr: NDArray[np.uint8]) -> None:
        quiet_decoders()
        self._size_wh = (image_bgr.shape[1], image_bgr.shape[0])
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(
            str(self._staged.path), cv2.CAP_FFMPEG, codec, self._fps, self._size_wh
        )
        if not writer.isOpened():
            problem = f"OpenCV cannot write a video of {image_bgr.shape[1]}x{image_bgr.shape[0]} px"
            raise EnvironmentFault(self._path, problem, "Draw into a folder of pictures instead")
        self._writer = writer

    def complete(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._check()

    def finish(self) -> None:
        with self._stack:
            if self._writer is not None:
                self._staged.commit()

    def _check(self) -> None:
        """A full disk goes unnoticed by OpenCV: count what can be read back."""
        capture = cv2.VideoCapture(str(self._staged.path), cv2.CAP_FFMPEG)
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if frames < self._count:
            problem = f"only {frames} of {self._count} frames could be written"
            raise EnvironmentFault(self._path, problem, "Free some space and run again")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
        self._stack.close()


def is_video_name(path: Path) -> bool:
    """Whether a path for drawn output names a video rather than a folder."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def check_drawn(target: Path, *, force: bool) -> None:
    """Refuse a target before any work is done: one that exists, or that cannot be written."""
    if is_video_name(target):
        if target.suffix.lower() not in CODECS:
            known = ", ".join(CODECS)
            raise InputError(target, f"cannot be written as {target.suffix}", f"Use {known}")
        check_output_file(target, force=force)
        return
    if target.exists() and not target.is_dir():
        raise InputError(target, "is a file", "Give a folder, or a .mp4 for a single video")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise InputError(target, "exists and is not empty", "Pass --force to write into it")
    check_output_file(target / "probe", force=True)


def _encoded(image_bgr: NDArray[np.uint8], frame: Frame) -> bytes:
    suffix = frame.relative.suffix.lower()
    suffix = suffix if suffix in WRITTEN_SUFFIXES else ".jpg"
    good, content = cv2.imencode(suffix, image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not good:
        raise EnvironmentFault(frame.source, "its drawing cannot be encoded", "Use .png or .jpg")
    return content.tobytes()
