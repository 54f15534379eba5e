"""Routing: the store's methods that make runs of events, and resolve waits. Rules S1, S3.3, S3.4."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from taskflow.call_plans import CallPlan, PlannedCall
from taskflow.redis.scripts import Answer, Scripts
from taskflow.store.hints import Hint, parse_hints
from taskflow.store.records import event_json, kept_event
from taskflow.types import RunId
from taskflow.values.record import record


class EditionChanged(Exception):
    """The functions of the app that count have changed since the runs were planned. Rule S2.7."""


class RunPlan(NamedTuple):
    """A run that an event is to start."""

    function_id: str
    queue: str
    run_id: RunId
    start_at_ms: int = 0  # 0 for at once
    start_timeout_ms: int = 0  # 0 for none
    finish_timeout_ms: int = 0
    flow: bytes = b""  # its flow control, as `FlowControl.plan` packs it
    is_claimable: bool = False  # whether the child that routes the event serves the run's queue


class EventPlan(NamedTuple):
    """An event, and the runs that it is to start."""

    uid: str
    public_id: str  # empty unless the sender chose it
    name: str
    frame: bytes  # the event, in the form in which its record keeps it (see `kept_event`)
    body: bytes
    runs: list[RunPlan]

    @classmethod
    def of(cls, uid: str, public_id: str, name: str, text: bytes, runs: list[RunPlan]) -> EventPlan:
        """`text` is the event as JSON, as on the wire."""
        return cls(uid, public_id, name, *kept_event(uid, name, text), runs)

    @property
    def text(self) -> bytes:
        """JSON, as on the wire."""
        return event_json(self.uid, self.frame, self.body)


class Routed(NamedTuple):
    """The outcome of routing an event."""

    is_duplicate: bool
    seq: int
    claimed: dict[RunId, int]  # fences of the runs that this child got at once
    # the paths at which waits look that it may end: event name or pattern SEPARATOR path
    wait_paths: list[str]


class Arrival(NamedTuple):
    """An event that was routed, and the entries "name:token" that it looks up in the index of waits."""

    uid: str
    seq: int
    text: bytes  # JSON, as on the wire
    lookups: list[str]


@record
class FoundWaits:
    """The outcome of a look at the index. `rest` is where to go on (place, lookup, cursor); None if all was looked at."""

    hints: list[Hint]
    open: list[OpenWait]
    rest: tuple[int, int, bytes] | None


@record
class OpenWait:
    """A wait whose condition has to be evaluated for the event at `place`.

    If the event may cancel a run, `run_id` is empty, and `step_key` names the run and the entry.
    """

    place: int
    run_id: str
    step_key: str
    condition: str
    run_event: bytes


class Routing:
    """The scripts that the router calls."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    def route(
        self,
        events: Sequence[EventPlan],
        *,
        app_id: str,
        version: str,
        child_id: str,
        free_slots: int,
        now_ms: int,
        edition: str = "",
    ) -> Answer[tuple[list[Routed], list[Hint]]]:
        """Record events and make their runs; claim up to `free_slots` of these for the child.

        The command is sent when this returns. Awaiting the answer raises EditionChanged, and nothing was done, if `edition` is not
        the edition of the app's functions that counts now; "" stands for any edition.
        """
        reply = self.scripts.route_events(
            now_ms=now_ms,
            child_id=child_id,
            free=free_slots,
            version=version,
            app_id=app_id,
            edition=edition,
            events=events,
        )
        return Answer(reply, partial(parse_routed, events))

    async def start_run(
        self, plan: RunPlan, *, uid: str, name: str, event: bytes, cause: str, version: str, now_ms: int, chosen_id: str = ""
    ) -> tuple[RunId, list[Hint]]:  # fmt: skip
        """Make one run without routing an event, unless one was made for `chosen_id` in the last 24 h; return which it is."""
        frame, body = kept_event(uid, name, event)
        run_id, hints = await self.scripts.start_run(
            now_ms=now_ms,
            function_id=plan.function_id,
            queue=plan.queue,
            run_id=plan.run_id,
            start_at_ms=plan.start_at_ms,
            start_timeout_ms=plan.start_timeout_ms,
            finish_timeout_ms=plan.finish_timeout_ms,
            flow=plan.flow,
            cause=cause,
            version=version,
            uid=uid,
            name=name,
            frame=frame,
            body=body,
            chosen_id=chosen_id,
        )
        return RunId(run_id.decode()), parse_hints(hints)

    def start_calls(
        self, plan: CallPlan, calls: Sequence[PlannedCall], *, version: str, now_ms: int
    ) -> Answer[tuple[list[RunId | None], list[Hint]]]:
        """Make a run for each call; give the run that stands for each, None if the chosen id is that of other arguments (S15.2).

        The command is sent when this returns.
        """
        reply = self.scripts.start_calls(
            now_ms=now_ms,
            function_id=plan.function_id,
            queue=plan.queue,
            version=version,
            start_at_ms=plan.start_at_ms,
            start_timeout_ms=plan.start_timeout_ms,
            finish_timeout_ms=plan.finish_timeout_ms,
            expires_ms=plan.expires_at_ms or "",
            keep=plan.keep,
            chosen_id=plan.chosen_id,
            calls=calls,
        )
        return Answer(reply, parse_calls)

    async def find_waits(
        self, arrivals: Sequence[Arrival], *, limit: int, cursor: bytes = b"0", now_ms: int
    ) -> FoundWaits:
        """Resolve the waits that events meet by equality; return those with an expression to evaluate. Looks at about `limit`."""
        hints, flat, rest = await self.scripts.find_waits(
            now_ms=now_ms, limit=limit, cursor=cursor, arrivals=arrivals
        )
        waits = [
            OpenWait(flat[i], flat[i + 1].decode(), flat[i + 2].decode(), flat[i + 3].decode(), flat[i + 4])
            for i in range(0, len(flat), 5)
        ]
        return FoundWaits(parse_hints(hints), waits, (rest[0], rest[1], rest[2]) if rest else None)

    def resolve_wait(self, wait: OpenWait, arrival: Arrival, *, now_ms: int) -> asyncio.Future[Any]:
        """Resolve a wait whose expression the event has met; `parse_hints` reads the future's value."""
        return self.scripts.resolve_wait(
            now_ms=now_ms, run_id=wait.run_id, step_key=wait.step_key, event=arrival.text, uid=arrival.uid
        )

    async def send_signal(
        self, signal: str, body: bytes, *, uid: str, now_ms: int
    ) -> tuple[str | None, list[Hint]]:
        """Resolve the wait for a signal; return the run that waited, or None. `uid` tells a repeat of this call (S3.4)."""
        run_id, hints = await self.scripts.send_signal(now_ms=now_ms, signal=signal, data=body, uid=uid)
        return run_id.decode() or None, parse_hints(hints)

    async def clear_outbox(self, uids: Sequence[str]) -> None:
        """Remove published events from the outbox."""
        await self.scripts.clear_outbox(uids=uids)

    async def cancel(
        self, run_ids: Sequence[str], *, reason: bytes, now_ms: int
    ) -> tuple[list[str], list[Hint]]:
        """Cancel the first of these runs, at least one, and as many as a short script can; returns an outcome for each, and hints.

        Outcomes: 'unknown', 'final', 'requested' (the run ends after its executing steps), 'cancelled'.
        """
        outcomes, hints = await self.scripts.cancel_runs(now_ms=now_ms, reason=reason, run_ids=run_ids)
        return [outcome.decode() for outcome in outcomes], parse_hints(hints)


