"""Router: makes runs of events, and resumes waits. Rules S1.3, S1.4, S1.6, S2.2, S3.3, S9.1.

It decides which functions of all live code bases of the app (S2.7) an event starts; one script then records a batch of events and
makes the runs. Routing twice is harmless, since run ids derive from event and function.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Container, Coroutine, Sequence
from contextvars import Context as ContextVars
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import orjson

from taskflow.config import Config
from taskflow.errors import InvalidEvent, StoreUnavailable
from taskflow.event import WireEvent, decode_message
from taskflow.observability.meter import Meter
from taskflow.redis.scripts import Answer
from taskflow.routing.known import KnownFunctions, UnreadableFunctions
from taskflow.routing.plan import plan_run
from taskflow.routing.waits import lookups_of, resume_waits
from taskflow.store.claimed import Claim, ClaimedRun
from taskflow.store.hints import Hint
from taskflow.store.lease import LEASE_LOST, Lease
from taskflow.store.routing import Arrival, EditionChanged, EventPlan, Routed
from taskflow.store.store import Store
from taskflow.values.clock import Clock

logger = logging.getLogger("taskflow.router")

BATCH = 50  # the most events in one call of the script, so that it blocks the store for about 2 ms
IN_FLIGHT = 2  # scripts at a time


class RunTaker(Protocol):
    """The part of this process that executes runs."""

    @property
    def queues(self) -> Sequence[str]:
        """The queues whose runs it executes."""
        ...

    def reserve(self, wanted: int) -> int:
        """Set up to `wanted` free slots aside; return how many."""
        ...

    def unreserve(self, count: int) -> None: ...

    def start(self, claimed: ClaimedRun, epoch: int) -> None:
        """Execute a run, which was claimed in the lease's `epoch`, in a slot that was set aside. LEASE_LOST: hand it back."""
        ...

    @property
    def functions(self) -> Container[str]:
        """The ids of the functions that it can execute."""
        ...

    def look_for_work(self, queue: str) -> None:
        """Look for ready runs in this queue."""
        ...

    def send_hints(self, hints: Sequence[Hint]) -> None: ...


@dataclass(slots=True)
class Receipt:
    """The outcome of some messages; `done` is set when all of their events are routed."""

    bodies: Sequence[bytes]
    done: asyncio.Future[None]
    left: int = 0
    unreadable: dict[int, InvalidEvent] = field(default_factory=dict)  # by message
    failures: dict[int, BaseException] = field(default_factory=dict)  # by message


class Arrived(NamedTuple):
    """An event that waits to be routed."""

    event: WireEvent
    message: int
    receipt: Receipt


class SentBatch(NamedTuple):
    """A batch of events that was sent to the script, whose reply has not come yet."""

    events: Sequence[WireEvent]
    plans: Sequence[EventPlan]
    edition: str  # the edition of the functions by which the batch was planned
    now_ms: int
    epoch: int  # the epoch of the lease before the script was sent
    reserved: int  # how many slots were set aside
    outcome: Answer[tuple[list[Routed], list[Hint]]]


