"""Stubs: a test replaces the function of a step, what a wait gets, or a function that is invoked.

Only that is replaced: the step keeps its memo, attempts and retries, and an invoked function has a run of its own.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.engine.execution import Execution
from taskflow.engine.step_calls import StepCalls
from taskflow.errors import ConfigError
from taskflow.expressions.matching import WaitPlan
from taskflow.function import Function
from taskflow.step import Step
from taskflow.steps.call import Call, Done, StepCall
from taskflow.steps.tools import Tools
from taskflow.store.claims import InvokedRun
from taskflow.store.keys import SEPARATOR
from taskflow.store.operation import EVENT, SIGNAL, Operation
from taskflow.testing.stubbed_waits import resolve_wait
from taskflow.values.record import record

Error = BaseException | type[BaseException]


@record
class StubCall:
    """A call of a stub: the run that made it, and the arguments. For an invoked function the only argument is the event's data."""

    run_id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Stub:
    """Replaces a function. `received` lists its calls so far."""

    step_id: str = ""  # empty if the stub replaces a whole function
    function_id: str = ""  # empty for a step of any function
    returns: Any = None
    raises: Error | None = None
    calls: Callable[..., Any] | None = None
    times: int | None = None  # how many calls it answers; None for any number
    required: bool = True
    received: list[StubCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = [name for name in ("returns", "raises", "calls") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(
                f"{self}: returns, raises and calls exclude each other, got {' and '.join(given)}"
            )
        if self.calls is not None and not callable(self.calls):
            raise ConfigError(
                f"{self}: calls must be a function, got {self.calls!r:.80}; for a value use returns="
            )
        if self.raises is not None and not is_error(self.raises):
            raise ConfigError(
                f"{self}: raises must be an exception or a class of one, got {self.raises!r:.80}"
            )
        if self.times is not None and (type(self.times) is not int or self.times < 1):
            raise ConfigError(
                f"{self}: times must be an int of at least 1, or None for always, got {self.times!r}"
            )

    def __str__(self) -> str:
        if not self.step_id:
            return f"the stub of function {self.function_id!r}"
        return f"the stub of step {self.step_id!r}" + (f" of {self.function_id}" if self.function_id else "")

    @property
    def is_used_up(self) -> bool:
        return self.times is not None and len(self.received) >= self.times

    @property
    def complaint(self) -> str:
        """A complaint if the stub was not called as often as it should, or ""."""
        if not self.required or (self.received and (self.times is None or self.is_used_up)):
            return ""
        if self.times is None:
            return f"{self} was never called"
        return f"{self} was called {len(self.received)} of {self.times} times"

    def answer(self, *args: Any, **kwargs: Any) -> Any:
        """The stub's result, in place of the function's; a coroutine if `calls` is async. Raises the stub's error if it has one."""
        if self.raises is not None:
            raise self.raises
        return self.returns if self.calls is None else self.calls(*args, **kwargs)


def is_error(value: object) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


class Stubs:
    """All stubs of a Harness. If several fit a call, the first that is not used up answers it."""

    def __init__(self) -> None:
        self.all: list[Stub] = []
        self.lock = threading.Lock()  # needed since `def` steps run in threads

    def add(self, stub: Stub) -> Stub:
        self.all.append(stub)
        return stub

    def of_step(self, function_id: str, step_id: str) -> list[Stub]:
        return [
            stub
            for stub in self.all
            if stub.step_id == step_id and stub.step_id and stub.function_id in ("", function_id)
        ]

    def of_function(self, function_id: str) -> list[Stub]:
        return [stub for stub in self.all if not stub.step_id and stub.function_id == function_id]

    def take(self, candidates: list[Stub], call: StubCall) -> Stub | None:
        """The stub that answers the call; None if the real function does."""
        with self.lock:
            found = next((stub for stub in candidates if not stub.is_used_up), None)
            if found is not None:
                found.received.append(call)
            return found

    @property
    def complaints(self) -> list[str]:
        return [stub.complaint for stub in self.all if stub.complaint]


class StubbedCalls(StepCalls):
    """The step calls of a handler, of which some call a stub in place of the step's function."""

    __slots__ = ("stubs",)

    def __init__(self, run: Execution, stubs: Stubs) -> None:
        super().__init__(run)
        self.stubs = stubs

    async def execute(self, step: StepCall, op: Operation) -> Done | Operation:
        run_id, fn = self.run.run_id, step.fn
        candidates = self.stubs.of_step(self.run.function_id, step.call.id)

        # Each attempt picks its stub anew. The engine calls this in a thread, and awaits a coroutine on the loop.
        def choose(*args: Any, **kwargs: Any) -> Any:
            stub = self.stubs.take(candidates, StubCall(run_id, args, kwargs))
            return fn(*args, **kwargs) if stub is None else stub.answer(*args, **kwargs)

        return await super().execute(step._replace(fn=choose) if candidates else step, op)

    async def wait(
        self, call: Call, op: Operation, *, is_stored: bool = False, child: InvokedRun | None = None
    ) -> Operation:
        if is_stored or not await self.answers(call, op):
            return await super().wait(call, op, is_stored=is_stored, child=child)
        return op

    async def look_back(self, call: Call, op: Operation, plan: WaitPlan, *, since_ms: int) -> bool:
        return await self.answers(call, op) or await super().look_back(call, op, plan, since_ms=since_ms)

    async def answers(self, call: Call, op: Operation) -> bool:
        """Whether a stub has resolved the wait. A process that took an offered step of the run resolves none."""
        run = self.run
        if op.kind not in (EVENT, SIGNAL) or run.taken is not None:
            return False
        names = tuple(op.events or [(op.signal or "").partition(SEPARATOR)[2]])
        stub = self.stubs.take(self.stubs.of_step(run.function_id, call.id), StubCall(run.run_id, names, {}))
        if stub is None:
            return False
        await resolve_wait(
            stub.answer, call, op, run.input.event.data, self.codecs, now_ms=self.now_ms(), max_bytes=self.config.max_event_bytes
        )  # fmt: skip
        await self.keep(call, op)
        return True


class StubbedFunctions(Mapping[str, Function[Any, Any]]):
    """An app's functions as the workers of a Harness see them: with the stubs that exist when a function is looked up."""

    def __init__(self, app: TaskFlow, stubs: Stubs) -> None:
        self.app = app
        self.stubs = stubs

    def __getitem__(self, function_id: str) -> Function[Any, Any]:
        function = self.app.functions[function_id]
        return stubbed(function, self.stubs) if self.stubs.all else function

    def __contains__(self, function_id: object) -> bool:
        return function_id in self.app.functions

    def __iter__(self) -> Iterator[str]:
        return iter(self.app.functions)

    def __len__(self) -> int:
        return len(self.app.functions)


def stubbed(function: Function[Any, Any], stubs: Stubs) -> Function[Any, Any]:
    """The function, with a handler that calls a stub instead if there is one."""
    wrap = stubbed_async if function.is_async else stubbed_blocking
    return Function(
        wrap(function, stubs), spec=function.spec, app=function._app, output=function.output,
        middleware=function.middleware, types=function._types, needs=function.needs,
    )  # fmt: skip


def stubbed_async(function: Function[Any, Any], stubs: Stubs) -> Callable[..., Any]:
    async def handler(ctx: Context[Any], step: Step, **given: Any) -> Any:
        stub = take_function(ctx, stubs)
        if stub is not None:
            result = stub.answer(ctx.event.data)
            return await result if inspect.isawaitable(result) else result
        own = Step(stubbed_tools(step, stubs))
        return await function.handler(*arguments(function, ctx, own), **given)

    return handler


def stubbed_blocking(function: Function[Any, Any], stubs: Stubs) -> Callable[..., Any]:
    def handler(ctx: Context[Any], step: BlockingStep, **given: Any) -> Any:
        stub = take_function(ctx, stubs)
        if stub is not None:
            result = stub.answer(ctx.event.data)
            return step._engine.block_on(settled(result)) if inspect.isawaitable(result) else result
        own = BlockingStep(stubbed_tools(step, stubs))
        return function.handler(*arguments(function, ctx, own), **given)

    return handler


async def settled(result: Awaitable[Any]) -> Any:
    return await result


def take_function(ctx: Context[Any], stubs: Stubs) -> Stub | None:
    candidates = stubs.of_function(ctx.function_id)
    return stubs.take(candidates, StubCall(ctx.run_id, (ctx.event.data,), {})) if candidates else None


def stubbed_tools(step: Step | BlockingStep, stubs: Stubs) -> Tools:
    assert isinstance(step._engine, Tools)
    assert isinstance(step._engine.host, StepCalls)
    return Tools(StubbedCalls(step._engine.host.run, stubs))


def arguments(function: Function[Any, Any], ctx: Context[Any], step: Any) -> tuple[Any, ...]:
    own: Context[Any] = Context(
        ctx.event,
        ctx.events,
        ctx.run_id,
        ctx.function_id,
        ctx.attempt,
        ctx.started_at,
        step,
        ctx.logger,
        ctx._app,
    )
    return (own, step) if function.takes_step else (own,)
