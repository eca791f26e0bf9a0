"""Frames and boxes to poses: persons of several frames share a batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from hrnet_deploy.engines import Engine, EngineOutput, NonFiniteOutput
from hrnet_deploy.errors import DeployError, InputError
from hrnet_deploy.predict.frames import Boxes, Frame, Predicted, no_boxes
from hrnet_deploy.runtime.crops import run_persons
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.pose import Poses, instance_scores

FRAMES_AT_ONCE = 32
BYTES_AT_ONCE = 200 << 20
"""Frames wait for one another until a batch is full, so many or so many bytes at most."""

BoxesOf = Callable[[Frame], Boxes]


@dataclass(frozen=True, eq=False)
class _Work:
    """A frame that is in a chunk; ``done`` where nothing is left to do for it."""

    frame: Frame
    boxes: Boxes
    error: DeployError | None = None
    done: Predicted | None = None


class Pipeline:
    """Poses of a stream of frames: ``Pipeline(engine, boxes_of)(frames)``.

    ``boxes_of`` gives the persons of a frame. ``batch_size`` crops go to the engine at once; with
    ``heatmaps`` they are kept in the results. ``live`` sends every frame at once instead of
    waiting for a full batch. ``known`` gives the result of a frame that was worked on earlier, or
    None.
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
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError("batch_size", f"is {batch_size!r}", "Give a whole number from 1 on")
        self._engine, self._boxes_of = engine, boxes_of
        self._batch_size, self._heatmaps, self._live = batch_size, heatmaps, live
        self._known = known

    def __call__(self, frames: Iterable[Frame]) -> Generator[Predicted]:
        """The result of each frame in order. Memory does not grow with their number."""
        chunk: list[_Work] = []
        persons = size = 0
        for frame in frames:
            work = self._work(frame)
            chunk.append(work)
            persons += len(work.boxes)
            size += 0 if frame.image_bgr is None else frame.image_bgr.nbytes
            full = persons >= self._batch_size or size >= BYTES_AT_ONCE
            if full or self._live or len(chunk) >= FRAMES_AT_ONCE:
                yield from self._finish(chunk)
                chunk, persons, size = [], 0, 0
        yield from self._finish(chunk)

    def _work(self, frame: Frame) -> _Work:
        if frame.error is not None:
            return _Work(frame, no_boxes(), frame.error)
        if (done := self._known(frame)) is not None:
            return _Work(frame, no_boxes(), done=done)
        try:
            return _Work(frame, self._boxes_of(frame))
        except InputError as error:
            return _Work(frame, no_boxes(), error)

    def _finish(self, chunk: Sequence[_Work]) -> Iterator[Predicted]:
        try:
            yield from self._poses(chunk)
        except NonFiniteOutput:
            # Rare, so that doing the whole chunk again, one frame at a time, costs nothing.
            for work in chunk:
                yield self._alone(work)

    def _alone(self, work: _Work) -> Predicted:
        try:
            return self._poses([work])[0]
        except NonFiniteOutput as fault:
            error = NonFiniteOutput(work.frame.source, fault.indices, len(work.boxes))
            return self._poses([_Work(work.frame, no_boxes(), error)])[0]

    def _poses(self, chunk: Sequence[_Work]) -> list[Predicted]:
        spec = self._engine.spec
        geometries = [
            CropGeometry.from_boxes_xyxy(
                work.boxes.xyxy, spec.input_size_wh, padding=spec.box_padding
            )
            for work in chunk
        ]
        outputs = run_persons(
            self._engine,
            [work.frame.image_bgr for work in chunk],
            geometries,
            batch_size=self._batch_size,
            heatmaps=self._heatmaps,
        )
        return [
            self._predicted(work, geometry, output)
            for work, geometry, output in zip(chunk, geometries, outputs, strict=True)
        ]

    def _predicted(self, work: _Work, geometry: CropGeometry, output: EngineOutput) -> Predicted:
        if work.done is not None:
            return work.done
        spec, boxes = self._engine.spec, work.boxes
        poses = Poses(
            geometry.to_image(output.keypoints_heatmap, spec.heatmap_size_wh),
            output.scores,
            boxes.xyxy,
            instance_scores(output.scores, boxes.scores),
            spec.keypoint_names,
            spec.skeleton,
        )
        return Predicted(work.frame, boxes, poses, boxes.ids, output.heatmaps_nkhw, work.error)
