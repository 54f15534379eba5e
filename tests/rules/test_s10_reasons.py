"""S10.5: every run can say why it is not executing, and every event what it did."""

from __future__ import annotations

import asyncio
import re

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.passing import pass_time
from tests.rules.views import view
from tests.waiting import until


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("sleep", "sleeping until .* \\(in 1 h\\)"),
        ("event", "waiting: event paid or refunded with data.order=7 until .*"),
        ("step retry", "retry 1 of 4 in 10 s"),
        ("handler retry", "retry 1 of 4 in 10 s \\(ValueError: not yet\\)"),
        ("invoke", "waiting: run .* of shop/child \\(waiting\\)"),
        ("join", "sleeping until .* \\(in 1 h\\), and 1 more"),
    ],
)
async def test_a_run_that_waits_says_why(app: TaskFlow, kind: str, why: str) -> None:
    """S10.5"""

    def fail() -> None:
        raise ValueError("not yet")

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1d")

    @app.function(retries=Retries(4, initial="10s", jitter=False))
    async def flow(ctx: Context[Step], step: Step) -> None:
        match kind:
            case "sleep":
                await step.sleep("nap", "1h")
            case "event":
                await step.wait_for_event("w", ["paid", "refunded"], timeout="1h", match="data.order")
            case "step retry":
                await step.run("fail", fail)
            case "handler retry":
                fail()
            case "invoke":
                await step.invoke("child", function=child)
            case "join":
                await asyncio.gather(step.sleep("nap", "1h"), step.sleep("longer nap", "2h"))

    async with Harness(app) as harness:
        run = await harness.start(flow, {"order": 7})
        told = await view(harness, run)
        await run.acancel()
    assert told.why is not None
    assert_matches(why, told.why)


def assert_matches(pattern: str, text: str) -> None:
    assert re.fullmatch(pattern, text), f"{text!r} is not {pattern!r}"


async def test_queued_running_and_scheduled_runs_say_why(app: TaskFlow) -> None:
    """S10.5"""
    gate = asyncio.Event()

    @app.function(trigger="order")
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("wait", gate.wait)

    async with Harness(app, concurrency=1) as harness:
        running = await flow.ainvoke()
        await until(lambda: harness.slots_in_use == 1, description="the run to begin")
        worker_id = harness.workers[0].child_id.rpartition(":")[0]
        await harness.store.scripts.heartbeat(
            now_ms=harness.clock.now_ms(),
            worker_id=worker_id,
            serving="",
            child_ids=[harness.workers[0].child_id],
        )
        queued = [await flow.ainvoke() for _ in range(2)]
        (event_id,) = await app.asend("order", ts=harness.clock.now_ms() + 60_000)
        await pass_time(
            harness, lambda: exists(harness, event_id), description="the event to be routed", step_ms=1
        )
        scheduled = await harness.run_of(flow, event_id)
        assert (await view(harness, running)).why == f"running on {harness.workers[0].child_id}"
        assert_matches("queued: next of shop/flow.*", (await view(harness, queued[0])).why or "")
        assert_matches("queued: 1 run of shop/flow is ahead.*", (await view(harness, queued[1])).why or "")
        assert_matches(
            r"scheduled for .* \(in (1 min|59\.9\d* s)\)", (await view(harness, scheduled)).why or ""
        )
        await scheduled.acancel()
        gate.set()


async def exists(harness: Harness, event_id: str) -> bool:
    return bool(await harness.store.history.event(event_id))


async def test_a_cancelled_run_says_why(app: TaskFlow) -> None:
    """S10.5, S6.2"""

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(flow)
        await run.acancel("out of stock")
        assert (await view(harness, run)).why == "cancelled: out of stock"


async def test_an_event_says_what_it_did(app: TaskFlow) -> None:
    """S10.5: started, resumed, duplicate."""

    @app.function(trigger="order")
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.wait_for_event("paid", "paid", timeout="1h")

    @app.function(trigger="order")
    async def other(ctx: Context[Step], step: Step) -> None:
        await step.wait_for_event("if", "paid", timeout="1h", if_exp="async.data.n > 1")

    async with Harness(app) as harness:
        await harness.send("order", id="order-7")
        (one,), (two,) = await harness.runs(flow), await harness.runs(other)
        uid = one.id.rpartition("-")[0]
        record = await harness.store.history.event(uid)
        assert record["fn:shop/flow"] == one.id.encode()
        assert record["fn:shop/other"] == two.id.encode()
        await harness.send("order", id="order-7")
        uids = await harness.store.history.recent_events(limit=100)
        (again,) = [each for each in uids if each != uid]
        assert (await harness.store.history.event(again))["duplicate_of"] == uid.encode()
        (paid,) = await harness.send("paid", {"n": 2})
        record = await harness.store.history.event(paid)
        assert record[f"wait:{one.id}:paid"] == b"resumed"
        assert record[f"wait:{two.id}:if"] == b"resumed"
