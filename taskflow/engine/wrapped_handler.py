"""WrappedHandler: calls a handler through the middleware of its function. Rules S11.4, S4.6.

What unwinds a handler stays inside: the layers around it get an Outcome that says how the activation ended, and go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from taskflow.dependencies.scopes import AttemptScope
from taskflow.engine.around import Around, value_of
from taskflow.engine.body import within_limits
from taskflow.engine.execution import Execution
from taskflow.engine.handler import contained
from taskflow.engine.lifecycle import Ending
from taskflow.engine.receive import received
from taskflow.engine.tasks.tagging import detached
from taskflow.engine.threads import Threads
from taskflow.errors import Suspend
from taskflow.event import ReceivedEvent
from taskflow.middleware.facts import Outcome, Status
from taskflow.middleware.onion import AsyncCode, BlockingCode, Code, call_through
from taskflow.observability.failures import original_of
from taskflow.values.loops import awaited

logger = logging.getLogger("taskflow.engine")

STATUSES: dict[Ending | None, Status] = {
    Ending.SUSPENDED: "suspended",
    Ending.CANCELLED: "cancelled",
    Ending.HANDED_BACK: "handed back",
}
"""How an activation ended whose handler was unwound; "lost" for all other reasons."""

Arguments = Callable[[Sequence[ReceivedEvent]], tuple[Any, ...]]


async def call_handler(run: Execution, arguments: Arguments) -> Any:
    """Call the handler once, within the time limit of its body. Raises what it raises, or Suspend when the run leaves."""
    try:
        if run.around is not None:
            return await WrappedHandler(run, run.around, arguments).call()
        handler, threads = run.function.handler, run.threads
        events: Sequence[ReceivedEvent] = run.input.events
        if run.function.spec.event_types:
            events = await received(run, events)
        args = arguments(events)
        run.in_handler = True
        work = contained(handler(*args)) if threads is None else threads.run(handler, args)
        return await limited(run, work)
    finally:
        if run.around is not None and run.around.has_lasting:
            await take_down(run, run.around)


async def take_down(run: Execution, around: Around) -> None:
    """Take down the dependencies of the activation, when nothing of the run executes any more: steps may use them."""
    if not run.tree.suspending:
        await run.steps_end(keep=False)
    await around.take_down()


def limited(run: Execution, work: Awaitable[Any]) -> Awaitable[Any]:
    limits = run.function._body_limits
    return work if limits is None or run.claimed.steps else within_limits(run, work, limits)


class WrappedHandler:
    """One call of a handler through its middleware; it is also the bridges between their threads and the loop."""

    __slots__ = ("around", "arguments", "run", "threads")

    def __init__(self, run: Execution, around: Around, arguments: Arguments) -> None:
        self.run = run
        self.around = around
        self.arguments = arguments
        # for methods that run in a thread around code on the loop
        self.threads: Threads | None = None

    async def call(self) -> Any:
        layers = self.around.handler_layers()
        await self.around.begins()
        if self.run.threads is not None and layers and not layers[-1][0].is_async:
            code = Code(self.call_in_thread, False)
        else:
            code = Code(self.call_on_loop, True)
        return self.result(await call_through(layers, code, self))

    def result(self, outcome: Outcome) -> Any:
        try:
            if not outcome.has_ended:
                raise Suspend
            if outcome.error is None:
                self.around.outcome = outcome
            return value_of(outcome)
        finally:
            del outcome

    # --- the handler itself ---

    async def call_on_loop(self) -> Outcome:
        scope = self.scope()
        outcome = await self.execute(scope)
        return outcome if scope is None else await self.closed(scope, outcome)

    async def execute(self, scope: AttemptScope | None) -> Outcome:
        run, handler, threads = self.run, self.run.function.handler, self.run.threads
        try:
            args, kwargs = await self.received_arguments(), await self.dependencies(scope)
            run.in_handler = True
            if threads is None:
                work = contained(handler(*args, **kwargs))
            else:
                work = threads.run(partial(handler, **kwargs) if kwargs else handler, args)
            value = await limited(run, work)
        except GeneratorExit:
            raise
        except asyncio.CancelledError:
            if not run.tree.suspending:
                raise
            return self.unwound()
        except BaseException as error:
            return self.failed(error)
        return self.completed(value)

    def call_in_thread(self) -> Outcome:
        """Call a `def` handler in the present thread, which is one of the run's."""
        run, scope = self.run, self.scope()
        assert run.threads is not None, "only a `def` handler is called in a thread"
        try:
            args = run.threads.block_on(self.received_arguments())
            kwargs = {} if scope is None else run.threads.block_on(self.dependencies(scope))
            run.in_handler = True
            outcome = self.completed(run.function.handler(*args, **kwargs))
        except BaseException as error:
            outcome = self.failed(error)
        return outcome if scope is None else self.on_loop(lambda: self.closed(scope, outcome))

    # --- its dependencies ---

    def scope(self) -> AttemptScope | None:
        return self.around.scopes.attempt() if self.run.function.needs else None

    async def dependencies(self, scope: AttemptScope | None) -> dict[str, Any]:
        if scope is None:
            return {}
        # Tasks that a provider spawns are not branches of the handler.
        with detached():
            return await scope.fill(self.run.function.needs)

    async def closed(self, scope: AttemptScope, outcome: Outcome) -> Outcome:
        """Take down the dependencies of the attempt. Of a handler that returned, an error of theirs is the attempt's."""
        try:
            with detached():
                await scope.close(outcome.error)
        except (GeneratorExit, Suspend):
            raise
        except asyncio.CancelledError:
            if not self.run.tree.suspending:
                raise
        except BaseException as error:
            if outcome.has_ended:
                return self.failed(error)
            logger.error("taking down the dependencies of run %s failed", self.run.run_id, exc_info=error)
        return outcome

    async def received_arguments(self) -> tuple[Any, ...]:
        events: Sequence[ReceivedEvent] = [
            await self.around.received(event) for event in self.run.input.events
        ]
        if self.run.function.spec.event_types:
            events = await received(self.run, events)
        return self.arguments(events)

    @property
    def counts(self) -> bool:
        """Whether the end of the handler counts: the run has not been told to stop, or was let go on."""
        return self.run.is_going_on or self.run.is_let_go_on

    def completed(self, value: object) -> Outcome:
        return Outcome("completed", value) if self.counts else self.unwound()

    def failed(self, error: BaseException) -> Outcome:
        if isinstance(error, Suspend) or not self.counts:
            return self.unwound()
        return Outcome("failed", error=original_of(error))

    def unwound(self) -> Outcome:
        return Outcome(STATUSES.get(self.run.lifecycle.ending, "lost"))

    # --- bridges ---

    async def in_thread(self, code: BlockingCode, *, is_own: bool) -> Outcome:
        run, loop = self.run, self.run.host.loop
        ended = loop.create_future()

        def chain() -> Outcome:
            try:
                return code()
            finally:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(end, ended)

        work = self.threads_for(is_own).run(chain, ())
        try:
            outcome: Outcome = await (limited(run, work) if is_own else work)
            return outcome
        except Suspend:
            await ended  # the thread is unwound too, and the methods in it come to their ends
            return self.unwound()
        except asyncio.CancelledError:
            if not run.tree.suspending:
                raise
            return self.unwound()
        except Exception as error:
            return self.failed(error)

    def on_loop(self, code: AsyncCode) -> Outcome:
        return (self.threads or self.threads_for(True)).block_on(awaited(code()))

    def threads_for(self, is_own: bool) -> Threads:
        """The threads of a `def` handler, or others: a handler that takes too long is abandoned, not what is around it."""
        run = self.run
        if is_own and run.threads is not None:
            return run.threads
        if self.threads is None:
            self.threads = Threads(run.tree, run.turns, run.races, pool=run.host.threads, loop=run.host.loop)
        return self.threads


def end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
