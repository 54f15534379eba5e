"""What the step tools do: look for a memo, else execute or park an operation. Rules S3, S5.1."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from taskflow.engine.handler import call_step_function, describe_error, inside_step
from taskflow.engine.lookback import look_back
from taskflow.engine.replay import Call
from taskflow.engine.tasks.unwinding import fetch_outcome
from taskflow.engine.threads import Threads
from taskflow.errors import LimitExceeded, NestedStepError, NonRetriableError, StepTimeout
from taskflow.event import Event, ReceivedEvent, encode_event
from taskflow.function import FunctionSpec, read_spec
from taskflow.retries import next_attempt_ms
from taskflow.routing.plan import plan_run
from taskflow.signals import OnConflict, ReceivedSignal, check_on_conflict, check_signal_name
from taskflow.step import ParallelMode, StepInvokeOptions
from taskflow.steps.wait_for_event import plan_wait
from taskflow.store.claims import InvokedRun, ParkedOp
from taskflow.store.keys import signal_key
from taskflow.store.operation import DONE, DROPPED, FAILED, RETRY, WAIT, Operation, step_error
from taskflow.types import Duration, When
from taskflow.values.durations import parse_duration_ms, parse_when_ms
from taskflow.values.ids import derive_ulid, run_id_for, ulid_ms
from taskflow.values.shapes import ANY, Shape
from taskflow.values.stored import dump, load

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

R = TypeVar("R")
INVOKED = "taskflow/function.invoked"
PLAIN = (str, int, bool, type(None))  # what JSON gives back as it was


class Tools:
    """The engine behind `Step` and `BlockingStep`, for one run."""

    __slots__ = ("execution", "had")

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        # The uids of the events that the handler got: a wait that looks back passes over them.
        self.had: set[str] = {event.uid for event in execution.events}

    async def begin(self, step_id: str) -> Call:
        outer = inside_step.get()
        if outer:
            raise NestedStepError(
                f"step {step_id!r} was called inside step {outer!r}. A step's function is one unit of work: call the step tools "
                "from the handler, or move the inner work into a function of its own and use step.invoke."
            )
        return await self.execution.begin(step_id)

    # --- run ---

    async def run(
        self, step_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Shape = ANY
    ) -> Any:  # fmt: skip
        call = await self.begin(step_id)
        known = call.known
        if known is not None and known.is_finished:
            return (await self.execution.recall(call, known)).outcome(step_id, output)
        if not callable(fn):
            raise TypeError(
                f"step.run({step_id!r}, fn, ...): fn must be callable, but is {type(fn).__name__}. "
                "Pass the function, not its result."
            )
        op = known or Operation("step", WAIT, call.index)
        if op.is_pending and known is not None:  # to be retried later, or offered to other processes
            op = await self.execution.park(call.key, op, stored=True)
        if not self.execution.may_execute(call.key):
            op = await self.execution.tree.parked()  # for ever: see OfferedStepExecution
        if op.state == DROPPED:
            await self.execution.lose_again()
        while not op.is_finished:
            if self.execution.slot_is_taken:  # a parallel step
                op = await self.execution.find_slot(call.key, op)
                if op.is_finished:
                    break
                has_slot = True
            else:
                has_slot = False
            done, value = await self.attempt(call, op, step_id, fn, args, kwargs, output, has_slot)
            if done:
                return value
            op = await self.execution.park(call.key, op, stored=False)
        return op.outcome(step_id, output)

    async def attempt(
        self,
        call: Call,
        op: Operation,
        step_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Shape,
        has_slot: bool,
    ) -> tuple[bool, Any]:
        """One attempt. (True, result) when it is committed; (False, None) when `op` now says when to try again.

        `has_slot`: the step has a slot besides that of its run, and gives it back.
        """
        execution = self.execution
        try:
            execution.step_begins()
            try:
                return await self.execute(call, op, step_id, fn, args, kwargs, output)
            finally:
                execution.step_ended()
        finally:
            if has_slot:
                execution.host.free_slot()

    async def execute(
        self,
        call: Call,
        op: Operation,
        step_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Shape,
    ) -> tuple[bool, Any]:
        execution = self.execution
        host = execution.host
        if not host.lease.is_valid(epoch=execution.epoch):
            # This process was paused: somebody else may have executed this step by now (S9.4).
            await execution.check_claim()
        started_ms = host.clock.now_ms()
        try:
            result = await call_step_function(
                step_id, fn, args, kwargs, threads=host.threads, timeout_ms=execution.function.spec.timeouts.step_ms,
                on_abandoned=host.abandon_thread,
            )  # fmt: skip
            what = f"step {step_id!r}"
            data = dump(result, output, what=what)
            check_output_size(data, step_id, host.config.max_step_output_bytes)
            # What a replay will give, so that a type that does not come back shows at once.
            if output.load is not None or type(result) not in PLAIN:
                result = load(data, output, what=what)
        except Exception as error:
            return await self.attempt_failed(call, op, step_id, error, started_ms)
        op.state, op.data, op.due = DONE, data, None
        op.started, op.ended, op.worker = started_ms, host.clock.now_ms(), host.child_id
        await execution.commit(call.key, op)
        return True, result

    async def attempt_failed(
        self, call: Call, op: Operation, step_id: str, error: Exception, started_ms: int
    ) -> tuple[bool, Any]:
        execution = self.execution
        host = execution.host
        now_ms = host.clock.now_ms()
        # A time limit is as retriable as any failure; only what the handler meets in the end is final.
        cause = TimeoutError() if isinstance(error, StepTimeout) else error
        due_ms = next_attempt_ms(
            execution.function.spec.retries,
            len(op.attempts),
            now_ms=now_ms,
            error=cause,
            jitter=random.random(),
        )
        told = describe_error(error)
        op.attempts.append([started_ms, now_ms, host.child_id, told["name"], told["message"], told["stack"]])
        if due_ms is not None:
            op.state, op.due, op.error = RETRY, due_ms, None
            return False, None
        op.state, op.error, op.due = FAILED, told, None
        op.started, op.ended, op.worker = started_ms, now_ms, host.child_id
        await execution.commit(call.key, op)
        raise step_error(told, step_id) from error

    # --- sleep, wait, invoke, send ---

    async def sleep(self, step_id: str, duration: Duration) -> None:
        delay_ms = parse_duration_ms(duration, what=f"step.sleep({step_id!r})")
        await self.sleep_to(step_id, lambda now_ms: now_ms + delay_ms)

    async def sleep_until(self, step_id: str, when: When) -> None:
        await self.sleep_to(
            step_id, lambda now_ms: parse_when_ms(when, now_ms=now_ms, what=f"step.sleep_until({step_id!r})")
        )

    async def sleep_to(self, step_id: str, due: Callable[[int], int]) -> None:
        call = await self.begin(step_id)
        now_ms = self.execution.host.clock.now_ms()
        due_ms = due(now_ms) if call.known is None else now_ms
        op = Operation("sleep", WAIT, call.index, started=now_ms, due=due_ms)
        if call.known is None and due_ms <= now_ms:  # the past: a memo, and on
            await self.keep(call, op)
            return
        await self.settle(call, step_id, op)

    async def wait_for_event(
        self, step_id: str, events: Sequence[str], timeout: Duration, match: str | None, if_exp: str | None,
        lookback: Duration | None,
    ) -> ReceivedEvent | None:  # fmt: skip
        what = f"step.wait_for_event({step_id!r})"
        timeout_ms = parse_duration_ms(timeout, what=f"{what} timeout")
        lookback_ms = None if lookback is None else parse_duration_ms(lookback, what=f"{what} lookback")
        plan = plan_wait(step_id, events, match, if_exp, event=self.execution.event_obj)
        call = await self.begin(step_id)
        now_ms = self.execution.host.clock.now_ms()
        op = Operation(
            "event", WAIT, call.index, started=now_ms, due=now_ms + timeout_ms, events=plan.events, path=plan.path,
            token=plan.token, condition=plan.condition,
        )  # fmt: skip
        if lookback_ms is None or call.known is not None:
            found = await self.settle(call, step_id, op)
        else:
            since_ms = now_ms - lookback_ms
            if not await look_back(self.execution, call.key, op, plan, since_ms=since_ms, had=self.had):
                op = await self.execution.park(call.key, op, stored=True)
            found = self.take_outcome(op, step_id)
        if found is None:
            return None
        event = ReceivedEvent.from_wire(found)
        self.had.add(event.uid)
        return event

    async def wait_for_signal(
        self, step_id: str, signal: str, timeout: Duration, on_conflict: OnConflict
    ) -> ReceivedSignal | None:
        what = f"step.wait_for_signal({step_id!r})"
        timeout_ms = parse_duration_ms(timeout, what=f"{what} timeout")
        key = signal_key(self.execution.host.config.app_id, check_signal_name(signal))
        replaces = check_on_conflict(on_conflict, what=what)
        call = await self.begin(step_id)
        now_ms = self.execution.host.clock.now_ms()
        op = Operation(
            "signal", WAIT, call.index, started=now_ms, due=now_ms + timeout_ms, signal=key,
            replaces=True if replaces else None,
        )  # fmt: skip
        found = await self.settle(call, step_id, op)
        return None if found is None else ReceivedSignal.from_wire(found)

    async def invoke(self, step_id: str, function_id: str, options: StepInvokeOptions, output: Shape) -> Any:
        timeout = options.get("timeout")
        timeout_ms = (
            None if timeout is None else parse_duration_ms(timeout, what=f"step.invoke({step_id!r}) timeout")
        )
        call = await self.begin(step_id)
        now_ms = self.execution.host.clock.now_ms()
        op = Operation(
            "invoke",
            WAIT,
            call.index,
            started=now_ms,
            due=None if timeout_ms is None else now_ms + timeout_ms,
        )
        if call.known is not None:
            return await self.settle(call, step_id, op, output=output)
        spec = await self.find_function(function_id)
        if spec is None:
            op.state = FAILED
            op.error = {
                "name": "FunctionNotFound",
                "message": f"no worker has registered the function {function_id!r}; "
                "check the id, and that its app's worker has run",
                "stack": "",
            }
            await self.keep(call, op)
            raise step_error(op.error, step_id)
        uid = derive_ulid(f"{self.execution.run_id}:{call.key}", now_ms)
        _, event = encode_event(
            Event(
                INVOKED, options.get("data") or {}, user=options.get("user"), headers=options.get("headers")
            ),
            now_ms=now_ms,
            max_bytes=self.execution.host.config.max_event_bytes,
            uid=uid,
            internal=True,
            inherited=self.execution.event.headers,
        )
        op.child = run_id_for(uid, function_id)
        plan = plan_run(spec, orjson.loads(event), run_id=op.child)
        child = InvokedRun(
            spec.id, spec.queue, op.child, event, plan.start_timeout_ms, plan.finish_timeout_ms, plan.flow
        )
        return await self.settle(call, step_id, op, child, output)

    async def find_function(self, function_id: str) -> FunctionSpec | None:
        self.execution.step_begins()
        try:
            manifest = await self.execution.ask(self.execution.host.registry.manifest(function_id))
        finally:
            self.execution.step_ended()
        return read_spec(manifest) if manifest else None

    async def send_event(self, step_id: str, events: Sequence[Event]) -> list[str]:
        execution = self.execution
        key = f"{execution.run_id}:{step_id}:{execution.replay.used.get(step_id, 0)}"
        born_ms = ulid_ms(execution.event.uid)

        async def publish() -> list[str]:
            ids, bodies = [], []
            for place, event in enumerate(events):
                public_id, body = encode_event(
                    event, now_ms=execution.host.clock.now_ms(), max_bytes=execution.host.config.max_event_bytes,
                    uid=derive_ulid(f"{key}:{place}", born_ms), inherited=execution.event.headers,
                )  # fmt: skip
                ids.append(public_id)
                bodies.append(body)
            await execution.host.publish_events(bodies)
            return ids

        sent: list[str] = await self.run(step_id, publish, (), {})
        return sent

    async def settle(
        self, call: Call, step_id: str, op: Operation, child: InvokedRun | None = None, output: Shape = ANY
    ) -> Any:
        """The result of an operation that something else resolves: known, or parked until then."""
        known = call.known
        if known is not None and known.is_finished:
            resolved = await self.execution.recall(call, known)
        else:
            parked = None if known else ParkedOp(call.key, op.pack(), child)
            resolved = await self.execution.park(
                call.key, known or op, stored=known is not None, parked=parked
            )
        return self.take_outcome(resolved, step_id, output)

    def take_outcome(self, op: Operation, step_id: str, output: Shape = ANY) -> Any:
        """The result of an operation, which came from outside: what steps return was checked before it was stored."""
        if op.data is not None:
            check_output_size(op.data, step_id, self.execution.host.config.max_step_output_bytes)
            self.execution.check_state_size()
        return op.outcome(step_id, output)

    async def keep(self, call: Call, op: Operation) -> None:
        """Commit an operation that is over at once."""
        if not self.execution.may_execute(call.key):
            await self.execution.tree.parked()  # for ever: see OfferedStepExecution
        op.ended = self.execution.host.clock.now_ms()
        op.due = None
        if op.state == WAIT:
            op.state, op.data = DONE, b"null"
        self.execution.step_begins()
        try:
            await self.execution.commit(call.key, op)
        finally:
            self.execution.step_ended()

    # --- parallel ---

    async def parallel(self, branches: Sequence[Callable[[], Awaitable[Any]]], mode: ParallelMode) -> Any:
        return await self.join([asyncio.ensure_future(as_coroutine(branch)) for branch in branches], mode)

    async def parallel_threads(self, branches: Sequence[Callable[[], Any]], mode: ParallelMode) -> Any:
        return await self.join(await self.threads.start_each(branches), mode)

    async def join(self, tasks: list[asyncio.Future[Any]], mode: ParallelMode) -> Any:
        """The results of all, in order; or, in a race, the result of the first, with the others cancelled."""
        if mode == "all":
            return await asyncio.gather(*tasks)
        if not tasks:
            raise NonRetriableError(
                "step.parallel(..., mode='race') needs at least one branch, got none: nothing would ever finish first. "
                "Check that what the branches are made of isn't empty."
            )
        finished: list[asyncio.Future[Any]] = []
        for task in tasks:
            task.add_done_callback(finished.append)
            task.add_done_callback(fetch_outcome)  # nobody asks for those of the losers
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self.execution.cancel_losers([task for task in tasks if task is not finished[0]])
        return finished[0].result()

    def block_on(self, work: Coroutine[Any, Any, R]) -> R:
        return self.threads.block_on(work)

    @property
    def threads(self) -> Threads:
        """Of a `def` handler."""
        assert self.execution.threads is not None
        return self.execution.threads


async def as_coroutine(branch: Callable[[], Awaitable[Any]]) -> Any:
    return await branch()


def check_output_size(data: bytes | str, step_id: str, max_bytes: int) -> None:
    size = len(data) if isinstance(data, bytes) else len(data.encode())
    if size > max_bytes:
        raise LimitExceeded(
            f"step {step_id!r} returned {size:,} bytes of JSON, but at most {max_bytes:,} are allowed "
            "(max_step_output_bytes). Keep large results elsewhere and return a reference."
        )
