"""S10.3: replaying the runs of a function in bulk."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import ConfigError, InvalidDuration, NonRetriableError
from taskflow.event import Event
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.runs.replay import plan_replay
from taskflow.runs.selection import Past
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.views import view
from tests.waiting import until


class Shop:
    """A function that fails for orders whose number is in `bad`, and the numbers that it got, in order."""

    def __init__(self, app: TaskFlow) -> None:
        self.app = app
        self.got: list[int] = []
        self.bad: set[int] = set()

        @app.function(id="work", trigger="order", retries=0)
        async def work(ctx: Context[Step], step: Step) -> int:
            number: int = ctx.event.data["n"]
            self.got.append(number)
            if number in self.bad:
                raise NonRetriableError("broken")
            if ctx.event.data.get("sleep"):
                await step.sleep("nap", "1d")
            return number

        self.work: Function[..., Any] = work

    async def fail(self, harness: Harness, *numbers: int, **data: Any) -> None:
        """Runs that fail, a second apart, from a fault that is mended then."""
        for number in numbers:
            self.bad.add(number)
            await harness.send("order", {"n": number, **data}, id=f"o{number}")
            await harness.advance(seconds=1)
        self.bad.clear()
        self.got.clear()

    async def statuses(self, harness: Harness) -> list[str]:
        return [await run.astatus() for run in await harness.runs(self.work)]


async def test_failed_runs_run_anew_in_their_order(app: TaskFlow) -> None:
    """S10.3: each by a run of its own, which names it, and the replay."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1, 2, 3)
        await harness.send("order", {"n": 4})
        shop.got.clear()
        assert await app.areplay(shop.work, since="1h", replay_id="mended") == 3
        await harness.settled()
        assert shop.got == [1, 2, 3]
        first = await harness.run_of(shop.work, "o1")
        views = [await view(harness, run) for run in await harness.runs(shop.work)]
        reruns = [told for told in views if told.cause == "replay"]
        assert [told.status for told in reruns] == ["completed"] * 3
        assert {told.replay_id for told in reruns} == {"mended"}
        assert first.id in {told.rerun_of for told in reruns}


async def test_only_runs_of_the_statuses_asked_for_are_replayed(app: TaskFlow) -> None:
    """S10.3: failed, cancelled and skipped ones unless told otherwise; live ones never."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1)
        await harness.send("order", {"n": 2, "sleep": True}, id="cancelled")
        await (await harness.run_of(shop.work, "cancelled")).acancel()
        await app.apause(shop.work)
        await harness.send("order", {"n": 3}, id="skipped")
        await app.aresume(shop.work)
        await harness.send("order", {"n": 4, "sleep": True}, id="live")
        await harness.send("order", {"n": 5}, id="completed")
        shop.got.clear()
        assert await app.areplay(shop.work, since="1h", status=["skipped"]) == 1
        await harness.settled()
        assert shop.got == [3]
        assert await app.areplay(shop.work, since="1h") == 2
        await harness.settled()
        assert shop.got == [3, 1, 2]
        assert await app.areplay(shop.work, since="1h", status="completed", if_exp="event.data.n == 5") == 1
        for run in await harness.runs(shop.work):
            await run.acancel()


@pytest.mark.parametrize("status", [["running"], [], ["done"]])
async def test_a_status_of_live_runs_is_refused(app: TaskFlow, status: list[str]) -> None:
    """S10.3"""
    shop = Shop(app)
    with pytest.raises(ConfigError, match="status must name statuses of runs that have ended"):
        await app.areplay(shop.work, since="1h", status=status)


async def test_a_condition_looks_at_the_event(app: TaskFlow) -> None:
    """S10.3: CEL; an event without the field does not meet it."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1, 2)
        await shop.fail(harness, 3, total=7)
        assert await app.areplay(shop.work, since="1h", if_exp="event.data.total > 5") == 1
        await harness.settled()
        assert shop.got == [3]


