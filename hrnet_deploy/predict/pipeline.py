"""Frames and boxes to poses: persons of several frames share a batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, NonFiniteOutput
from hrnet_deploy.errors import DeployError, InputError
from hrnet_deploy.predict.frames import Boxes, Frame, Predicted, no_boxes
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.pose import Poses, crop_into, instance_scores

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
            return self._predicted(_Work(work.frame, no_boxes(), error), None, None, None)

    def _poses(self, chunk: Sequence[_Work]) -> list[Predicted]:
        spec = self._engine.spec
        geometries = [
            CropGeometry.from_boxes_xyxy(
                work.boxes.xyxy, spec.input_size_wh, padding=spec.box_padding
            )
            for work in chunk
        ]
        keypoints = [np.zeros((0, spec.joints, 2), np.float32)]
        scores = [np.zeros((0, spec.joints), np.float32)]
        maps = [np.zeros((0, spec.joints, *spec.heatmap_size_hw), np.float32)]
        for crops in self._batches(chunk, geometries):
            output = self._engine.run(crops, heatmaps=self._heatmaps)
            keypoints.append(output.keypoints_heatmap)
            scores.append(output.scores)
            if output.heatmaps_nkhw is not None:
                maps.append(output.heatmaps_nkhw)
        all_keypoints, all_scores = np.concatenate(keypoints), np.concatenate(scores)
        all_maps = np.concatenate(maps) if self._heatmaps else None
        results, start = [], 0
        for work, geometry in zip(chunk, geometries, strict=True):
            own = slice(start, start := start + len(geometry))
            keypoints_px = geometry.to_image(all_keypoints[own], spec.heatmap_size_wh)
            own_maps = None if all_maps is None else all_maps[own]
            results.append(self._predicted(work, keypoints_px, all_scores[own], own_maps))
        return results

    def _batches(
        self, chunk: Sequence[_Work], geometries: Sequence[CropGeometry]
    ) -> Iterator[NDArray[np.uint8]]:
        """Full batches of crops over all frames, all in the same buffer."""
        total = sum(map(len, geometries))
        size = min(self._batch_size, total)
        buffer = np.empty((size, *self._engine.spec.input_size_hw, 3), np.uint8)
        filled = 0
        for work, geometry in zip(chunk, geometries, strict=True):
            done = 0
            while done < len(geometry):
                count = min(size - filled, len(geometry) - done)
                if work.frame.image_bgr is not None:
                    part = buffer[filled : filled + count]
                    crop_into(work.frame.image_bgr, geometry[done : done + count], part)
                done, filled = done + count, filled + count
                if filled == size:
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]

    def _predicted(
        self,
        work: _Work,
        keypoints_px: NDArray[np.float32] | None,
        scores: NDArray[np.float32] | None,
        heatmaps_nkhw: NDArray[np.float32] | None,
    ) -> Predicted:
        if work.done is not None:
            return work.done
        spec = self._engine.spec
        if keypoints_px is None or scores is None:
            keypoints_px = np.zeros((0, spec.joints, 2), np.float32)
            scores = np.zeros((0, spec.joints), np.float32)
        boxes = work.boxes
        total = instance_scores(scores, boxes.scores)
        poses = Poses(keypoints_px, scores, boxes.xyxy, total, spec.keypoint_names, spec.skeleton)
        return Predicted(work.frame, boxes, poses, boxes.ids, heatmaps_nkhw, work.error)
