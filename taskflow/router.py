"""Events into runs and resumed waits. Rules S1.3, S1.4, S1.6, S2.2, S3.3, S9.1.

What an event starts is decided here, from the app's own functions; one script then records a batch of events and makes the runs.
Routing twice is harmless: run ids derive from event and function.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from taskflow.clock import Clock
from taskflow.config import Config
from taskflow.engine.host import Lease
from taskflow.errors import InvalidEvent, StoreUnavailable
from taskflow.event import decode_message
from taskflow.expressions.cel import Expression, compile_expression
from taskflow.function import FunctionSpec
from taskflow.ids import run_id_for
from taskflow.store.claims import Claim, ClaimedRun, Hint
from taskflow.store.routing import EventPlan, Routed, RunPlan
from taskflow.store.store import Store
from taskflow.triggers import TriggerEvent
from taskflow.waits import meets_condition, tokens_of

logger = logging.getLogger("taskflow.router")

Wire = dict[str, Any]

BATCH = 50  # events in one script at most, so that it blocks the store for 2 ms or so


@dataclass(frozen=True, slots=True)
class Listener:
    """A function as one of its event triggers sees it."""

    spec: FunctionSpec
    expression: Expression | None

    def wants(self, event: Wire) -> bool:
        return self.expression is None or self.expression.matches(event)


class Listeners:
    """Which functions an event starts: by name in a dict, by pattern in a list."""

    def __init__(self, specs: Sequence[FunctionSpec]) -> None:
        self.by_name: dict[str, list[Listener]] = {}
        self.by_prefix: list[tuple[str, Listener]] = []
        for spec in specs:
            for trigger in spec.triggers:
                if isinstance(trigger, TriggerEvent):
                    self.add(spec, trigger)

    def add(self, spec: FunctionSpec, trigger: TriggerEvent) -> None:
        expression = None
        if trigger.expression is not None:
            expression = compile_expression(
                trigger.expression, what=f"function {spec.id!r}: trigger expression"
            )
        listener = Listener(spec, expression)
        if trigger.is_pattern:
            self.by_prefix.append((trigger.event[:-1], listener))
        else:
            self.by_name.setdefault(trigger.event, []).append(listener)

    def of(self, event: Wire) -> list[FunctionSpec]:
        """The functions that the event starts, each once, however many of their triggers it meets."""
        name = event["name"]
        listeners = self.by_name.get(name, [])
        if self.by_prefix:
            listeners = listeners + [
                listener for prefix, listener in self.by_prefix if name.startswith(prefix)
            ]
        specs: dict[str, FunctionSpec] = {}
        for listener in listeners:
            if listener.spec.id not in specs and listener.wants(event):
                specs[listener.spec.id] = listener.spec
        return list(specs.values())


class RunTaker(Protocol):
    """Who executes runs in this process."""

    @property
    def queues(self) -> Sequence[str]:
        """The queues whose runs it executes."""
        ...

    def reserve(self, wanted: int) -> int:
        """Set up to `wanted` free slots aside; returns how many."""
        ...

    def unreserve(self, count: int) -> None: ...

    def start(self, claimed: ClaimedRun, epoch: int) -> None:
        """Execute a run, claimed in the lease's `epoch`, in a slot that was set aside."""
        ...

    def send_hints(self, hints: Sequence[Hint]) -> None: ...


