"""History: reads runs and events, for handles, the command line and the API. Rules S10.1, S10.2."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from taskflow.redis.client import StoreClient
from taskflow.store.fields import to_fields, to_numbers
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.store.records import TEXT_FIELDS, add_defaults, event_text, event_uid, whole_event
from taskflow.values.ids import is_ulid
from taskflow.values.record import record


@record
class StoredRun:
    """The hash of a run, and its operations by step key (msgpack)."""

    run_id: str
    fields: dict[str, bytes]
    steps: dict[str, bytes]


@record
class Serving:
    """The queues of one app that a worker serves."""

    app_id: str
    queues: tuple[str, ...]


class LiveCount(NamedTuple):
    """The number of a function's live runs in one queue and status."""

    function_id: str
    queue: str
    status: str
    runs: int


# The kinds of runs that have a list of their own, besides that of all runs.
LIVE = "live"
ENDED_KINDS = ("failed", "cancelled", "skipped")


class History:
    """Reads runs, events and counts from the store; it changes only dead letters."""

    def __init__(self, client: StoreClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    async def run(self, run_id: str) -> StoredRun | None:
        """A run with its steps and its event, or None."""
        uid = event_uid(run_id)
        found, steps, kept = await asyncio.gather(
            self.client.call("HGETALL", self.keys.run(run_id)),
            self.client.call("HGETALL", self.keys.steps(run_id)),
            self.client.call("HMGET", self.keys.event(uid), *TEXT_FIELDS),
        )
        fields, operations, event = to_fields(found), to_fields(steps), event_text(uid, kept)
        if not fields:
            return None
        if "event" not in fields:
            if "uid" in fields:
                event = await self.event_text(event_uid(run_id, fields["uid"]))
            if event is not None:
                fields["event"] = event
        add_defaults(fields)
        return StoredRun(run_id, fields, operations)

    async def steps(self, run_id: str) -> dict[str, bytes]:
        """The operations of a run by step key (msgpack)."""
        return to_fields(await self.client.call("HGETALL", self.keys.steps(run_id)))

    async def fields(self, run_id: str, *names: str) -> list[bytes | None]:
        """Some fields of a run; None for each field that it doesn't have."""
        (found,) = await self.many([run_id], names)
        return [found.get(name) for name in names]

    async def event_text(self, uid: str) -> bytes | None:
        """An event as JSON, as on the wire, or None."""
        return event_text(uid, await self.client.call("HMGET", self.keys.event(uid), *TEXT_FIELDS))

    async def recent_runs(
        self,
        function_id: str,
        *,
        limit: int,
        kind: str = "",
        before_ms: int | None = None,
        since_ms: int | None = None,
    ) -> list[tuple[str, int]]:
        """The newest runs of a function as (run_id, created_ms), newest first; all, or those of a kind (LIVE, ENDED_KINDS)."""
        highest: str | int = "+inf" if before_ms is None else f"({before_ms}"
        lowest: str | int = "-inf" if since_ms is None else since_ms
        flat = await self.client.call(
            "ZREVRANGEBYSCORE",
            self.keys.runs(function_id, kind),
            highest,
            lowest,
            "WITHSCORES",
            "LIMIT",
            0,
            limit,
        )
        return [(flat[i].decode(), int(float(flat[i + 1]))) for i in range(0, len(flat), 2)]

    async def count_runs(self, function_id: str, *, kind: str = "", since_ms: int | None = None) -> int:
        """How many runs of a function are kept, of all or of one kind (LIVE, ENDED_KINDS); with `since_ms` only newer ones."""
        lowest: str | int = "-inf" if since_ms is None else since_ms
        return int(await self.client.call("ZCOUNT", self.keys.runs(function_id, kind), lowest, "+inf"))

    async def runs_between(self, function_id: str, first_ms: int, last_ms: int, *, limit: int) -> list[str]:
        """The oldest runs of a function that were made from `first_ms` to `last_ms`, both included."""
        found = await self.client.call(
            "ZRANGEBYSCORE", self.keys.runs(function_id), first_ms, last_ms, "LIMIT", 0, limit
        )
        return [run_id.decode() for run_id in found]

    async def many(self, run_ids: Sequence[str], names: Sequence[str] = ()) -> list[dict[str, bytes]]:
        """Some fields of several runs, or all fields; empty for runs that are gone. One round trip, or two for their events."""
        if not names:
            whole = [self.client.call("HGETALL", self.keys.run(run_id)) for run_id in run_ids]
            found = [to_fields(await future) for future in whole]
        else:
            # Each run has a function, so a run without that field is gone; other fields may be left out as defaults.
            asked = (*names, "uid", "function") if "event" in names else names
            rows = [self.client.call("HMGET", self.keys.run(run_id), *asked) for run_id in run_ids]
            found = [
                {name: value for name, value in zip(asked, await row, strict=True) if value is not None}
                for row in rows
            ]
        for fields in found:
            add_defaults(fields, names)
        if not names or "event" in names:
            await self.add_events(run_ids, found)
        return found

    async def add_events(self, run_ids: Sequence[str], found: Sequence[dict[str, bytes]]) -> None:
        """Add the events to runs that only refer to the record of their event."""
        bare = [
            (fields, event_uid(run_id, fields.get("uid")))
            for run_id, fields in zip(run_ids, found, strict=True)
            if fields and "event" not in fields
        ]
        texts = await asyncio.gather(*[self.event_text(uid) for _, uid in bare])
        for (fields, _), text in zip(bare, texts, strict=True):
            if text is not None:
                fields["event"] = text

    async def live_counts(self) -> list[LiveCount]:
        """The numbers of live runs by function, queue and status; zeros are left out."""
        found = to_numbers(await self.client.call("HGETALL", self.keys.counts))
        rows = [(name.split(SEPARATOR), count) for name, count in sorted(found.items())]
        return [LiveCount(function_id, queue, status, count) for (function_id, queue, status), count in rows]

    async def children(self, run_id: str) -> list[tuple[str, int]]:
        """The runs that a run has invoked and that are still kept, as (run_id, created_ms), oldest first."""
        found = to_numbers(await self.client.call("ZRANGE", self.keys.children(run_id), 0, -1, "WITHSCORES"))
        return list(found.items())

    async def ended_since(self, cursor: str = "-", *, limit: int = 100) -> tuple[list[tuple[str, str]], str]:
        """The runs that ended after `cursor` ("-": from the oldest known), as (run_id, status), and the cursor to go on from.

        `limit` counts entries, each of which has the runs that ended in one script. Only the last entries are kept.
        """
        start = cursor if cursor == "-" else f"({cursor}"
        entries = await self.client.call("XRANGE", self.keys.ended, start, "+", "COUNT", limit)
        flat = [part for _, (_, runs) in entries for part in runs.decode().split(SEPARATOR)]
        return list(zip(flat[::2], flat[1::2], strict=True)), entries[-1][0].decode() if entries else cursor

    async def ahead_of(self, function_id: str, queue: str, lane: str, run_id: str) -> int | None:
        """How many ready runs of the function, or of the lane, go before this run in its queue; None if it is not ready."""
        ready = self.keys.ready(function_id, queue, lane)
        reply: int | None = await self.client.call("ZRANK", ready, run_id)
        return reply

    async def heartbeats(self) -> dict[str, int]:
        """All workers, each with the time (ms) of its last heartbeat."""
        return to_numbers(await self.client.call("ZRANGE", self.keys.workers, 0, -1, "WITHSCORES"))

    async def leader(self, now_ms: int) -> str | None:
        """The beat that leads (S8.1), or None while none does."""
        beat_id, until_ms = await self.client.call("HMGET", self.keys.leader, "beat_id", "until_ms")
        return beat_id.decode() if beat_id and int(until_ms or 0) > now_ms else None

    async def serving(self) -> dict[str, Serving]:
        """The queues that workers serve, for the workers that say so."""
        told = to_fields(await self.client.call("HGETALL", self.keys.serving))
        parts = {worker: what.decode().split(SEPARATOR) for worker, what in told.items()}
        return {worker: Serving(app_id, tuple(queues)) for worker, (app_id, *queues) in parts.items()}

    async def places_taken(self, limit_ids: Sequence[str]) -> list[int]:
        """How many steps execute under each of these concurrency limits."""
        counts = [self.client.call("SCARD", self.keys.places(limit_id)) for limit_id in limit_ids]
        return [await count for count in counts]

    async def throttle_full_us(self, throttle_id: str) -> int:
        """The time (microseconds since the epoch) at which a throttle has its whole burst again; 0 when it is unused."""
        return int(await self.client.call("GET", self.keys.throttle(throttle_id)) or 0)

    async def event(self, uid: str) -> dict[str, bytes]:
        """The record of an event: its text and what it did. Empty if the event is unknown."""
        return whole_event(uid, to_fields(await self.client.call("HGETALL", self.keys.event(uid))))

    async def uids_of(self, event_id: str, name: str | None = None) -> list[str]:
        """The internal ids of the events that were sent with this id, newest first: events of several names may share one.

        With `name`, only of events with that name. An internal id gives itself; an unknown id gives none.
        """
        by_name = await self.client.call("HGETALL", self.keys.event_id(event_id))
        found = [
            (int(until), uid.decode())
            for known, value in to_fields(by_name).items()
            if name in (None, known)
            for until, _, uid in [value.partition(b":")]
        ]
        return [uid for _, uid in sorted(found, reverse=True)] or ([event_id] if is_ulid(event_id) else [])

    async def recent_events(
        self, *, limit: int, name: str | None = None, before_seq: int | None = None
    ) -> list[str]:
        """The uids of the newest events of all names, or of one name, newest first; with `before_seq` only of older ones."""
        newest = "+" if before_seq is None else max(0, before_seq - 1)
        names = [name.encode()] if name else await self.client.call("ZRANGE", self.keys.event_names, 0, -1)
        pages = [
            self.client.call("XREVRANGE", self.keys.events(name.decode()), newest, "-", "COUNT", limit)
            for name in names
        ]
        rows = [
            (int(entry[0].partition(b"-")[0]), entry[1][1].decode()) for page in pages for entry in await page
        ]
        return [uid for _, uid in sorted(rows, reverse=True)[:limit]]

    async def is_awaited(self, name: str) -> bool:
        """Whether a run waits for events of this name."""
        patterns = await self.client.call("SMEMBERS", f"{self.keys.prefix}waitpatterns")
        if any(name.startswith(pattern.decode().removesuffix("*")) for pattern in patterns):
            return True
        return bool(await self.client.call("EXISTS", f"{self.keys.prefix}waitpaths:{name}"))

    async def dead_letters(self, *, limit: int) -> list[dict[str, Any]]:
        """The newest broker messages that could not be read, with the reason."""
        rows = await self.client.call("XREVRANGE", self.keys.dead_letters, "+", "-", "COUNT", limit)
        return [{"id": row[0].decode(), **to_fields(row[1])} for row in rows]

    async def keep_dead_letter(self, body: bytes, reason: str, *, now_ms: int) -> None:
        """Keep a message that can't be read, with the reason; the newest 10,000 are kept."""
        await self.client.call(
            "XADD",
            self.keys.dead_letters,
            "MAXLEN",
            "~",
            10_000,
            "*",
            "body",
            body,
            "reason",
            reason,
            "at",
            now_ms,
        )
