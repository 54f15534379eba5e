"""The app that the measured workers run."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.step import Step

APP_ID = "bench"
STEPS = 10
BRANCHES = 100

app = TaskFlow(APP_ID, max_steps=20_000)


async def nothing() -> None:
    """A step's work."""


def nothing_blocking() -> None:
    """A step's work, in a thread."""


def wait_10_ms() -> None:
    """A step's work: something that is not here."""
    time.sleep(0.01)


async def same(number: int) -> int:
    return number


@app.function(trigger="bench/noop")
async def noop(ctx: Context[Step]) -> int:
    number: int = ctx.event.data["n"]
    return number


@app.task(id="noop-task")
async def noop_task(n: int) -> int:
    return n


@app.function(trigger="bench/warm")
async def warm(ctx: Context[Step]) -> None:
    """Has a process load what the first run needs."""
    await ctx.step.run("warm", nothing)


@app.function(trigger="bench/stamp")
async def stamp(ctx: Context[Step]) -> int:
    """When the handler started: ns of the clock that all processes of a machine share."""
    return time.monotonic_ns()


@app.function(trigger="bench/steps")
async def steps(ctx: Context[Step]) -> int:
    started_ns = time.monotonic_ns()
    for number in range(STEPS):
        await ctx.step.run(f"step-{number}", nothing)
    return started_ns


@app.function(trigger="bench/blocking-steps")
async def blocking_steps(ctx: Context[Step]) -> int:
    started_ns = time.monotonic_ns()
    for number in range(STEPS):
        await ctx.step.run(f"step-{number}", nothing_blocking)
    return started_ns


@app.function(trigger="bench/parallel")
async def parallel(ctx: Context[Step]) -> int:
    started_ns = time.monotonic_ns()
    await asyncio.gather(*[ctx.step.run(f"branch-{number}", nothing) for number in range(BRANCHES)])
    return started_ns


@app.function(trigger="bench/wide")
async def wide(ctx: Context[Step]) -> int:
    """As many steps at once as the event says."""
    started_ns = time.monotonic_ns()
    await asyncio.gather(
        *[ctx.step.run(f"branch-{number}", nothing) for number in range(ctx.event.data["n"])]
    )
    return started_ns


@app.function(trigger="bench/mapped")
async def mapped(ctx: Context[Step]) -> int:
    """A step for each of as many items as the event says."""
    started_ns = time.monotonic_ns()
    await ctx.step.map("item", same, range(ctx.event.data["n"]), concurrency=BRANCHES)
    return started_ns


@app.function(trigger="bench/wide-blocking")
async def wide_blocking(ctx: Context[Step]) -> int:
    """As many `def` steps of 10 ms at once as the event says."""
    started_ns = time.monotonic_ns()
    steps = [ctx.step.run(f"branch-{number}", wait_10_ms) for number in range(ctx.event.data["n"])]
    await asyncio.gather(*steps)
    return started_ns


@app.function(trigger="bench/in-a-row")
async def in_a_row(ctx: Context[Step]) -> int:
    """As many steps one after the other as the event says: `def` ones, or `async def` ones."""
    started_ns = time.monotonic_ns()
    work = nothing_blocking if ctx.event.data["is_blocking"] else nothing
    for number in range(ctx.event.data["n"]):
        await ctx.step.run(f"step-{number}", work)
    return started_ns


@app.function(trigger="bench/nap")
async def nap(ctx: Context[Step]) -> int:
    """When the handler went on after its sleep: ms since the epoch, times 1,000."""
    await ctx.step.sleep("nap", ctx.event.data["seconds"])
    return time.time_ns() // 1_000


@app.function(trigger="bench/alarm")
async def alarm(ctx: Context[Step]) -> int:
    """The same after a sleep until a point in time, in ms since the epoch."""
    await ctx.step.sleep_until("alarm", datetime.fromtimestamp(ctx.event.data["at_ms"] / 1000, UTC))
    return time.time_ns() // 1_000


@app.function(trigger="bench/wait")
async def wait(ctx: Context[Step]) -> int | None:
    """How long (ns) after the event was sent the handler went on."""
    got = await ctx.step.wait_for_event("go", "bench/go", timeout="1h", match="data.n")
    return None if got is None else time.monotonic_ns() - int(got.data["sent_ns"])
