"""Poses in many pictures with the crops cut on the GPU: pictures go up, keypoints come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import NonFiniteOutput
from hrnet_deploy.errors import InputError
from hrnet_deploy.runtime.frame_engine import FrameEngine, Pending, submit_persons
from hrnet_deploy.runtime.jobs import ImageJob, ImagePoses, PictureInWork

READ_AHEAD = 3
"""Batches of pictures that are being read or wait; their pictures are in memory."""

UNDERWAY = 2
"""Batches on the GPU at a time: one is computed while the next one goes up."""

MAX_PICTURES = 128
"""A batch is closed after so many pictures a GPU, so that their memory is bounded."""

Read = Callable[[Path], NDArray[np.uint8]]


@dataclass
class _Part:
    """Some persons of one picture."""

    picture: PictureInWork
    persons: slice
    reading: Future[NDArray[np.uint8]]

    @property
    def count(self) -> int:
        return int(self.persons.stop - self.persons.start)


@dataclass
class _Batch:
    parts: list[_Part] = field(default_factory=list)
    count: int = 0
    pending: Pending | None = None


class GpuStream:
    """The state of one run over many pictures; ``results`` is to be used once."""

    def __init__(
        self,
        engine: FrameEngine,
        batch_size: int,
        read: Read,
        workers: int,
        before_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._spec = engine, engine.spec
        self._batch_size = min(batch_size, engine.max_batch or batch_size)
        self._max_pictures = MAX_PICTURES * engine.gpus
        self._read, self._workers, self._before_batch = read, workers, before_batch
        self._pictures: deque[PictureInWork] = deque()

    def results(self, jobs: Iterator[ImageJob]) -> Iterator[ImagePoses]:
        """Poses for each job, in their order."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="hrnet-deploy-read")
        try:
            planned = self._planned(jobs, pool)
            waiting: deque[_Batch] = deque()
            underway: deque[_Batch] = deque()
            while True:
                while len(waiting) < READ_AHEAD and (batch := next(planned, None)):
                    waiting.append(batch)
                if waiting:
                    self._before_batch()
                    underway.append(self._submitted(waiting.popleft()))
                elif not underway:
                    break
                if len(underway) >= UNDERWAY or not waiting:
                    self._collect(underway.popleft())
                yield from self._done()
            yield from self._done()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _planned(self, jobs: Iterator[ImageJob], pool: ThreadPoolExecutor) -> Iterator[_Batch]:
        """Give every person of every job a place in a batch and start reading the pictures."""
        batch = _Batch()
        for job in jobs:
            if job.geometry.input_size_wh != self._spec.input_size_wh:
                cuts = f"cuts {job.geometry.input_size_wh}, the engine {self._spec.input_size_wh}"
                raise InputError("job.geometry", cuts, "Use the engine's input_size_wh")
            picture = PictureInWork(job, self._spec.joints)
            self._pictures.append(picture)
            persons = len(job.geometry)
            if not persons:
                continue
            reading = pool.submit(self._read, job.path)
            first = 0
            while first < persons:
                last = min(persons, first + self._batch_size - batch.count)
                batch.parts.append(_Part(picture, slice(first, last), reading))
                batch.count += last - first
                first = last
                if batch.count == self._batch_size or len(batch.parts) == self._max_pictures:
                    yield batch
                    batch = _Batch()
        if batch.parts or self._pictures:
            yield batch

    def _submitted(self, batch: _Batch) -> _Batch:
        """Start the batch on the GPU; the persons of an unreadable picture are black crops."""
        images: list[NDArray[np.uint8] | None] = []
        for part in batch.parts:
            try:
                images.append(part.reading.result())
            except InputError as error:
                part.picture.error = error
                images.append(None)
        if batch.count:
            geometries = [part.picture.job.geometry[part.persons] for part in batch.parts]
            batch.pending = submit_persons(self._engine, images, geometries)
        return batch

    def _collect(self, batch: _Batch) -> None:
        """Hand the poses of a batch to its pictures."""
        if batch.pending is None:
            return
        lost = np.zeros(batch.count, np.bool_)
        try:
            output = batch.pending.result()
        except NonFiniteOutput as fault:
            lost[fault.indices] = True
            if batch.pending.output is None:
                raise
            output = batch.pending.output
        first = 0
        for part in batch.parts:
            picture, rows = part.picture, slice(first, first + part.count)
            picture.keypoints_heatmap[part.persons] = output.keypoints_heatmap[rows]
            picture.scores[part.persons] = output.scores[rows]
            picture.not_finite += (np.flatnonzero(lost[rows]) + part.persons.start).tolist()
            picture.unfinished -= part.count
            first += part.count

    def _done(self) -> Iterator[ImagePoses]:
        """Results of the pictures that are finished and whose predecessors are."""
        while self._pictures and self._pictures[0].unfinished == 0:
            yield self._pictures.popleft().result(self._spec.heatmap_size_wh)
