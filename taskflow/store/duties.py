"""Duties: the store's methods for beat (lead, fire timers and crons, find lost work, trim history). Rules S8, S9."""

from __future__ import annotations

from typing import NewType

from taskflow.redis.scripts import Scripts
from taskflow.store.hints import Hint, OutboxEvent, parse_hints
from taskflow.store.routing import RunPlan
from taskflow.values.record import record

Fence = NewType("Fence", int)


@record
class Fired:
    """The outcome of firing timers."""

    count: int
    hints: list[Hint]
    next_due_ms: int | None


@record
class DeadWorker:
    worker_id: str  # empty for a child that had ended when a late command of it claimed runs
    child_ids: list[str]


@record(kw_only=True)
class Lost:
    """Lost work, for which beat has to make up."""

    hints: list[Hint]  # work messages to send again
    events: list[OutboxEvent]  # events that nobody published
    workers: list[DeadWorker]
    next_ms: int | None  # when the next entry counts as lost, if nothing changes
    next_timer_ms: int | None  # when the first timer is due
    has_bulks: bool  # bulk operations run


class Duties:
    """The scripts that beat calls."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    async def lead(self, beat_id: str, *, now_ms: int, term_ms: int) -> Fence | None:
        """Become or stay the leader; return the fence, or None while another beat leads."""
        fence = await self.scripts.lead(now_ms=now_ms, beat_id=beat_id, term_ms=term_ms)
        return Fence(fence) if fence else None

    async def abdicate(self, beat_id: str) -> None:
        """Give the lead away on a clean stop."""
        await self.scripts.abdicate(beat_id=beat_id)

    async def fire_timers(self, *, limit: int, now_ms: int) -> Fired:
        """Fire up to `limit` timers that are due."""
        count, hints, first = await self.scripts.fire_timers(now_ms=now_ms, limit=limit)
        return Fired(count, parse_hints(hints), int(float(first)) if first else None)

    async def fire_cron(
        self, schedule: str, tick_ms: int, *, fence: Fence, plan: RunPlan | None, event: bytes, version: str,
        now_ms: int,
    ) -> tuple[str, list[Hint]]:  # fmt: skip
        """Start the run of a tick, or only note the tick (`plan` is None); returns 'fired', 'known' or 'fenced', and hints."""
        outcome, hints = await self.scripts.fire_cron(
            now_ms=now_ms,
            fence=fence,
            schedule=schedule,
            tick_ms=tick_ms,
            version=version,
            event=event,
            runs=(plan,) if plan else (),
        )
        return outcome.decode(), parse_hints(hints)

    async def forget_worker(self, worker_id: str, *, silent_since_ms: int | None = None) -> bool:
        """Forget a worker; with `silent_since_ms`, only if it gave no heartbeat since. Returns whether it is gone."""
        since: str | int = "" if silent_since_ms is None else silent_since_ms
        return bool(await self.scripts.forget_worker(worker_id=worker_id, silent_since_ms=since))

    async def find_lost(self, *, hint_age_ms: int, event_age_ms: int, silence_ms: int, now_ms: int) -> Lost:
        """Find queues with ready runs but no fresh work message, events that nobody published, and workers without heartbeat."""
        hints, flat, rows, next_ms, timer_ms, has_bulks = await self.scripts.find_lost(
            now_ms=now_ms, hint_age_ms=hint_age_ms, event_age_ms=event_age_ms, silence_ms=silence_ms
        )
        return Lost(
            hints=parse_hints(hints),
            events=[OutboxEvent(flat[i].decode(), flat[i + 1]) for i in range(0, len(flat), 2)],
            workers=[DeadWorker(row[0].decode(), [child.decode() for child in row[1:]]) for row in rows],
            next_ms=int(float(next_ms)) if next_ms else None,
            next_timer_ms=int(float(timer_ms)) if timer_ms else None,
            has_bulks=bool(has_bulks),
        )

    async def trim_history(self, *, event_retention_ms: int, limit: int, now_ms: int) -> int:
        """Remove runs and events whose retention is over; return how many. `limit` or more means that there may be others.

        Events are kept as long as the longest retention of all apps; `event_retention_ms` counts when there is none.
        """
        return int(
            await self.scripts.trim_history(now_ms=now_ms, event_retention_ms=event_retention_ms, limit=limit)
        )
