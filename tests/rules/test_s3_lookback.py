"""S3.3: `lookback`, for events that come before their wait."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.event import Event
from taskflow.flow.batch import Batch
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.endings import nothing_is_left_of
from tests.rules.givens import Gates, both_kinds, is_waiting, waiting_function
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")


@both_kinds
async def test_an_event_before_the_wait_is_seen(app: TaskFlow, is_async: bool) -> None:
    """S3.3"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        got = await step.wait_for_event("paid", "paid", "1h", match="data.order", lookback="10m")
        assert got is not None
        return [got.name, got.id, got.data]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        got = step.wait_for_event("paid", "paid", "1h", match="data.order", lookback="10m")
        assert got is not None
        return [got.name, got.id, got.data]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        await harness.send("paid", {"order": 8})
        (event_id,) = await harness.send("paid", {"order": 7})
        run = await harness.start(functions[is_async], {"order": 7})
        assert await run.aresult("1s") == ["paid", event_id, {"order": 7}]
        record = await harness.store.history.event(event_id)
        assert record[f"wait:{run.id}:paid"] == b"resumed"
        assert await harness.next_due_ms() is None
        await nothing_is_left_of(harness, run)


async def test_the_oldest_match_in_the_window_counts(app: TaskFlow) -> None:
    """S3.3: events that came before the window don't."""
    waits = waiting_function(app, lookback="10m", if_exp="async.data.ok")
    async with Harness(app) as harness:
        await harness.send("paid", {"n": 0, "ok": True})
        await harness.advance(ms=1)
        await harness.send([Event("paid", {"n": n, "ok": n >= 2}) for n in range(1, 5)])
        await harness.advance(minutes=10)
        run = await harness.start(waits)
        assert await run.aresult("1s") == {"n": 2, "ok": True}
        await harness.advance(ms=1)
        late = await harness.start(waits)
        assert await is_waiting(late)
        await harness.send("paid", {"n": 9, "ok": True})
        assert await late.aresult("1s") == {"n": 9, "ok": True}


async def test_with_nothing_to_find_the_wait_waits_on(app: TaskFlow) -> None:
    """S3.3: for events that come later, until its timeout."""
    waits = waiting_function(app, lookback="10m", match="data.id")
    async with Harness(app) as harness:
        await harness.send([Event("paid", {"id": n}) for n in range(250)])  # more than a page
        met, timed_out = await harness.start(waits, {"id": 300}), await harness.start(waits, {"id": 301})
        assert await is_waiting(met)
        await harness.send("paid", {"id": 300, "late": True})
        assert await met.aresult("1s") == {"id": 300, "late": True}
        await harness.advance(hours=1)
        assert await timed_out.aresult("1s") is None


async def test_an_event_is_found_however_many_came_before_it(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, lookback="10m", match="data.id")
    async with Harness(app) as harness:
        await harness.send([Event("paid", {"id": n}) for n in range(350)])
        runs = [await harness.start(waits, {"id": n}) for n in (0, 99, 100, 349)]
        assert [await run.aresult("1s") for run in runs] == [{"id": n} for n in (0, 99, 100, 349)]


async def test_waits_of_one_run_take_one_event_each(app: TaskFlow) -> None:
    """S3.3: what an earlier wait of the run got is not found again, whether it came before that wait or after."""

    @app.function()
    async def collect(ctx: Context[Step], step: Step) -> list[Any]:
        got = [await step.wait_for_event("next", "item", "1h", lookback="1h") for _ in range(5)]
        return [event and event.data["n"] for event in got]

    async with Harness(app, workers=2) as harness:
        await harness.send([Event("item", {"n": n}) for n in range(2)])
        run = await harness.start(collect)
        await harness.send("item", {"n": 2})
        await harness.send("item", {"n": 3})
        await harness.advance(hours=1)
        assert await run.aresult("1s") == [0, 1, 2, 3, None]


async def test_the_event_that_started_the_run_is_not_found(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, "ordered", lookback="1h")
    async with Harness(app) as harness:
        (event_id,) = await harness.send("ordered", {"n": 1})
        run = await harness.run_of(waits, event_id)
        assert await is_waiting(run)
        await harness.send("ordered", {"n": 2})
        assert await run.aresult("1s") == {"n": 2}
        for other in await harness.runs(waits):
            await other.acancel()


