"""S10: what is kept of runs and events, for how long, and what it tells."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from datetime import UTC
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import NonRetriableError, RunFailed, RunNotFound, StepError
from taskflow.handle import Run, RunStatus
from taskflow.retries import Retries
from taskflow.run_lookup import find_run, recent_runs
from taskflow.run_reasons import Moment
from taskflow.run_view import RunView
from taskflow.step import BlockingStep, Step
from taskflow.testing import Harness
from taskflow.triggers import TriggerCron
from tests.conftest import MakeApp
from tests.rules.passing import pass_time, turn_clock
from tests.waiting import until

TRIM_S = 15  # beat looks every 10 s


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


async def view(harness: Harness, run: Run) -> RunView:
    return await find_run(harness.store, run.id, Moment(harness.clock.now_ms(), UTC))


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
    nap, step = run.steps
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
    (step,) = run.steps
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
        newest = await recent_runs(harness.store, [flow.id], limit=3, moment=moment)
        failed = await recent_runs(harness.store, [flow.id], limit=10, moment=moment, status="failed")
    assert [run.run_id for run in newest] == [run.id for run in reversed(runs[-3:])]
    assert [run.run_id for run in failed] == [run.id for run in reversed(runs[::3])]


# --- S10.5 ---


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
        await harness.store.scripts.call(
            "heartbeat", harness.clock.now_ms(), worker_id, harness.workers[0].child_id
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
        uids = [
            raw.decode()
            for raw in await harness.store.client.call("ZRANGE", harness.store.keys.events, 0, -1)
        ]
        (again,) = [each for each in uids if each != uid]
        assert (await harness.store.history.event(again))["duplicate_of"] == uid.encode()
        (paid,) = await harness.send("paid", {"n": 2})
        record = await harness.store.history.event(paid)
        assert record[f"wait:{one.id}:paid"] == b"resumed"
        assert record[f"wait:{two.id}:if"] == b"resumed"


# --- S10.6 ---


class Lines:
    """What handlers logged by `ctx.logger`: how often each line came."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "taskflow.run")
        self.caplog = caplog

    @property
    def records(self) -> list[logging.LogRecord]:
        return [record for record in self.caplog.records if record.name == "taskflow.run"]

    @property
    def counts(self) -> Counter[str]:
        return Counter(record.getMessage() for record in self.records)


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_line_appears_once_however_often_the_run_is_suspended(
    app: TaskFlow, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """S10.6"""
    lines = Lines(caplog)

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        ctx.logger.info("begin")
        for n in range(4):
            await step.run("work", lambda: None)
            ctx.logger.info("worked %d", n)
            await step.sleep("nap", 1)
            ctx.logger.info("slept %d", n)
        ctx.logger.info("end")

    @app.function()
    def blocking_flow(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        ctx.logger.info("begin")
        for n in range(4):
            step.run("work", lambda: None)
            ctx.logger.info("worked %d", n)
            step.sleep("nap", 1)
            ctx.logger.info("slept %d", n)
        ctx.logger.info("end")

    async with Harness(app) as harness:
        run = await harness.start(flow if kind == "async" else blocking_flow)
        await harness.advance(seconds=10)
        await run.aresult("1s")
    expected = ["begin", *[f"{what} {n}" for n in range(4) for what in ("worked", "slept")], "end"]
    assert lines.counts == Counter(expected)
    assert [record.getMessage() for record in lines.records] == expected


async def test_a_line_appears_once_while_steps_are_retried(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S10.6"""
    lines = Lines(caplog)
    tries: list[int] = []

    def flaky() -> None:
        tries.append(1)
        if len(tries) % 3:
            raise ValueError

    @app.function(retries=Retries(4, initial="1s", jitter=False))
    async def flow(ctx: Context[Step], step: Step) -> None:
        ctx.logger.info("begin")
        await step.run("first", flaky)
        ctx.logger.info("between")
        await step.run("second", flaky)
        ctx.logger.info("end")

    async with Harness(app) as harness:
        run = await harness.start(flow)
        await harness.advance(minutes=1)
        await run.aresult("1s")
    assert len(tries) == 6
    assert lines.counts == Counter(["begin", "between", "end"])


async def test_lines_of_parallel_branches_appear_once(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S10.6: each branch wakes the run at another time, and so replays the others."""
    lines = Lines(caplog)

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        async def branch(name: str, seconds: int) -> None:
            ctx.logger.info("%s begins", name)
            await step.run(f"work {name}", lambda: None)
            ctx.logger.info("%s worked", name)
            await step.sleep(f"nap {name}", seconds)
            ctx.logger.info("%s slept", name)
            await step.sleep(f"second nap {name}", seconds)
            ctx.logger.info("%s ends", name)

        await asyncio.gather(branch("a", 10), branch("b", 3), branch("c", 7))
        ctx.logger.info("end")

    async with Harness(app) as harness:
        run = await harness.start(flow)
        await harness.advance(minutes=1)
        await run.aresult("1s")
    branches = [f"{name} {what}" for name in "abc" for what in ("begins", "worked", "slept", "ends")]
    assert lines.counts == Counter([*branches, "end"])


async def test_lines_before_a_memo_are_silent_in_the_next_attempt_of_the_handler(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S10.6, S5.1: what comes after the last memo is executed anew, and says which attempt it is."""
    lines = Lines(caplog)

    @app.function(retries=Retries(2, initial="1s", jitter=False))
    async def flow(ctx: Context[Step], step: Step) -> None:
        ctx.logger.info("begin")
        await step.run("work", lambda: None)
        ctx.logger.info("try")
        if ctx.attempt < 2:
            raise ValueError
        ctx.logger.info("end")

    async with Harness(app) as harness:
        run = await harness.start(flow)
        await harness.advance(minutes=1)
        await run.aresult("1s")
    told = [(record.getMessage(), record.attempt) for record in lines.records]  # type: ignore[attr-defined]
    assert told == [("begin", 0), ("try", 0), ("try", 1), ("try", 2), ("end", 2)]


async def test_a_line_carries_the_run_the_function_and_the_attempt(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S10.6, S2.4"""
    lines = Lines(caplog)

    @app.function()
    async def flow(ctx: Context[Step]) -> None:
        ctx.logger.warning("careful: %s", "hot", extra={"order": 7})

    async with Harness(app) as harness:
        run = await harness.start(flow)
    (record,) = lines.records
    facts = vars(record)
    assert (record.getMessage(), record.levelno) == ("careful: hot", logging.WARNING)
    assert (facts["run_id"], facts["function_id"], facts["attempt"], facts["order"]) == (
        run.id,
        "shop/flow",
        0,
        7,
    )


async def test_a_line_inside_a_step_appears_with_each_attempt_of_the_step(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S10.6: a step that executes is no replay."""
    lines = Lines(caplog)
    tries: list[int] = []

    @app.function(retries=Retries(2, initial="1s", jitter=False))
    async def flow(ctx: Context[Step], step: Step) -> None:
        async def work() -> None:
            tries.append(1)
            ctx.logger.info("try %d", len(tries))
            if len(tries) < 3:
                raise ValueError

        await step.sleep("nap", 1)
        await step.run("work", work)
        await step.sleep("nap", 1)

    async with Harness(app) as harness:
        run = await harness.start(flow)
        await harness.advance(minutes=1)
        await run.aresult("1s")
    assert lines.counts == Counter(["try 1", "try 2", "try 3"])


async def test_lines_after_a_step_that_is_gone_are_not_lost(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S10.6, S4.5: the code has changed while the run slept."""
    lines = Lines(caplog)
    is_old = True

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        ctx.logger.info("begin")
        if is_old:
            await step.run("gone", lambda: None)
        await step.sleep("nap", 1)
        ctx.logger.info("end")

    async with Harness(app) as harness:
        run = await harness.start(flow)
        is_old = False
        await harness.advance(seconds=2)
        await run.aresult("1s")
    assert lines.counts == Counter(["begin", "end"])


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
        (step,) = (await view(harness, run)).steps
    assert (step.started_ms, step.ended_ms) == (start_ms, start_ms + 7_000)
