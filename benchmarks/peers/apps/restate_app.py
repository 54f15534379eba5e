"""Restate's side: services that hypercorn serves and Restate's server calls; the client sends to that server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TypedDict

import httpx
import restate
from restate.client import Client

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, STEPS, Kind, mark

service = restate.Service("bench")
waiter = restate.Workflow("waiter")


class Timer(TypedDict):
    number: int
    due_s: float


async def nothing() -> None:
    """A step's work."""


@service.handler()
async def noop(ctx: restate.Context, number: int) -> int:
    mark(Kind.NOOP, number)
    return number


@service.handler()
async def branch(ctx: restate.Context, number: int) -> int:
    """What a group consists of."""
    return number


@service.handler()
async def steps(ctx: restate.Context, number: int) -> None:
    mark(Kind.STARTED, number)
    for item in range(STEPS):
        await ctx.run_typed(f"step-{item}", nothing)
    mark(Kind.ENDED, number)


@service.handler()
async def branches(ctx: restate.Context, number: int) -> None:
    await restate.gather(*[ctx.run_typed(f"branch-{item}", nothing) for item in range(BRANCHES)])
    mark(Kind.JOINED, number)


@service.handler()
async def group(ctx: restate.Context, number: int) -> None:
    await restate.gather(*[ctx.service_call(branch, arg=item) for item in range(BRANCHES)])
    mark(Kind.JOINED, number)


@service.handler()
async def timer(ctx: restate.Context, timer: Timer) -> None:
    now_s = await ctx.time()
    await ctx.sleep(timedelta(seconds=max(0.0, timer["due_s"] - now_s)))
    mark(Kind.WOKEN, timer["number"])


@waiter.main()
async def wait(ctx: restate.WorkflowContext, number: int) -> None:
    mark(Kind.WAITING, number)
    await ctx.promise("go").value()
    mark(Kind.RESUMED, number)


@waiter.handler()
async def resume(ctx: restate.WorkflowSharedContext, number: int) -> None:
    await ctx.promise("go").resolve("go")


app = restate.app(services=[service, waiter])


async def connect() -> Mapping[str, Operation]:
    # What `restate.create_client` gives for the length of a block; here it lives as long as the process.
    client = Client(httpx.AsyncClient(base_url=f"http://127.0.0.1:{os.environ['BENCH_INGRESS']}", http2=True))

    async def send_noop(number: int, due_s: float) -> None:
        await client.service_send(
            noop, arg=number, idempotency_key=str(number)
        )  # the key has the result kept

    async def start_steps(number: int, due_s: float) -> None:
        await client.service_send(steps, arg=number)

    async def start_branches(number: int, due_s: float) -> None:
        await client.service_send(branches, arg=number)

    async def start_group(number: int, due_s: float) -> None:
        await client.service_send(group, arg=number)

    async def set_timer(number: int, due_s: float) -> None:
        await client.service_send(timer, arg=Timer(number=number, due_s=due_s))

    async def start_wait(number: int, due_s: float) -> None:
        await client.workflow_send(wait, key=str(number), arg=number)

    async def send_resume(number: int, due_s: float) -> None:
        await client.object_send(resume, key=str(number), arg=number)

    return {
        "noop": send_noop,
        "steps": start_steps,
        "branches": start_branches,
        "group": start_group,
        "timer": set_timer,
        "wait": start_wait,
        "resume": send_resume,
    }
