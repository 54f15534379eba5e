"""Who carries a workload out: the functions' code, producers that send, and somebody who cancels. All of it tells the history."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import (
    BrokerUnavailable,
    NonRetriableError,
    RunNotFound,
    StepError,
    StoreUnavailable,
)
from taskflow.event import Event
from taskflow.flow.batch import Batch
from taskflow.flow.concurrency import Concurrency
from taskflow.flow.debounce import Debounce
from taskflow.flow.priority import Priority
from taskflow.flow.rate_limit import RateLimit
from taskflow.flow.singleton import Singleton
from taskflow.flow.throttle import Throttle
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.store.store import Store
from taskflow.timeouts import Timeouts
from taskflow.triggers import TriggerCron
from taskflow.values.clock import Clock
from tests.simulation.oddities import BROKEN, ERRORS, TEXTS
from tests.simulation.process import SimulatedProcess
from tests.simulation.releases import NEW, OLD
from tests.simulation.typed import Numbered
from tests.simulation.workload import BY_HAND, FunctionPlan, Limits, Op, Plan
from tests.simulation.world import START_MS, World

BY_KEY = "event.data.k"

current_call: ContextVar[int] = ContextVar("current_call")
"""The number of the call of a handler that the current code belongs to."""


@dataclass(slots=True)
class Execution:
    """One call of a step's function, and how it ends: done, failed or stopped."""

    token: int
    outcome: str = "stopped"
    error: str = ""


