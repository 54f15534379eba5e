"""S6.1, S6.2: events that cancel runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import ConfigError, RunCancelled
from taskflow.event import Event
from taskflow.flow.batch import Batch
from taskflow.flow.cancel import Cancel
from taskflow.flow.singleton import Singleton
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.endings import nothing_is_left_of, watch

CANCELLED, WAITING, COMPLETED = RunStatus.CANCELLED, RunStatus.WAITING, RunStatus.COMPLETED


def napper(app: TaskFlow, *cancel: Cancel, **options: Any) -> Function[..., Any]:
    """A function that sleeps for a day, for events `made`."""

    @app.function(trigger="made", cancel=list(cancel), **options)
    async def nap(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1 day")
        return "slept"

    return nap


async def statuses(*runs: Run) -> list[RunStatus]:
    return [await run.astatus() for run in runs]


# --- which event cancels which run ---


async def test_an_event_with_the_same_value_cancels_the_run(app: TaskFlow) -> None:
    """S6.1: `match` compares the run's own event with the one that comes. The run says which event it was."""
    nap = napper(app, Cancel("undone", match="data.order"))
    told = watch(app)
    async with Harness(app) as harness:
        ids = await harness.send([Event("made", {"order": order}) for order in (1, 2)])
        first, second = [await harness.run_of(nap, event_id) for event_id in ids]
        (event_id,) = await harness.send("undone", {"order": 1})
        assert await statuses(first, second) == [CANCELLED, WAITING]
        with pytest.raises(RunCancelled, match=f"event undone came: {event_id}"):
            await first.aresult("1s")
        await nothing_is_left_of(harness, first)
        record = await harness.store.history.event(event_id)
        assert record[f"cancel:{first.id}"] == b"cancelled", "the event tells what it did (S10.5)"
        assert [data["run_id"] for data in told] == [first.id]
        await harness.advance(days=1)
        assert await second.aresult("1s") == "slept"
        await nothing_is_left_of(harness, second)


@pytest.mark.parametrize(
    ("cancel", "sent", "is_cancelled"),
    [
        (Cancel("undone"), ("undone", {}), True),
        (Cancel("undone"), ("undone.really", {}), False),
        (Cancel("undone*"), ("undone.really", {}), True),
        (Cancel("*"), ("whatever", {}), True),
        (Cancel("undone", match="data.order"), ("undone", {"order": 7.0}), True),
        (Cancel("undone", match="data.order"), ("undone", {"order": "7"}), False),
        (Cancel("undone", match="data.order"), ("undone", {}), False),
        (Cancel("undone", match="data.missing"), ("undone", {"missing": 1}), False),
        (Cancel("undone", match="data.missing"), ("undone", {}), False),
        (Cancel("undone", if_exp="async.data.order == event.data.order"), ("undone", {"order": 7}), True),
        (Cancel("undone", if_exp="async.data.order == event.data.order"), ("undone", {"order": 8}), False),
        (Cancel("undone", if_exp="async.data.total > event.data.order"), ("undone", {"total": 8}), True),
        (Cancel("undone", if_exp="async.data.total > event.data.order"), ("undone", {"total": 7}), False),
        (Cancel("undone", if_exp="async.data.total > event.data.order"), ("undone", {}), False),
        (Cancel("undone", match="data.order", if_exp="async.data.sure"), ("undone", {"order": 7, "sure": True}), True),
        (Cancel("undone", match="data.order", if_exp="async.data.sure"), ("undone", {"order": 7, "sure": False}), False),
        (Cancel("undone", match="data.order", if_exp="async.data.sure"), ("undone", {"order": 8, "sure": True}), False),
    ],
)  # fmt: skip
async def test_which_events_cancel(
    app: TaskFlow, cancel: Cancel, sent: tuple[str, dict[str, Any]], is_cancelled: bool
) -> None:
    """S6.1: name or pattern, `match`, `if_exp`, or both of them."""
    nap = napper(app, cancel)
    async with Harness(app) as harness:
        (event_id,) = await harness.send("made", {"order": 7})
        run = await harness.run_of(nap, event_id)
        await harness.send(*sent)
        assert await run.astatus() is (CANCELLED if is_cancelled else WAITING)
        await run.acancel()
        await nothing_is_left_of(harness, run)


async def test_one_of_several_events_is_enough(app: TaskFlow) -> None:
    """S6.1: up to five; each for itself."""
    nap = napper(app, *[Cancel(f"undone-{n}", match="data.order") for n in range(5)])
    async with Harness(app) as harness:
        for number in range(5):
            (event_id,) = await harness.send("made", {"order": number})
            run = await harness.run_of(nap, event_id)
            await harness.send(f"undone-{number}", {"order": number})
            assert await run.astatus() is CANCELLED


async def test_an_event_that_came_before_cancels_nothing(app: TaskFlow) -> None:
    """S6.1"""
    nap = napper(app, Cancel("undone", match="data.order"))
    async with Harness(app) as harness:
        await harness.send("undone", {"order": 1})
        (event_id,) = await harness.send("made", {"order": 1})
        run = await harness.run_of(nap, event_id)
        assert await run.astatus() is WAITING
        await run.acancel()


async def test_the_events_of_one_message_are_taken_in_their_order(app: TaskFlow) -> None:
    """S6.1: they are routed by one script; still an event cancels the runs that were started before it, and no others."""
    nap = napper(app, Cancel("undone", match="data.order"), Cancel("und*", if_exp="async.data.order == 99"))
    async with Harness(app) as harness:
        ids = await harness.send(
            [Event("undone", {"order": 1}), Event("made", {"order": 1}), Event("made", {"order": 2})]
            + [Event("undone", {"order": 2}), Event("undone", {"order": 3}), Event("made", {"order": 3})]
        )
        runs = [await harness.run_of(nap, ids[place]) for place in (1, 2, 5)]
        assert await statuses(*runs) == [WAITING, CANCELLED, WAITING]
        for run in runs:
            await run.acancel()


