"""Work beside an event loop: iterators for ``async for``, and the other way round."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


async def stream(items: Iterable[Item]) -> AsyncGenerator[Item]:
    """The same items for ``async for``: one thread makes them, the event loop goes on.

    Leaving early closes ``items`` once the item at hand is made.
    """
    loop, end = asyncio.get_running_loop(), object()
    iterator = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="hrnet-deploy-stream")
    try:
        while (item := await loop.run_in_executor(thread, next, iterator, end)) is not end:
            yield item  # type: ignore[misc]
    finally:
        # In the same thread, so that an iterator that is still at work is not closed under it.
        if (close := getattr(iterator, "close", None)) is not None:
            closing = loop.run_in_executor(thread, close)
            thread.shutdown(wait=False)
            await closing
        thread.shutdown(wait=False)


def bridged(items: AsyncIterable[Item]) -> Iterator[Item]:
    """The items of an asynchronous iterable, for a thread beside the event loop that runs here."""
    loop, iterator = asyncio.get_running_loop(), aiter(items)

    async def following() -> Item:
        return await anext(iterator)

    def waited_for() -> Iterator[Item]:
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield asyncio.run_coroutine_threadsafe(following(), loop).result()

    return waited_for()