class Actors:
    """The workload's plan, as functions of an app and coroutines for producers."""

    def __init__(self, world: World, apps: Mapping[int, TaskFlow], plan: Plan) -> None:
        """`apps` are the releases of the code, by number; who sends and cancels uses the first."""
        self.world = world
        self.app = apps[OLD]
        self.plan = plan
        self.tokens = 0
        self.calls = 0  # of handlers
        self.live: dict[str, None] = {}  # runs that have begun, and not returned as far as is known
        for release, app in apps.items():
            for function in plan.functions:
                if release in function.releases and function.kind == "function":
                    self.register(function, app, release)
            # Events come from senders that do not know the types, so that receivers find out what does not fit.
            app._functions.types.by_name.clear()
            if plan.is_rolling:
                app.function(id=f"release-{release}")(never_called)

    def tell(self, what: str, **about: Any) -> None:
        loop = asyncio.get_running_loop()
        self.world.history.add(what, loop.name if isinstance(loop, SimulatedProcess) else "", **about)

    # --- functions ---

    def register(self, plan: FunctionPlan, app: TaskFlow, release: int) -> None:
        event = plan.event_in_new if release == NEW and plan.event_in_new else plan.event
        trigger: Any = TriggerCron(plan.cron, catchup="all") if plan.cron else event or None
        on_invalid: Any = plan.on_invalid or None
        timeouts = Timeouts(
            start=plan.start_timeout_s or None,
            finish=plan.finish_timeout_s or None,
            step=plan.step_timeout_ms / 1000 or None,
        )
        decorate = app.function(
            id=plan.name,
            trigger=Numbered if plan.on_invalid else trigger,
            on_invalid=on_invalid,
            retries=Retries(attempts=plan.retries, initial="500ms", maximum="4s"),
            timeouts=timeouts,
            queue=plan.queue,
            keep=plan.keep_s or None,
            keep_failed=plan.keep_failed_s or None,
            **flow_options(plan.limits),
        )
        decorate(
            self.handler_of(plan, plan.body_in_new if release == NEW and plan.body_in_new else plan.body)
        )

    def handler_of(self, plan: FunctionPlan, body: Sequence[Op]) -> Callable[..., Any]:
        async def handler(ctx: Context[Any], step: Step) -> Any:
            self.live[ctx.run_id] = None
            self.calls += 1
            current_call.set(self.calls)
            self.tell(
                "handler", run=ctx.run_id, call=self.calls, fn=ctx.function_id, attempt=ctx.attempt,
                uids=[event.uid for event in ctx.events], headers=dict(ctx.headers),
                expected=ctx.event.data.get("h", {}),
            )  # fmt: skip
            seen = await self.perform(body, ctx, step)
            self.tell("returned", run=ctx.run_id, call=current_call.get(), output=seen)
            return seen

        return handler

    async def perform(self, ops: Sequence[Op], ctx: Context[Any], step: Step) -> list[Any]:
        """Do these one after the other; what came of each."""
        return [await self.do(op, ctx, step) for op in ops]

    async def do(self, op: Op, ctx: Context[Any], step: Step) -> Any:
        match op.kind:
            case "step":
                return await self.step(op, op.id, ctx, step)
            case "work":
                return await self.execute(op, op.id, ctx.run_id)
            case "loop":
                keys = [op.id, *[f"{op.id}#{number}" for number in range(1, op.count)]]
                return [await self.step(op, key, ctx, step) for key in keys]
            case "sleep":
                await step.sleep(op.id, op.ms / 1000)
                self.tell("slept", run=ctx.run_id, call=current_call.get(), key=op.id)
                return None
            case "wait":
                return await self.wait(op, ctx, step)
            case "invoke":
                return await self.invoke(op, ctx, step)
            case "send":
                own = dict(op.headers)
                data = {
                    "n": -1,
                    "k": ctx.event.data.get("k", 0),
                    "from": ctx.run_id,
                    "h": {**ctx.headers, **own},
                }
                sent = await step.send_event(op.id, Event(op.target, data, headers=own))
                self.tell("sent", run=ctx.run_id, key=op.id, value=sent)
                return None
            case "fail":
                if self.world.chance(op.chance):
                    raise self.error(op, f"between the steps, at {op.id}")
                return None
            case "parallel":
                return await asyncio.gather(*[self.perform(branch, ctx, step) for branch in op.branches])
            case "race":
                branches = [self.branch(branch, ctx, step) for branch in op.branches]
                return await step.parallel(branches, mode="race")
            case "limit":
                try:
                    async with asyncio.timeout(op.ms / 1000):
                        return await self.perform(op.branches[0], ctx, step)
                except TimeoutError:
                    keys = [inner.id for inner in op.branches[0]]
                    self.tell("gave_up", run=ctx.run_id, call=current_call.get(), keys=keys)
                    return ["timed out"]
            case "fan":
                keys = [op.id, *[f"{op.id}#{number}" for number in range(1, op.count)]]
                return await asyncio.gather(*[self.step(op, key, ctx, step) for key in keys])
            case "try":
                try:
                    return await self.perform(op.branches[0], ctx, step)
                except StepError as error:
                    return ["caught", error.name]
        raise AssertionError(op.kind)

    def branch(self, ops: Sequence[Op], ctx: Context[Any], step: Step) -> Callable[[], Any]:
        return lambda: self.perform(ops, ctx, step)

    async def step(self, op: Op, key: str, ctx: Context[Any], step: Step) -> Any:
        fn = self.execute_blocking if op.is_blocking else self.execute
        value = await step.run(op.id, fn, op, key, ctx.run_id)
        self.tell("saw", run=ctx.run_id, call=current_call.get(), key=key, value=value)
        return value

    async def execute(self, op: Op, key: str, run_id: str) -> int:
        """A step's function, or the body of a function without steps; the token of this execution."""
        with self.execution(key, run_id) as execution:
            if op.ms:
                await asyncio.sleep(op.ms / 1000)
            return self.end(execution, op, key)

    def execute_blocking(self, op: Op, key: str, run_id: str) -> int:
        with self.execution(key, run_id) as execution:
            return self.end(execution, op, key)

    @contextmanager
    def execution(self, key: str, run_id: str) -> Iterator[Execution]:
        """Tell of the call of a step's function."""
        self.tokens += 1
        execution = Execution(self.tokens)
        self.tell("step", run=run_id, key=key, token=execution.token)
        try:
            yield execution
        finally:
            self.tell(
                "step_end", run=run_id, key=key, token=execution.token, outcome=execution.outcome, error=execution.error
            )  # fmt: skip

    def end(self, execution: Execution, op: Op, key: str) -> int:
        if self.world.chance(op.chance):
            error = self.error(op, f"step {key}")
            execution.outcome, execution.error = "failed", type(error).__name__
            raise error
        execution.outcome = "done"
        return execution.token

    def error(self, op: Op, text: str) -> BaseException:
        """What it fails with: now and then for good, now and then with a text that can't be stored as it is."""
        if self.world.chance(0.15):
            return NonRetriableError(text)
        return ERRORS[op.error](f"{text} {BROKEN}" if self.world.chance(0.1) else text)

    async def wait(self, op: Op, ctx: Context[Any], step: Step) -> Any:
        lookback = op.lookback_ms / 1000 if op.lookback_ms else None
        event = await step.wait_for_event(
            op.id, op.target, timeout=op.ms / 1000, match="data.k", lookback=lookback
        )
        uid = None if event is None else event.uid
        self.tell(
            "waited", run=ctx.run_id, call=current_call.get(), key=op.id, uid=uid, k=ctx.event.data.get("k")
        )
        return uid

    async def invoke(self, op: Op, ctx: Context[Any], step: Step) -> Any:
        timeout = op.ms / 1000 if op.ms else None
        own = dict(op.headers)
        data = {"n": 0, "k": ctx.event.data.get("k", 0), "p": 0, "h": {**ctx.headers, **own}}
        try:
            result = await step.invoke(
                op.id, function_id=f"{self.app.id}/{op.target}", data=data, headers=own, timeout=timeout
            )
        except StepError as error:
            self.tell("invoked", run=ctx.run_id, call=current_call.get(), key=op.id, error=error.name)
            return ["caught", error.name]
        self.tell("invoked", run=ctx.run_id, call=current_call.get(), key=op.id, result=result)
        return result

    # --- producers ---

    async def send_all(self, sendings: Sequence[Any]) -> None:
        """Send the plan's events, each at its time or as soon after as can be."""
        for sending in sendings:
            await sleep_until_ms(self.world, sending.at_ms)
            events = [
                Event(
                    each["name"],
                    each["data"],
                    id=each.get("id"),
                    headers=each.get("headers"),
                    ts=self.world.now_ms + each["delay_ms"] if "delay_ms" in each else None,
                    v=each.get("v"),
                )
                for each in sending.events
            ]
            numbers = [each["data"]["n"] for each in sending.events]
            try:
                await self.app.asend(events)
            except BrokerUnavailable:
                self.tell("refused", numbers=numbers)
            else:
                self.tell("accepted", numbers=numbers)

    async def cancel_some(self, times_ms: Sequence[int]) -> None:
        for at_ms in sorted(times_ms):
            await sleep_until_ms(self.world, at_ms)
            if not self.live:
                continue
            run_id = self.world.random.choice(list(self.live))
            self.tell("cancelling", run=run_id)
            reason = f"simulated {self.world.random.choice(TEXTS)}"
            try:
                is_taken = await self.app.run(run_id).acancel(reason)
            except (StoreUnavailable, RunNotFound) as error:
                self.tell("cancel_failed", run=run_id, error=type(error).__name__)
            else:
                self.tell("cancelled", run=run_id, is_taken=is_taken)

    # --- an operator ---

    async def pause_queues(self, pauses: Sequence[tuple[int, int, str]]) -> None:
        """Each queue is resumed, however often that has to be tried."""
        for from_ms, to_ms, queue in sorted(pauses):
            await sleep_until_ms(self.world, from_ms)
            await self.steer(partial(pause_queue, queue=queue, clock=self.app._link.clock))
            await sleep_until_ms(self.world, to_ms)
            await self.steer(partial(resume_queue, queue=queue, clock=self.app._link.clock))

    async def steer(self, command: Callable[[Store], Awaitable[Any]]) -> None:
        while True:
            try:
                async with self.app._link.session().deadline() as store:
                    await command(store)
                return
            except StoreUnavailable:
                await asyncio.sleep(0.5)

    async def start_some(self, starts: Sequence[tuple[int, str, str]]) -> None:
        """Start runs by hand, each in a queue that need not be its function's."""
        control = self.app._link.control()
        for at_ms, function, queue in sorted(starts):
            await sleep_until_ms(self.world, at_ms)
            spec = self.app.functions[f"{self.app.id}/{function}"].spec
            event = Event(BY_HAND, {"n": 0, "k": self.world.random.choice(self.plan.keys), "p": 0})
            try:
                run_id = await control.start(spec, event, queue=queue)
            except StoreUnavailable:
                self.tell("not_started", function=function)
            else:
                self.tell("started", run=run_id, queue=queue)


