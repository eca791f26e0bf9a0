"""Several devices as one engine: a worker process for each, every batch shared among them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrnet_deploy.engines import (
    Engine,
    EngineInfo,
    EngineOutput,
    NonFiniteOutput,
    joined,
    load_engine,
)
from hrnet_deploy.engines.cpu import physical_cores
from hrnet_deploy.errors import DeployError, EnvironmentFault, GateError, InputError, Subject
from hrnet_deploy.spec import ModelSpec

ANSWER_SECONDS = 600.0
"""A worker that says nothing for so long is given up; loading a large plan takes a minute."""

STOP_SECONDS = 10.0

_KINDS: dict[int, type[DeployError]] = {1: GateError, 2: InputError, 3: EnvironmentFault}
_AGAIN = "Run the same command again to go on, without that device if it recurs"


def parse_devices(text: str) -> tuple[str, ...]:
    """``"0,1"`` -> ("cuda:0", "cuda:1"); "cpu" and "cuda:N" stay as they are (InputError)."""
    devices = tuple(
        f"cuda:{part.strip()}" if part.strip().isdecimal() else part.strip()
        for part in text.split(",")
    )
    if not all(devices):
        raise InputError("devices", f"is '{text}'", "Give a list such as 0,1 or cpu,cpu")
    gpus = [device for device in devices if device != "cpu"]
    if len(set(gpus)) < len(gpus):
        raise InputError("devices", f"names a GPU twice in '{text}'", "Name each GPU once")
    return devices


class PoolEngine(Engine):
    """One engine file on several devices. A call is split into equal parts, one for each.

    The result is in the order of the crops, whatever the devices. A worker that dies or falls
    silent is an EnvironmentFault and closes the pool. Not safe for concurrent calls.
    """

    def __init__(self, workers: Sequence[Worker], spec: ModelSpec, info: EngineInfo) -> None:
        super().__init__(spec, info, None)
        self._workers = tuple(workers)

    def _infer(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        try:
            return self._shared_out(crops_nhwc, heatmaps=heatmaps)
        except NonFiniteOutput:
            raise
        except BaseException:
            self.close()  # answers may be outstanding: the workers cannot be used again
            raise

    def _shared_out(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> EngineOutput:
        """Start every part, then take every answer."""
        count = min(len(self._workers), len(crops_nhwc))
        edges = np.linspace(0, len(crops_nhwc), count + 1).round().astype(int).tolist()
        busy = list(zip(self._workers[:count], edges[:-1], edges[1:], strict=True))
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

    def _release(self) -> None:
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop()


def load_pool(
    path: Subject, devices: Sequence[str], *, threads: int | None = None, **options: Any
) -> PoolEngine:
    """Load ``path`` on each of ``devices``, all at the same time.

    ``options`` are those of ``load_engine``. CPU workers share the cores unless ``threads`` says
    how many each gets. Raises what the first failing worker raised.
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
    spec, first = loaded[0]
    info = EngineInfo(
        backend=first.backend,
        device=",".join(info.device for _, info in loaded),
        path=first.path,
        sha256=first.sha256,
        precision=first.precision,
        versions=first.versions,
    )
    return PoolEngine(workers, spec, info)


class Worker:
    """A process with one engine; crops go there through shared memory."""

    def __init__(self, path: Subject, device: str, options: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._device, self._path = device, path
        self._connection, theirs = context.Pipe()
        self._memory: SharedMemory | None = None
        self._process = context.Process(
            target=_work, args=(theirs, str(path), device, options), daemon=True
        )
        self._process.start()
        theirs.close()

    def loaded(self) -> tuple[ModelSpec, EngineInfo]:
        """Wait until the engine is loaded; what it says about itself."""
        text, info = self._take()
        return ModelSpec.from_json(text, source=self._path), info

    def start(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> None:
        """Hand over a part of a batch."""
        memory = self._reserve(crops_nhwc.nbytes)
        shared: NDArray[np.uint8] = np.ndarray(crops_nhwc.shape, np.uint8, memory.buf)
        shared[...] = crops_nhwc
        try:
            self._connection.send((memory.name, crops_nhwc.shape, heatmaps))
        except OSError as error:
            raise self._died() from error

    def answer(self) -> EngineOutput:
        """Wait for the poses of the part."""
        return EngineOutput(*self._take())

    def ask_to_stop(self) -> None:
        """Tell the process to end, if it still listens."""
        try:
            self._connection.send(None)
        except OSError:
            return

    def stop(self) -> None:
        """End the process, by force if need be, and free the shared memory."""
        self.ask_to_stop()
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()
        self._free()

    def _reserve(self, size: int) -> SharedMemory:
        if self._memory is None or self._memory.size < size:
            self._free()
            self._memory = SharedMemory(create=True, size=max(1, size))
        return self._memory

    def _free(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory.unlink()
            self._memory = None

    def _take(self) -> tuple[Any, ...]:
        """The next answer; what went wrong over there goes on here."""
        ready = wait([self._connection, self._process.sentinel], ANSWER_SECONDS)
        if self._connection in ready:
            try:
                kind, *values = self._connection.recv()
            except (EOFError, OSError) as error:
                raise self._died() from error
            if kind == "done":
                return tuple(values)
            if kind == "not finite":
                raise NonFiniteOutput(self._path, *values)
            code, subject, problem, fix = values
            raise _KINDS.get(code, EnvironmentFault)(subject, problem, fix)
        if not ready:
            problem = f"its worker process gave no answer for {ANSWER_SECONDS:.0f} s"
            self._process.kill()
            raise EnvironmentFault(self._device, problem, _AGAIN)
        raise self._died()

    def _died(self) -> EnvironmentFault:
        self._process.join(STOP_SECONDS)
        code = self._process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return EnvironmentFault(self._device, f"its worker process died ({how})", _AGAIN)


def _work(connection: Connection, path: str, device: str, options: dict[str, Any]) -> None:
    """The worker's life: load, then answer until None comes or the other end is gone."""
    # Ctrl-C goes to the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with load_engine(path, device=device, **options) as engine, closing(_Crops()) as crops:
            connection.send(("done", engine.spec.to_json(), engine.info))
            while (request := connection.recv()) is not None:
                connection.send(_answered(engine, crops, *request))
    except DeployError as error:
        connection.send(_told(error))
    except (EOFError, BrokenPipeError):
        return


class _Crops:
    """The parent's memory as a worker sees it.

    It stays mapped from batch to batch: touching a fresh mapping costs eight times the copy.
    """

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None

    def see(self, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The crops that lie in memory ``name`` now."""
        if self._memory is None or self._memory.name != name:
            self.close()
            self._memory = SharedMemory(name=name)
        return np.ndarray(shape, np.uint8, self._memory.buf)

    def close(self) -> None:
        """Give the mapping back; nothing may look at it any more."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _answered(
    engine: Engine, crops: _Crops, name: str, shape: tuple[int, ...], heatmaps: bool
) -> tuple[Any, ...]:
    try:
        output = engine.run(crops.see(name, shape), heatmaps=heatmaps)
        return ("done", output.keypoints_heatmap, output.scores, output.heatmaps_nkhw)
    except NonFiniteOutput as error:
        return ("not finite", error.indices, shape[0])
    except DeployError as error:
        return _told(error)


def _told(error: DeployError) -> tuple[Any, ...]:
    return ("failed", error.exit_code, error.subject, error.problem, error.fix)
