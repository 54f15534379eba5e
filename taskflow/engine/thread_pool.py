"""ThreadPool: the threads in which a process runs blocking user code; few, reused, and not the loop's own. Rules S3.1, S6.3.

Waking a thread costs more than most steps, and so does waking the loop. So a call is queued, and one thread is woken; before that
begins a call, it wakes the next thread if more calls are queued. If the first thread blocks, the next one goes on beside it. If
not, it keeps Python's lock and has done all calls before the next thread runs, and then the loop is woken once for all of them.

Of the resting threads the one that ran last goes on first: its thread-locals, a connection to a database for example, are the
freshest. A thread that has rested for long ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from taskflow.errors import Suspend
from taskflow.observability.failures import Raised

IDLE_S = 30.0  # a thread without work for this long ends


class Call(NamedTuple):
    """User code that is to run in a thread, and the future that gets its result on the loop."""

    future: asyncio.Future[Any]
    context: Context
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class ThreadPool:
    """Runs calls in threads. `call` and `close` are for the loop's thread.

    The threads share a deque, a list, a set and flags, each of which one Python operation reads or changes. A thread may be woken
    in vain, but no call is forgotten: a call is queued before `is_waking` is read, and a thread clears `is_waking` before it reads
    the queue.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, max_threads: int, idle_s: float = IDLE_S) -> None:
        self.loop = loop
        self.max_threads = max_threads
        self.idle_s = idle_s
        self.calls: deque[Call] = deque()
        # calls that have run: their future, and their result or error
        self.ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self.threads: set[PoolThread] = set()
        # threads that wait for a call; the one that ran last is at the end
        self.idle: list[PoolThread] = []
        # whether a woken thread has not read the queue yet
        self.is_waking = False
        # whether the loop was woken and has not read `ended` yet
        self.is_told = False
        self.is_closed = False

    def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> asyncio.Future[Any]:
        """Run blocking code in a thread, with the caller's context variables. A call that is cancelled before it begins is skipped.

        Raises RuntimeError when the system has no thread left, and there is none here.
        """
        future: asyncio.Future[Any] = self.loop.create_future()
        self.calls.append(Call(future, copy_context(), fn, args, kwargs))
        if not self.is_waking:
            try:
                self.wake()
            except RuntimeError:
                self.calls.pop()
                raise
        return future

    def wake(self) -> None:
        """Have one more thread read the queue. If all allowed threads are at work, they read it after their present call."""
        self.is_waking = True
        try:
            thread = self.idle.pop()
        except IndexError:
            if len(self.threads) < self.max_threads and self.start():
                return
            self.is_waking = False
            # a thread that came to rest meanwhile thought that another one was being woken
            if self.idle and self.calls:
                self.wake()
        else:
            thread.wake.release()

    def start(self) -> bool:
        """Start a thread; False if the system has none left. Raises RuntimeError if there is then no thread at all."""
        thread = PoolThread(self)
        self.threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self.threads.discard(thread)
            self.is_waking = False
            if not self.threads:
                raise
            return False
        return True

    def take(self) -> Call | None:
        """Take the next call, for a thread; wake another thread if there are more."""
        try:
            call = self.calls.popleft()
        except IndexError:
            return None
        if self.calls and not self.is_waking:
            self.wake()
        return call

    def give(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """Pass on the result or error of a call, from its thread."""
        self.ended.append((future, result, error))
        if self.is_told:
            return
        self.is_told = True
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            self.loop.call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        """On the loop: set the results of the calls that have ended."""
        self.is_told = False
        while self.ended:
            future, result, error = self.ended.popleft()
            if future.done():  # cancelled
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    @property
    def at_work(self) -> list[asyncio.Future[Any]]:
        """The futures of the calls that run now. One that is cancelled is of a thread for which nobody waits any more."""
        return [future for thread in list(self.threads) if (future := thread.future) is not None]

    def close(self) -> None:
        """Begin no more calls. Threads at work end after their present call; nobody waits for them."""
        self.is_closed = True
        while self.calls:
            self.calls.popleft().future.cancel()
        while self.idle:
            self.idle.pop().wake.release()


class PoolThread(threading.Thread):
    """A thread of the pool. It is a daemon, so that the end of the process does not wait for user code."""

    def __init__(self, pool: ThreadPool) -> None:
        super().__init__(name=f"taskflow-user-{len(pool.threads)}", daemon=True)
        self.pool = pool
        # of the call that it runs
        self.future: asyncio.Future[Any] | None = None
        # held while the thread rests
        self.wake = threading.Lock()
        self.wake.acquire()

    def run(self) -> None:
        pool = self.pool
        while True:
            pool.is_waking = False
            while (call := pool.take()) is not None:
                self.execute(*call)
                call = None  # keep neither the arguments nor the result of the call
            if pool.is_closed or not self.rest():
                break
        pool.threads.discard(self)
        if pool.calls and not pool.is_waking:  # a call came while all allowed threads were at work
            pool.wake()

    def rest(self) -> bool:
        """Wait to be woken; False if that took so long that the thread has to end."""
        pool = self.pool
        pool.idle.append(self)
        # A call or a close since the last look saw no resting thread, so look once more.
        if (pool.calls and not pool.is_waking) or pool.is_closed:
            return self.leave_idle() or self.wake.acquire()
        return self.wake.acquire(timeout=pool.idle_s) or (not self.leave_idle() and self.wake.acquire())

    def leave_idle(self) -> bool:
        """Rest no more; False if this thread was just chosen to be woken."""
        try:
            self.pool.idle.remove(self)
        except ValueError:
            return False
        return True

    def execute(
        self, future: asyncio.Future[Any], context: Context, fn: Callable[..., Any], args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Run one call. Work that has to follow each call in its thread belongs here, before the loop is told."""
        try:
            if not future.cancelled():
                self.future = future
                self.pool.give(future, context.run(fn, *args, **kwargs), None)
        except BaseException as error:
            self.pool.give(future, None, carried(error))
        finally:
            # The frames of an error refer to this one, and the future to the error: without this, a cycle.
            self.future = None
            del future, context, fn, args, kwargs


def carried(error: BaseException) -> BaseException:
    """The error in a form that a future can carry: as `Raised` if a future refuses it, or if it would end the loop."""
    if isinstance(error, (Suspend, asyncio.CancelledError)):
        return error
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    raised = Raised(error)
    raised.__cause__ = error
    return raised
