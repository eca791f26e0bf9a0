"""Videos and streams from Python: generators, also for asynchronous programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import PurePath
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from hrnet_deploy.errors import Subject
from hrnet_deploy.predict.follow import followed
from hrnet_deploy.predict.frames import Boxes, Finder, Frame, Predicted
from hrnet_deploy.predict.live import live_frames
from hrnet_deploy.predict.pipeline import Pipeline
from hrnet_deploy.predict.sources import Source, find_sources
from hrnet_deploy.predict.video import VideoChoice, video_frames
from hrnet_deploy.runtime.checks import checked_boxes
from hrnet_deploy.runtime.pose import PoseEstimator

Item = TypeVar("Item")


def poses_of_video(
    estimator: PoseEstimator,
    video: Subject,
    boxes_of: Callable[[Frame], Boxes | ArrayLike],
    *,
    every: int = 1,
    start_s: float = 0.0,
    duration_s: float | None = None,
    track: bool = False,
    smooth: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> Iterator[Predicted]:
    """The poses in each frame of a video file, a camera (its number as text) or a stream (a URL).

    ``boxes_of`` gives the persons of a frame: a ``PersonDetector``, or any function that returns
    boxes (N, 4) as edges in pixels of ``frame.image_bgr``. ``track`` numbers the persons
    (``predicted.ids``), ``smooth`` smooths along the numbers. Frames are decoded ahead; of a live
    source always the newest is given. ``note`` hears what was odd about the file.
    """
    source = _source(video)
    choice = VideoChoice(every, start_s, duration_s)
    live = source.kind == "live"
    frames = (live_frames if live else video_frames)(source, choice=choice, note=note)

    def checked(frame: Frame) -> Boxes:
        found = boxes_of(frame)
        if isinstance(found, Boxes):
            return found
        xyxy = checked_boxes(found)
        return Boxes(xyxy, np.ones(len(xyxy)))

    persons = boxes_of if isinstance(boxes_of, Finder) else checked
    pipeline = Pipeline(estimator.engine, persons, batch_size=estimator.batch_size, live=live)
    yield from followed(pipeline(frames), estimator.engine.spec, track=track, smooth=smooth)


async def stream(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The same items for ``async for``: each is waited for in a thread, the event loop goes on."""
    iterator, end = iter(items), object()
    while True:
        item = await asyncio.to_thread(next, iterator, end)
        if item is end:
            return
        yield item  # type: ignore[misc]


def _source(video: Subject) -> Source:
    source = next(iter(find_sources([str(video)]).items))
    if source.kind == "live":
        return source
    return Source("video", source.name, PurePath(source.name))
