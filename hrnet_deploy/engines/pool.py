"""Several devices as one engine: a worker process for each, every batch shared among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import Engine, EngineInfo, EngineOutput, NonFiniteOutput, joined
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.engines.cuda.frames import check_crops, checked_frame
from hrnet_deploy.engines.pool_memory import FrameBatch
from hrnet_deploy.engines.pool_worker import UNDERWAY, Worker
from hrnet_deploy.errors import InputError, Subject, check_count
from hrnet_deploy.spec import ModelSpec


def parse_devices(text: str) -> tuple[str, ...]:
    """``"0,1"`` -> ("cuda:0", "cuda:1"); "cuda" is the first GPU, "cpu" stays (InputError)."""
    devices = tuple(_device_name(part.strip()) for part in text.split(","))
    if not all(devices):
        raise InputError("devices", f"is '{text}'", "Give a list such as 0,1 or cpu,cpu")
    gpus = [device for device in devices if device != "cpu"]
    if len(set(gpus)) < len(gpus):
        raise InputError("devices", f"names a GPU twice in '{text}'", "Name each GPU once")
    return devices


def _device_name(word: str) -> str:
    """``0``, ``cuda``, ``cuda:0`` and ``cuda:00`` are one device, ``cuda:0``."""
    number = "0" if word == "cuda" else word.removeprefix("cuda:")
    return f"cuda:{int(number)}" if number.isascii() and number.isdecimal() else word


class PoolEngine(Engine):
    """One engine file on several devices. A call is split into equal parts, one for each.

    The result is in the order of the crops, whatever the devices. A worker that dies or falls
    silent is an EnvironmentFault and closes the pool. Not safe for concurrent calls.
    """

    def __init__(self, workers: Sequence[Worker], spec: ModelSpec, info: EngineInfo) -> None:
        super().__init__(spec, info, None)
        self._workers = tuple(workers)

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        """Start every part, then take every answer."""
        with self._closed_by_errors():
            busy = list(self._shares(len(crops_nhwc)))
            for worker, first, last in busy:
                worker.start(crops_nhwc[first:last], heatmaps=heatmaps)
            outputs: list[EngineOutput] = []
            lost: list[int] = []
            for worker, first, _ in busy:
                try:
                    outputs.append(worker.answer())
                except NonFiniteOutput as error:
                    lost += (error.indices + first).tolist()
            if lost:
                raise NonFiniteOutput(self.info.path, np.array(lost, np.intp), len(crops_nhwc))
            return joined(outputs)

    def _shares(self, count: int) -> Iterator[tuple[Worker, int, int]]:
        """Who takes which of ``count`` crops: worker, first and behind the last."""
        busy = min(len(self._workers), count)
        edges = np.linspace(0, count, busy + 1).round().astype(int).tolist()
        return zip(self._workers[:busy], edges[:-1], edges[1:], strict=True)

    @contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        """Answers may be outstanding after an error: the workers cannot be used again."""
        try:
            yield
        except NonFiniteOutput:
            raise
        except BaseException:
            self.close()
            raise

    def _release(self) -> None:
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop()


class PendingFrames:
    """A batch on its way; ``output`` is set once it arrived, also where it has NaN in it."""

    def __init__(self, pool: FramePool, workers: Sequence[Worker], count: int) -> None:
        self._pool = pool
        self.workers = workers
        self.count = count
        self.output: EngineOutput | None = None

    def result(self) -> EngineOutput:
        """The poses, in the order of the crops. Raises where a worker failed or gave NaN."""
        return self._pool.collect(self)


class FramePool(PoolEngine):
    """A pool whose workers cut the crops themselves, on their GPUs."""

    def __init__(self, workers: Sequence[Worker], spec: ModelSpec, info: EngineInfo) -> None:
        super().__init__(workers, spec, info)
        self.gpus = len(workers)
        self._underway: deque[PendingFrames] = deque()

    def submit_frames(
        self,
        frames_bgr: Sequence[NDArray[np.uint8]],
        image_to_input: NDArray[np.float64],
        frame_of_crop: NDArray[np.integer],
        *,
        heatmaps: bool = False,
    ) -> PendingFrames:
        """Start a batch of any number of persons; see ``TensorRTEngine.submit_frames``.

        Frames are in host memory. Each worker gets those that its share of the persons is on.
        Two batches are underway at a time: a third one waits for the first.
        """
        self._check_open(heatmaps)
        count = check_count("crops", len(frame_of_crop))
        check_crops(frames_bgr, image_to_input, frame_of_crop)
        frames = [checked_frame(frame, index) for index, frame in enumerate(frames_bgr)]
        batch = FrameBatch(frames, image_to_input, frame_of_crop)
        with self._closed_by_errors():
            if len(self._underway) == UNDERWAY:
                self._fetch()
            shares = list(self._shares(count))
            for worker, first, last in shares:
                worker.start_frames(batch.part(first, last), heatmaps=heatmaps)
            pending = PendingFrames(self, [worker for worker, _, _ in shares], count)
            self._underway.append(pending)
        return pending

    def collect(self, pending: PendingFrames) -> EngineOutput:
        """Wait for ``pending``, and those before it, and check its result."""
        with self._closed_by_errors():
            while pending.output is None:
                self._fetch()
        self._check_output(pending.output, pending.count)
        return pending.output

    def _fetch(self) -> None:
        """Take the oldest batch from all its workers."""
        if not self._underway:
            raise InputError(self.info.path, "engine is closed", "Load it again")
        oldest = self._underway.popleft()
        for worker in oldest.workers:
            worker.collect_frames()
        oldest.output = joined([worker.answer() for worker in oldest.workers])

    def _release(self) -> None:
        self._underway.clear()
        super()._release()


def load_pool(
    path: Subject, devices: Sequence[str], *, threads: int | None = None, **options: Any
) -> PoolEngine:
    """Load ``path`` on each of ``devices``, all at the same time.

    ``options`` are those of ``load_engine``. CPU workers share the cores unless ``threads`` says
    how many each gets. Where every engine takes frames, so does the pool. Raises what the first
    failing worker raised.
    """
    share = threads or max(1, physical_cores() // max(1, list(devices).count("cpu")))
    workers: list[Worker] = []
    try:
        for device in devices:
            own = share if device == "cpu" else threads
            workers.append(Worker(path, device, {"threads": own, **options}))
        loaded = [worker.loaded() for worker in workers]
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    spec, first, _ = loaded[0]
    info = EngineInfo(
        backend=first.backend,
        device=",".join(info.device for _, info, _ in loaded),
        path=first.path,
        sha256=first.sha256,
        precision=first.precision,
        versions=first.versions,
    )
    kind = FramePool if all(takes_frames for _, _, takes_frames in loaded) else PoolEngine
    return kind(workers, spec, info)
