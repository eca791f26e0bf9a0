"""Work ahead in threads: the next frames are read while the engine works on these."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from hrnet_deploy.closing import Closing

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_SECONDS = 0.2
"""How often a waiting thread looks whether it is still wanted."""


def mapped_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Iterator[Result]:
    """``function`` of each item in order, at most ``ahead`` of them before they are asked for.

    An exception of ``function`` surfaces in its place. Closing the iterator joins the threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="hrnet-deploy-read")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def produced_ahead(items: Callable[[], Iterator[Item]], *, ahead: int) -> Iterator[Item]:
    """The items of one iterator that runs in a thread of its own, at most ``ahead`` in advance."""
    box: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> bool:
        while not stop.is_set():
            try:
                box.put((item, error), timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        iterator = items()
        try:
            for item in iterator:
                if not put(item, None):
                    break
            else:
                put(None, None)
        except BaseException as error:  # noqa: BLE001 - raised again where the items are used
            put(None, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="hrnet-deploy-decode", daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()


class Behind(Closing):
    """Runs calls in order in one thread, at most ``limit`` of them behind; errors surface here."""

    def __init__(self, *, limit: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hrnet-deploy-write")
        self._waiting: deque[Future[None]] = deque()
        self._limit = limit

    def __call__(self, function: Callable[[Item], None], item: Item) -> None:
        """Call ``function(item)`` soon; waits while too many calls are behind."""
        self._waiting.append(self._pool.submit(function, item))
        while len(self._waiting) > self._limit:
            self._waiting.popleft().result()

    def wait(self) -> None:
        """Until everything is done."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Wait for the last call; after one that fails the rest are left out."""
        try:
            self.wait()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
