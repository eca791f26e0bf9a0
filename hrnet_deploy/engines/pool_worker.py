"""One worker of a pool: a process with an engine, and the parent's end of it.

Requests are small, since everything large lies in shared memory; the process sends one answer for
each that asks for one, and nothing unasked, so that neither side ever waits for the other to read.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection, wait
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
from hrnet_deploy.engines.pool_memory import Area, FrameBatch, Mappings
from hrnet_deploy.errors import DeployError, EnvironmentFault, GateError, InputError, Subject
from hrnet_deploy.spec import ModelSpec

ANSWER_SECONDS = 600.0
"""A worker that says nothing for so long is given up; loading a large plan takes a minute."""

STOP_SECONDS = 10.0

UNDERWAY = 2
"""Batches of frames that a worker has at a time: one is computed while the next one comes."""

_CROPS = UNDERWAY
"""The number of the area with crops; those before it hold frames."""

_KINDS: dict[int, type[DeployError]] = {1: GateError, 2: InputError, 3: EnvironmentFault}
_AGAIN = "Run the same command again to go on, without that device if it recurs"
_GUARD = (
    "A program asks for several devices under if __name__ == '__main__':, since each of their"
    " processes imports it"
)

Answer = tuple[Any, ...]


class Worker:
    """The parent's end; crops and frames go over through shared memory."""

    def __init__(self, path: Subject, device: str, options: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._device, self._path = device, path
        self._connection, theirs = context.Pipe()
        self._areas = [Area() for _ in range(UNDERWAY + 1)]
        self._turn = 0
        self._loaded = False
        self._process = context.Process(
            target=_work, args=(theirs, str(path), device, options), daemon=True
        )
        self._process.start()
        theirs.close()

    def loaded(self) -> tuple[ModelSpec, EngineInfo, bool]:
        """Wait until the engine is loaded; what it says of itself, and whether it takes frames."""
        text, info, takes_frames = self._take()
        self._loaded = True
        return ModelSpec.from_json(text, source=self._path), info, takes_frames

    def start(self, crops_nhwc: NDArray[np.uint8], *, heatmaps: bool) -> None:
        """Hand over a part of a batch; ``answer`` gives its poses."""
        memory = self._areas[_CROPS].reserve(crops_nhwc.nbytes)
        shared: NDArray[np.uint8] = np.ndarray(crops_nhwc.shape, np.uint8, memory.buf)
        shared[...] = crops_nhwc
        self._send("crops", memory.name, crops_nhwc.shape, heatmaps)

    def start_frames(self, batch: FrameBatch, *, heatmaps: bool) -> None:
        """Hand over frames; ``collect_frames`` and ``answer`` give the poses of the oldest.

        At most ``UNDERWAY`` may be on their way.
        """
        area, self._turn = self._turn, (self._turn + 1) % UNDERWAY
        memory = self._areas[area].reserve(batch.nbytes)
        batch.write(memory)
        self._send("frames", area, memory.name, len(batch), len(batch.frames_bgr), heatmaps)

    def collect_frames(self) -> None:
        """Ask for the poses of the oldest frames underway."""
        self._send("collect")

    def answer(self) -> EngineOutput:
        """Wait for the poses that were asked for; those of frames may have NaN in them."""
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
        for area in self._areas:
            area.free()

    def _send(self, *request: Any) -> None:
        try:
            self._connection.send(request)
        except OSError as error:
            raise self._died() from error

    def _take(self) -> Answer:
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
        fix = _GUARD if code == 1 and not self._loaded else _AGAIN
        return EnvironmentFault(self._device, f"its worker process died ({how})", fix)


def _work(connection: Connection, path: str, device: str, options: dict[str, Any]) -> None:
    """The worker's life: load, then answer until None comes or the other end is gone."""
    # Ctrl-C goes to the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with (
            closing(Mappings()) as mappings,
            load_engine(path, device=device, **options) as engine,
        ):
            takes_frames = hasattr(engine, "submit_frames")
            connection.send(("done", engine.spec.to_json(), engine.info, takes_frames))
            _serve(connection, engine, mappings)
    except DeployError as error:
        connection.send(_told(error))
    except (EOFError, BrokenPipeError):
        return


def _serve(connection: Connection, engine: Engine, mappings: Mappings) -> None:
    underway: deque[Callable[[], Answer]] = deque()
    while (request := connection.recv()) is not None:
        kind, *values = request
        if kind == "frames":
            underway.append(_submitted(engine, mappings, *values))
        elif kind == "collect":
            connection.send(underway.popleft()())
        else:
            connection.send(_ran(engine, mappings, *values))


def _ran(
    engine: Engine, mappings: Mappings, name: str, shape: tuple[int, ...], heatmaps: bool
) -> Answer:
    """The answer for crops."""
    crops: NDArray[np.uint8] = np.ndarray(shape, np.uint8, mappings.see(_CROPS, name).buf)
    try:
        return _done(engine.run(crops, heatmaps=heatmaps))
    except NonFiniteOutput as error:
        return ("not finite", error.indices, shape[0])
    except DeployError as error:
        return _told(error)


def _submitted(
    engine: Any, mappings: Mappings, area: int, name: str, crops: int, frames: int, heatmaps: bool
) -> Callable[[], Answer]:
    """Start frames, in batches that the engine takes; the call that waits for their answer."""
    batch = FrameBatch.read(mappings.see(area, name), crops, frames)
    try:
        pending = [
            engine.submit_frames(
                part.frames_bgr, part.image_to_input, part.frame_of_crop, heatmaps=heatmaps
            )
            for part in batch.split(engine.max_batch or crops)
        ]
    except DeployError as error:
        told = _told(error)
        return lambda: told
    return lambda: _collected(pending)


def _collected(pending: list[Any]) -> Answer:
    try:
        return _done(joined([_whatever_came(batch) for batch in pending]))
    except DeployError as error:
        return _told(error)


def _whatever_came(pending: Any) -> EngineOutput:
    """The poses of a batch. The parent looks for NaN, since it knows the whole call."""
    try:
        output: EngineOutput = pending.result()
    except NonFiniteOutput:
        output = pending.output
    return output


def _done(output: EngineOutput) -> Answer:
    return ("done", output.keypoints_heatmap, output.scores, output.heatmaps_nkhw)


def _told(error: DeployError) -> Answer:
    return ("failed", error.exit_code, error.subject, error.problem, error.fix)
