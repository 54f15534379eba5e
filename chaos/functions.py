"""The app that the workers run. Each step notes its executions in a file that outlives its process, as in tests/robustness.

A step returns the token of its execution, and one that fails raises it, so that the store tells which executions were committed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid

from taskflow import Concurrency, Context, Debounce, NonRetriableError, Retries, Step, TaskFlow, Throttle
from taskflow.blocking_step import BlockingStep
from tests.robustness.app import note

APP_ID = "chaos"
LIMIT = 5  # of all runs of `limited`
TENANT_LIMIT = 2  # of those with the same data.tenant
STARTS_PER_S = 10  # of `paced`
STEPS = {
    "flow": {"one", "two", "three", "four", "five"},
    "echo": {"echo"},
    "order": {"reserve", "thank"},
    "report": {"gather", "print"},
    "helper": {"help"},
    "shaky": {"a", "b", "c"},
    "limited": {"one", "two"},
    "paced": {"go"},
    "calm": {"settle"},
    "blocking": {"one", "two"},
    "added": {"arrive"},
}
BAD_LUCK = 0.3
RELEASE_VARIABLE = "CHAOS_RELEASE"
OLD, NEW = "1", "2"  # releases of the code: the newer one has another function of an event
ADDED = "added"

app = TaskFlow(APP_ID, retries=Retries(20, initial="100ms", maximum="1s"))

Work = Context[Step]


class Unlucky(Exception):
    """A step or handler that fails at random; the text is the token of the execution."""


def draw(run_id: str, step: str, attempt: int, token: str, chance: float) -> str:
    """How the execution ends: it returns its token, or raises it."""
    if random.random() < chance:
        note("fail", run_id, step, attempt, token)
        raise Unlucky(token)
    note("end", run_id, step, attempt, token)
    return token


async def rest(run_id: str, step: str, attempt: int, rest_s: float, chance: float) -> str:
    token = uuid.uuid4().hex
    note("start", run_id, step, attempt, token)
    await asyncio.sleep(rest_s)
    return draw(run_id, step, attempt, token, chance)


def block(run_id: str, step: str, attempt: int, rest_s: float, chance: float) -> str:
    token = uuid.uuid4().hex
    note("start", run_id, step, attempt, token)
    time.sleep(rest_s)
    return draw(run_id, step, attempt, token, chance)


async def do(ctx: Work, step: str, *, rest_s: float = 0.05, chance: float = 0.0) -> str:
    token = await ctx.step.run(step, rest, ctx.run_id, step, ctx.attempt, rest_s, chance)
    note("seen", ctx.run_id, step, ctx.attempt, token)
    return token


Tokens = dict[str, str]


@app.function(trigger="chaos/flow")
async def flow(ctx: Work) -> Tokens:
    """Steps one after the other, a sleep, and steps side by side."""
    tokens = {name: await do(ctx, name) for name in ("one", "two")}
    await ctx.step.sleep("nap", 0.3)
    side_by_side = await asyncio.gather(do(ctx, "three", rest_s=0.2), do(ctx, "four"))
    tokens |= dict(zip(("three", "four"), side_by_side, strict=True))
    return tokens | {"five": await do(ctx, "five")}


@app.function(trigger="chaos/flow")
async def echo(ctx: Work) -> Tokens:
    """A second function of the same event."""
    return {"echo": await do(ctx, "echo", rest_s=0.0)}


@app.function(trigger="chaos/order")
async def order(ctx: Work) -> Tokens:
    """Waits for an event that may come before the wait."""
    tokens = {"reserve": await do(ctx, "reserve", rest_s=0.5)}
    paid = await ctx.step.wait_for_event(
        "paid", "chaos/paid", timeout="1h", match="data.order", lookback="1h"
    )
    if paid is None or paid.data["order"] != ctx.event.data["order"]:
        raise NonRetriableError(f"order {ctx.event.data['order']} got {paid}")
    return tokens | {"thank": await do(ctx, "thank")}


@app.function()
async def helper(ctx: Work) -> str:
    return await do(ctx, "help", rest_s=0.2, chance=BAD_LUCK)


@app.function(trigger="chaos/report")
async def report(ctx: Work) -> Tokens:
    """Invokes another function."""
    tokens = {"gather": await do(ctx, "gather")}
    await ctx.step.invoke("ask", function=helper, data={"n": ctx.event.data["n"]})
    return tokens | {"print": await do(ctx, "print")}


@app.function(trigger="chaos/shaky")
async def shaky(ctx: Work) -> Tokens:
    """Steps that fail, and a handler that does."""
    tokens = {"a": await do(ctx, "a", chance=BAD_LUCK)}
    if random.random() < BAD_LUCK:
        raise Unlucky("between the steps")
    return tokens | {name: await do(ctx, name, chance=BAD_LUCK) for name in ("b", "c")}


@app.function(
    trigger="chaos/limited",
    concurrency=[Concurrency(TENANT_LIMIT, key="event.data.tenant"), Concurrency(LIMIT)],
)
async def limited(ctx: Work) -> Tokens:
    return {name: await do(ctx, name, rest_s=0.1) for name in ("one", "two")}


@app.function(trigger="chaos/paced", throttle=Throttle(STARTS_PER_S, "1s"))
async def paced(ctx: Work) -> Tokens:
    return {"go": await do(ctx, "go")}


@app.function(trigger="chaos/calm", debounce=Debounce("1s", key="string(event.data.key)", timeout="4s"))
async def calm(ctx: Work) -> Tokens:
    return {"settle": await do(ctx, "settle")}


@app.function(trigger="chaos/blocking")
def blocking(ctx: Context[BlockingStep]) -> Tokens:
    """A `def` handler, whose steps block their threads."""
    tokens: Tokens = {}
    for name in ("one", "two"):
        tokens[name] = ctx.step.run(name, block, ctx.run_id, name, ctx.attempt, 0.05, BAD_LUCK)
        note("seen", ctx.run_id, name, ctx.attempt, tokens[name])
    return tokens


if os.environ.get(RELEASE_VARIABLE) == NEW:

    @app.function(trigger="chaos/flow")
    async def added(ctx: Work) -> Tokens:
        return {"arrive": await do(ctx, "arrive", rest_s=0.0)}
