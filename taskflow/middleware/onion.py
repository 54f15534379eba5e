"""Onion: puts `wrap_...` methods around user code, the first outermost, `def` and `async def` in any mix. Rule S11.4.

Each layer gives an Outcome, and raises nothing but what ends its task. Between a `def` method and `def` code inside it nothing
changes threads; between the two kinds stands a bridge: a thread for `def` inside `async`, the loop for `async` inside `def`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from taskflow.errors import Suspend
from taskflow.middleware.facts import Outcome
from taskflow.middleware.hooks import Hook
from taskflow.values.loops import is_being_cancelled

logger = logging.getLogger("taskflow.middleware")

AsyncCode = Callable[[], Awaitable[Outcome]]
BlockingCode = Callable[[], Outcome]


class Code(NamedTuple):
    """User code, or layers around it: called on the loop, or in a thread. `is_own`: that thread executes the user code itself."""

    call: Callable[[], Any]
    is_async: bool
    is_own: bool = True


class Bridges(Protocol):
    """How code in a thread and code on the loop call each other."""

    async def in_thread(self, code: BlockingCode, *, is_own: bool) -> Outcome:
        """Run blocking code in a thread; `is_own`: it contains the user code, whose time limit holds."""
        ...

    def on_loop(self, code: AsyncCode) -> Outcome:
        """Run a coroutine on the loop, and block the present thread until its end."""
        ...


async def call_through(layers: Sequence[tuple[Hook, Any]], code: Code, bridges: Bridges) -> Outcome:
    """Call the code through the layers, each a method and its first argument."""
    for hook, subject in reversed(layers):
        if hook.is_async:
            code = Code(AsyncLayer(hook, subject, to_async(code, bridges)).run, True)
        elif code.is_async:
            code = Code(
                BlockingLayer(hook, subject, to_blocking(code.call, bridges)).run, False, is_own=False
            )
        else:
            code = Code(BlockingLayer(hook, subject, code.call).run, False, code.is_own)
    return await to_async(code, bridges)()


def to_async(code: Code, bridges: Bridges) -> AsyncCode:
    if code.is_async:
        return code.call
    return lambda: bridges.in_thread(code.call, is_own=code.is_own)


def to_blocking(code: AsyncCode, bridges: Bridges) -> BlockingCode:
    return lambda: bridges.on_loop(code)


class Layer:
    """One method around what is inside it."""

    __slots__ = ("hook", "inner", "outcome", "subject", "was_called")

    def __init__(self, hook: Hook, subject: Any, inner: Callable[[], Any]) -> None:
        self.hook = hook
        self.subject = subject
        self.inner = inner
        self.was_called = False
        self.outcome: Outcome | None = None

    def called_twice(self) -> RuntimeError:
        return RuntimeError(
            f"{self.hook} called call() twice: user code is executed once; retries are an option"
        )

    def returned(self, came: object) -> Outcome:
        """The outcome after the method has returned."""
        outcome = self.outcome
        if came is None or came is outcome or (outcome is not None and not outcome.has_ended):
            if outcome is not None:
                return outcome
            error = RuntimeError(f"{self.hook} returned None without having called call(): return an Outcome")
            return Outcome("failed", error=error)
        if isinstance(came, Outcome) and came.has_ended:
            return came
        return Outcome(
            "failed",
            error=TypeError(f"{self.hook} must return an Outcome that completed or failed, or None, got {came!r:.80}"),
        )  # fmt: skip

    def raised(self, error: BaseException) -> Outcome:
        """The outcome after the method has raised."""
        outcome = self.outcome
        if outcome is not None and not outcome.has_ended:
            logger.error(
                "%s raised %s: %s; nothing fails by that, since the run was %s",
                self.hook, type(error).__name__, error, outcome.status, exc_info=error,
            )  # fmt: skip
            return outcome
        return Outcome("failed", error=error)


class AsyncLayer(Layer):
    __slots__ = ()

    async def call(self) -> Outcome:
        if self.was_called:
            raise self.called_twice()
        self.was_called = True
        outcome: Outcome = await self.inner()
        self.outcome = outcome
        return outcome

    async def run(self) -> Outcome:
        try:
            came = await self.hook.method(self.subject, self.call)
            return self.returned(came)
        except (Suspend, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            return self.raised(error)
        except BaseException as error:
            return self.raised(error)
        finally:
            self.outcome = None  # its error refers to this frame


class BlockingLayer(Layer):
    __slots__ = ()

    def call(self) -> Outcome:
        if self.was_called:
            raise self.called_twice()
        self.was_called = True
        outcome: Outcome = self.inner()
        self.outcome = outcome
        return outcome

    def run(self) -> Outcome:
        try:
            return self.returned(self.hook.method(self.subject, self.call))
        except Suspend:
            raise
        except BaseException as error:
            return self.raised(error)
        finally:
            self.outcome = None
