"""Poses in many pictures: the next ones are read and cropped while the engine works."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineOutput, NonFiniteOutput
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.errors import InputError, check_count
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.flip import FlipEngine, SecondPasses, persons_in_doubt
from hrnet_deploy.runtime.frame_engine import takes_frames
from hrnet_deploy.runtime.gpu_stream import GpuStream
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.jobs import ImageJob, ImagePoses, PictureInWork

BATCHES_AHEAD = 3
"""Batches that are being filled or wait for the engine; each is ``batch_size`` crops of memory."""

PICTURES_PER_BATCH = 1024
"""A batch is closed after so many pictures even if hardly anybody is in them."""

MAX_WORKERS = 8

WAIT_BATCHES = 16
"""A second pass of an adaptive flip-test waits at most so many batches for its own to be full."""


def poses_of_images(
    engine: Engine,
    jobs: Iterable[ImageJob],
    *,
    batch_size: int,
    read: Callable[[Path], NDArray[np.uint8]] = read_image,
    workers: int | None = None,
    before_batch: Callable[[], None] = lambda: None,
) -> Iterator[ImagePoses]:
    """Poses for each job, in the order of ``jobs``; persons of several pictures share a batch.

    ``read`` gives a picture as (H, W, 3) uint8 BGR and is called once for each, in one of
    ``workers`` threads (None for one per core); the engine runs in the caller's thread. Memory
    does not grow with the number of jobs, nor with the persons in one. Closing the iterator stops
    and joins the threads. Raises what the engine raises; an InputError of ``read`` goes into the
    result of its picture. The second passes of a ``FlipEngine`` are collected into batches of their
    own, for which the results of a picture wait. ``before_batch`` is called before each batch goes
    to the engine; what it raises ends the run.
    """
    check_count("batch_size", batch_size)
    count = workers or min(MAX_WORKERS, physical_cores())
    if takes_frames(engine):
        return GpuStream(engine, batch_size, read, count, before_batch).results(iter(jobs))
    return _Stream(engine, batch_size, read, count, before_batch).results(iter(jobs))


class _Picture(PictureInWork):
    """A picture read by the first thread that needs it, dropped after the last crop."""

    def __init__(self, job: ImageJob, joints: int) -> None:
        super().__init__(job, joints)
        self._uncut = len(job.geometry)
        self._image: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    def cut(
        self,
        read: Callable[[Path], NDArray[np.uint8]],
        persons: slice,
        crops_nhwc: NDArray[np.uint8],
    ) -> None:
        """Fill ``crops_nhwc`` with the crops of ``persons``, unless the picture is unreadable."""
        with self._lock:
            if self._image is None and self.error is None:
                try:
                    self._image = read(self.job.path)
                except InputError as error:
                    self.error = error
            image = self._image
        if image is not None:
            crop_into(image, self.job.geometry[persons], crops_nhwc)
        with self._lock:
            self._uncut -= len(crops_nhwc)
            if self._uncut == 0:
                self._image = None


@dataclass
class _Part:
    """Some persons of a picture and their place in a batch."""

    picture: _Picture
    persons: slice
    place: slice
    cutting: Future[None]


class _Batch:
    """A buffer of crops and whose they are."""

    def __init__(self, crops_nhwc: NDArray[np.uint8]) -> None:
        self.crops_nhwc = crops_nhwc
        self.parts: list[_Part] = []
        self.count = 0
        self.pictures = 0


class _Second:
    """Persons of several batches whose mirror images wait to be looked at."""

    def __init__(self, engine: FlipEngine, batch_size: int) -> None:
        self.first = engine.first
        self._waiting = SecondPasses[tuple[_Picture, int]](engine, batch_size)
        self._batches = 0

    def add(self, batch: _Batch, first: EngineOutput | None, kept: NDArray[np.intp]) -> None:
        """Take those of a batch that are in doubt; row i of ``first`` is crop ``kept[i]``."""
        self._batches += 1
        owners = [
            (p.picture, n) for p in batch.parts for n in range(p.persons.start, p.persons.stop)
        ]
        if first is not None:
            for person in persons_in_doubt(first):
                crop = int(kept[person])
                self._waiting.add(batch.crops_nhwc[crop], first, person, owners[crop])
                if self._waiting.full:
                    self.run()
        if self._batches >= WAIT_BATCHES:
            self.run()

    def run(self) -> None:
        """Look at all that wait, and hand the poses to their pictures."""
        self._batches = 0
        for places, output in self._waiting.run():
            for row, (picture, person) in enumerate(places):
                picture.unfinished -= 1
                picture.second_passes += 1
                if output is None:
                    picture.not_finite.append(person)
                else:
                    picture.keypoints_heatmap[person] = output.keypoints_heatmap[row]
                    picture.scores[person] = output.scores[row]


class _Stream:
    """The state of one call of ``poses_of_images``."""

    def __init__(
        self,
        engine: Engine,
        batch_size: int,
        read: Callable[[Path], NDArray[np.uint8]],
        workers: int,
        before_batch: Callable[[], None],
    ) -> None:
        self._engine, self._spec = engine, engine.spec
        self._batch_size, self._read, self._workers = batch_size, read, workers
        self._before_batch = before_batch
        self._pictures: deque[_Picture] = deque()
        self._buffers: list[NDArray[np.uint8]] = []
        self._second: _Second | None = None
        if isinstance(engine, FlipEngine):
            self._second = _Second(engine, batch_size)

    def results(self, jobs: Iterator[ImageJob]) -> Iterator[ImagePoses]:
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="hrnet-deploy-crops")
        try:
            waiting: deque[_Batch] = deque()
            planned = self._planned(jobs, pool)
            while True:
                while len(waiting) < BATCHES_AHEAD and (batch := next(planned, None)):
                    waiting.append(batch)
                if not waiting:
                    break
                self._before_batch()
                self._finish(waiting.popleft())
                yield from self._done()
            if self._second is not None:
                self._second.run()
                yield from self._done()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _planned(self, jobs: Iterator[ImageJob], pool: ThreadPoolExecutor) -> Iterator[_Batch]:
        """Give every person of every job a place in a batch and start cutting the crop there."""
        batch = self._new_batch()
        for job in jobs:
            if job.geometry.input_size_wh != self._spec.input_size_wh:
                problem = (
                    f"cuts {job.geometry.input_size_wh}, the engine {self._spec.input_size_wh}"
                )
                raise InputError("job.geometry", problem, "Use the engine's input_size_wh")
            picture = _Picture(job, self._spec.joints)
            self._pictures.append(picture)
            batch.pictures += 1
            first, persons = 0, len(job.geometry)
            while first < persons:
                last = min(persons, first + self._batch_size - batch.count)
                self._place(batch, picture, slice(first, last), pool)
                first = last
                if batch.count == self._batch_size:
                    yield batch
                    batch = self._new_batch()
            if batch.pictures >= PICTURES_PER_BATCH:
                yield batch
                batch = self._new_batch()
        if batch.pictures or self._pictures:
            yield batch

    def _new_batch(self) -> _Batch:
        if self._buffers:
            return _Batch(self._buffers.pop())
        return _Batch(np.empty((self._batch_size, *self._spec.input_size_hw, 3), np.uint8))

    def _place(
        self, batch: _Batch, picture: _Picture, persons: slice, pool: ThreadPoolExecutor
    ) -> None:
        place = slice(batch.count, batch.count + persons.stop - persons.start)
        crops = batch.crops_nhwc[place]
        cutting = pool.submit(picture.cut, self._read, persons, crops)
        batch.parts.append(_Part(picture, persons, place, cutting))
        batch.count = place.stop

    def _finish(self, batch: _Batch) -> None:
        """Wait for the crops, run the engine and hand its output to the pictures."""
        readable = np.ones(batch.count, np.bool_)
        for part in batch.parts:
            part.cutting.result()
            readable[part.place] = part.picture.error is None
        kept, output = self._run(batch.crops_nhwc[: batch.count], np.flatnonzero(readable))
        row = np.full(batch.count, -1, np.intp)
        row[kept] = np.arange(len(kept))
        in_doubt = np.zeros(batch.count, np.bool_)
        if output is not None and output.second_pass is not None:
            in_doubt[kept] = output.second_pass
        for part in batch.parts:
            picture, rows = part.picture, row[part.place]
            picture.unfinished -= int((~in_doubt[part.place]).sum())
            lost = np.flatnonzero(rows < 0)
            if len(lost):
                picture.not_finite.extend((lost + part.persons.start).tolist())
            elif output is not None:
                picture.keypoints_heatmap[part.persons] = output.keypoints_heatmap[rows]
                picture.scores[part.persons] = output.scores[rows]
        if self._second is not None:
            self._second.add(batch, output, kept)
        self._buffers.append(batch.crops_nhwc)

    def _run(
        self, crops_nhwc: NDArray[np.uint8], indices: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], EngineOutput | None]:
        """Run the crops at ``indices``, without those that the engine gives NaN for.

        Returns the indices that remain, with their output.
        """
        while len(indices):
            chosen = crops_nhwc if len(indices) == len(crops_nhwc) else crops_nhwc[indices]
            try:
                if self._second is not None:
                    return indices, self._second.first(chosen)
                return indices, self._engine.run(chosen)
            except NonFiniteOutput as fault:
                indices = np.delete(indices, fault.indices)
        return indices, None

    def _done(self) -> Iterator[ImagePoses]:
        """Results of the pictures that are finished and whose predecessors are."""
        while self._pictures and self._pictures[0].unfinished == 0:
            yield self._pictures.popleft().result(self._spec.heatmap_size_wh)
