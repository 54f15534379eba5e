"""taskflow's side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, STEPS, Kind, mark
from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.step import Step

URL = os.environ["BENCH_REDIS"]

app = TaskFlow("peers", broker=URL, store=URL)


async def nothing() -> None:
    """A step's work."""


@app.function(trigger="bench/noop")
async def noop(ctx: Context[Step]) -> int:
    number: int = ctx.event.data["n"]
    mark(Kind.NOOP, number)
    return number


@app.function()
async def branch(ctx: Context[Step]) -> None:
    """What a group consists of."""


@app.function(trigger="bench/steps")
async def steps(ctx: Context[Step]) -> None:
    mark(Kind.STARTED, ctx.event.data["n"])
    for number in range(STEPS):
        await ctx.step.run(f"step-{number}", nothing)
    mark(Kind.ENDED, ctx.event.data["n"])


@app.function(trigger="bench/branches")
async def branches(ctx: Context[Step]) -> None:
    await asyncio.gather(*[ctx.step.run(f"branch-{number}", nothing) for number in range(BRANCHES)])
    mark(Kind.JOINED, ctx.event.data["n"])


@app.function(trigger="bench/group")
async def group(ctx: Context[Step]) -> None:
    await asyncio.gather(*[ctx.step.invoke(f"task-{number}", function=branch) for number in range(BRANCHES)])
    mark(Kind.JOINED, ctx.event.data["n"])


@app.function(trigger="bench/timer")
async def timer(ctx: Context[Step]) -> None:
    await ctx.step.sleep_until("due", ctx.event.data["due_ms"])
    mark(Kind.WOKEN, ctx.event.data["n"])


@app.function(trigger="bench/wait")
async def wait(ctx: Context[Step]) -> None:
    mark(Kind.WAITING, ctx.event.data["n"])
    if await ctx.step.wait_for_event("go", "bench/go", timeout="1h", match="data.n"):
        mark(Kind.RESUMED, ctx.event.data["n"])


def connect() -> Mapping[str, Operation]:
    def sender(event: str) -> Operation:
        return lambda number, due_s: app.send(event, {"n": number, "due_ms": round(due_s * 1000)})

    operations = {
        name: sender(f"bench/{name}") for name in ("noop", "steps", "branches", "group", "timer", "wait")
    }
    return {**operations, "resume": sender("bench/go")}
