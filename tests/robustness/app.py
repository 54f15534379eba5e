"""The functions under test. Each execution of a step is noted in a file that outlives the process.

A line says: run id, step, attempt of the handler, pid, CLOCK_MONOTONIC (ns; one clock for all processes), what happened,
token of the execution. What happened is `start` or `end` of a step's function, or `seen`: the handler got the result.
A step returns its token, so that the memo tells which of its executions was committed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from pathlib import Path

from taskflow import Context, NonRetriableError, Step, TaskFlow
from taskflow.blocking_step import BlockingStep

JOURNAL_VARIABLE = "ROBUSTNESS_JOURNAL"
GATE_VARIABLE = "ROBUSTNESS_GATE"
RELEASE_VARIABLE = "ROBUSTNESS_RELEASE"  # "2": the code has another function
POLL_S = 0.005
LIMIT = 10

app = TaskFlow("robust")

Work = Context[Step]


def note(what: str, run_id: str, step: str, attempt: int, token: str) -> None:
    """Append a line, in one write: no process that dies can leave half of it."""
    line = f"{run_id} {step} {attempt} {os.getpid()} {time.monotonic_ns()} {what} {token}\n"
    fd = os.open(os.environ[JOURNAL_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


async def rest(run_id: str, name: str, attempt: int, rest_s: float) -> str:
    token = uuid.uuid4().hex
    note("start", run_id, name, attempt, token)
    await asyncio.sleep(rest_s)
    note("end", run_id, name, attempt, token)
    return token


def block(run_id: str, name: str, attempt: int, block_s: float) -> str:
    token = uuid.uuid4().hex
    note("start", run_id, name, attempt, token)
    time.sleep(block_s)
    note("end", run_id, name, attempt, token)
    return token


async def freeze(run_id: str, name: str, attempt: int, block_s: float) -> str:
    """A mistake that users make: the whole event loop stands still."""
    return block(run_id, name, attempt, block_s)


def is_open() -> bool:
    return Path(os.environ[GATE_VARIABLE]).exists()


async def wait_at_gate(run_id: str, name: str, attempt: int) -> str:
    token = uuid.uuid4().hex
    note("start", run_id, name, attempt, token)
    while not is_open():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(POLL_S)
    note("end", run_id, name, attempt, token)
    return token


async def step_of(ctx: Work, name: str, rest_s: float) -> str:
    token = await ctx.step.run(name, rest, ctx.run_id, name, ctx.attempt, rest_s)
    note("seen", ctx.run_id, name, ctx.attempt, token)
    return token


@app.function(trigger="robust/five")
async def five(ctx: Work) -> dict[str, str]:
    """Five steps: one after the other, with a suspension between them, and two side by side."""
    rest_s: float = ctx.event.data["rest_s"]
    tokens = {name: await step_of(ctx, name, rest_s) for name in ("one", "two")}
    await ctx.step.sleep("nap", 2 * rest_s)
    side_by_side = ("three", "four")
    tokens.update(
        zip(
            side_by_side,
            await asyncio.gather(*[step_of(ctx, name, rest_s) for name in side_by_side]),
            strict=True,
        )
    )
    tokens["five"] = await step_of(ctx, "five", rest_s)
    return tokens


@app.function(trigger="robust/limited", concurrency=LIMIT)
async def limited(ctx: Work) -> dict[str, str]:
    """Two steps, of which at most LIMIT execute at one time."""
    return {name: await step_of(ctx, name, ctx.event.data["rest_s"]) for name in ("one", "two")}


@app.function()
async def march(ctx: Work) -> dict[str, str]:
    """Short steps, without a pause between them."""
    names = [f"step-{number}" for number in range(ctx.event.data["steps"])]
    return {name: await step_of(ctx, name, ctx.event.data["rest_s"]) for name in names}


@app.function(trigger="robust/held")
async def held(ctx: Work) -> dict[str, str]:
    """Its second step lasts until the test opens the gate."""
    tokens = {"before": await step_of(ctx, "before", 0.0)}
    tokens["gate"] = await ctx.step.run("gate", wait_at_gate, ctx.run_id, "gate", ctx.attempt)
    note("seen", ctx.run_id, "gate", ctx.attempt, tokens["gate"])
    tokens["after"] = await step_of(ctx, "after", 0.0)
    return tokens


@app.function()
async def body(ctx: Work) -> str:
    """No step: all that it does is one implicit step."""
    return await rest(ctx.run_id, "body", ctx.attempt, ctx.event.data["rest_s"])


@app.function()
def blocking_body(ctx: Context[BlockingStep]) -> str:
    return block(ctx.run_id, "body", ctx.attempt, ctx.event.data["rest_s"])


@app.function()
async def nap(ctx: Work) -> str:
    await ctx.step.sleep("nap", ctx.event.data["nap_s"])
    return "rested"


@app.function()
def blocking(ctx: Context[BlockingStep]) -> dict[str, str]:
    """A `def` handler whose steps block their thread."""
    tokens: dict[str, str] = {}
    for name in ("one", "two"):
        tokens[name] = ctx.step.run(name, block, ctx.run_id, name, ctx.attempt, ctx.event.data["block_s"])
        note("seen", ctx.run_id, name, ctx.attempt, tokens[name])
    return tokens


@app.function(queue="frozen")
async def frozen(ctx: Work) -> dict[str, str]:
    token = await ctx.step.run("freeze", freeze, ctx.run_id, "freeze", ctx.attempt, ctx.event.data["block_s"])
    note("seen", ctx.run_id, "freeze", ctx.attempt, token)
    return {"freeze": token}


def die(run_id: str, name: str, attempt: int, how: str) -> str:
    note("start", run_id, name, attempt, uuid.uuid4().hex)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(7)
    raise NonRetriableError(f"no way to die by {how!r}")


@app.function()
async def poison(ctx: Work) -> str:
    """Ends its own process: in a step, or between the steps."""
    await step_of(ctx, "first", 0.0)
    if ctx.event.data["where"] == "between steps":
        die(ctx.run_id, "boom", ctx.attempt, ctx.event.data["how"])
    return await ctx.step.run("boom", die, ctx.run_id, "boom", ctx.attempt, ctx.event.data["how"])


if os.environ.get(RELEASE_VARIABLE) == "2":

    @app.function(trigger="robust/added")
    async def added(ctx: Work) -> dict[str, str]:
        """What only the newer code has."""
        return {name: await step_of(ctx, name, ctx.event.data["rest_s"]) for name in ("one", "two")}
