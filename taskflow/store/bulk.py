"""Bulks: the store's methods for bulk operations, which beat carries on. Rule S14.6."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
from taskflow.store.fields import number, text, to_fields
from taskflow.store.hints import Hint, parse_hints
from taskflow.store.keys import Keys
from taskflow.store.listing import Place
from taskflow.values.record import record

MOST_KEPT = 1_000


class BulkStatus(StrEnum):
    """Whether a bulk operation goes on."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"


class DueCancel(NamedTuple):
    """A run to cancel, and its place in the list, as text: once it is cancelled, that is reached."""

    run_id: str
    reached: str


@record(kw_only=True)
class StoredBulk:
    """A bulk operation as it is stored. `asked` and `problems` are JSON."""

    id: str
    asked: bytes
    status: BulkStatus
    turn: int
    place: Place | None
    looked: int
    done: int
    failed: int
    problems: bytes
    ended_ms: int | None


class Bulks:
    """Keeps bulk operations, and notes what was done."""

    def __init__(self, client: StoreClient, scripts: Scripts, keys: Keys) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys

    async def create(self, bulk_id: str, asked: bytes, *, now_ms: int) -> bool:
        """Keep an operation, which beat begins within 2 s; False if there is one of this id. The newest 1,000 are kept."""
        return bool(
            await self.scripts.create_bulk(now_ms=now_ms, bulk_id=bulk_id, asked=asked, most=MOST_KEPT)
        )

    async def advance(
        self,
        bulk: StoredBulk,
        *,
        place: Place | None,
        looked: int = 0,
        done: int = 0,
        failed: int = 0,
        problems: bytes = b"",
        reason: bytes = b"",
        cancelled: Sequence[DueCancel] = (),
        now_ms: int,
    ) -> tuple[bool, list[Hint]]:
        """Note a portion of the operation up to `place` (None: to its end), and cancel runs with it.

        Returns False if another beat has done this portion, or the operation was stopped. Then nothing is changed.
        """
        is_done, hints = await self.scripts.advance_bulk(
            now_ms=now_ms,
            bulk_id=bulk.id,
            turn=bulk.turn,
            place="" if place is None else place_text(place),
            is_over=place is None,
            looked=looked,
            done=done,
            failed=failed,
            problems=problems,
            reason=reason,
            runs=cancelled,
        )
        return bool(is_done), parse_hints(hints)

    async def stop(self, bulk_id: str, *, now_ms: int) -> bool | None:
        """Stop the operation; False if it had ended before, None if it is unknown."""
        outcome = int(await self.scripts.stop_bulk(now_ms=now_ms, bulk_id=bulk_id))
        return None if outcome < 0 else bool(outcome)

    async def find(self, bulk_id: str) -> StoredBulk | None:
        """The operation of this id, or None."""
        fields = to_fields(await self.client.call("HGETALL", self.keys.bulk(bulk_id)))
        if not fields:
            return None
        created, _, run_id = text(fields, "place").partition("-")
        return StoredBulk(
            id=bulk_id,
            asked=fields["asked"],
            status=BulkStatus(text(fields, "status")),
            turn=number(fields, "turn") or 0,
            place=Place(int(created), run_id) if created else None,
            looked=number(fields, "looked") or 0,
            done=number(fields, "done") or 0,
            failed=number(fields, "failed") or 0,
            problems=fields.get("problems", b"[]"),
            ended_ms=number(fields, "ended"),
        )

    async def newest(self, *, limit: int, before: str | None = None) -> list[StoredBulk]:
        """The newest operations, newest first; those that were made before the one of this id."""
        ids = await self.client.call("ZRANGE", self.keys.bulks, 0, MOST_KEPT, "REV")
        wanted = [bulk_id for bulk_id in map(bytes.decode, ids) if before is None or bulk_id < before]
        found = await asyncio.gather(*[self.find(bulk_id) for bulk_id in wanted[:limit]])
        return [bulk for bulk in found if bulk is not None]

    async def running(self) -> list[StoredBulk]:
        """The operations that are to be carried on, the oldest first."""
        ids = await self.client.call("SMEMBERS", self.keys.bulks_open)
        found = await asyncio.gather(*[self.find(each.decode()) for each in sorted(ids)])
        return [bulk for bulk in found if bulk is not None and bulk.status is BulkStatus.RUNNING]


def place_text(place: Place) -> str:
    return f"{place.created_ms}-{place.run_id}"
