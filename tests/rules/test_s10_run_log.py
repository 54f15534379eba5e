"""S10.6: what the log says of runs, and which run, step and attempt a line is about, whoever wrote it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from taskflow import Cancel, Context, Retries, Step, TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context as AnyContext
from taskflow.observability.logs import JsonLines
from taskflow.observability.run_log import LIFE_LEVEL_VARIABLE, RunFields
from taskflow.testing import Harness
from tests.rules.givens import both_kinds

pytestmark = pytest.mark.usefixtures("no_bugs")
mine = logging.getLogger("shop.payments")


class Lines:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    def all(self, logger: str) -> list[dict[str, Any]]:
        return [
            line
            for text in self.stream.getvalue().splitlines()
            if (line := json.loads(text))["logger"] == logger
        ]


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines()
    handler = logging.StreamHandler(found.stream)
    handler.setFormatter(JsonLines())
    handler.addFilter(RunFields())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield found
    root.setLevel(level)
    root.removeHandler(handler)


async def test_each_failed_attempt_and_the_end_are_said(app: TaskFlow, lines: Lines) -> None:
    def charge() -> None:
        raise ValueError("card refused")

    @app.function(retries=1)
    async def pay(ctx: Context[Step], step: Step) -> None:
        await step.run("charge", charge)

    async with Harness(app) as harness:
        run = await pay.ainvoke()
        await harness.advance(minutes=5)
    started, first, last, failed = lines.all("taskflow.runs")
    assert started["message"] == "run started"
    assert first["level"] == last["level"] == "warning"
    assert first["message"].startswith("step 'charge' failed: ValueError: card refused; retry 1 of 1 in ")
    assert last["message"] == "step 'charge' failed: ValueError: card refused; no retry is left"
    assert failed["level"] == "error"
    assert failed["message"].startswith("run failed: ValueError: card refused\nTraceback")
    assert "in charge" in failed["message"]
    assert "taskflow/engine" not in failed["message"]
    assert failed["message"].endswith(f"taskflow runs show {run.id}")
    for line in (started, first, last, failed):
        assert (line["run_id"], line["function_id"]) == (run.id, pay.id)
    assert first["step"] == "charge"
    # The attempt that failed, as the step's own lines name it.
    assert [first["attempt"], last["attempt"]] == [0, 1]


async def test_an_attempt_of_the_code_between_the_steps_is_said(app: TaskFlow, lines: Lines) -> None:
    @app.function(retries=1)
    async def pay(ctx: Context[Step]) -> None:
        if not ctx.attempt:
            raise KeyError("total")

    async with Harness(app) as harness:
        await pay.ainvoke()
        await harness.advance(minutes=5)
    warning = next(line for line in lines.all("taskflow.runs") if line["level"] == "warning")
    assert warning["message"].startswith(
        "the code between the steps failed: KeyError: 'total'; retry 1 of 1 in "
    )
    assert lines.all("taskflow.runs")[-1]["message"] == "run completed"


async def test_a_run_that_is_cancelled_while_it_executes_is_said(app: TaskFlow, lines: Lines) -> None:
    @app.function(cancel=[Cancel("stop")])
    async def long(ctx: Context[Step], step: Step) -> None:
        await step.run("first", stop)
        await step.sleep("nap", "1h")

    async def stop() -> None:
        await app.asend("stop")

    async with Harness(app) as harness:
        run = await long.ainvoke()
        await harness.settled()
        assert (await run.astatus()).value == "cancelled"
    ended = lines.all("taskflow.runs")[-1]
    assert ended["level"] == "warning"
    assert ended["message"].startswith("run cancelled: event stop came")


@pytest.mark.parametrize("is_dev", [True, False])
async def test_starts_and_ends_are_said_in_dev(
    app: TaskFlow, lines: Lines, is_dev: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIFE_LEVEL_VARIABLE, "1" if is_dev else "")

    @app.function()
    async def hello(ctx: Context[Step]) -> None: ...

    async with Harness(app):
        await (await hello.ainvoke()).aresult()
    told = [(line["message"], line["level"]) for line in lines.all("taskflow.runs")]
    level = "info" if is_dev else "debug"
    assert told == [("run started", level), ("run completed", level)]


async def test_plain_logging_calls_carry_run_and_step(app: TaskFlow, lines: Lines) -> None:
    def work(kind: str) -> None:
        mine.info("in a def step of %s", kind)

    async def awork(kind: str) -> None:
        mine.info("in an async step of %s", kind)

    @app.function()
    async def modern(ctx: Context[Step], step: Step) -> None:
        mine.info("in an async handler")
        await step.run("def", work, "modern")
        await step.run("async", awork, "modern")

    @app.function()
    def classic(ctx: AnyContext[BlockingStep], step: BlockingStep) -> None:
        mine.info("in a def handler")
        step.run("def", work, "classic")
        step.run("async", awork, "classic")

    async with Harness(app):
        runs = {"modern": await modern.ainvoke(), "classic": await classic.ainvoke()}
        for run in runs.values():
            await run.aresult()
    mine.info("outside")
    seen = {
        line["message"]: (line.get("run_id"), line.get("step"), line.get("attempt"))
        for line in lines.all("shop.payments")
    }
    assert seen == {
        "in an async handler": (runs["modern"].id, None, 0),
        "in a def handler": (runs["classic"].id, None, 0),
        "in a def step of modern": (runs["modern"].id, "def", 0),
        "in an async step of modern": (runs["modern"].id, "async", 0),
        "in a def step of classic": (runs["classic"].id, "def", 0),
        "in an async step of classic": (runs["classic"].id, "async", 0),
        "outside": (None, None, None),
    }


@both_kinds
async def test_code_inside_a_step_sees_the_attempt_of_the_step(
    app: TaskFlow, lines: Lines, is_async: bool
) -> None:
    """S10.6: and so does each line that it logs; code between the steps has a count of its own."""
    seen: list[tuple[str, int]] = []

    def work(ctx: Context[Any]) -> None:
        seen.append(("step", ctx.attempt))
        mine.warning("tried")
        if ctx.attempt < 2:
            raise ConnectionError

    @app.function(id="async", retries=Retries(4, initial="1s"))
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work, ctx)
        seen.append(("between", ctx.attempt))

    @app.function(id="def", retries=Retries(4, initial="1s"))
    def in_def(ctx: AnyContext[BlockingStep], step: BlockingStep) -> None:
        step.run("work", work, ctx)
        seen.append(("between", ctx.attempt))

    function: Any = in_async if is_async else in_def
    async with Harness(app) as harness:
        run = await harness.start(function)
        await harness.advance(minutes=1)
        await run.aresult("1s")
    assert seen == [("step", 0), ("step", 1), ("step", 2), ("between", 0)]
    assert [line.get("attempt") for line in lines.all("shop.payments") if line["message"] == "tried"] == [
        0,
        1,
        2,
    ]
