"""Backlog: how much is left to do in the store, and how old the oldest of it is, in numbers that it keeps. Rules S13.1, S10.8."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from taskflow.redis.client import StoreClient
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.values.record import record


class QueueId(NamedTuple):
    app_id: str
    name: str


@record(kw_only=True)
class Backlog:
    """What is left to do. Times are in ms since the epoch; None where there is nothing."""

    next_ready_ms: dict[QueueId, int]
    """Queue with ready runs -> since when the run is ready that is next; a priority counts as if it had been ready earlier."""
    timers: int
    first_timer_ms: int | None
    first_unpublished_ms: int | None
    dead_letters: int


async def read_backlog(client: StoreClient, keys: Keys) -> Backlog:
    """Read it: two round trips, and as many commands as there are queues with ready runs."""
    names, timers, first_timer, unpublished, dead_letters = await asyncio.gather(
        client.call("SMEMBERS", keys.queues), client.call("ZCARD", keys.timers),
        client.call("ZRANGE", keys.timers, 0, 0, "WITHSCORES"), client.call("ZRANGE", keys.outbox, 0, 0, "WITHSCORES"),
        client.call("XLEN", keys.dead_letters),
    )  # fmt: skip
    queues = [QueueId(*name.decode().split(SEPARATOR)) for name in sorted(names)]
    firsts = await asyncio.gather(
        *[client.call("ZRANGE", keys.queue(*queue), 0, 0, "WITHSCORES") for queue in queues]
    )
    return Backlog(
        next_ready_ms={queue: int(float(first[1])) for queue, first in zip(queues, firsts, strict=True) if first},
        timers=int(timers), first_timer_ms=score_of(first_timer), first_unpublished_ms=score_of(unpublished),
        dead_letters=int(dead_letters),
    )  # fmt: skip


def score_of(reply: list[bytes]) -> int | None:
    return int(float(reply[1])) if reply else None
