"""WrappedHandler: calls a handler through the middleware of its function. Rules S11.4, S4.6.

What unwinds a handler stays inside: the layers around it get an Outcome that says how the activation ended, and go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from taskflow.engine.around import Around, value_of
from taskflow.engine.body import within_limit
from taskflow.engine.execution import Execution
from taskflow.engine.handler import contained
from taskflow.engine.lifecycle import Ending
from taskflow.engine.receive import received
from taskflow.engine.threads import Threads
from taskflow.errors import Suspend
from taskflow.event import ReceivedEvent
from taskflow.middleware.facts import Outcome, Status
from taskflow.middleware.onion import AsyncCode, BlockingCode, Code, call_through
from taskflow.observability.failures import original_of

STATUSES: dict[Ending | None, Status] = {
    Ending.SUSPENDED: "suspended",
    Ending.CANCELLED: "cancelled",
    Ending.HANDED_BACK: "handed back",
}
"""How an activation ended whose handler was unwound; "lost" for all other reasons."""

Arguments = Callable[[Sequence[ReceivedEvent]], tuple[Any, ...]]


async def call_handler(run: Execution, arguments: Arguments) -> Any:
    """Call the handler once, within the time limit of its body. Raises what it raises, or Suspend when the run leaves."""
    handler, threads = run.function.handler, run.threads
    if run.around is not None:
        return await WrappedHandler(run, run.around, arguments).call()
    args = arguments(await received(run, run.input.events))
    run.in_handler = True
    work = contained(handler(*args)) if threads is None else threads.run(handler, args)
    return await limited(run, work)


def limited(run: Execution, work: Awaitable[Any]) -> Awaitable[Any]:
    limit_ms = run.function._body_limit_ms
    return work if limit_ms is None or run.claimed.steps else within_limit(run, work, limit_ms)


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
        run = self.run
        try:
            args = await self.received_arguments()
            run.in_handler = True
            handler, threads = run.function.handler, run.threads
            value = await limited(
                run, contained(handler(*args)) if threads is None else threads.run(handler, args)
            )
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
        run = self.run
        assert run.threads is not None, "only a `def` handler is called in a thread"
        try:
            args = run.threads.block_on(self.received_arguments())
            run.in_handler = True
            value = run.function.handler(*args)
        except BaseException as error:
            return self.failed(error)
        return self.completed(value)

    async def received_arguments(self) -> tuple[Any, ...]:
        events = [await self.around.received(event) for event in self.run.input.events]
        return self.arguments(await received(self.run, events))

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
        return (self.threads or self.threads_for(True)).block_on(awaited(code))

    def threads_for(self, is_own: bool) -> Threads:
        """The threads of a `def` handler, or others: a handler that takes too long is abandoned, not what is around it."""
        run = self.run
        if is_own and run.threads is not None:
            return run.threads
        if self.threads is None:
            self.threads = Threads(run.tree, run.turns, run.races, pool=run.host.threads, loop=run.host.loop)
        return self.threads


async def awaited(code: AsyncCode) -> Outcome:
    return await code()


def end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
