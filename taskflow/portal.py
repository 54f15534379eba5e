"""LoopThread: an event loop in a thread of its own, on which sync code has coroutines run."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread. The thread starts at the first use; a forked process gets a new one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.pid = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether this process has the thread."""
        return self.loop is not None and self.pid == os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether this code runs on that thread."""
        return threading.current_thread() is self.thread

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop and wait for its result. Raises RuntimeError on the loop's own thread: it would deadlock."""
        if self.is_current:
            raise RuntimeError(
                "a sync method of the app was called on the app's own loop; await its async twin instead"
            )
        return asyncio.run_coroutine_threadsafe(make(), self.started_loop()).result()

    def started_loop(self) -> asyncio.AbstractEventLoop:
        if self.loop is not None and self.pid == os.getpid():
            return self.loop
        with self.lock:
            if self.loop is None or self.pid != os.getpid():
                loop = asyncio.new_event_loop()
                self.thread = threading.Thread(target=loop.run_forever, name=self.name, daemon=True)
                self.thread.start()
                self.loop, self.pid = loop, os.getpid()
            return self.loop

    def stop(self) -> None:
        """End the thread; the next `run` starts a new one."""
        with self.lock:
            loop, thread, self.loop, self.thread = self.loop, self.thread, None, None
            if loop is None or thread is None or self.pid != os.getpid():
                return
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
