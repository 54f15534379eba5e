"""What beat does in the store: lead, fire what fell due, look for what was lost, trim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from taskflow.store.claims import Hint, parse_hints
from taskflow.store.routing import RunPlan
from taskflow.store.scripts import Scripts

Fence = NewType("Fence", int)


@dataclass(frozen=True, slots=True)
class Fired:
    """What a turn of the timers came to."""

    count: int
    hints: list[Hint]
    next_due_ms: int | None
    timed_out: list[tuple[str, str]]  # (run_id, "start_timeout" | "finish_timeout") to cancel


@dataclass(frozen=True, slots=True)
class DeadWorker:
    worker_id: str
    child_ids: list[str]


class Duties:
    """Scripts of beat."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    async def lead(self, beat_id: str, *, now_ms: int, lease_ms: int) -> Fence | None:
        """Become or stay the leader; the fence, or None while another beat leads."""
        fence = await self.scripts.call("lead", now_ms, beat_id, lease_ms)
        return Fence(fence) if fence else None

    async def abdicate(self, beat_id: str) -> None:
        """Give the lead away on a clean stop."""
        await self.scripts.call("abdicate", beat_id)

    async def fire_timers(self, *, limit: int, now_ms: int) -> Fired:
        """Fire up to `limit` timers that are due."""
        count, hints, first, flat = await self.scripts.call("fire_timers", now_ms, limit)
        timed_out = [(flat[i].decode(), flat[i + 1].decode()) for i in range(0, len(flat), 2)]
        return Fired(count, parse_hints(hints), int(float(first)) if first else None, timed_out)

    async def fire_cron(
        self, schedule: str, tick_ms: int, *, fence: Fence, plan: RunPlan | None, event: bytes, uid: str, version: str,
        now_ms: int,
    ) -> tuple[str, list[Hint]]:  # fmt: skip
        """Start the run of a tick, or only note it (`plan` is None): 'fired', 'known' or 'fenced'."""
        run = ("1", plan.run_id, plan.function_id, plan.queue) if plan else ("", "", "", "")
        timeouts = (plan.start_timeout_ms, plan.finish_timeout_ms) if plan else (0, 0)
        outcome, hints = await self.scripts.call(
            "fire_cron", now_ms, fence, schedule, tick_ms, *run, event, version, *timeouts, uid
        )
        return outcome.decode(), parse_hints(hints)

    async def find_dead(self, *, dead_before_ms: int) -> list[DeadWorker]:
        """Workers whose last heartbeat is older."""
        rows = await self.scripts.call("find_dead", dead_before_ms)
        return [DeadWorker(row[0].decode(), [child.decode() for child in row[1:]]) for row in rows]

    async def forget_worker(self, worker_id: str, *, silent_since_ms: int | None = None) -> bool:
        """Forget a worker; with `silent_since_ms`, only when it gave no heartbeat since."""
        since: str | int = "" if silent_since_ms is None else silent_since_ms
        return bool(await self.scripts.call("forget_worker", worker_id, since))

    async def find_lost(
        self, *, hint_age_ms: int, event_age_ms: int, now_ms: int
    ) -> tuple[list[Hint], list[tuple[str, bytes]]]:
        """Queues with ready runs but no fresh work message, and events in the outbox that nobody published."""
        hints, flat = await self.scripts.call("find_lost", now_ms, hint_age_ms, event_age_ms)
        return parse_hints(hints), [(flat[i].decode(), flat[i + 1]) for i in range(0, len(flat), 2)]

    async def trim_history(self, *, event_retention_ms: int, limit: int, now_ms: int) -> int:
        """Remove runs and events whose retention is over; `limit` or more means that there may be others.

        Events are kept as long as the longest retention of all apps; `event_retention_ms` counts when there is none.
        """
        return int(await self.scripts.call("trim_history", now_ms, event_retention_ms, limit))
