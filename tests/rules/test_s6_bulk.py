"""S6.1: cancelling many runs at a time, by function, status, time and CEL over their events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import ConfigError, InvalidDuration
from taskflow.event import Event
from taskflow.flow.cancel import Cancel
from taskflow.flow.concurrency import Concurrency
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.timeouts import Timeouts
from tests.conftest import MakeApp
from tests.rules.endings import nothing_is_left_of, watch
from tests.waiting import until

CANCELLED, WAITING = RunStatus.CANCELLED, RunStatus.WAITING


def napper(app: TaskFlow, id: str = "nap", **options: Any) -> Function[..., Any]:
    @app.function(id=id, trigger="made", **options)
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "20h")

    return nap


async def numbers(harness: Harness, function: Function[..., Any], status: RunStatus) -> list[int]:
    """`n` of the events of the runs in this status."""
    found = []
    for run in await harness.runs(function):
        stored = await harness.store.history.run(run.id)
        assert stored is not None
        if await run.astatus() is status:
            found.append(int(stored.fields["event"].split(b'"n":')[1].split(b"}")[0]))
    return sorted(found)


async def make(harness: Harness, *numbers: int, ts: int | None = None) -> None:
    await harness.send([Event("made", {"n": number}, ts=ts) for number in numbers])


async def test_all_live_runs_of_a_function_are_cancelled(app: TaskFlow) -> None:
    """S6.1: and no others; who asks learns how many. More of them than one page."""
    told = watch(app)
    nap, other = napper(app), napper(app, "other")
    async with Harness(app) as harness:
        await make(harness, *range(230))
        assert await app.acancel_runs(nap, reason="too many") == 230
        await harness.settled()
        assert await numbers(harness, nap, CANCELLED) == list(range(230))
        assert await numbers(harness, other, WAITING) == list(range(230))
        assert len({data["run_id"] for data in told}) == len(told) == 230
        assert {data["error"]["message"] for data in told} == {"too many"}
        assert await app.acancel_runs(nap) == 0, "asked again, nothing is left to do"
        assert await asyncio.to_thread(app.cancel_runs, "shop/other") == 230
        for run in await harness.runs(other):
            await nothing_is_left_of(harness, run)


async def test_runs_of_all_functions_of_the_app_are_cancelled(make_app: MakeApp) -> None:
    """S6.1: those of other apps go on."""
    app, neighbour = make_app(), make_app()
    nap, other, theirs = napper(app), napper(app, "other"), napper(neighbour)
    async with Harness(app, neighbour) as harness:
        await make(harness, 1, 2)
        assert await app.acancel_runs() == 4
        assert await numbers(harness, nap, CANCELLED) == await numbers(harness, other, CANCELLED) == [1, 2]
        assert await numbers(harness, theirs, WAITING) == [1, 2]
        await neighbour.acancel_runs()


async def test_runs_are_picked_by_their_event(app: TaskFlow) -> None:
    """S6.1: an event without the field is not meant."""
    nap = napper(app)
    async with Harness(app) as harness:
        await make(harness, *range(10))
        await harness.send("made", {"m": 1})
        assert await app.acancel_runs(nap, if_exp="event.data.n > 3 && event.data.n < 7") == 3
        assert await numbers(harness, nap, CANCELLED) == [4, 5, 6]
        await app.acancel_runs(nap)


async def test_runs_are_picked_by_the_time_at_which_they_were_made(app: TaskFlow) -> None:
    """S6.1: both ends belong to it; durations count back from now."""
    nap = napper(app)
    async with Harness(app) as harness:
        start_ms = harness.clock.now_ms()
        for number in range(6):
            await make(harness, number)
            await harness.advance(hours=1)
        assert await app.acancel_runs(nap, since="2h") == 2
        assert await numbers(harness, nap, CANCELLED) == [4, 5]
        assert await app.acancel_runs(nap, until=timedelta(hours=6)) == 1
        moment = datetime.fromtimestamp(start_ms / 1000, UTC) + timedelta(hours=2)
        assert await app.acancel_runs(nap, since=moment, until=moment) == 1
        assert await numbers(harness, nap, WAITING) == [1, 3]
        await app.acancel_runs(nap)


async def test_runs_are_picked_by_their_status(app: TaskFlow) -> None:
    """S6.1, S6.2: a running one ends after its step, and is counted once."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def charge() -> None:
        entered.set()
        await gate.wait()

    @app.function(trigger="made", concurrency=Concurrency(1))
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("charge", charge)
        await step.run("more", charge)

    async with Harness(app) as harness:
        await app.asend([Event("made", {"n": number}) for number in range(3)])
        await entered.wait()
        await app.asend("made", {"n": 3}, ts=harness.clock.now_ms() + 60_000)
        await app.asend("made", {"n": 4})

        async def are_all_there() -> bool:
            queued = await numbers(harness, work, RunStatus.QUEUED)
            return await numbers(harness, work, RunStatus.SCHEDULED) == [3] and len(queued) == 3

        await until(are_all_there, description="all to be routed")
        assert await app.acancel_runs(work, status="scheduled") == 1
        assert await numbers(harness, work, CANCELLED) == [3]
        assert await app.acancel_runs(work, status=["queued", "waiting"]) == 3
        assert await app.acancel_runs(work, status="running") == 1
        assert await app.acancel_runs(work, status="running") == 0, "it is asked to end already"
        gate.set()
        await harness.settled()
        assert await numbers(harness, work, CANCELLED) == [0, 1, 2, 3, 4]