async def test_the_event_that_starts_a_run_does_not_cancel_it(app: TaskFlow) -> None:
    """S6.1: but the runs that were started before it; so the newest one lives."""
    nap = napper(app, Cancel("made", match="data.user"))
    async with Harness(app) as harness:
        ids: list[str] = []
        for user in ("ann", "bob", "ann"):
            ids += await harness.send("made", {"user": user})
        old, other, new = [await harness.run_of(nap, event_id) for event_id in ids]
        assert await statuses(old, other, new) == [CANCELLED, WAITING, WAITING]
        for run in (other, new):
            await run.acancel()


async def test_events_cancel_only_within_the_timeout(app: TaskFlow) -> None:
    """S6.1: it counts from when the run was made."""
    nap = napper(app, Cancel("undone", match="data.order", timeout="10m"))
    async with Harness(app) as harness:
        ids = await harness.send([Event("made", {"order": 1}), Event("made", {"order": 2})])
        in_time, late = [await harness.run_of(nap, event_id) for event_id in ids]
        await harness.advance(minutes=10)
        await harness.send("undone", {"order": 1})
        await harness.advance(ms=1)
        await harness.send("undone", {"order": 2})
        assert await statuses(in_time, late) == [CANCELLED, WAITING]
        await late.acancel()
        await nothing_is_left_of(harness, late)


async def test_runs_that_were_invoked_are_cancelled_by_events_too(app: TaskFlow) -> None:
    """S6.1: `event` is that of the invocation; the parent goes on with its other children."""
    nap = napper(app, Cancel("undone", match="data.order"))

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> list[str]:
        ended = await asyncio.gather(
            *[step.invoke("child", function=nap, data={"order": n}) for n in range(2)], return_exceptions=True
        )
        return [getattr(each, "name", str(each)) for each in ended]

    async with Harness(app) as harness:
        run = await harness.start(parent)
        await harness.send("undone", {"order": 0})
        await harness.advance(days=1)
        assert await run.aresult("1s") == ["Cancelled", "slept"]


async def test_an_event_cancels_runs_of_many_functions_and_apps(make_app: MakeApp) -> None:
    """S6.1, S1.6"""
    apps = [make_app(), make_app()]
    naps = [napper(app, Cancel("undone", match="data.order")) for app in apps]
    async with Harness(*apps) as harness:
        (event_id,) = await harness.send("made", {"order": 1})
        await harness.send("undone", {"order": 1})
        for nap in naps:
            assert await (await harness.run_of(nap, event_id)).astatus() is CANCELLED


# --- the events that tell of it ---


async def test_runs_wait_for_the_end_of_others(app: TaskFlow) -> None:
    """S6.2, S5.5, S3.3: `taskflow/function.cancelled` and `.failed` can be waited for, and cancel runs."""
    nap = napper(app)

    @app.function(retries=Retries(0))
    async def fail(ctx: Context[Step]) -> None:
        raise ValueError("no")

    @app.function()
    async def guard(ctx: Context[Step], step: Step) -> Any:
        ended = await step.wait_for_event(
            "end", "taskflow/function.*", timeout="1h", if_exp="async.data.run_id == event.data.run_id"
        )
        return ended and [ended.name, ended.data["error"]["message"]]

    @app.function(cancel=Cancel("taskflow/function.failed", if_exp="async.data.function_id == 'shop/fail'"))
    async def helper(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        (event_id,) = await harness.send("made")
        run = await harness.run_of(nap, event_id)
        guarding, helping = await harness.start(guard, {"run_id": run.id}), await harness.start(helper)
        await run.acancel("enough")
        await harness.settled()
        assert await guarding.aresult("1s") == ["taskflow/function.cancelled", "enough"]
        assert await helping.astatus() is WAITING
        await harness.start(fail)
        assert await helping.astatus() is CANCELLED


@pytest.mark.parametrize("start", ["event", "invoke"])
async def test_a_run_whose_singleton_is_taken_over_is_told_of(app: TaskFlow, start: str) -> None:
    """S6.2, S7.7: by whoever has started the new one."""
    told = watch(app)
    nap = napper(app, singleton=Singleton(mode="cancel"))

    async with Harness(app) as harness:
        for _ in range(3):
            await (harness.send("made") if start == "event" else harness.start(nap))
        first, second, third = await harness.runs(nap)
        assert sorted(data["run_id"] for data in told) == sorted([first.id, second.id])
        assert "of the same singleton has come" in told[0]["error"]["message"]
        await third.acancel()


# --- options ---


@pytest.mark.parametrize(
    ("cancel", "message"),
    [
        ([Cancel("x")] * 6, r"function 'shop/nap': cancel holds at most 5 events, got 6"),
        ("undone", r"cancel must be a Cancel or a list of them, got 'undone'"),
        (["undone"], r"cancel must be a Cancel or a list"),
    ],
)
def test_wrong_cancel_options_are_refused(app: TaskFlow, cancel: Any, message: str) -> None:
    """S2.5"""
    with pytest.raises(ConfigError, match=message):

        @app.function(trigger="made", cancel=cancel)
        async def nap(ctx: Context[Step]) -> None: ...


def test_batches_and_cancel_events_exclude_each_other(app: TaskFlow) -> None:
    """S7.9"""
    with pytest.raises(ConfigError, match=r"batch_events can't be used with cancel"):

        @app.function(trigger="made", batch_events=Batch(10, "5s"), cancel=Cancel("undone"))
        async def nap(ctx: Context[Step]) -> None: ...