START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until_", "expected"),
    [
        ("1d", None, [1, 2, 3]),
        (timedelta(seconds=2), None, [2, 3]),  # made 3, 2 and 1 s ago
        ("2s", "2s", [2]),
        (START + timedelta(seconds=2), None, [3]),
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z", [1, 2]),
        ("1h", START, [1]),
    ],
)
async def test_from_when_to_when(
    app: TaskFlow, since: Past, until_: Past | None, expected: list[int]
) -> None:
    """S10.3: when the runs were made, both ends included."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1, 2, 3)
        assert await app.areplay(shop.work, since=since, until=until_) == len(expected)
        await harness.settled()
        assert shop.got == expected


@pytest.mark.parametrize("since", ["yesterday", 7, "2030-01-01T00:00:00"])
async def test_a_time_that_can_not_be_read_is_refused(app: TaskFlow, since: Any) -> None:
    """S10.3: an int might be seconds or ms since the epoch, a time without an offset anything."""
    shop = Shop(app)
    with pytest.raises(InvalidDuration, match="replay: since"):
        await app.areplay(shop.work, since=since)


async def test_the_starts_are_spread_evenly(app: TaskFlow) -> None:
    """S10.3: the first at once, the last before the time is over."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1, 2, 3, 4, 5)
        assert await app.areplay(shop.work, since="1h", over="10m") == 5
        await harness.settled()
        assert shop.got == [1]
        for number in (2, 3, 4, 5):
            await harness.advance(seconds=119)
            assert shop.got == list(range(1, number))
            await harness.advance(seconds=1)
            assert shop.got == list(range(1, number + 1))
        reruns = (await harness.runs(shop.work))[5:]
        views = [await view(harness, run) for run in reruns]
        starts = sorted(told.started_ms or 0 for told in views)
        assert [at - starts[0] for at in starts] == [0, 120_000, 240_000, 360_000, 480_000]


async def test_many_runs_are_replayed_page_by_page(app: TaskFlow) -> None:
    """S10.3: also those of one millisecond."""
    shop = Shop(app)
    numbers = list(range(350))
    async with Harness(app) as harness:
        shop.bad.update(numbers)
        await harness.send([Event("order", {"n": number}) for number in numbers])
        shop.bad.clear()
        shop.got.clear()
        done: list[int] = []
        control = app._link.control()
        request = plan_replay(shop.work.spec, since="1h", now_ms=harness.clock.now_ms())
        found = await control.find_replayed(request)
        assert await control.replay(request, found, on_progress=done.append) == 350
        assert done == [100, 200, 300, 350]
        await harness.settled()
        assert sorted(shop.got) == numbers


async def test_a_replay_asked_for_again_makes_no_second_run(app: TaskFlow) -> None:
    """S10.3: by its id, though its reruns have failed again."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1, 2)
        shop.bad.add(1)
        assert await app.areplay(shop.work, since="1h", replay_id="once") == 2
        await harness.settled()
        assert await app.areplay(shop.work, since="1h", replay_id="once") == 0
        await harness.settled()
        assert sorted(shop.got) == [1, 2]


async def test_a_replay_that_was_broken_off_goes_on(app: TaskFlow) -> None:
    """S10.3: two that run side by side are one, and so are one that died half way and its repeat."""
    shop = Shop(app)
    numbers = list(range(1, 31))
    async with Harness(app) as harness:
        shop.bad.update(numbers)
        await harness.send([Event("order", {"n": number}) for number in numbers])
        shop.bad.clear()
        shop.got.clear()
        control = app._link.control()
        request = plan_replay(shop.work.spec, since="1h", replay_id="mended", now_ms=harness.clock.now_ms())
        found = await control.find_replayed(request)
        assert await control.replay(request, found[:10]) == 10
        made = await asyncio.gather(*[control.replay(request, found) for _ in range(3)])
        assert sum(made) == 20
        await harness.settled()
        assert sorted(shop.got) == numbers


async def test_a_run_whose_rerun_is_there_is_left_to_that(app: TaskFlow) -> None:
    """S10.3: two replays after another mend one order once; a rerun that failed is what the second one replays."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1, 2, 3)
        by_hand = await app.arerun((await harness.run_of(shop.work, "o3")).id)
        await by_hand.aresult("2s")
        shop.bad.add(2)
        assert await app.areplay(shop.work, since="1h") == 2
        await harness.settled()
        shop.bad.clear()
        shop.got.clear()
        assert await app.areplay(shop.work, since="1h") == 1
        await harness.settled()
        assert shop.got == [2]
        assert await app.areplay(shop.work, since="1h") == 0


async def test_what_was_skipped_while_paused_is_picked_up(app: TaskFlow) -> None:
    """S10.4: the order of the events stands."""
    shop = Shop(app)
    async with Harness(app) as harness:
        await app.apause(shop.work)
        for number in (1, 2, 3):
            await harness.send("order", {"n": number})
            await harness.advance(seconds=1)
        await app.aresume(shop.work)
        assert await app.areplay(shop.work, since="1h", status=["skipped"]) == 3
        await harness.settled()
        assert shop.got == [1, 2, 3]


async def test_sync_code_replays_too(app: TaskFlow) -> None:
    """S10.3"""
    shop = Shop(app)
    async with Harness(app) as harness:
        await shop.fail(harness, 1, 2)
        assert await asyncio.to_thread(app.replay, "shop/work", since="1h") == 2
        await until(lambda: sorted(shop.got) == [1, 2], description="the reruns")
        await harness.settled()
        assert (await shop.statuses(harness)).count(RunStatus.COMPLETED) == 2
