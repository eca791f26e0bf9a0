"""Work beside an event loop: iterators for ``async for``, and the other way round."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


async def stream(
    items: Iterable[Item], *, leave: Callable[[], None] = lambda: None
) -> AsyncGenerator[Item]:
    """The same items for ``async for``: one thread makes them, the event loop goes on.

    Leaving early closes ``items`` once the item at hand is made; ``leave`` is called first, to
    end whatever that item waits for.
    """
    loop, end = asyncio.get_running_loop(), object()
    iterator = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="hrnet-deploy-stream")
    try:
        while (item := await loop.run_in_executor(thread, next, iterator, end)) is not end:
            yield item  # type: ignore[misc]
    finally:
        leave()
        # In the same thread, so that an iterator that is still at work is not closed under it.
        if (close := getattr(iterator, "close", None)) is not None:
            closing = loop.run_in_executor(thread, close)
            thread.shutdown(wait=False)
            await closing
        thread.shutdown(wait=False)


class Bridge(Iterator[Item]):
    """The items of an asynchronous iterable, for a thread beside the event loop that runs here.

    ``stop``, called in the event loop, ends it, also while the thread waits for an item.
    """

    def __init__(self, items: AsyncIterable[Item]) -> None:
        self._loop, self._items = asyncio.get_running_loop(), aiter(items)
        self._lock = threading.Lock()
        self._waiting: Future[Item] | None = None
        self._stopped = False

    def __next__(self) -> Item:
        with self._lock:
            if self._stopped:
                raise StopIteration
            self._waiting = asyncio.run_coroutine_threadsafe(self._following(), self._loop)
        try:
            return self._waiting.result()
        except StopAsyncIteration:
            raise StopIteration from None
        except CancelledError:
            if not self._stopped:
                raise
            raise StopIteration from None

    def stop(self) -> None:
        """No more items; what is waited for is cancelled."""
        with self._lock:
            self._stopped = True
            if self._waiting is not None:
                self._waiting.cancel()

    async def _following(self) -> Item:
        return await anext(self._items)
