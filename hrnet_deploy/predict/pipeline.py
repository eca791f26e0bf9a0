"""Frames and boxes to poses: persons of several frames share a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from hrnet_deploy.engines import Engine, NonFiniteOutput
from hrnet_deploy.errors import DeployError, InputError, check_count
from hrnet_deploy.predict.frames import Boxes, Finder, Frame, Predicted, no_boxes
from hrnet_deploy.predict.poses import Found, start_poses
from hrnet_deploy.runtime.flip import FlipEngine
from hrnet_deploy.runtime.frame_engine import takes_frames

FRAMES_AT_ONCE = 32
BYTES_AT_ONCE = 200 << 20
"""Frames wait for one another until a batch is full, so many or so many bytes at most."""

BATCHES_PER_SECOND_PASS = 3
"""With an adaptive flip-test they wait for so many batches, whose second passes fill one."""

BoxesOf = Callable[[Frame], Boxes]


@dataclass(frozen=True, eq=False)
class _Work:
    """A frame that is in a chunk; ``done`` where nothing is left to do for it."""

    frame: Frame
    boxes: Boxes
    error: DeployError | None = None
    done: Predicted | None = None


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Frames whose persons share batches; ``poses`` waits for the engine."""

    works: Sequence[_Work]
    poses: Callable[[], list[Found]]


class Pipeline:
    """Poses of a stream of frames: ``Pipeline(engine, boxes_of)(frames)``.

    ``boxes_of`` gives the persons of a frame, a ``Finder`` those of several. ``batch_size`` crops
    go to the engine at once; with ``heatmaps`` they are kept in the results. ``live`` sends every
    frame at once instead of waiting for a full batch; otherwise an engine that cuts crops itself
    works on some frames while the next ones are looked for. ``known`` gives the result of a frame
    that was worked on earlier, or None.
    """

    def __init__(
        self,
        engine: Engine,
        boxes_of: BoxesOf,
        *,
        batch_size: int = 32,
        heatmaps: bool = False,
        live: bool = False,
        known: Callable[[Frame], Predicted | None] = lambda frame: None,
    ) -> None:
        self._engine, self._boxes_of = engine, boxes_of
        self._batch_size = check_count("batch_size", batch_size)
        self._heatmaps, self._live = heatmaps, live
        self._known = known
        self._at_once = 1
        if isinstance(boxes_of, Finder) and not live:
            self._at_once = boxes_of.at_once
        self._ahead = int(takes_frames(engine) and not live)
        self._batches = BATCHES_PER_SECOND_PASS if isinstance(engine, FlipEngine) else 1

    def __call__(self, frames: Iterable[Frame]) -> Generator[Predicted]:
        """The result of each frame in order. Memory does not grow with their number."""
        underway: deque[_Chunk] = deque()
        for works in self._chunks(frames):
            underway.append(self._started(works))
            if len(underway) > self._ahead:
                yield from self._finish(underway.popleft())
        while underway:
            yield from self._finish(underway.popleft())

    def _chunks(self, frames: Iterable[Frame]) -> Iterator[list[_Work]]:
        """Frames with their persons, as many together as share batches."""
        chunk: list[_Work] = []
        persons = size = 0
        for work in self._found(frames):
            frame = work.frame
            chunk.append(work)
            persons += len(work.boxes)
            size += 0 if frame.image_bgr is None else frame.image_bgr.nbytes
            full = persons >= self._batch_size * self._batches or size >= BYTES_AT_ONCE
            if full or self._live or len(chunk) >= FRAMES_AT_ONCE * self._batches:
                yield chunk
                chunk, persons, size = [], 0, 0
        if chunk:
            yield chunk

    def _found(self, frames: Iterable[Frame]) -> Iterator[_Work]:
        """Every frame with its persons, looked for in ``_at_once`` frames together."""
        waiting: list[_Work | Frame] = []
        unknown = 0
        for frame in frames:
            work = self._known_work(frame)
            waiting.append(work or frame)
            unknown += work is None
            if unknown >= self._at_once or len(waiting) >= FRAMES_AT_ONCE:
                yield from self._looked_for(waiting)
                waiting, unknown = [], 0
        yield from self._looked_for(waiting)

    def _known_work(self, frame: Frame) -> _Work | None:
        """What needs nobody to be looked for: an error, or a result of an earlier run."""
        if frame.error is not None:
            return _Work(frame, no_boxes(), frame.error)
        done = self._known(frame)
        return None if done is None else _Work(frame, no_boxes(), done=done)

    def _looked_for(self, waiting: Sequence[_Work | Frame]) -> Iterator[_Work]:
        unknown = [item for item in waiting if isinstance(item, Frame)]
        found = iter(self._persons(unknown))
        for item in waiting:
            yield item if isinstance(item, _Work) else next(found)

    def _persons(self, frames: Sequence[Frame]) -> list[_Work]:
        if isinstance(self._boxes_of, Finder):
            boxes = self._boxes_of.many(frames)
            return [_Work(frame, own) for frame, own in zip(frames, boxes, strict=True)]
        works = []
        for frame in frames:
            try:
                works.append(_Work(frame, self._boxes_of(frame)))
            except InputError as error:
                works.append(_Work(frame, no_boxes(), error))
        return works

    def _started(self, works: Sequence[_Work]) -> _Chunk:
        poses = start_poses(
            self._engine,
            [work.frame.image_bgr for work in works],
            [work.boxes for work in works],
            batch_size=self._batch_size,
            heatmaps=self._heatmaps,
        )
        return _Chunk(works, poses)

    def _finish(self, chunk: _Chunk) -> Iterator[Predicted]:
        try:
            poses = chunk.poses()
        except NonFiniteOutput:
            # Rare, so that doing the whole chunk again, one frame at a time, costs nothing.
            for work in chunk.works:
                yield self._alone(work)
            return
        for work, found in zip(chunk.works, poses, strict=True):
            yield _predicted(work, found)

    def _alone(self, work: _Work) -> Predicted:
        try:
            (found,) = self._started([work]).poses()
        except NonFiniteOutput as fault:
            error = NonFiniteOutput(work.frame.source, fault.indices, len(work.boxes))
            return self._alone(_Work(work.frame, no_boxes(), error))
        return _predicted(work, found)


def _predicted(work: _Work, found: Found) -> Predicted:
    if work.done is not None:
        return work.done
    return Predicted(
        work.frame,
        work.boxes,
        found.poses,
        work.boxes.ids,
        found.heatmaps_nkhw,
        work.error,
        second_passes=found.second_passes,
    )