async def test_the_events_of_a_batch_are_not_found_by_its_run(app: TaskFlow) -> None:
    """S3.3, S7.6"""

    @app.function(trigger="item", batch_events=Batch(max_size=3, timeout="1m"))
    async def collect(ctx: Context[Step], step: Step) -> Any:
        got = await step.wait_for_event("more", "item", "1h", lookback="1h")
        return [len(ctx.events), got and got.data["n"]]

    async with Harness(app) as harness:
        await harness.send([Event("item", {"n": n}) for n in range(3)])
        (run,) = await harness.runs(collect)
        assert await is_waiting(run)
        await harness.send("item", {"n": 9})
        assert await run.aresult("1s") == [3, 9]
        for other in await harness.runs(collect):
            await other.acancel()


async def test_a_duplicate_is_not_found(app: TaskFlow) -> None:
    """S3.3, S1.3"""
    waits = waiting_function(app, lookback="1h", if_exp="async.data.n > 1")
    async with Harness(app) as harness:
        await harness.send("paid", {"n": 1}, id="same")
        await harness.send("paid", {"n": 2}, id="same")
        run = await harness.start(waits)
        assert await is_waiting(run)
        await run.acancel()


async def test_a_list_of_names_and_patterns_is_looked_through_in_the_order_of_the_events(
    app: TaskFlow,
) -> None:
    """S3.3"""
    waits = waiting_function(
        app, ["shop/paid", "mail/*", "shop/refused"], lookback="1h", if_exp="async.data.n > 1"
    )
    async with Harness(app) as harness:
        for n, name in enumerate(("shop/paid", "other", "shop/refused", "mail/read", "shop/paid")):
            await harness.send(name, {"n": n})
        run = await harness.start(waits)
        assert await run.aresult("1s") == {"n": 2}
    only_mail = waiting_function(app, "mail/*", lookback="1h", id="only-mail")
    async with Harness(app, clock=harness.clock) as harness:
        run = await harness.start(only_mail)
        assert await run.aresult("1s") == {"n": 3}


async def test_events_of_other_apps_are_found(make_app: MakeApp) -> None:
    """S3.3, S1.6"""
    shop, web = make_app("shop"), make_app("web")
    waits = waiting_function(shop, lookback="1h")
    async with Harness(shop) as harness:
        await harness.send("paid", {"n": 1}, app=web)
        run = await harness.start(waits)
        assert await run.aresult("1s") == {"n": 1}


async def test_what_was_found_stays_found_in_the_replay(app: TaskFlow) -> None:
    """S3.3, S4.1"""
    passes: list[Any] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        found = await step.wait_for_event("w", "paid", "1h", lookback="1h")
        await step.sleep("nap", "1h")
        missed = await step.wait_for_event("w", "paid", "1h", lookback="2h", if_exp="async.data.n > 1")
        await step.sleep("nap", "1h")
        passes.append([found and found.data["n"], missed and missed.data["n"]])

    async with Harness(app, workers=2) as harness:
        await harness.send("paid", {"n": 1})
        run = await harness.start(handler)
        await harness.send("paid", {"n": 2})
        await harness.advance(hours=3)
        assert await run.astatus() is RunStatus.COMPLETED
    assert passes == [[1, 2]]


@both_kinds
async def test_branches_look_back_side_by_side(app: TaskFlow, is_async: bool) -> None:
    """S3.3, S3.7: one event ends all waits that it meets, as one that comes later would."""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        got = await asyncio.gather(
            *[
                step.wait_for_event("w", "paid", "1h", if_exp=f"async.data.n >= {n}", lookback="1h")
                for n in range(4)
            ]
        )
        return [event and event.data["n"] for event in got]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        branches = [
            partial(step.wait_for_event, f"w{n}", "paid", "1h", if_exp=f"async.data.n >= {n}", lookback="1h")
            for n in range(4)
        ]
        got = step.parallel(branches)
        return [event and event.data["n"] for event in got]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        await harness.send([Event("paid", {"n": 1}), Event("paid", {"n": 2})])
        run = await harness.start(functions[is_async])
        assert await is_waiting(run)
        await harness.send("paid", {"n": 5})
        assert await run.aresult("1s") == [1, 1, 2, 5]


