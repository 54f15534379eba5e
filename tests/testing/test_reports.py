"""What a test is told when something is wrong."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import RunCancelled, RunFailed
from taskflow.event import Event
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness


def decline(cents: int) -> None:
    raise ValueError(f"card declined: {cents}")


def make_order(app: TaskFlow) -> Function[..., Any]:
    @app.function(trigger="order", retries=Retries(1, initial="1s", jitter=False))
    async def order(ctx: Context[Step], step: Step) -> str:
        await step.run("reserve", lambda: "shelf 7")
        await step.run("charge", decline, 3)
        return "done"

    return order


async def test_a_failed_run_is_raised_with_its_timeline_and_the_users_traceback(shop: TaskFlow) -> None:
    order = make_order(shop)
    async with Harness(shop) as harness:
        run = await harness.run(order)
        with pytest.raises(RunFailed, match="card declined: 3") as raised:
            await run.aresult()
    (note,) = raised.value.__notes__
    assert "✗ shop/order  ·  failed in 1 s" in note
    assert "✓ reserve" in note
    assert "attempts 1-2  ValueError: card declined: 3" in note
    assert 'raise ValueError(f"card declined: {cents}")' in note
    assert "taskflow/testing" not in note.replace("tests/testing", "")  # frames of the machinery


async def test_stubs_add_no_frames_to_the_users_traceback(shop: TaskFlow) -> None:
    @shop.function(retries=0)
    async def order(ctx: Context[Step], step: Step) -> None:
        decline(await step.run("price", lambda: 1))

    async with Harness(shop) as harness:
        harness.stub("price", returns=3)
        page = await (await harness.run(order)).apage()
    assert "in order" in page
    assert 'raise ValueError(f"card declined: {cents}")' in page
    assert "stubs.py" not in page


async def test_a_result_that_does_not_come_says_what_the_run_waits_for(shop: TaskFlow) -> None:
    @shop.function()
    async def patient(ctx: Context[Step], step: Step) -> None:
        await step.wait_for_event("paid", "shop/paid", timeout="1d")

    async with Harness(shop, deadline_s=60) as harness:
        run = await harness.start(patient)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="Turn the clock") as raised:
            await run.aresult()
        assert time.monotonic() - began < 10  # it does not wait in vain
        assert "waiting: event shop/paid until" in str(raised.value)
        await run.acancel("enough")
        await harness.settled()
        with pytest.raises(RunCancelled, match="enough"):
            await run.aresult()


async def test_a_failed_assert_in_the_block_gets_the_pages_of_the_runs_failed_ones_first(
    shop: TaskFlow,
) -> None:
    order = make_order(shop)

    @shop.function()
    async def fine(ctx: Context[Step]) -> str:
        return "fine"

    with pytest.raises(AssertionError) as raised:
        async with Harness(shop) as harness:
            for _ in range(3):
                await harness.start(fine)
            await harness.run(order)
            raise AssertionError("the test's own")
    (note,) = raised.value.__notes__
    assert note.index("shop/order") < note.index("shop/fine")
    assert note.endswith("... and 1 more runs")


async def test_a_page_is_shown_once(shop: TaskFlow) -> None:
    order = make_order(shop)
    with pytest.raises(AssertionError) as raised:
        async with Harness(shop) as harness:
            run = await harness.start(order)
            (await harness.view(run)).step("pack")
    assert "shop/order  ·  waiting" in str(raised.value)
    assert not hasattr(raised.value, "__notes__")


async def test_views_say_what_was_expected_what_came_and_show_the_timeline(shop: TaskFlow) -> None:
    order = make_order(shop)
    async with Harness(shop) as harness:
        run = await harness.start(order)
        view = await harness.view(run)
        view.step("reserve").assert_completed("shelf 7", attempts=1)
        view.step("charge").assert_pending()
        for check, message in (
            (lambda: view.step("charge").assert_completed(), r"'charge' to be done, but it is retry"),
            (lambda: view.step("charge").assert_failed(), r"'charge' to have failed, but it is retry"),
            (
                lambda: view.step("reserve").assert_completed("shelf 8"),
                "to return 'shelf 8', but it returned 'shelf 7'",
            ),
            (
                lambda: view.step("reserve").assert_completed(None),
                "to return None, but it returned 'shelf 7'",
            ),
            (lambda: view.step("reserve").assert_completed(attempts=2), "to take 2 attempts, but it took 1"),
            (lambda: view.step("reserve").assert_pending(), "to wait, but it is done"),
            (lambda: view.step("pack"), r"has no step 'pack', only \['reserve', 'charge'\]"),
        ):
            with pytest.raises(AssertionError, match=message) as raised:
                check()
            assert "○ shop/order  ·  waiting" in str(raised.value)
        await harness.finish(run)
        failed = (await harness.view(run)).step("charge")
        failed.assert_failed("ValueError: card declined", attempts=2)
        with pytest.raises(AssertionError, match="to fail with 'TypeError', but it is failed"):
            failed.assert_failed("TypeError")


async def test_what_never_settles_is_named(shop: TaskFlow) -> None:
    gate = asyncio.Event()

    @shop.function()
    async def stuck(ctx: Context[Step], step: Step) -> None:
        await step.run("for ever", gate.wait)

    async with Harness(shop) as harness:
        harness.deadline_s = 0.1
        with pytest.raises(TimeoutError, match=r"of shop/stuck is executing, at .*test_reports.py:\d+"):
            await harness.start(stuck)
        harness.deadline_s = 5.0
        gate.set()


async def test_run_goes_to_the_end_and_gives_the_event_that_it_is_given(shop: TaskFlow) -> None:
    @shop.function(trigger="order")
    async def order(ctx: Context[Step], step: Step) -> Any:
        for _ in range(3):
            await step.sleep("a month", "30d")
        return [ctx.event.name, ctx.event.data, ctx.event.id]

    async with Harness(shop) as harness:
        began_ms = harness.clock.now_ms()
        run = await harness.run(order, Event("any/name", {"n": 1}, id="mine"))
        assert await run.aresult() == ["any/name", {"n": 1}, "mine"]
        assert harness.clock.now_ms() - began_ms == 90 * 86_400_000
        assert (await (await harness.run(order, {"n": 2})).aresult())[1] == {"n": 2}


async def test_run_says_so_when_time_alone_does_not_end_it(shop: TaskFlow) -> None:
    answer = asyncio.Event()

    @shop.function()
    async def mixed(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")
        await answer.wait()

    async with Harness(shop) as harness:
        with pytest.raises(AssertionError, match="does not end by time alone"):
            await harness.run(mixed)
        (run,) = await harness.runs(mixed)
        assert await run.astatus() is RunStatus.RUNNING
        answer.set()
        await run.aresult()
