"""SimulatedProcess: the event loop of one process, on the virtual clock. It can be paused, and killed between any two callbacks."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, cast

from tests.simulation.world import START_MS, US_PER_S, World

T = TypeVar("T")
Task = asyncio.Task[Any]


# What a process does at all times: it executes a callback, it sends requests to the store, and the store answers while the reply is
# still under way.
Moment = Literal["callback", "request", "reply"]
MOMENTS: tuple[Moment, ...] = ("callback", "request", "reply")


@dataclass(slots=True, eq=False)
class Stroke:
    """What befalls a process at a moment of some kind, after `left` more of them."""

    befall: Callable[[], None]
    moment: Moment
    left: int


class SimulatedProcess(asyncio.AbstractEventLoop):
    """What asyncio needs of a loop, and no more: no threads, no sockets. `connect` is how it reaches the store.

    A killed process keeps its tasks, so that nothing of them ever runs again, not even a `finally`, before `bury`.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self.paused_until_us = 0
        self.strokes: list[Stroke] = []
        self.ready: deque[asyncio.Handle] = deque()
        self.timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        self.timer_count = 0
        self.tasks: dict[Task, None] = {}
        self.task_factory: Any = None
        self.connect: Callable[..., Coroutine[Any, Any, Any]] | None = None
        self.on_death: list[Callable[[], None]] = []
        world.processes.append(self)

    def __repr__(self) -> str:
        return f"<process {self.name}>"

    # --- life and death ---

    @property
    def is_paused(self) -> bool:
        return self.paused_until_us > self.world.now_us

    def is_busy(self) -> bool:
        if self.is_dead or self.is_paused:
            return False
        return bool(self.ready) or self.is_timer_due()

    def is_timer_due(self) -> bool:
        while self.timers and self.timers[0][2].cancelled():
            heapq.heappop(self.timers)
        return bool(self.timers) and self.timers[0][0] <= self.world.now_us

    def due_us(self) -> int | None:
        if self.is_dead:
            return None
        if self.ready:
            return self.paused_until_us
        if self.is_timer_due() or self.timers:
            return max(self.timers[0][0], self.paused_until_us)
        return None

    def turn(self) -> None:
        while self.is_timer_due():
            self.ready.append(heapq.heappop(self.timers)[2])
        asyncio.events._set_running_loop(self)
        try:
            for _ in range(len(self.ready)):
                if not self.ready:  # it ended itself
                    return
                handle = self.ready.popleft()
                if not handle.cancelled():
                    self.call(handle)
                if self.strokes:
                    self.meet("callback")
                    if self.is_dead or self.is_paused:
                        return
        finally:
            asyncio.events._set_running_loop(None)

    def call(self, handle: asyncio.Handle) -> None:
        """Run a callback. What asyncio lets out of the loop ends no worker: see `run_to_the_end` of its children."""
        with suppress(SystemExit, KeyboardInterrupt):
            handle._run()

    def strike(self, befall: Callable[[], None], *, moment: Moment, after: int, within_us: int) -> None:
        """Let something befall it in the middle of what it does: after so many moments, and within `within_us` in any case."""
        stroke = Stroke(befall, moment, after)
        self.strokes.append(stroke)
        self.world.later(within_us, partial(self.land, stroke))

    def meet(self, moment: Moment) -> None:
        """A moment of this kind has come."""
        for stroke in list(self.strokes):
            if stroke.moment != moment:
                continue
            stroke.left -= 1
            if stroke.left >= 0:
                continue
            if moment == "request":  # the callback that sends it comes to its end
                stroke.moment, stroke.left = "callback", 0
            else:
                self.land(stroke)

    def land(self, stroke: Stroke) -> None:
        if stroke in self.strokes and not self.is_dead:
            self.strokes.remove(stroke)
            stroke.befall()

    def kill(self) -> None:
        """SIGKILL."""
        if self.is_dead:
            return
        self.is_dead = True
        self.world.processes.remove(self)
        self.world.history.add("died", self.name)
        self.ready.clear()
        self.timers.clear()
        for callback in self.on_death:
            callback()

    def pause(self, duration_us: int) -> None:
        """SIGSTOP, and SIGCONT later."""
        if not self.is_dead:
            self.world.history.add("paused", self.name, s=duration_us / US_PER_S)
            self.paused_until_us = max(self.paused_until_us, self.world.now_us + duration_us)

    def bury(self) -> None:
        """Let go of the tasks, once nothing is recorded any more."""
        self.is_dead = True
        if self in self.world.processes:
            self.world.processes.remove(self)
        asyncio.events._set_running_loop(self)
        try:
            for task in list(self.tasks):
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    close_quietly(task.get_coro())
        finally:
            asyncio.events._set_running_loop(None)
        self.tasks.clear()

    def start(self, work: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine as a task of this process, from outside."""
        return self.create_task(work, context=Context())

    # --- asyncio ---

    def time(self) -> float:
        return (self.world.now_us - START_MS * 1_000) / US_PER_S

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]  # without TypeVarTuples
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self.ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            self.timer_count += 1
            due_us = START_MS * 1_000 + round(when * US_PER_S)
            heapq.heappush(self.timers, (due_us, self.timer_count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers leave when their time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Task:
        task: Task
        if self.is_dead:  # the clean-up of what is buried
            coro.close()
            stillborn: Any = self.create_future()
            stillborn.cancel()
            return cast(Task, stillborn)
        if self.task_factory is None:
            task = asyncio.Task(coro, loop=self, name=name, context=context)
        elif context is None:
            task = self.task_factory(self, coro)
        else:
            task = self.task_factory(self, coro, context=context)
        self.tasks[task] = None
        task.add_done_callback(self.forget_task, context=Context())
        return task

    def forget_task(self, task: Task) -> None:
        self.tasks.pop(task, None)

    def set_task_factory(self, factory: Any) -> None:
        self.task_factory = factory

    def get_task_factory(self) -> Any:
        return self.task_factory

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """At once, in this thread: a second one would make its own order."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:  # as a pool of threads does
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_dead:
            error = context.get("exception")
            self.world.history.add(
                "loop_error", self.name, message=context.get("message", ""), error=repr(error)
            )

    async def create_connection(self, protocol_factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        if self.connect is None:
            raise ConnectionRefusedError("this process has no network")
        return await self.connect(self, protocol_factory)

    async def create_unix_connection(
        self, protocol_factory: Callable[[], Any], *args: Any, **options: Any
    ) -> Any:
        return await self.create_connection(protocol_factory)


def close_quietly(coro: Any) -> None:
    """Its `finally` blocks run; what they meet is of no interest."""
    try:
        coro.close()
    except BaseException:
        return
