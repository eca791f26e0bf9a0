"""Frames and boxes to poses: persons of several frames share a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

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
    frame at once instead of waiting for a full batch, as a batch of 1 does too; otherwise an engine
    that cuts crops itself works on some frames while the next ones are looked for. ``known`` gives
    the result of a frame that was worked on earlier, or None; the first ``earlier`` frames are
    those that an earlier run saw, and share batches with no other.
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
        earlier: int = 0,
    ) -> None:
        self._engine, self._boxes_of = engine, boxes_of
        self._batch_size = check_count("batch_size", batch_size)
        self._heatmaps, self._known, self._earlier = heatmaps, known, earlier
        self._one_by_one = live or batch_size == 1
        self._at_once = 1
        if isinstance(boxes_of, Finder) and not self._one_by_one:
            self._at_once = boxes_of.at_once
        self._ahead = int(takes_frames(engine) and not self._one_by_one)
        self._batches = BATCHES_PER_SECOND_PASS if isinstance(engine, FlipEngine) else 1

    def __call__(self, frames: Iterable[Frame]) -> Generator[Predicted]:
        """The result of each frame in order. Memory does not grow with their number."""
        for results in self.chunks(frames):
            yield from results

    def chunks(self, frames: Iterable[Frame]) -> Generator[list[Predicted]]:
        """The same, those together whose persons share batches.

        Where a chunk ends nothing of what was before matters any more: a run that goes on there
        makes the batches that this one would have made.
        """
        underway: deque[_Chunk] = deque()
        for works in self._gathered(iter(frames)):
            underway.append(self._started(works))
            if len(underway) > self._ahead:
                yield self._results(underway.popleft())
        while underway:
            yield self._results(underway.popleft())

    def _gathered(self, frames: Iterator[Frame]) -> Iterator[list[_Work]]:
        """Frames with their persons, looked for in ``_at_once`` together, that fill a batch."""
        for frame in islice(frames, self._earlier):
            yield self._looked_for([frame])
        chunk: list[_Work] = []
        while group := list(islice(frames, self._at_once)):
            chunk += self._looked_for(group)
            if self._one_by_one or self._is_full(chunk):
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _is_full(self, chunk: Sequence[_Work]) -> bool:
        images = [work.frame.image_bgr for work in chunk]
        return (
            len(chunk) >= FRAMES_AT_ONCE * self._batches
            or sum(len(work.boxes) for work in chunk) >= self._batch_size * self._batches
            or sum(0 if image is None else image.nbytes for image in images) >= BYTES_AT_ONCE
        )

    def _looked_for(self, frames: Sequence[Frame]) -> list[_Work]:
        """Each frame with its persons; an error or a known result needs none."""
        works = [self._without_looking(frame) for frame in frames]
        unknown = [frame for frame, work in zip(frames, works, strict=True) if work is None]
        found = iter(self._persons(unknown))
        return [next(found) if work is None else work for work in works]

    def _without_looking(self, frame: Frame) -> _Work | None:
        if frame.error is not None:
            return _Work(frame, no_boxes(), frame.error)
        done = self._known(frame)
        return None if done is None else _Work(frame, no_boxes(), done=done)

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

    def _results(self, chunk: _Chunk) -> list[Predicted]:
        try:
            poses = chunk.poses()
        except NonFiniteOutput:
            # Rare, so that doing the whole chunk again, one frame at a time, costs nothing.
            return [self._alone(work) for work in chunk.works]
        return [_predicted(*each) for each in zip(chunk.works, poses, strict=True)]

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
