"""The same app with functions that have limits: their keys are CEL, which costs a process 0.2 s of its start."""

from __future__ import annotations

import asyncio
import time

from benchmarks.functions import app
from taskflow.context import Context
from taskflow.flow.concurrency import Concurrency
from taskflow.flow.priority import Priority
from taskflow.step import Step

LIMIT = 100  # of each key
ACCOUNT_LIMIT = 5
WORK_S = 0.02


@app.function(
    trigger="bench/limited",
    concurrency=Concurrency(LIMIT, key="event.data.tenant"),
    priority=Priority("event.data.rank"),
)
async def limited(ctx: Context[Step]) -> int:
    number: int = ctx.event.data["n"]
    return number


@app.function(trigger="bench/keyed", concurrency=Concurrency(LIMIT, key="event.data.key"))
async def keyed(ctx: Context[Step]) -> int:
    number: int = ctx.event.data["n"]
    return number


@app.function(trigger="bench/slow", concurrency=Concurrency(ACCOUNT_LIMIT, key="event.data.key"))
async def slow(ctx: Context[Step]) -> int:
    """When the handler started, ms since the epoch."""
    started_ms = time.time_ns() // 1_000_000
    await asyncio.sleep(WORK_S)
    return started_ms


@app.function(
    trigger="bench/two-limits",
    concurrency=[
        Concurrency(ACCOUNT_LIMIT, key="'all'", scope="account"),
        Concurrency(1, key="event.data.tenant"),
    ],
)
async def two_limits(ctx: Context[Step]) -> int:
    """How long it has worked (us)."""
    started_ns = time.monotonic_ns()
    await asyncio.sleep(WORK_S)
    return (time.monotonic_ns() - started_ns) // 1_000
