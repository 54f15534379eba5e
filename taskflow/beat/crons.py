"""Crons: finds the ticks that are due, and starts their runs. Rules S2.3, S8.1."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from taskflow.beat.cron import latest_tick_ms, missed_ticks, next_tick_ms
from taskflow.beat.leader import Deposed
from taskflow.beat.timers import SendWork
from taskflow.errors import ConfigError
from taskflow.event import Event, encode_event
from taskflow.function import FunctionSpec, read_spec
from taskflow.routing.plan import plan_run
from taskflow.store.duties import Fence
from taskflow.store.keys import SEPARATOR
from taskflow.store.store import Store
from taskflow.triggers import TriggerCron

logger = logging.getLogger("taskflow.beat")

SCHEDULED = "taskflow/scheduled.timer"
# The functions are read anew at least this often; when they change, beat is nudged and reads them at once.
REFRESH_MS = 60_000
ON_TIME_MS = (
    10_000  # a tick that is fired at most so late was not missed: the lead may take that long to pass
)
FUTURE_MS = (
    60_000  # a last tick beyond that was noted by a clock that was wrong; `fire_cron` has the same figure
)
MAX_CATCHUP = 1_000  # ticks that catchup="all" makes up for at a time


@dataclass(slots=True)
class Schedule:
    """One cron trigger of one function."""

    spec: FunctionSpec
    trigger: TriggerCron
    version: str
    next_ms: int = 0  # the next tick
    fire_ms: int = 0  # when to fire it: the tick plus its jitter

    @property
    def name(self) -> str:
        return f"{self.spec.id}{SEPARATOR}{self.trigger.cron}"

    def plan_next(self, after_ms: int) -> None:
        self.next_ms = next_tick_ms(self.trigger.cron, after_ms)
        # The tick itself seeds the jitter, so that a new leader draws the same one.
        draw = random.Random(f"{self.name}{self.next_ms}").random()
        self.fire_ms = self.next_ms + int(draw * (self.trigger.jitter_ms or 0))


class Crons:
    """Fires the ticks of all crons: `run_once` fires those that are due, and says when the next one is."""

    def __init__(self, store: Store, send_work: SendWork) -> None:
        self.store = store
        self.send_work = send_work
        self.schedules: dict[str, Schedule] = {}
        self.refresh_at_ms = 0

    async def run_once(self, now_ms: int, fence: Fence) -> int | None:
        """Fire all ticks that are due, each once; return when (ms) the next one is, or None. Raises Deposed."""
        if now_ms >= self.refresh_at_ms:
            await self.refresh(now_ms, fence)
        for schedule in self.schedules.values():
            if (
                now_ms - schedule.fire_ms > ON_TIME_MS
            ):  # the store was away, or the clock was set, or the machine slept
                await self.catch_up(schedule, schedule.next_ms - 1, fence, now_ms)
                schedule.plan_next(now_ms)
            while schedule.fire_ms <= now_ms:
                await self.fire(schedule, schedule.next_ms, fence, now_ms)
                schedule.plan_next(schedule.next_ms)
        return min((schedule.fire_ms for schedule in self.schedules.values()), default=None)

    def functions_changed(self) -> None:
        self.refresh_at_ms = 0

    def clock_went_back(self) -> None:
        """Plan all ticks anew: the store's clock went back, so those that are planned are too far away."""
        self.schedules = {}
        self.refresh_at_ms = 0

    async def refresh(self, now_ms: int, fence: Fence) -> None:
        """Read the functions that workers have registered, and catch up ticks that nobody fired."""
        self.refresh_at_ms = now_ms + REFRESH_MS
        found = await self.read_schedules()
        last_ticks = await self.store.registry.last_ticks()
        for name, schedule in found.items():
            known = self.schedules.get(name)
            if known is not None:
                schedule.next_ms, schedule.fire_ms = known.next_ms, known.fire_ms
                continue
            last_ms = last_ticks.get(name)
            # The schedule is new, or its last tick was noted by a clock that was ahead: ticks count as missed only from now on.
            if last_ms is None or last_ms > now_ms + FUTURE_MS:
                await self.note(schedule, now_ms, fence)
            else:
                await self.catch_up(schedule, last_ms, fence, now_ms)
            schedule.plan_next(now_ms)
        self.schedules = found

    async def read_schedules(self) -> dict[str, Schedule]:
        found: dict[str, Schedule] = {}
        for app_id, version in (await self.store.registry.apps()).items():
            for manifest in (await self.store.registry.manifests(app_id)).values():
                try:
                    spec = read_spec(manifest)
                except ConfigError as error:
                    logger.error("a function of %s is left out: %s", app_id, error)
                    continue
                for trigger in spec.triggers:
                    if isinstance(trigger, TriggerCron):
                        schedule = Schedule(spec, trigger, version)
                        found[schedule.name] = schedule
        return found

    async def catch_up(self, schedule: Schedule, last_ms: int, fence: Fence, now_ms: int) -> None:
        """Fire the ticks that the trigger's `catchup` asks for, of those that fell due while nothing could fire them."""
        for tick_ms in due_ticks(schedule.trigger, last_ms, now_ms):
            await self.fire(schedule, tick_ms, fence, now_ms)

    async def fire(self, schedule: Schedule, tick_ms: int, fence: Fence, now_ms: int) -> None:
        spec, trigger = schedule.spec, schedule.trigger
        uid = self.store.registry.derive_uid(f"{schedule.name}{SEPARATOR}{tick_ms}", tick_ms)
        scheduled_at = datetime.fromtimestamp(tick_ms / 1000, UTC).isoformat()
        data = {**(trigger.data or {}), "cron": trigger.cron, "scheduled_at": scheduled_at}
        _, event = encode_event(
            Event(SCHEDULED, data, ts=tick_ms, headers=trigger.headers),
            now_ms=now_ms,
            max_bytes=1 << 20,
            uid=uid,
            internal=True,
        )
        plan = plan_run(spec, orjson.loads(event))
        outcome, hints = await self.store.duties.fire_cron(
            schedule.name,
            tick_ms,
            fence=fence,
            plan=plan,
            event=event,
            version=schedule.version,
            now_ms=now_ms,
        )
        if outcome == "fenced":
            raise Deposed
        if hints:
            self.send_work(hints)

    async def note(self, schedule: Schedule, now_ms: int, fence: Fence) -> None:
        outcome, _ = await self.store.duties.fire_cron(
            schedule.name, now_ms, fence=fence, plan=None, event=b"", version="", now_ms=now_ms
        )
        if outcome == "fenced":
            raise Deposed


def due_ticks(trigger: TriggerCron, last_ms: int, now_ms: int) -> Sequence[int]:
    """The ticks after `last_ms`, up to `now_ms`, that are to be fired. Rule S8.1.

    If the first of them is late by at most `ON_TIME_MS`, no tick was missed, and all are fired; otherwise `catchup` decides.
    """
    first_ms = next_tick_ms(trigger.cron, last_ms)
    if first_ms > now_ms:
        return ()
    if trigger.catchup == "all" or now_ms - first_ms <= ON_TIME_MS:
        return missed_ticks(trigger.cron, last_ms, now_ms, MAX_CATCHUP)
    return () if trigger.catchup == "none" else (latest_tick_ms(trigger.cron, now_ms),)
