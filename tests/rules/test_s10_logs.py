"""S10.6: a line that a handler logs appears once a run."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.testing import Harness


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
