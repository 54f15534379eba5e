"""SyncHarness: the same for `def` tests."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunFailed, StoreUnavailable
from taskflow.event import Event
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import SyncHarness
from taskflow.triggers import TriggerCron


def make_remind(app: TaskFlow) -> Any:
    @app.function(trigger="user.created")
    async def remind(ctx: Context[Step], step: Step) -> str:
        await step.sleep("a month", "30 days")
        return "reminded"

    return remind


def test_a_test_without_async_turns_the_clock_too(shop: TaskFlow) -> None:
    make_remind(shop)
    with SyncHarness(shop) as harness:
        run = harness.send("user.created", {"id": 7})
        assert run.status() is RunStatus.WAITING
        assert harness.slots_in_use == 0
        began_ms = harness.clock.now_ms()
        harness.advance(days=30)
        assert harness.clock.now_ms() - began_ms == 30 * 86_400_000
        assert run.result() == "reminded"


def test_all_that_the_harness_offers(shop: TaskFlow) -> None:
    remind = make_remind(shop)

    @shop.function(trigger="order")
    def order(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        paid = step.run("charge", lambda: 1 / 0)
        approval = step.wait_for_signal("approval", "approve", timeout="1h")
        score = step.invoke("score", function_id="risk/score")
        return [paid, approval.data if approval else None, score]

    with SyncHarness(shop) as harness:
        harness.stub("charge", returns="paid")
        harness.stub_function("risk/score", returns=7)
        sent = harness.send("order", id="A-1")
        run = harness.run_of(order, "A-1")
        assert run.id == sent.id
        assert shop.send_signal("approve", True)
        harness.settled()
        assert run.result() == ["paid", True, 7]
        harness.view(run).step("charge").assert_completed("paid", attempts=1)
        assert list(harness.steps(run)) == ["charge", "approval", "score"]
        started = harness.start(remind)
        harness.finish(started)
        assert started.result() == "reminded"
        assert "a month" in started.page()
        again = harness.run(remind, Event("user.created"))
        assert again.result() == "reminded"
        assert [run.id for run in harness.runs(remind)] == [again.id]  # the first is past its retention


def test_sync_calls_of_the_app_itself_work(shop: TaskFlow) -> None:
    remind = make_remind(shop)
    with SyncHarness(shop) as harness:
        run = remind.invoke()
        harness.settled()
        assert run.status() is RunStatus.WAITING
        assert run.cancel()
        shop.send("user.created")
        harness.settled()
        assert len(harness.runs(remind)) == 2


def test_errors_come_through_with_the_page_of_the_run(shop: TaskFlow) -> None:
    @shop.function(retries=0)
    def broken(ctx: Context[BlockingStep]) -> None:
        raise ValueError("no such order")

    with SyncHarness(shop) as harness:
        run = harness.start(broken)
        with pytest.raises(RunFailed, match="ValueError: no such order") as raised:
            run.result()
    (note,) = raised.value.__notes__
    assert "✗ shop/broken  ·  failed" in note
    assert 'raise ValueError("no such order")' in note


def test_a_result_that_does_not_come_says_so_at_once(shop: TaskFlow) -> None:
    make_remind(shop)
    with SyncHarness(shop, deadline_s=60) as harness:
        run = harness.send("user.created")
        with pytest.raises(TimeoutError, match="sleeping until 2030-01-31"):
            run.result()


def test_a_start_that_fails_ends_the_thread(shop: TaskFlow) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StoreUnavailable), SyncHarness(shop, servers="app"):
        pass
    assert set(threading.enumerate()) <= before


def test_crons_can_be_left_out(shop: TaskFlow) -> None:
    remind, ticks = make_remind(shop), []

    @shop.function(trigger=TriggerCron("* * * * *"))
    def tick(ctx: Context[BlockingStep]) -> None:
        ticks.append(ctx.run_id)

    with SyncHarness(shop, crons=False) as harness:
        assert harness.run(remind).result() == "reminded"
        assert ticks == []


def test_it_leaves_no_thread_and_no_loop(shop: TaskFlow) -> None:
    make_remind(shop)
    before = set(threading.enumerate())
    with SyncHarness(shop) as harness:
        harness.send("user.created").status()
    assert [thread for thread in set(threading.enumerate()) - before if thread.is_alive()] == []
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_unused_stubs_fail_and_the_thread_ends(shop: TaskFlow) -> None:
    before = set(threading.enumerate())
    with pytest.raises(AssertionError, match="'charge' was never called"), SyncHarness(shop) as harness:
        harness.stub("charge")
    assert set(threading.enumerate()) <= before