class Router:
    """Routes the events of broker messages, in batches that need not follow the messages."""

    def __init__(
        self, *, store: Store, config: Config, clock: Clock, known: KnownFunctions, taker: RunTaker, child_id: str,
        lease: Lease, meter: Meter | None = None,
    ) -> None:  # fmt: skip
        self.store = store
        self.config = config
        self.clock = clock
        self.known = known
        self.taker = taker
        self.child_id = child_id
        self.lease = lease
        self.meter = meter
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[Arrived] = deque()
        self.in_flight = 0  # how many batches are under way

    def take(self, bodies: Sequence[bytes]) -> Receipt:
        """Begin to route the events of broker messages, in order: the first batch is on its way when this returns."""
        receipt = Receipt(bodies, self.loop.create_future())
        for place, body in enumerate(bodies):
            try:
                events = decode_message(body)
            except InvalidEvent as error:
                receipt.unreadable[place] = error
            else:
                receipt.left += len(events)
                for event in events:
                    self.waiting.append(Arrived(event, place, receipt))
        if not receipt.left:
            receipt.done.set_result(None)
        self.route_waiting()
        return receipt

    async def settle(self, receipt: Receipt) -> list[BaseException | None]:
        """Wait until the messages are routed. A message that can't be read is kept as a dead letter.

        Returns None for each message whose events are all in the store, so that it may be acknowledged, else what went wrong.
        """
        for place, error in receipt.unreadable.items():
            logger.error("a broker message can't be read (%s); it is kept: taskflow dead-letters", error)
            await self.store.history.keep_dead_letter(
                receipt.bodies[place], str(error), now_ms=self.clock.now_ms()
            )
        await receipt.done
        return [receipt.failures.get(place) for place in range(len(receipt.bodies))]

    def route_waiting(self) -> None:
        while self.waiting and self.in_flight < IN_FLIGHT:
            self.start_batch()

    def start_batch(self) -> None:
        self.in_flight += 1
        batch = [self.waiting.popleft() for _ in range(min(len(self.waiting), BATCH))]
        try:
            sent = self.send([one.event for one in batch])
        except Exception:  # `route_apart` finds out which event is to blame: it routes each by itself
            sent = None
        self.store.flush()  # don't wait for the end of the loop's turn, which takes 50 us on an idle machine
        self.spawn(self.route_batch(batch, sent))

    async def route_batch(self, batch: Sequence[Arrived], sent: SentBatch | None) -> None:
        """Route a batch, and note the outcome for its messages."""
        try:
            failures = await self.route_apart(batch, sent)
        finally:
            self.in_flight -= 1
            self.route_waiting()
        for one, error in failures:
            one.receipt.failures[one.message] = error
        for one in batch:
            one.receipt.left -= 1
            if not one.receipt.left and not one.receipt.done.done():
                one.receipt.done.set_result(None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.create_task(work, context=ContextVars())

    async def route_apart(
        self, batch: Sequence[Arrived], sent: SentBatch | None = None
    ) -> list[tuple[Arrived, BaseException]]:
        """Route a batch; if it fails, route each event by itself, so that one bad event harms no other. Returns what failed."""
        try:
            await self.finish(sent or self.send([one.event for one in batch]))
        except (StoreUnavailable, UnreadableFunctions, asyncio.CancelledError) as error:
            return [(one, error) for one in batch]
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            failures: list[tuple[Arrived, BaseException]] = []
            for one in batch:
                failures += await self.route_apart([one])
            return failures
        return []

    def send(self, events: Sequence[WireEvent]) -> SentBatch:
        """Send the script that records the events and makes their runs."""
        now_ms = self.clock.now_ms()
        plans = [self.plan_event(event, now_ms) for event in events]
        epoch = self.lease.epoch
        ours = sum(run.is_claimable for plan in plans for run in plan.runs)
        reserved = self.taker.reserve(ours) if ours and self.lease.is_valid() else 0
        try:
            outcome = self.store.routing.route(
                plans, app_id=self.config.app_id, version=self.config.app_version, edition=self.known.edition,
                child_id=self.child_id if reserved else "", free_slots=reserved, now_ms=now_ms,
            )  # fmt: skip
        except BaseException:
            self.taker.unreserve(reserved)
            raise
        return SentBatch(events, plans, self.known.edition, now_ms, epoch, reserved, outcome)

    async def finish(self, sent: SentBatch) -> None:
        """After the script's reply: execute the runs that this process got, and resume the waits for the events."""
        try:
            routed, hints = await sent.outcome
        except EditionChanged:
            self.taker.unreserve(sent.reserved)
            await self.known.follow(sent.edition)
            return await self.finish(self.send(sent.events))
        except BaseException:
            self.taker.unreserve(sent.reserved)
            raise
        if self.meter is not None:
            self.meter.events_routed(len(sent.events))
        claimed = 0
        epoch = sent.epoch if not sent.reserved or self.lease.is_valid(epoch=sent.epoch) else LEASE_LOST
        for event, plan, outcome in zip(sent.events, sent.plans, routed, strict=True):
            if outcome.claimed:
                claimed += len(outcome.claimed)
                self.start_claimed(event, plan, outcome, sent.now_ms, epoch)
        if claimed < sent.reserved:
            self.taker.unreserve(sent.reserved - claimed)
            for queue in dict.fromkeys(
                run.queue for plan in sent.plans for run in plan.runs if run.is_claimable
            ):
                self.taker.look_for_work(queue)  # older runs are ready, and go first
        if hints:
            self.taker.send_hints(hints)
        await self.resume_waits(sent.events, sent.plans, routed)

    def plan_event(self, event: WireEvent, now_ms: int) -> EventPlan:
        uid, public_id = event["uid"], event["id"]
        due_ms = event.get("due", 0)
        start_at_ms = due_ms if due_ms > now_ms else 0
        runs = [
            plan_run(
                spec, event, start_at_ms=start_at_ms, is_direct=False,
                is_claimable=spec.queue in self.taker.queues and spec.id in self.taker.functions,
            )
            for spec in self.known.listeners.of(event)
        ]  # fmt: skip
        return EventPlan.of(
            uid, "" if public_id == uid else public_id, event["name"], orjson.dumps(event), runs
        )

    def start_claimed(
        self, event: WireEvent, plan: EventPlan, routed: Routed, now_ms: int, epoch: int
    ) -> None:
        # A handler may change its event. So only one handler gets this object, and none if waits have still to read it.
        wire = None if routed.wait_paths else event
        for run in plan.runs:
            fence = routed.claimed.get(run.run_id)
            if fence is not None:
                claim = Claim(run.run_id, self.child_id, fence)
                claimed = ClaimedRun.fresh(claim, run.function_id, plan.text, wire=wire, now_ms=now_ms)
                self.taker.start(claimed, epoch)
                wire = None

    async def resume_waits(
        self, events: Sequence[WireEvent], plans: Sequence[EventPlan], routed: Sequence[Routed]
    ) -> None:
        """Resolve the waits that the events end."""
        arrivals, arrived = [], []
        for event, plan, outcome in zip(events, plans, routed, strict=True):
            lookups = lookups_of(event, outcome.wait_paths) if outcome.wait_paths else []
            if lookups:
                arrivals.append(Arrival(plan.uid, outcome.seq, plan.text, lookups))
                arrived.append(event)
        if not arrivals:
            return
        hints = await resume_waits(self.store.routing, arrivals, arrived, now_ms=self.clock.now_ms)
        if hints:
            self.taker.send_hints(hints)