@both_kinds
async def test_a_race_is_won_by_the_wait_that_finds_its_event(app: TaskFlow, is_async: bool) -> None:
    """S3.3, S3.7: the losers, which looked back in vain, are gone."""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        won = await step.parallel(
            (
                lambda: step.wait_for_event("refused", "refused", "1d", lookback="1h"),
                lambda: step.wait_for_event("paid", "paid", "1d", lookback="1h"),
                lambda: step.sleep("nap", "1d"),
                lambda: step.wait_for_signal("go", "go", "1d"),
            ),
            mode="race",
        )
        await step.sleep("on", "1h")
        return won and won.data

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        won = step.parallel(
            (
                lambda: step.wait_for_event("refused", "refused", "1d", lookback="1h"),
                lambda: step.wait_for_event("paid", "paid", "1d", lookback="1h"),
                lambda: step.sleep("nap", "1d"),
                lambda: step.wait_for_signal("go", "go", "1d"),
            ),
            mode="race",
        )
        step.sleep("on", "1h")
        return won and won.data

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        await harness.send("paid", {"n": 1})
        run = await harness.start(functions[is_async])
        await gone(harness)
        assert await app.asend_signal("go") is False
        await harness.advance(hours=1)
        assert await run.aresult("1s") == {"n": 1}
        await nothing_is_left_of(harness, run)


async def test_a_branch_that_is_cancelled_while_it_looks_back_leaves_nothing(app: TaskFlow) -> None:
    """S3.3, S3.7: in whichever turn of the loop, so also between the script that stores the wait and its reply."""

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        task = asyncio.create_task(step.wait_for_event("paid", "paid", "1d", lookback="1h", match="data.x"))
        for _ in range(ctx.event.data["turns"]):
            await asyncio.sleep(0)
        task.cancel()
        await step.sleep("on", "1h")

    async with Harness(app) as harness:
        await harness.send([Event("paid", {"x": n}) for n in range(3)])
        for turns in range(50):
            run = await harness.start(handler, {"x": 1_000, "turns": turns})
            await gone(harness)
            await run.acancel()


async def gone(harness: Harness) -> None:
    """No wait stands in an index, and the only timer is that of the sleep after the race."""
    call, keys = harness.store.client.call, harness.store.keys
    assert await call("KEYS", f"{keys.prefix}wait*") == []
    assert [timer.split(b"\x1f")[-1] for timer in await call("ZRANGE", keys.timers, 0, -1)] == [b"on"]


async def test_a_wait_that_looks_back_beside_a_running_step_goes_on_at_once(app: TaskFlow) -> None:
    """S3.3, S3.7"""
    gate, met = asyncio.Event(), asyncio.Event()

    @app.function()
    async def both(ctx: Context[Step], step: Step) -> Any:
        async def branch() -> Any:
            event = await step.wait_for_event("paid", "paid", "1h", lookback="1h")
            met.set()
            return event and event.data

        got, _ = await asyncio.gather(branch(), step.run("slow", gate.wait))
        return got

    async with Harness(app) as harness:
        await harness.send("paid", {"n": 1})
        run = await both.ainvoke()
        await until(met.is_set, description="the event, while the step executes")
        gate.set()
        await harness.settled()
        assert await run.aresult("1s") == {"n": 1}


async def test_a_process_that_executes_one_step_of_a_run_leaves_its_waits_alone(app: TaskFlow) -> None:
    """S3.3, S4.4: here the code has a new wait by then, so the step would not be reached if that were looked up."""
    gates, passes = Gates(), []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        passes.append(1)
        is_new = len(passes) == 2  # in the process that executes "b"

        async def waits() -> None:
            if is_new:
                await step.wait_for_event("new", "paid", "1h", lookback="1h")

        async def second() -> str:
            await asyncio.sleep(0.03 if is_new else 0)
            return await step.run("b", gates.hold, "b")

        return await asyncio.gather(waits(), step.run("a", gates.hold, "a"), second())

    async with Harness(app, workers=2, concurrency=1) as harness:
        run = await handler.ainvoke()
        await gates.open("a")
        await gates.open("b")
        await harness.settled()
        assert await run.aresult("1s") == [None, "a", "b"]
    assert gates.ended == ["a", "b"]


async def test_a_cancelled_run_that_looked_back_leaves_nothing(app: TaskFlow) -> None:
    """S3.3, S6.2"""
    waits = waiting_function(app, ["paid", "shop/*"], lookback="1h")
    async with Harness(app) as harness:
        run = await harness.start(waits)
        await run.acancel()
        await nothing_is_left_of(harness, run)


async def test_events_that_were_removed_are_not_found(make_app: MakeApp) -> None:
    """S3.3, S10.1: a window can't be longer than the retention."""
    app = make_app(retention="1h")
    waits = waiting_function(app, lookback="10h")
    async with Harness(app) as harness:
        await harness.send("paid", {"n": 1})
        await harness.advance(hours=2)
        await harness.store.duties.trim_history(
            event_retention_ms=3_600_000, limit=1_000, now_ms=harness.clock.now_ms()
        )
        run = await harness.start(waits)
        assert await is_waiting(run)
        await run.acancel()
