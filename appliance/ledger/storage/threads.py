"""Threads for blocking work on a database.

Not concurrent.futures: handing work to one of its threads and back costs five times what this does, and a sale with
nobody else around waits for it twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class StorageThreads:
    """One or more threads that take work from one queue.

    Args:
        count: how many.
        name: their name.
    """

    def __init__(self, count: int, name: str) -> None:
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()
        self._under_way = 0

    @property
    def is_busy(self) -> bool:
        """Whether work was handed in and its result is not back."""
        return self._under_way > 0

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work and return or raise what it does; it is not begun if the caller was cancelled before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._under_way += 1
        self._queue.put((work, arguments, future, loop))
        return await future

    def close(self) -> None:
        """Finish what was handed in, and end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            work, arguments, future, loop = job
            try:
                # Of a call that was given up nobody wants to know any more; commits are never given up.
                result = None if future.cancelled() else work(*arguments)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller
                self._answer(loop, future, None, error)
            else:
                self._answer(loop, future, result, None)

    def _answer(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: Any) -> None:
        try:
            loop.call_soon_threadsafe(self._settle, future, result, error)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return

    def _settle(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        # Whether or not anybody still waits, the thread is free only now.
        self._under_way -= 1
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
