"""Lets the time of a harness pass while something is under way, so that it can't settle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.run import Run
from taskflow.testing import Harness

TURNS = 4_000
STEP_MS = 500


async def pass_time(
    harness: Harness, condition: Callable[[], Awaitable[object]], *, description: str, step_ms: int = STEP_MS
) -> None:
    """Turn the clock, half a second every few milliseconds, until the condition holds."""
    for turn in range(TURNS):
        if await condition():
            return
        await asyncio.sleep(0.0005)
        if turn % 5 == 4:
            await turn_clock(harness, step_ms)
    raise AssertionError(f"in vain: {description}")


async def turn_clock(harness: Harness, ms: int) -> None:
    """Turn the clock and wake beat, without waiting for what follows."""
    harness.clock.advance(ms=ms)
    await harness.store.client.call("LPUSH", harness.store.keys.nudge, 1)


async def all_final(runs: Sequence[Run]) -> bool:
    return all([(await run.astatus()).is_final for run in runs])


def work_stream(harness: Harness) -> str:
    """The key of the stream of work messages for the default queue."""
    topology = harness.workers[0].topology
    return StreamKeys(topology.key_prefix).stream(topology.work_queue("shop", "default").name)
