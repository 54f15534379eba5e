"""`taskflow invoke`: one run of a function, by hand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskflow import Context, NonRetriableError, TaskFlow
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    @app.function()
    async def report(ctx: Context[Any]) -> dict[str, Any]:
        if ctx.event.data.get("bad"):
            raise NonRetriableError("no such month")
        if ctx.headers:
            return dict(ctx.headers)
        return {"data": ctx.event.data, "user": ctx.event.user}

    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


async def test_the_id_of_the_run_is_printed(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun("invoke", "shop/report", "--data", '{"month": 7}')
    run = harness.apps[0].run(outcome.stdout.strip())
    assert await run.aresult("5s") == {"data": {"month": 7}, "user": None}
    assert (await run.aview()).cause == "invoke"


async def test_with_wait_the_result_is_printed(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun("invoke", "shop/report", "--user", '{"id": 1}', "--wait", "--timeout", "5s")
    assert (outcome.code, outcome.json) == (0, {"data": {}, "user": {"id": 1}})
    outcome = await shell.arun("invoke", "shop/report", "--data", '{"bad": true}', "--wait")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.endswith("failed: NonRetriableError: no such month\n")


async def test_an_id_that_is_given_makes_one_run(harness: Harness, shell: Shell) -> None:
    printed = [await shell.arun("invoke", "shop/report", "--id", "july") for _ in range(2)]
    assert (printed[0].code, printed[0].stdout) == (0, printed[1].stdout)
    other = await shell.arun("invoke", "shop/report", "--id", "june")
    assert (other.code, other.stdout == printed[0].stdout) == (0, False)


async def test_the_run_has_the_headers_that_are_given(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun(
        "invoke", "shop/report", "--header", "tenant=acme", "--header", "q=a=b", "--wait", "--timeout", "5s"
    )
    assert (outcome.code, outcome.json) == (0, {"tenant": "acme", "q": "a=b"})
    outcome = await shell.arun("invoke", "shop/report", "--header", "tenant")
    assert (outcome.code, "expected NAME=VALUE" in outcome.stderr) == (2, True)
    outcome = await shell.arun("invoke", "shop/report", "--header", "a b=c")
    assert (outcome.code, "the name of a header must have" in outcome.stderr) == (1, True)


async def test_what_can_not_be_invoked_is_told(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun("invoke", "shop/nope")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert "there is no function 'shop/nope'" in outcome.stderr
    assert "give --wait too" in (await shell.arun("invoke", "shop/report", "--timeout", "1s")).stderr