class Router:
    """Routes broker messages of events."""

    def __init__(
        self, *, store: Store, config: Config, clock: Clock, listeners: Listeners, taker: RunTaker, child_id: str,
        lease: Lease,
    ) -> None:  # fmt: skip
        self.store = store
        self.config = config
        self.clock = clock
        self.listeners = listeners
        self.taker = taker
        self.child_id = child_id
        self.lease = lease

    async def route_messages(self, bodies: Sequence[bytes]) -> list[BaseException | None]:
        """Route the events of broker messages, in order; one that can't be read is kept as a dead letter.

        None for each message whose events are all in the store, so that it may be acknowledged; else what went wrong.
        """
        outcomes: list[BaseException | None] = [None] * len(bodies)
        events: list[tuple[int, Wire]] = []
        for place, body in enumerate(bodies):
            try:
                events += [(place, event) for event in decode_message(body)]
            except InvalidEvent as error:
                logger.error("a broker message can't be read (%s); it is kept: taskflow dead-letters", error)
                await self.store.history.keep_dead_letter(body, str(error), now_ms=self.clock.now_ms())
        batches = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]
        results = await asyncio.gather(*[self.route_apart(batch) for batch in batches])
        for failures in results:
            outcomes = (
                [failures.get(place, outcome) for place, outcome in enumerate(outcomes)]
                if failures
                else outcomes
            )
        return outcomes

    async def route_apart(self, batch: Sequence[tuple[int, Wire]]) -> dict[int, BaseException]:
        """Route a batch; when it fails, each event by itself, so that one bad event harms no other. What failed, by message."""
        try:
            await self.route([event for _, event in batch])
        except (StoreUnavailable, asyncio.CancelledError) as error:
            return {place: error for place, _ in batch}
        except Exception as error:
            if len(batch) == 1:
                return {batch[0][0]: error}
            failures: dict[int, BaseException] = {}
            for one in batch:
                failures |= await self.route_apart([one])
            return failures
        return {}

    async def route(self, events: Sequence[Wire]) -> None:
        """Record events, make their runs, resume what waits for them."""
        now_ms = self.clock.now_ms()
        plans = [self.plan_event(event, now_ms) for event in events]
        epoch = self.lease.epoch
        ours = sum(run.is_claimable for plan in plans for run in plan.runs)
        reserved = self.taker.reserve(ours) if ours and self.lease.is_valid() else 0
        try:
            routed, hints = await self.store.routing.route(
                plans, app_id=self.config.app_id, version=self.config.app_version,
                child_id=self.child_id if reserved else "", free_slots=reserved, now_ms=now_ms,
            )  # fmt: skip
        except BaseException:
            self.taker.unreserve(reserved)
            raise
        claimed = 0
        for plan, outcome in zip(plans, routed, strict=True):
            if outcome.claimed:
                claimed += len(outcome.claimed)
                self.start_claimed(plan, outcome, now_ms, epoch)
        self.taker.unreserve(reserved - claimed)
        if hints:
            self.taker.send_hints(hints)
        for event, plan, outcome in zip(events, plans, routed, strict=True):
            if outcome.wait_paths:
                await self.resume_waits(event, plan.text, outcome)

    def plan_event(self, event: Wire, now_ms: int) -> EventPlan:
        uid, public_id = event["uid"], event["id"]
        runs = [self.plan(spec, event, now_ms) for spec in self.listeners.of(event)]
        return EventPlan(uid, "" if public_id == uid else public_id, event["name"], orjson.dumps(event), runs)

    def plan(self, spec: FunctionSpec, event: Wire, now_ms: int) -> RunPlan:
        return RunPlan(
            spec.id,
            spec.queue,
            run_id_for(event["uid"], spec.id),
            due_ms if (due_ms := event.get("due", 0)) > now_ms else 0,
            spec.timeouts.start_ms or 0,
            spec.timeouts.finish_ms or 0,
            is_claimable=spec.queue in self.taker.queues,
        )

    def start_claimed(self, plan: EventPlan, routed: Routed, now_ms: int, epoch: int) -> None:
        for run in plan.runs:
            fence = routed.claimed.get(run.run_id)
            if fence is not None:
                claim = Claim(run.run_id, self.child_id, fence)
                self.taker.start(
                    ClaimedRun(claim, run.function_id, plan.text, 0, now_ms, now_ms, "event", 0, b"", {}),
                    epoch,
                )

    async def resume_waits(self, event: Wire, text: bytes, routed: Routed) -> None:
        """Resolve the waits that the event ends."""
        tokens = tokens_of(event, routed.wait_paths)
        if not tokens:
            return
        uid = event["uid"]
        hints, open_waits = await self.store.routing.find_waits(
            uid=uid, seq=routed.seq, name=event["name"], event=text, tokens=tokens, now_ms=self.clock.now_ms()
        )
        for wait in open_waits:
            if meets_condition(wait.condition, run_event=wait.run_event, event=event):
                hints += await self.store.routing.resolve_wait(
                    wait, uid=uid, event=text, now_ms=self.clock.now_ms()
                )
        if hints:
            self.taker.send_hints(hints)
