"""Around: middleware and dependencies around the user code of one run in this process. Rules S11.4, S11.5.

Only a run whose code has them has one of these; `HandlerCall` and `StepCalls` ask it at the two places where they call user code,
and `Execution` tells it how the run went on.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from taskflow.context import Context, RunLogger, run_facts
from taskflow.dependencies.needs import Needs
from taskflow.dependencies.scopes import AttemptScope, RunScopes
from taskflow.engine.handler import StepCode, call_function
from taskflow.engine.host import Host
from taskflow.engine.input import RunInput
from taskflow.errors import Suspend
from taskflow.event import ReceivedEvent
from taskflow.function import Function
from taskflow.middleware.facts import Activation, Attempt, Outcome
from taskflow.middleware.hooks import Hook, Hooks
from taskflow.middleware.onion import AsyncCode, AsyncLayer, BlockingCode, Code, call_through
from taskflow.observability.failures import Raised, original_of
from taskflow.store.claimed import ClaimedRun
from taskflow.store.operation import Operation
from taskflow.values.loops import block_on

T = TypeVar("T")


class Around:
    """The middleware and dependencies around the user code of one run here."""

    __slots__ = ("_scopes", "attempt", "function", "hooks", "host", "loop", "outcome", "run")

    def __init__(self, function: Function[Any, Any], run: Activation, host: Host) -> None:
        self.function = function
        self.hooks: Hooks = function.hooks
        self.run = run
        self.host = host
        self.loop = host.loop
        self._scopes: RunScopes | None = None
        # of the handler
        self.attempt = Attempt(run, "", "", run.attempt, run.claimed_ms)
        self.outcome = Outcome("completed")

    # --- what happens to the run ---

    async def begins(self) -> None:
        """Tell that the run begins, or goes on; not for the sake of an offered step, as the run itself is elsewhere."""
        run, hooks = self.run, self.hooks
        if not run.offered_step:
            await hooks.tell(hooks.on_run_start if run.is_first else hooks.on_resume, run)

    async def suspends(self, now_ms: int) -> None:
        if not self.run.offered_step:
            self.run.ended_ms = now_ms
            await self.hooks.tell(self.hooks.on_suspend, self.run)

    async def retries(self, error: BaseException, *, due_ms: int, now_ms: int) -> None:
        self.run.ended_ms = self.attempt.ended_ms = now_ms
        await self.hooks.tell(self.hooks.on_retry, self.attempt, original_of(error), due_ms)

    async def ends(self, status: str, *, error: BaseException | None, body: bytes, now_ms: int) -> None:
        """Tell that the run has ended with this status. `error` is that of a failed one; `body` is what the store was told."""
        run, hooks = self.run, self.hooks
        run.ended_ms = now_ms
        if status == "cancelled":
            await hooks.tell(hooks.on_cancel, run, orjson.loads(body).get("message") or "")
            outcome = Outcome("cancelled")
        elif status == "completed":
            outcome = self.outcome
        else:
            error = None if error is None else original_of(error)
            outcome = Outcome("skipped" if status == "skipped" else "failed", error=error)
        await hooks.tell(hooks.on_run_end, run, outcome)

    async def received(self, event: ReceivedEvent) -> ReceivedEvent:
        """The event as the handler gets it: through `transform_event` of each middleware, the first of them first."""
        for hook in self.hooks.transform_event:
            came = hook.method(event)
            if hook.is_async or inspect.isawaitable(came):
                came = await came
            if came is not None and not isinstance(came, ReceivedEvent):
                raise TypeError(f"{hook} must return a ReceivedEvent or None, got {came!r:.80}")
            event = event if came is None else came
        return event

    # --- dependencies ---

    @property
    def scopes(self) -> RunScopes:
        if self._scopes is None:
            self._scopes = RunScopes(
                process=self.host.dependencies, overrides=self.function.overrides, threads=self.host.threads, context=self.context
            )  # fmt: skip
        return self._scopes

    @property
    def has_lasting(self) -> bool:
        """Whether a dependency was set up that lasts as long as the activation."""
        return self._scopes is not None and bool(self._scopes.lasting.kept)

    async def take_down(self) -> None:
        """Take down the dependencies that last as long as the activation."""
        if self._scopes is not None:
            await self._scopes.lasting.close()

    async def context(self) -> Context[Any]:
        """The context of the run for providers, which may not call step tools."""
        run = self.run
        events = [await self.received(event) for event in run.events]
        facts = run_facts(run.run_id, run.function_id, run.attempt, run.headers)
        started_at = datetime.fromtimestamp(run.started_ms / 1000, UTC)
        logger = RunLogger(facts, lambda: False)
        return Context(
            events[0],
            events,
            run.run_id,
            run.function_id,
            run.attempt,
            started_at,
            None,
            logger,
            self.function._app,
        )

    # --- the handler ---

    def handler_layers(self) -> list[tuple[Hook, Any]]:
        """The methods around the handler, the outermost first."""
        layers: list[tuple[Hook, Any]] = [(hook, self.run) for hook in self.hooks.wrap_run]
        return layers + [(hook, self.attempt) for hook in self.hooks.wrap_attempt]

    # --- a step ---

    async def step_begins(self, step_id: str, key: str, number: int, now_ms: int, needs: Needs) -> StepAround:
        attempt = Attempt(self.run, step_id, key, number, now_ms)
        if self.hooks.on_step_start:
            await self.hooks.tell(self.hooks.on_step_start, attempt)
        return StepAround(self, attempt, needs)


class StepAround:
    """The middleware and dependencies around one attempt of a step."""

    __slots__ = ("around", "attempt", "code", "is_over", "needs")

    def __init__(self, around: Around, attempt: Attempt, needs: Needs) -> None:
        self.around = around
        self.attempt = attempt
        self.needs = needs
        self.is_over = False
        self.code: StepCode | None = None

    async def __call__(self, code: StepCode) -> Any:
        """Call the step's function through `wrap_attempt`."""
        hooks = self.around.hooks.wrap_attempt
        if not hooks:
            return await self.call_with_needs(code)
        self.code = code
        # No local variable holds the outcome: its error would refer to this frame, which refers to it.
        if self.around.hooks.are_wraps_async:
            call: AsyncCode = self.execute
            for hook in reversed(hooks):
                call = AsyncLayer(hook, self.attempt, call).run
            return value_of(await call())
        if not hooks[-1].is_async and not inspect.iscoroutinefunction(code.fn):
            inner = Code(lambda: self.call_in_thread(code), False)
        else:
            inner = Code(self.execute, True)
        layers = [(hook, self.attempt) for hook in hooks]
        return value_of(await call_through(layers, inner, StepBridges(code, self.around.loop)))

    async def execute(self) -> Outcome:
        """Call the function on the loop, or from there; give the outcome. What ends the task itself is raised."""
        code = self.code
        assert code is not None, "the step's function is called"
        try:
            if self.needs:
                return Outcome("completed", await self.call_with_needs(code))
            if code.timeout_ms is None:
                result = await call_function(code.fn, code.args, code.kwargs, code.threads)
            else:
                result = await code.call()
            if code.step.misuse is not None:
                raise code.step.misuse
            return Outcome("completed", result)
        except (Suspend, GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            return Outcome("failed", error=original_of(error))

    async def call_with_needs(self, code: StepCode) -> Any:
        scope = self.around.scopes.attempt()
        try:
            code.kwargs = {**code.kwargs, **await scope.fill(self.needs, len(code.args), code.kwargs)}
            result = await checked(code)
        except BaseException as error:
            await scope.close(original_of(error))
            raise
        await scope.close()
        return result

    def call_in_thread(self, code: StepCode) -> Outcome:
        """Call a `def` function in the present thread, its dependencies on the loop."""
        if not self.needs:
            return blocking_outcome(code, self.around.loop)
        scope = self.around.scopes.attempt()
        try:
            given = self.on_loop(scope.fill(self.needs, len(code.args), code.kwargs))
        except BaseException as error:
            return self.closed(scope, Outcome("failed", error=original_of(error)))
        code.kwargs = {**code.kwargs, **given}
        return self.closed(scope, blocking_outcome(code, self.around.loop))

    def closed(self, scope: AttemptScope, outcome: Outcome) -> Outcome:
        try:
            self.on_loop(scope.close(outcome.error))
        except BaseException as error:
            return Outcome("failed", error=original_of(error))
        return outcome

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return block_on(work, self.around.loop)

    @property
    def is_called(self) -> bool:
        """Whether anything is around the function itself."""
        return bool(self.needs or self.around.hooks.wrap_attempt)

    async def completes(self, value: object, now_ms: int) -> None:
        await self.ends(Outcome("completed", value), now_ms)

    async def fails(self, error: BaseException, op: Operation, now_ms: int) -> None:
        await self.ends(Outcome("failed", error=original_of(error)), now_ms)
        if op.error is None and op.due is not None and self.around.hooks.on_retry:
            await self.around.hooks.tell(self.around.hooks.on_retry, self.attempt, original_of(error), op.due)

    async def ends(self, outcome: Outcome, now_ms: int) -> None:
        self.is_over = True
        self.attempt.ended_ms = now_ms
        if self.around.hooks.on_step_end:
            await self.around.hooks.tell(self.around.hooks.on_step_end, self.attempt, outcome)


class StepBridges:
    """The bridges of a step: its time limit holds for the thread in which its function runs."""

    __slots__ = ("code", "loop")

    def __init__(self, code: StepCode, loop: asyncio.AbstractEventLoop) -> None:
        self.code = code
        self.loop = loop

    async def in_thread(self, code: BlockingCode, *, is_own: bool) -> Outcome:
        work = self.code.in_thread(code)
        return await outcome_in(self.code.within_limit(work) if is_own else work)

    def on_loop(self, code: AsyncCode) -> Outcome:
        return block_on(code(), self.loop)


async def checked(code: StepCode) -> Any:
    result = await code.call()
    if code.step.misuse is not None:
        raise code.step.misuse
    return result


def blocking_outcome(code: StepCode, loop: asyncio.AbstractEventLoop) -> Outcome:
    """Call a `def` function in the present thread. What it returns may have to be awaited: a lambda that calls a coroutine."""
    try:
        result = code.fn(*code.args, **code.kwargs)
        if inspect.isawaitable(result):
            result = block_on(result, loop)
        if code.step.misuse is not None:
            raise code.step.misuse
    except BaseException as error:
        return Outcome("failed", error=error)
    return Outcome("completed", result)


async def outcome_in(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """The outcome that layers in a thread give, or that they don't give in time."""
    try:
        return await work
    except Exception as error:
        return Outcome("failed", error=original_of(error))


def value_of(outcome: Outcome) -> Any:
    """The value, for the engine. Raises the error in the form in which `contained` raises it."""
    error = outcome.error
    if error is None:
        return outcome.value
    try:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise error
        raise Raised(error) from error
    finally:
        del outcome, error


def around_of(function: Function[Any, Any], claimed: ClaimedRun, given: RunInput, host: Host) -> Around:
    """What is around the user code of a run that was claimed."""
    is_first = is_first_activation(claimed)
    wait_ms = None
    if is_first:
        wait_ms = max(claimed.claimed_ms - max(claimed.created_ms, given.event_obj.get("due", 0)), 0)
    run = Activation(
        run_id=claimed.claim.run_id, function_id=claimed.function_id, app_id=host.config.app_id, event=given.event,
        events=given.events, attempt=claimed.attempt, is_first=is_first, offered_step=claimed.step_key, worker=host.child_id,
        created_ms=claimed.created_ms, started_ms=claimed.started_ms, claimed_ms=claimed.claimed_ms, queue_wait_ms=wait_ms,
    )  # fmt: skip
    return Around(function, run, host)


def is_first_activation(claimed: ClaimedRun) -> bool:
    """Whether nothing of the run was stored before this claim. A rerun has from its start what it took from the old run."""
    if claimed.attempt or claimed.step_key:
        return False
    if not claimed.steps or claimed.claimed_ms == claimed.started_ms:
        return True
    ops = map(Operation.unpack, claimed.steps.values())
    return all(op.ended is not None and op.ended < claimed.created_ms for op in ops)
