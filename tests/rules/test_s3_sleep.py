"""S3.2: step.sleep and step.sleep_until."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import (
    InvalidDuration,
)
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.types import When
from tests.rules.givens import DAY_MS, both_kinds

pytestmark = pytest.mark.usefixtures("no_bugs")


@both_kinds
@pytest.mark.parametrize(
    ("duration", "expected_ms"),
    [
        ("1h30m", 5_400_000), ("2 days", 2 * DAY_MS), (90, 90_000), (0.25, 250), ("500ms", 500), ("1.5s", 1_500),
        (timedelta(days=1, milliseconds=3), DAY_MS + 3), ("1w", 7 * DAY_MS), ("365 days", 365 * DAY_MS), ("366d", 366 * DAY_MS),
    ],
)  # fmt: skip
async def test_a_sleep_ends_at_its_due_time_and_not_before(
    app: TaskFlow, is_async: bool, duration: Any, expected_ms: int
) -> None:
    """S3.2"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", duration)
        return "awake"

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        step.sleep("nap", duration)
        return "awake"

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        start_ms = harness.clock.now_ms()
        assert (await harness.view(run)).steps["nap"].due_ms == start_ms + expected_ms
        await harness.advance(ms=expected_ms - 1)
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(ms=1)
        assert await run.aresult("1s") == "awake"
        assert (await harness.view(run)).ended_ms == start_ms + expected_ms


@both_kinds
async def test_a_sleeping_run_holds_no_slot_task_thread_or_message(app: TaskFlow, is_async: bool) -> None:
    """S3.2, S4.3"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(*[step.sleep(f"{n}", "30d") for n in range(10)])

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.parallel([partial(step.sleep, f"{n}", "30d") for n in range(10)])

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        tasks = len(asyncio.all_tasks())
        runs = [await functions[is_async].ainvoke() for _ in range(5)]
        await harness.settled()
        (worker,) = harness.workers
        assert harness.slots_in_use == 0
        assert worker.executor.executions == {}
        assert len(asyncio.all_tasks()) == tasks
        assert not worker.threads.calls
        await harness.advance(days=30)
        assert {await run.astatus() for run in runs} == {RunStatus.COMPLETED}


@both_kinds
async def test_a_sleep_of_nothing_goes_on_at_once(app: TaskFlow, is_async: bool) -> None:
    """S3.2"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", 0)
        await step.sleep("nap", "0s")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.sleep("nap", 0)
        step.sleep("nap", "0s")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.astatus() == RunStatus.COMPLETED
        assert [step.state for step in (await harness.view(run)).steps.values()] == ["done", "done"]


WHENS: list[tuple[Any, str]] = [
    (datetime(2030, 1, 3, 12, tzinfo=UTC), "2030-01-03T12:00:00Z"),
    (datetime(2030, 1, 3, 12, tzinfo=timezone(timedelta(hours=-5))), "2030-01-03T17:00:00Z"),
    ("2030-01-03T12:00:00Z", "2030-01-03T12:00:00Z"),
    ("2030-01-03T12:00:00.250+02:00", "2030-01-03T10:00:00.250Z"),
    (1_893_672_000_000, "2030-01-03T12:00:00Z"),
]


@both_kinds
@pytest.mark.parametrize(("when", "expected"), WHENS)
async def test_sleep_until_ends_at_its_moment(
    app: TaskFlow, is_async: bool, when: Any, expected: str
) -> None:
    """S3.2"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.sleep_until("then", when)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.sleep_until("then", when)

    due_ms = int(datetime.fromisoformat(expected).timestamp() * 1000)
    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(ms=due_ms - 1 - harness.clock.now_ms())
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(ms=1)
        assert await run.astatus() == RunStatus.COMPLETED


@both_kinds
async def test_a_when_in_the_past_goes_on_at_once_and_keeps_a_memo(app: TaskFlow, is_async: bool) -> None:
    """S3.2"""
    whens: list[When] = ["2000-01-01T00:00:00Z", 0, datetime(1970, 1, 1, tzinfo=UTC)]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        for when in whens:
            await step.sleep_until("past", when)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        for when in whens:
            step.sleep_until("past", when)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.astatus() == RunStatus.COMPLETED
        assert [step.state for step in (await harness.view(run)).steps.values()] == ["done"] * 3


@both_kinds
@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("sleep", -1, r"step.sleep\('nap'\) must not be negative, got -1"),
        ("sleep", "-5m", r"step.sleep\('nap'\) must not be negative, got '-5m'"),
        ("sleep", "soon", r"step.sleep\('nap'\) can't be read: 'soon'\. Write it like '1h30m'"),
        ("sleep", "5 parsecs", r"step.sleep\('nap'\) has the unknown unit 'parsecs'"),
        ("sleep", None, r"step.sleep\('nap'\) must be a duration, got NoneType"),
        ("sleep", True, r"step.sleep\('nap'\) must be a duration, got True"),
        ("sleep", float("nan"), r"step.sleep\('nap'\) must be a finite number of seconds, got nan"),
        ("sleep", "367 days", r"step.sleep\('nap'\) must be at most 1 year \(366 days\), got '367 days'"),
        ("sleep", timedelta(days=400), r"step.sleep\('nap'\) must be at most 1 year"),
        ("sleep_until", "2032-01-03T00:00:00Z", r"step.sleep_until\('nap'\) must be at most 1 year \(366 days\) ahead"),
        ("sleep_until", datetime(2030, 6, 1), r"step.sleep_until\('nap'\) has no time zone"),
        ("sleep_until", "2030-06-01T00:00:00", r"step.sleep_until\('nap'\) has no time zone"),
        ("sleep_until", "tomorrow", r"step.sleep_until\('nap'\) can't be read: 'tomorrow'"),
        ("sleep_until", 1.5, r"step.sleep_until\('nap'\) must be a point in time, got float 1.5"),
    ],
)  # fmt: skip
async def test_a_duration_that_is_wrong_raises_in_the_handler(
    app: TaskFlow, is_async: bool, kind: str, value: Any, text: str
) -> None:
    """S3.2"""
    caught: list[InvalidDuration] = []

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> str:
        try:
            await getattr(step, kind)("nap", value)
        except InvalidDuration as error:
            caught.append(error)
        return await step.run("go on", lambda: "went on")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        try:
            getattr(step, kind)("nap", value)
        except InvalidDuration as error:
            caught.append(error)
        return step.run("go on", lambda: "went on")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.aresult("1s") == "went on"
    (error,) = caught
    with pytest.raises(InvalidDuration, match=text):
        raise error