async def pause_queue(store: Store, *, queue: str, clock: Clock) -> None:
    await store.steering.pause_queue("sim", queue, now_ms=clock.now_ms())


async def resume_queue(store: Store, *, queue: str, clock: Clock) -> None:
    await store.steering.resume_queue("sim", queue, now_ms=clock.now_ms())


async def never_called(ctx: Context[Any]) -> None:
    """Tells one release from the other."""


async def sleep_until_ms(world: World, at_ms: int) -> None:
    await asyncio.sleep(max(0, START_MS + at_ms - world.now_ms) / 1000)


def flow_options(limits: Limits) -> dict[str, Any]:
    """The arguments of `app.function` for these limits."""
    options: dict[str, Any] = {}
    if limits.concurrency:
        options["concurrency"] = [
            Concurrency(limit, key=BY_KEY if by_key else None, scope=scope)  # type: ignore[arg-type]
            for limit, by_key, scope in limits.concurrency
        ]
    if limits.throttle:
        limit, period_s, burst, by_key = limits.throttle
        options["throttle"] = Throttle(limit, period_s, burst=burst, key=BY_KEY if by_key else None)
    if limits.rate:
        limit, period_s, by_key = limits.rate
        options["rate_limit"] = RateLimit(limit, period_s, key=BY_KEY if by_key else None)
    if limits.debounce:
        period_s, timeout_s, by_key = limits.debounce
        options["debounce"] = Debounce(period_s, key=BY_KEY if by_key else None, timeout=timeout_s or None)
    if limits.batch:
        size, timeout_s, by_key = limits.batch
        options["batch_events"] = Batch(size, timeout_s, key=BY_KEY if by_key else None)
    if limits.singleton:
        options["singleton"] = Singleton(key=BY_KEY, mode=limits.singleton)  # type: ignore[arg-type]
    if limits.has_priority:
        options["priority"] = Priority(run="event.data.p")
    if limits.idempotency:
        options["idempotency"] = BY_KEY
    return options
