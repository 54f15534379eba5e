"""S3.7: step.map, one step for each item."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunFailed, StepError
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("no_bugs")


class Gauge:
    """A function that doubles an item. It notes how many of its calls there are at a time, and which items it got."""

    def __init__(self, *, broken: int | None = None, broken_times: int = 1_000) -> None:
        self.now = self.most = 0
        self.items: list[int] = []
        self.broken, self.broken_times = broken, broken_times
        self.lock = threading.Lock()

    def begin(self, item: int) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.items.append(item)
            if item == self.broken and self.items.count(item) <= self.broken_times:
                self.now -= 1
                raise ValueError(f"item {item} is broken")

    def end(self) -> None:
        with self.lock:
            self.now -= 1

    async def double(self, item: int) -> int:
        self.begin(item)
        # Later items are done sooner.
        for _ in range(10 - item % 10):
            await asyncio.sleep(0)
        self.end()
        return 2 * item

    def double_in_thread(self, item: int) -> int:
        self.begin(item)
        self.end()
        return 2 * item


def mapping(
    app: TaskFlow, gauge: Gauge, *, is_async: bool, count: int, concurrency: int
) -> Function[..., Any]:
    """A function that maps `count` items, and then sleeps so that it is replayed."""
    retries = Retries(1, initial="1m", maximum="1m", jitter=False)

    async def flow(ctx: Context[Step], step: Step) -> list[int]:
        doubled = await step.map("double", gauge.double, range(count), concurrency=concurrency)
        await step.sleep("nap", "1h")
        return doubled

    def blocking_flow(ctx: Context[BlockingStep], step: BlockingStep) -> list[int]:
        doubled = step.map("double", gauge.double_in_thread, range(count), concurrency=concurrency)
        step.sleep("nap", "1h")
        return doubled

    return app.function(id="flow", retries=retries)(flow if is_async else blocking_flow)


both = pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])


@both
async def test_each_item_is_a_step_and_results_come_in_order(app: TaskFlow, is_async: bool) -> None:
    """S3.7: not more at a time than `concurrency`; a replay calls nothing again."""
    gauge = Gauge()
    function = mapping(app, gauge, is_async=is_async, count=25, concurrency=4)
    async with Harness(app) as harness:
        run = await harness.start(function)
        await harness.advance(hours=1)
        assert await run.aresult("1s") == [2 * item for item in range(25)]
        assert list(await harness.steps(run))[:2] == ["double:0", "double:1"]
        assert set(await harness.steps(run)) == {*(f"double:{item}" for item in range(25)), "nap"}
    assert sorted(gauge.items) == list(range(25))
    assert gauge.most <= 4
    if is_async:
        assert gauge.most == 4


@both
async def test_the_first_error_is_raised_and_no_more_items_begin(app: TaskFlow, is_async: bool) -> None:
    """S3.7, S5.4: as under gather; the attempts of the item are used up first, and it counts as under way until then."""
    gauge = Gauge(broken=3)
    function = mapping(app, gauge, is_async=is_async, count=50, concurrency=1)
    async with Harness(app) as harness:
        run = await harness.start(function)
        assert await run.astatus() is RunStatus.WAITING
        assert gauge.items == [0, 1, 2, 3]
        await harness.advance(minutes=1)
        with pytest.raises(RunFailed, match="item 3 is broken"):
            await run.aresult("1s")
    assert gauge.items == [0, 1, 2, 3, 3]


async def test_items_that_are_under_way_end_when_another_fails(app: TaskFlow) -> None:
    """S3.7: the handler may catch the error, and go on; their steps are stored."""
    gate = asyncio.Event()
    begun: list[int] = []

    async def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError("no")
        await gate.wait()
        return item

    @app.function(retries=0)
    async def flow(ctx: Context[Step], step: Step) -> str:
        with pytest.raises(StepError, match="no"):
            await step.map("work", work, range(10), concurrency=3)
        await step.run("open", gate.set)
        await step.sleep("nap", "1h")
        return "went on"

    async with Harness(app) as harness:
        run = await harness.start(flow)
        await harness.advance(hours=1)
        assert await run.aresult("1s") == "went on"
        steps = await harness.steps(run)
        assert (steps["work:1"].output, steps["work:2"].output) == (1, 2)
    assert sorted(begun) == [0, 1, 2]


async def test_an_item_that_waits_for_its_retry_keeps_its_place(app: TaskFlow) -> None:
    """S3.7, S5.6: the others go on, and the run holds no slot when all that is under way waits."""
    gauge = Gauge(broken=0, broken_times=1)
    function = mapping(app, gauge, is_async=True, count=6, concurrency=2)
    async with Harness(app) as harness:
        run = await harness.start(function)
        assert harness.slots_in_use == 0
        assert sorted(gauge.items) == list(range(6))
        await harness.advance(minutes=1)
        await harness.advance(hours=1)
        assert await run.aresult("1s") == [0, 2, 4, 6, 8, 10]
    assert sorted(gauge.items) == [0, 0, 1, 2, 3, 4, 5]


async def test_options_and_types_hold_for_each_item(app: TaskFlow) -> None:
    """S3.1, S11.3"""

    def pair(item: int) -> tuple[int, int]:
        return item, item

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> bool:
        pairs = await step.with_options(record_input=True).map("pair", pair, [7, 8])
        again = await step.map("pair", pair, iter([9]), output_type=list)
        nothing = await step.map("none", pair, [])
        return (pairs, again, nothing) == ([(7, 7), (8, 8)], [[9, 9]], [])

    async with Harness(app) as harness:
        run = await harness.start(flow)
        assert await run.aresult("1s") is True
        steps = await harness.steps(run)
        assert list(steps) == ["pair:0", "pair:1", "pair:0#1"]
        assert steps["pair:1"].input == {"args": [8], "kwargs": {}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fn": 7}, "must be a function that takes one item, but is int"),
        ({"concurrency": 0}, "concurrency must be an int of at least 1"),
        ({"concurrency": True}, "concurrency must be an int of at least 1"),
        ({"items": range(11)}, "got 11 items, but a run has at most 10 steps"),
        ({"id": ""}, "a step id must be a string"),
    ],
    ids=["function", "zero", "bool", "many", "id"],
)
async def test_wrong_arguments_fail_the_run_at_once(
    make_app: MakeApp, wrong: dict[str, Any], message: str
) -> None:
    """S3.7, S3.10: before the first item."""
    app = make_app(max_steps=10)
    gauge = Gauge()
    given: dict[str, Any] = {"id": "double", "fn": gauge.double, "items": range(2)} | wrong

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.map(**given)

    async with Harness(app) as harness:
        run = await harness.start(flow)
        with pytest.raises(RunFailed, match=message):
            await run.aresult("1s")
    assert not gauge.items


async def test_the_same_steps_hold_in_a_rerun_from_one_of_them(app: TaskFlow) -> None:
    """S10.3: a step belongs to its item, in whichever order the items were done."""
    gauge = Gauge()
    function = mapping(app, gauge, is_async=True, count=8, concurrency=3)
    async with Harness(app) as harness:
        run = await harness.start(function)
        await harness.advance(hours=1)
        again = await app.arerun(run.id, from_step="nap")
        await harness.settled()
        await harness.advance(hours=1)
        assert await again.aresult("1s") == [2 * item for item in range(8)]
    assert sorted(gauge.items) == list(range(8))
