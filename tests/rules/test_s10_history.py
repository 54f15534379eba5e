"""S10.1, S10.2: what is kept of runs and events, and for how long."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import NonRetriableError, RunFailed, RunNotFound, StepError
from taskflow.retries import Retries
from taskflow.run import Run, RunStatus
from taskflow.runs.lookup import recent_runs
from taskflow.runs.reasons import Moment
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.triggers import TriggerCron
from tests.conftest import MakeApp
from tests.rules.passing import turn_clock
from tests.rules.views import view

# Beat looks every 10 s, for runs of 10 s at a time; events are kept for a minute longer than runs.
TRIM_S = 90


async def all_keys(harness: Harness) -> list[str]:
    """Keys of taskflow and of its broker; those that expire by themselves are left out."""
    call = harness.store.client.call
    keys = [key.decode() for key in await call("KEYS", "*")]
    return sorted([key for key in keys if await call("TTL", key) == -1])


async def keys_about(harness: Harness, *ids: str) -> list[str]:
    """Keys that bear one of the ids in their name or hold it, but for keys of other runs and events."""
    call = harness.store.client.call
    found = [key for key in await all_keys(harness) if any(each in key for each in ids)]
    for key in await all_keys(harness):
        if (await call("TYPE", key)) == b"zset":
            members = await call("ZRANGE", key, 0, -1)
            found += [key for member in members if any(each.encode() in member for each in ids)]
    return found


# --- S10.1 ---


async def test_finished_runs_and_their_events_go_after_the_retention(make_app: MakeApp) -> None:
    """S10.1: with all keys of theirs, whatever they did."""
    app = make_app(retention="1h")

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.run("one", lambda: 1)

    @app.function(trigger="order")
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", 1)
        await asyncio.gather(*[step.sleep(f"nap {n}", n) for n in range(1, 5)])
        await step.invoke("child", function=child)
        await step.wait_for_event("paid", "paid", timeout="1m", match="data.order")

    async with Harness(app) as harness:
        base = await all_keys(harness)
        (order_id,) = await harness.send("order", {"order": 7}, id="order-7")
        await harness.advance(seconds=10)
        (paid_id,) = await harness.send("paid", {"order": 7})
        run = await harness.run_of(flow, order_id)
        (invoked,) = await harness.runs(child)
        assert await run.astatus() is RunStatus.COMPLETED
        event_uid = run.id.rpartition("-")[0]
        assert await keys_about(harness, run.id, invoked.id, event_uid, paid_id)
        await harness.advance(minutes=59)
        assert await run.astatus() is RunStatus.COMPLETED
        await harness.advance(minutes=1, seconds=TRIM_S)
        assert await keys_about(harness, run.id, invoked.id, event_uid, paid_id) == []
        with pytest.raises(RunNotFound):
            await run.astatus()
        assert await harness.runs(flow) == []
        # What an app has once it has seen events stays, but nothing for each of them.
        assert len(await all_keys(harness)) <= len(base) + 2


async def test_a_run_that_sleeps_for_longer_than_the_retention_is_kept(make_app: MakeApp) -> None:
    """S10.1: only finished runs go; it still knows its event, which is gone."""
    app = make_app(retention="1h")

    @app.function(trigger="order")
    async def flow(ctx: Context[Step], step: Step) -> Any:
        first = await step.run("first", lambda: "kept")
        await step.sleep("nap", "30 days")
        return [first, ctx.event.data]

    async with Harness(app) as harness:
        (event_id,) = await harness.send("order", {"order": 7})
        await harness.advance(days=29)
        run = await harness.run_of(flow, event_id)
        assert await run.astatus() is RunStatus.WAITING
        await harness.advance(days=1)
        assert await run.aresult("1s") == ["kept", {"order": 7}]
        await harness.advance(hours=1, seconds=TRIM_S)
        assert await keys_about(harness, run.id) == []


async def test_failed_runs_are_kept_for_7_days_and_cancelled_ones_like_completed(app: TaskFlow) -> None:
    """S10.1: 24 h and 7 d by default."""

    @app.function(retries=0)
    async def failing(ctx: Context[Step]) -> None:
        raise ValueError("broken")

    @app.function()
    async def napping(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    @app.function()
    async def quick(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        failed, cancelled, completed = [await harness.start(each) for each in (failing, napping, quick)]
        await cancelled.acancel()
        await harness.advance(hours=23, minutes=59)
        assert [await run.astatus() for run in (failed, cancelled, completed)] == [
            "failed",
            "cancelled",
            "completed",
        ]
        await harness.advance(minutes=1, seconds=TRIM_S)
        assert await keys_about(harness, cancelled.id, completed.id) == []
        assert await failed.astatus() is RunStatus.FAILED
        with pytest.raises(RunFailed, match="broken"):
            await failed.aresult("1s")
        await harness.advance(days=6)
        assert await keys_about(harness, failed.id) == []


async def test_a_store_under_steady_load_stops_growing(make_app: MakeApp) -> None:
    """S10.1: the number of keys, and what the broker holds, is the same in each hour."""
    app = make_app(retention="1h")

    @app.function(trigger="order")
    async def flow(ctx: Context[Step], step: Step) -> int:
        await step.run("one", lambda: 1)
        await step.sleep("nap", "10m")
        return await step.run("two", lambda: 2)

    async with Harness(app) as harness:
        counts, sizes = [], []
        for _ in range(5):
            for n in range(10):
                await app.asend("order", {"n": n})
            await harness.advance(hours=1)
            keys = await all_keys(harness)
            counts.append(len(keys))
            usages = [await harness.store.client.call("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys]
            sizes.append(sum(usages))
        assert counts[1] == counts[2] == counts[3] == counts[4]
        assert abs(sizes[4] - sizes[1]) < 0.05 * sizes[1]


async def test_a_run_in_the_middle_of_a_batch_of_old_ones_is_trimmed_too(make_app: MakeApp) -> None:
    """S10.1: more runs than one turn of beat removes in one script."""
    app = make_app(retention="1h")

    @app.function()
    async def quick(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        await asyncio.gather(*[quick.ainvoke() for _ in range(450)])
        await harness.settled()
        assert len(await harness.runs(quick)) == 450
        await harness.advance(hours=1, seconds=TRIM_S)
        assert await harness.runs(quick) == []
        assert not [key for key in await all_keys(harness) if ":run:" in key or ":event:" in key]


# --- S10.2 ---


async def test_a_completed_run_tells_what_it_was_and_did(valkey_url: str, namespace: str) -> None:
    """S10.2: status, function, app version, event, output, timings, steps with their attempts, worker, cause."""
    app = TaskFlow("shop", broker=valkey_url, store=valkey_url, namespace=namespace, app_version="2026.1")
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError(f"try {len(tries)}")
        return "ok"

    @app.function(trigger="order", retries=Retries(4, initial="10s", jitter=False))
    async def flow(ctx: Context[Step], step: Step) -> dict[str, str]:
        await step.sleep("nap", "5s")
        return {"flaky": await step.run("flaky", flaky)}

    async with Harness(app) as harness:
        start_ms = harness.clock.now_ms()
        (event_id,) = await harness.send("order", {"n": 7}, user={"id": 3})
        await harness.advance(minutes=2)
        run = await view(harness, await harness.run_of(flow, event_id))
        worker = harness.workers[0].child_id
    assert (run.status, run.function, run.version, run.queue, run.cause) == (
        "completed", "shop/flow", "2026.1", "default", "event",
    )  # fmt: skip
    assert (run.event["name"], run.event["data"], run.event["user"]) == ("order", {"n": 7}, {"id": 3})
    assert run.output == {"flaky": "ok"}
    assert run.error is None
    assert run.why is None
    assert (run.created_ms, run.started_ms, run.ended_ms) == (start_ms, start_ms, start_ms + 35_000)
    nap, step = run.steps.values()
    assert (nap.key, nap.kind, nap.state, nap.started_ms, nap.ended_ms) == (
        "nap", "sleep", "done", start_ms, start_ms + 5_000,
    )  # fmt: skip
    assert (step.key, step.kind, step.state, step.attempts, step.output, step.worker) == (
        "flaky", "step", "done", 3, "ok", worker,
    )  # fmt: skip
    assert [(each.started_ms - start_ms, each.worker, str(each.error)) for each in step.failed_attempts] == [
        (5_000, worker, "ValueError: try 1"), (15_000, worker, "ValueError: try 2"),
    ]  # fmt: skip
    assert "in flaky" in step.failed_attempts[0].error.stack
    assert (step.started_ms, step.ended_ms) == (start_ms + 5_000, start_ms + 35_000)


async def test_a_failed_run_tells_its_error_and_that_of_its_step(app: TaskFlow) -> None:
    """S10.2"""

    def fail() -> None:
        raise NonRetriableError("no funds")

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        try:
            await step.run("charge", fail)
        except StepError as error:
            raise NonRetriableError("gave up") from error

    async with Harness(app) as harness:
        run = await view(harness, await harness.start(flow))
    assert run.status == "failed"
    assert str(run.error) == run.why == "NonRetriableError: gave up"
    (step,) = run.steps.values()
    assert (step.state, str(step.error), step.attempts) == ("failed", "NonRetriableError: no funds", 1)


@pytest.mark.parametrize("cause", ["event", "cron", "invoke", "step.invoke"])
async def test_a_run_tells_what_started_it(app: TaskFlow, cause: str) -> None:
    """S10.2"""

    @app.function(trigger=["order", TriggerCron("0 * * * *")])
    async def flow(ctx: Context[Step]) -> None: ...

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> None:
        await step.invoke("the child", function=flow)

    async with Harness(app) as harness:
        started: Run | None = None
        match cause:
            case "event":
                await harness.send("order")
            case "cron":
                await harness.advance(hours=1)
            case "invoke":
                await harness.start(flow)
            case "step.invoke":
                started = await harness.start(parent)
        (born,) = await harness.runs(flow)
        run = await view(harness, born)
    assert run.cause == cause.removeprefix("step.")
    assert (run.parent, run.parent_step) == ((started.id, "the child") if started else (None, None))
    names = {"event": "order", "cron": "taskflow/scheduled.timer"}
    assert run.event["name"] == names.get(cause, "taskflow/function.invoked")


async def test_runs_of_a_function_are_listed_newest_first_and_by_status(app: TaskFlow) -> None:
    """S10.2"""

    @app.function(retries=0)
    async def flow(ctx: Context[Step]) -> None:
        if ctx.event.data["n"] % 3 == 0:
            raise ValueError

    async with Harness(app) as harness:
        runs = []
        for n in range(10):
            runs.append(await harness.start(flow, {"n": n}))
            await harness.advance(seconds=1)
        moment = Moment(harness.clock.now_ms(), UTC)
        newest = (await recent_runs(harness.store, [flow.id], limit=3, moment=moment)).runs
        failed = (
            await recent_runs(harness.store, [flow.id], limit=10, moment=moment, statuses=["failed"])
        ).runs
    assert [run.run_id for run in newest] == [run.id for run in reversed(runs[-3:])]
    assert [run.run_id for run in failed] == [run.id for run in reversed(runs[::3])]


async def test_time_can_be_turned_while_a_step_executes(app: TaskFlow) -> None:
    """S10.2: the timings of a step are those of its execution."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        entered.set()
        await gate.wait()

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)

    async with Harness(app) as harness:
        run = await flow.ainvoke()
        await entered.wait()
        start_ms = harness.clock.now_ms()
        await turn_clock(harness, 7_000)
        gate.set()
        await run.aresult("2s")
        await harness.settled()
        (step,) = (await view(harness, run)).steps.values()
    assert (step.started_ms, step.ended_ms) == (start_ms, start_ms + 7_000)
