"""What `send` gives back: ids, and the runs that the events came to."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.event import Event
from taskflow.flow.batch import Batch
from taskflow.flow.rate_limit import RateLimit
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness, SyncHarness


def echo(app: TaskFlow, id: str = "echo", **options: Any) -> Any:
    """A function that returns the data of its events."""

    @app.function(id=id, trigger="say", **options)
    async def say(ctx: Context[Step]) -> Any:
        return [event.data for event in ctx.events]

    return say


async def test_one_event_that_starts_one_run_can_be_used_as_the_run(shop: TaskFlow) -> None:
    echo(shop)
    async with Harness(shop) as harness:
        run = await harness.send("say", {"n": 1})
        assert await run.aresult() == [{"n": 1}]
        assert await run.astatus() is RunStatus.COMPLETED
        assert (await harness.view(run)).run_id == run.id == run.runs[0].id


async def test_it_is_the_list_of_ids_as_app_send_returns_it(shop: TaskFlow) -> None:
    async with Harness(shop) as harness:
        (own, made) = await harness.send([Event("say", id="mine"), Event("say")])
        assert own == "mine"
        assert len(made) == 26
        assert await harness.send([]) == []


async def test_runs_of_several_functions_and_events(shop: TaskFlow) -> None:
    echo(shop, "one")
    echo(shop, "two")
    async with Harness(shop) as harness:
        sent = await harness.send([Event("say", {"n": n}) for n in range(3)])
        assert [(await run.aresult())[0]["n"] for run in sent.runs] == [0, 0, 1, 1, 2, 2]
        with pytest.raises(LookupError, match="started 6 runs"):
            await sent.aresult()


async def test_an_event_that_starts_nothing_says_what_may_be_wrong(shop: TaskFlow) -> None:
    echo(shop)
    async with Harness(shop) as harness:
        sent = await harness.send("syy")
        assert sent.runs == []
        with pytest.raises(LookupError, match="is the name a function's trigger"):
            await sent.aresult()


async def test_a_duplicate_started_nothing(shop: TaskFlow) -> None:
    echo(shop)
    async with Harness(shop) as harness:
        assert len((await harness.send("say", id="a")).runs) == 1
        assert (await harness.send("say", id="a")).runs == []


async def test_skipped_and_batched_runs_are_found(shop: TaskFlow) -> None:
    echo(shop, "limited", rate_limit=RateLimit(1, "1h"))
    echo(shop, "batched", batch_events=Batch(2, timeout="1m"))
    async with Harness(shop) as harness:
        first = await harness.send("say", {"n": 1})
        second = await harness.send("say", {"n": 2})
        assert [await run.astatus() for run in second.runs] == [RunStatus.COMPLETED, RunStatus.SKIPPED]
        assert first.runs[0].id == second.runs[0].id
        assert await second.runs[0].aresult() == [{"n": 1}, {"n": 2}]


async def test_a_delayed_run_is_found_before_its_time(shop: TaskFlow) -> None:
    echo(shop)
    async with Harness(shop) as harness:
        run = await harness.send("say", ts=harness.clock.now_ms() + 60_000)
        assert await run.astatus() is RunStatus.SCHEDULED
        await harness.finish(run)
        assert await run.aresult() == [{}]


async def test_what_send_gives_can_be_cancelled_and_viewed_as_the_run(shop: TaskFlow) -> None:
    @shop.function(trigger="shop/begun")
    async def patient(ctx: Context[Step], step: Step) -> None:
        await step.sleep("long", "1d")

    async with Harness(shop) as harness:
        run = await harness.send("shop/begun", {})
        assert (await run.aview()).status == "waiting"
        assert await run.acancel("enough")
        await harness.settled()
        assert await run.astatus() == "cancelled"


def test_what_send_gives_can_be_cancelled_and_viewed_without_await(shop: TaskFlow) -> None:
    @shop.function(trigger="shop/begun")
    def patient(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.sleep("long", "1d")

    with SyncHarness(shop) as harness:
        run = harness.send("shop/begun", {})
        assert run.view().status == "waiting"
        assert run.cancel()
        harness.settled()
        assert run.status() == "cancelled"
