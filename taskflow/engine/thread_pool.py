"""The threads of a process in which blocking user code runs: few, reused, and told apart from the loop's own. Rules S3.1, S6.3.

Waking a thread costs more than most steps, and so does waking the loop. So a call is queued, and one thread is woken; before it
begins, it wakes the next while calls are left. A thread that blocks lets that one go on beside it. One that does not keeps Python's
lock, has all the calls done before the next has come to, and then the loop is woken once for all of them.

Of the threads that rest, the one that ran last goes on first: what it keeps in thread-locals, a connection to a database say, is
the freshest. One that has rested for long ends.
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

IDLE_S = 30.0  # a thread that has had nothing to do for so long ends


class Call(NamedTuple):
    """User code that is to run in a thread, and who waits for it on the loop."""

    future: asyncio.Future[Any]
    context: Context
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class ThreadPool:
    """`call` and `close` are for the loop's thread.

    What threads share is a deque, a list, a set and flags that one operation of Python reads or changes. A thread may be woken in
    vain; that no call is left lying follows from the order: a call is queued before `is_waking` is read, and that is cleared before
    the queue is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, max_threads: int, idle_s: float = IDLE_S) -> None:
        self.loop = loop
        self.max_threads = max_threads
        self.idle_s = idle_s
        self.calls: deque[Call] = deque()
        # of those that have run, with a result or an error
        self.ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self.threads: set[PoolThread] = set()
        # those that wait for a call, the one that ran last at the end
        self.idle: list[PoolThread] = []
        # a thread is on its way to the queue
        self.is_waking = False
        # the loop is on its way to what has ended
        self.is_told = False
        self.is_closed = False

    def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> asyncio.Future[Any]:
        """Run blocking code in a thread, with the caller's context variables. A call that is cancelled before does not begin.

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
        """Have one more thread look at the queue, unless all that there may be are at work: these look when they are through."""
        self.is_waking = True
        try:
            thread = self.idle.pop()
        except IndexError:
            if len(self.threads) < self.max_threads and self.start():
                return
            self.is_waking = False
            if self.idle and self.calls:  # one that came to rest meanwhile saw that somebody was being woken
                self.wake()
        else:
            thread.wake.release()

    def start(self) -> bool:
        """Start a thread. False when the system has none left, and others are at work here; without those, RuntimeError."""
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
        """The next call, for a thread; another one is woken when there are more."""
        try:
            call = self.calls.popleft()
        except IndexError:
            return None
        if self.calls and not self.is_waking:
            self.wake()
        return call

    def give(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """What a call came to, from its thread."""
        self.ended.append((future, result, error))
        if self.is_told:
            return
        self.is_told = True
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        """On the loop: those who wait get what their calls came to."""
        self.is_told = False
        while self.ended:
            future, result, error = self.ended.popleft()
            if future.done():  # cancelled
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def close(self) -> None:
        """Begin no call any more. Threads that are at work end after it, and hold up nobody until then."""
        self.is_closed = True
        while self.calls:
            self.calls.popleft().future.cancel()
        while self.idle:
            self.idle.pop().wake.release()


class PoolThread(threading.Thread):
    """One thread. A daemon: it is user code that it waits for, and the end of a process is not to hang on that."""

    def __init__(self, pool: ThreadPool) -> None:
        super().__init__(name=f"taskflow-user-{len(pool.threads)}", daemon=True)
        self.pool = pool
        # held while the thread rests
        self.wake = threading.Lock()
        self.wake.acquire()

    def run(self) -> None:
        pool = self.pool
        while True:
            pool.is_waking = False
            while (call := pool.take()) is not None:
                self.execute(*call)
                call = None  # neither what it was given nor what it gave outlives it here
            if pool.is_closed or not self.rest():
                break
        pool.threads.discard(self)
        if pool.calls and not pool.is_waking:  # a call found that there were as many threads as there may be
            pool.wake()

    def rest(self) -> bool:
        """Wait to be woken; False when this took so long that the thread is to end."""
        pool = self.pool
        pool.idle.append(self)
        # What came or ended since the last look saw no thread at rest.
        if (pool.calls and not pool.is_waking) or pool.is_closed:
            return self.leave_idle() or self.wake.acquire()
        return self.wake.acquire(timeout=pool.idle_s) or (not self.leave_idle() and self.wake.acquire())

    def leave_idle(self) -> bool:
        """False when somebody has just chosen this thread, and wakes it."""
        try:
            self.pool.idle.remove(self)
        except ValueError:
            return False
        return True

    def execute(
        self, future: asyncio.Future[Any], context: Context, fn: Callable[..., Any], args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Run one call. What is to be done in its thread after each belongs here, before the loop hears of it."""
        try:
            if not future.cancelled():
                self.pool.give(future, context.run(fn, *args, **kwargs), None)
        except BaseException as error:
            self.pool.give(future, None, carried(error))
        finally:
            # The frames of an error lead here: through the future to the error again, a cycle.
            del future, context, fn, args, kwargs


def carried(error: BaseException) -> BaseException:
    """The error as a future can carry it: what a future refuses, or a loop would end by, as `Raised`."""
    if isinstance(error, (Suspend, asyncio.CancelledError)):
        return error
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    raised = Raised(error)
    raised.__cause__ = error
    return raised