def parse_calls(reply: Sequence[Any]) -> tuple[list[RunId | None], list[Hint]]:
    hints, made = reply
    return [RunId(run_id.decode()) if run_id else None for run_id in made], parse_hints(hints)


def parse_routed(events: Sequence[EventPlan], reply: Sequence[Any]) -> tuple[list[Routed], list[Hint]]:
    """Read the reply of `route_events`. An event that came twice in one batch gets its runs, and their slots, only once."""
    if len(reply) == 1:
        raise EditionChanged
    hints, outcomes, claimed, lookups = reply
    fences = {claimed[i].decode(): claimed[i + 1] for i in range(0, len(claimed), 2)}
    paths = parse_lookups(lookups) if lookups else {}
    return [
        Routed(
            is_duplicate=(is_duplicate := outcomes[2 * i] == b"duplicate"),
            seq=outcomes[2 * i + 1],
            claimed={run.run_id: fences.pop(run.run_id) for run in event.runs if run.run_id in fences}
            if fences
            else {},
            wait_paths=[] if is_duplicate else paths.get(event.name, []),
        )
        for i, event in enumerate(events)
    ], parse_hints(hints)


def parse_lookups(flat: Sequence[Any]) -> dict[str, list[str]]:
    """Name of an event -> the paths at which the waits look that it may end."""
    paths: dict[str, list[str]] = {}
    at = 0
    while at < len(flat):
        first = at + 2
        at = first + flat[at + 1]
        paths[flat[first - 2].decode()] = [path.decode() for path in flat[first:at]]
    return paths
