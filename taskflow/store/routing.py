"""Events into runs and waits, as the router sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskflow.store.claims import Hint, parse_hints
from taskflow.store.scripts import Scripts
from taskflow.types import RunId


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run that an event is to start."""

    function_id: str
    queue: str
    run_id: RunId
    start_at_ms: int = 0  # 0: at once
    start_timeout_ms: int = 0  # 0: none
    finish_timeout_ms: int = 0
    skipped: str = ""  # why no run is made, to be recorded on the event
    is_claimable: bool = False  # whether the child that routes the event serves the run's queue


@dataclass(frozen=True, slots=True)
class EventPlan:
    """An event, and the runs that it is to start."""

    uid: str
    public_id: str  # empty unless the sender chose it
    name: str
    text: bytes  # JSON, as on the wire
    runs: list[RunPlan]


@dataclass(frozen=True, slots=True)
class Routed:
    """What an event came to."""

    is_duplicate: bool
    seq: int
    claimed: dict[RunId, int]  # fences of the runs that this child got at once
    wait_paths: list[str]  # values of the event that waits for its name look at


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A wait whose expression is still to be evaluated."""

    run_id: str
    step_key: str
    condition: str
    run_event: bytes


class Routing:
    """Scripts of the router."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    async def route(
        self,
        events: Sequence[EventPlan],
        *,
        app_id: str,
        version: str,
        child_id: str,
        free_slots: int,
        now_ms: int,
    ) -> tuple[list[Routed], list[Hint]]:
        """Record events and make their runs; claim up to `free_slots` of these for the child."""
        argv: list[str | bytes | int] = [now_ms, child_id, free_slots, version, app_id]
        for event in events:
            argv += (event.uid, event.public_id, event.name, event.text, len(event.runs))
            for run in event.runs:
                argv += (
                    run.function_id, run.queue, run.run_id, run.start_at_ms, run.start_timeout_ms,
                    run.finish_timeout_ms, run.skipped, "1" if run.is_claimable else "",
                )  # fmt: skip
        hints, *rows = await self.scripts.call("route_events", *argv)
        return [parse_routed(row) for row in rows], parse_hints(hints)

    async def start_run(
        self, plan: RunPlan, *, uid: str, name: str, event: bytes, cause: str, version: str, now_ms: int
    ) -> list[Hint]:
        """Make one run directly."""
        return parse_hints(
            await self.scripts.call(
                "start_run",
                now_ms,
                plan.run_id,
                plan.function_id,
                plan.queue,
                event,
                cause,
                version,
                plan.start_at_ms,
                plan.start_timeout_ms,
                plan.finish_timeout_ms,
                uid,
                name,
            )  # fmt: skip
        )

    async def find_waits(
        self, *, uid: str, seq: int, name: str, event: bytes, tokens: Sequence[str], now_ms: int
    ) -> tuple[list[Hint], list[OpenWait]]:
        """Resolve the waits that the event meets by equality; return those with an expression to evaluate."""
        hints, flat = await self.scripts.call("find_waits", now_ms, seq, name, event, uid, *tokens)
        waits = [
            OpenWait(flat[i].decode(), flat[i + 1].decode(), flat[i + 2].decode(), flat[i + 3])
            for i in range(0, len(flat), 4)
        ]
        return parse_hints(hints), waits

    async def resolve_wait(self, wait: OpenWait, *, uid: str, event: bytes, now_ms: int) -> list[Hint]:
        """The event met the wait's expression."""
        return parse_hints(
            await self.scripts.call("resolve_wait", now_ms, wait.run_id, wait.step_key, event, uid)
        )

    async def clear_outbox(self, uids: Sequence[str]) -> None:
        """These events are published."""
        await self.scripts.call("clear_outbox", *uids)

    async def cancel(
        self, run_id: str, *, reason: bytes, event_uid: str, event: bytes, now_ms: int
    ) -> tuple[str, list[Hint]]:
        """Cancel a run: 'unknown', 'final', 'requested' (it ends after its running steps) or 'cancelled'."""
        outcome, hints = await self.scripts.call("cancel_run", now_ms, run_id, reason, event_uid, event)
        return outcome.decode(), parse_hints(hints)


def parse_routed(row: Sequence[Any]) -> Routed:
    outcome, seq, claimed, paths = row
    return Routed(
        is_duplicate=outcome == b"duplicate",
        seq=seq,
        claimed={RunId(claimed[i].decode()): claimed[i + 1] for i in range(0, len(claimed), 2)},
        wait_paths=[path.decode() for path in paths],
    )
