"""What the Python interface takes as a video: a file, a camera, a stream, or frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.errors import InputError, Subject
from hrnet_deploy.predict.frames import Frame
from hrnet_deploy.predict.live import live_frames
from hrnet_deploy.predict.sources import Source, find_sources
from hrnet_deploy.predict.video import DEFAULT_FPS, VideoChoice, video_frames
from hrnet_deploy.runtime.checks import checked_image

GIVEN = "frames"
"""What frames that come as arrays are named in results."""


def frames_of(
    source: Subject | Iterable[NDArray[np.uint8]],
    choice: VideoChoice,
    note: Callable[[str], None],
    stopped: Callable[[], bool],
) -> tuple[Iterator[Frame], bool]:
    """The chosen frames of a source, and whether each is to be answered at once.

    A live source ends when ``stopped`` says so. Frames that come as arrays are taken to be 25 a
    second. Raises InputError for what is no video, and for times asked of frames that have none.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _given(source, choice), True
    if os.path.isdir(source):
        raise InputError(source, "names a folder, not a video", "Give a file, or its pictures")
    (found,) = find_sources([os.fspath(source)]).items
    if found.kind == "live":
        return live_frames(found, choice=choice, note=note, stopped=stopped), True
    video = Source("video", found.name, PurePath(found.name))
    return video_frames(video, choice=choice, note=note), False


def _given(images: Any, choice: VideoChoice) -> Iterator[Frame]:
    if choice.start_s or choice.duration_s is not None:
        given = "start_s" if choice.start_s else "duration_s"
        raise InputError(given, "needs a video: frames have no times", "Leave it away")
    if isinstance(images, np.ndarray) or not isinstance(images, Iterable):
        problem = f"expected a path or an iterable of pictures, got {type(images).__name__}"
        raise InputError("source", problem, "Give a path, a URL, or pictures (H, W, 3) uint8")
    return (
        Frame(
            GIVEN,
            PurePath(GIVEN),
            checked_image(image),
            number=number,
            time_s=number / DEFAULT_FPS,
        )
        for number, image in enumerate(images)
        if number % choice.every == 0
    )