async def test_runs_of_a_function_that_is_gone_can_be_cancelled(make_app: MakeApp) -> None:
    """S6.1: by its id; but a name that never was is an error, not a zero."""
    old, new = make_app("shop"), make_app("shop")
    nap = napper(old)
    async with Harness(old) as harness:
        await make(harness, 1)
        assert await new.acancel_runs("shop/nap") == 1
        assert await numbers(harness, nap, CANCELLED) == [1]
        with pytest.raises(ConfigError, match="there is no function 'shop/nop'"):
            await new.acancel_runs("shop/nop")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"status": "completed"}, ConfigError, r"status must name statuses of runs that have not ended \(queued, running"),
        ({"status": []}, ConfigError, "status must name statuses"),
        ({"since": "soon"}, InvalidDuration, "cancel_runs: since"),
        ({"if_exp": "event.data."}, ConfigError, "cancel_runs: if_exp"),
    ],
)  # fmt: skip
async def test_wrong_options_cancel_nothing(
    app: TaskFlow, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """S2.5"""
    nap = napper(app)
    with pytest.raises(error, match=message):
        await app.acancel_runs(nap, **options)


async def test_a_run_behind_a_limit_is_cancelled_by_its_timeout(app: TaskFlow) -> None:
    """S6.3, S7.1: it leaves its lane, and those behind it are served."""
    told = watch(app)
    gate = asyncio.Event()
    started: list[int] = []

    @app.function(
        trigger="made", concurrency=Concurrency(1, key="event.data.user"), timeouts=Timeouts(start="10s"),
        cancel=Cancel("undone"),
    )  # fmt: skip
    async def work(ctx: Context[Step], step: Step) -> None:
        started.append(ctx.event.data["n"])
        await step.run("work", gate.wait)

    async with Harness(app) as harness:
        ids = [(await app.asend("made", {"n": 0, "user": "ann"}))[0]]
        await until(lambda: started, description="the first run")
        ids += await app.asend("made", {"n": 1, "user": "ann"})
        late = app.run(f"{ids[1]}-{(await harness.runs(work))[0].id.rpartition('-')[2]}")
        await until(lambda: queued(harness, late.id), description="the second to be queued")
        harness.clock.advance(seconds=10)
        await harness.store.client.call("LPUSH", harness.store.keys.nudge, 1)
        await until(lambda: told, description="the news")
        assert [(data["run_id"], data["error"]["name"]) for data in told] == [(late.id, "RunTimeout")]
        await nothing_is_left_of(harness, late)
        keys = await harness.store.client.call("KEYS", f"{harness.store.keys.prefix}*")
        assert not [key for key in keys if b"lanes:" in key or b"blocked" in key or b"ready:" in key]
        gate.set()
        await harness.settled()
    assert started == [0]


async def queued(harness: Harness, run_id: str) -> bool:
    return (await harness.store.history.fields(run_id, "status"))[0] == b"queued"
