"""S4.5: the code calls another tool by the id of a step that the store knows."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.channel import TopicRef
from taskflow.context import Context
from taskflow.errors import RunFailed
from taskflow.event import Event
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.store.operation import EVENT, INVOKE, PUBLISH, SEND, SIGNAL, SLEEP, STEP, TOOLS
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.endings import nothing_is_left_of
from tests.rules.journal import memos

PAIRS = list(itertools.permutations(TOOLS, 2))
# Two of these end in their own attempt: a process never leaves them pending.
PENDING = [(old, new) for old, new in PAIRS if old not in (SEND, PUBLISH)]


class Renamed:
    """A function whose step "x" is made by one tool, then by another. What the old one waits for comes within 10 days."""

    def __init__(self, app: TaskFlow, old: str, new: str, *, is_pending: bool) -> None:
        self.app = app
        self.is_old = True
        self.is_pending = is_pending
        self.old, self.new = old, new
        self.executed: list[str] = []

        @app.function(keep="90 days")
        async def child(ctx: Context[Step], step: Step) -> str:
            await step.sleep("nap", f"{ctx.event.data['days']} days")
            return "child"

        @app.function(
            retries=Retries(4, initial="5 days", maximum="5 days", jitter=False),
            keep="90 days",
            keep_failed="90 days",
        )
        async def renamed(ctx: Context[Step], step: Step) -> Any:
            if not self.is_old:
                return await self.call(step, self.new, days=30)
            if self.is_pending:
                await asyncio.gather(self.call(step, self.old, days=10), self.nap(step))
            await self.call(step, self.old, days=10)
            await self.nap(step)
            return "old"

        self.child, self.function = child, renamed

    async def nap(self, step: Step) -> None:
        """Not the tool itself: with code around it, its sleep wakes the run before the other branch is done."""
        await step.sleep("short", "1h")

    async def call(self, step: Step, kind: str, *, days: int) -> Any:
        match kind:
            case "step":
                return await step.run("x", self.work)
            case "send":
                return len(await step.send_event("x", Event("told", {})))
            case "publish":
                return await step.publish("x", TopicRef("told", "status"), 1)
            case "sleep":
                return await step.sleep("x", f"{days} days")
            case "event":
                found = await step.wait_for_event("x", "paid", timeout=f"{days} days")
                return found and found.data["n"]
            case "signal":
                signal = await step.wait_for_signal("x", "ok", timeout=f"{days} days")
                return signal and signal.data
            case _:
                return await step.invoke("x", function=self.child, data={"days": days})

    def work(self) -> str:
        self.executed.append("old" if self.is_old else "new")
        if self.is_old and self.is_pending:
            raise ValueError("not yet")
        return "ran"

    async def give(self, harness: Harness, kind: str, *, days: int) -> None:
        """Let what an operation of this kind waits for come."""
        if kind == EVENT:
            await harness.send("paid", {"n": 7})
            await harness.settled()
        elif kind == SIGNAL:
            await self.app.asend_signal("ok", 8)
            await harness.settled()
        elif kind in (SLEEP, INVOKE) or (kind == STEP and self.is_pending and self.is_old):
            await harness.advance(days=days)


RESULTS = {STEP: "ran", SEND: 1, PUBLISH: None, SLEEP: None, EVENT: 7, SIGNAL: 8, INVOKE: "child"}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "taskflow.engine" and record.levelno >= logging.WARNING
    ]


async def change(code: Renamed, harness: Harness) -> Any:
    """Run the old code until its step is done, or pending, and then the new one up to its step."""
    run = await harness.start(code.function)
    if not code.is_pending:
        await code.give(harness, code.old, days=10)
    assert await run.astatus() is RunStatus.WAITING
    code.is_old = False
    await harness.advance(hours=1)
    return run


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=str)
async def test_a_memo_of_another_tool_does_not_count(
    app: TaskFlow, caplog: pytest.LogCaptureFixture, old: str, new: str
) -> None:
    """S4.5: one warning names both tools, and the step executes anew."""
    code = Renamed(app, old, new, is_pending=False)
    async with Harness(app) as harness:
        run = await change(code, harness)
        await code.give(harness, new, days=30)
        assert await run.aresult("1s") == RESULTS[new]
        assert (await memos(harness, run))["x"].kind == new
        await harness.advance(days=40)
        await nothing_is_left_of(harness, run)
    (warning,) = warnings(caplog)
    assert (
        f"step 'x' was a {TOOLS[old]} when run {run.id} came to it before, and is a {TOOLS[new]} now"
        in warning
    )


@pytest.mark.parametrize(("old", "new"), PENDING, ids=str)
async def test_what_another_tool_waited_for_resolves_nothing_any_more(
    app: TaskFlow, caplog: pytest.LogCaptureFixture, old: str, new: str
) -> None:
    """S4.5: its timer, its event, its signal, the end of its run. What it waited for comes when the new step waits, too."""
    code = Renamed(app, old, new, is_pending=True)
    async with Harness(app) as harness:
        run = await change(code, harness)
        code.is_old = True  # for `give`: what the old code waits for
        await code.give(harness, old, days=10)
        code.is_old = False
        if new in (STEP, SEND, PUBLISH):
            assert await run.aresult("1s") == RESULTS[new]
        else:
            assert await run.astatus() is RunStatus.WAITING
            assert (await memos(harness, run))["x"].state == "wait"
            await code.give(harness, new, days=30)
            assert await run.aresult("1s") == RESULTS[new]
        await harness.advance(days=40)
        await nothing_is_left_of(harness, run)
        assert await harness.next_due_ms() is None
    assert len([text for text in warnings(caplog) if "step 'x' was a" in text]) == 1


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=str)
async def test_strict_determinism_fails_a_run_whose_step_is_of_another_tool(
    make_app: MakeApp, old: str, new: str
) -> None:
    """S4.5"""
    app = make_app(determinism="strict")
    code = Renamed(app, old, new, is_pending=old not in (SEND, PUBLISH))
    async with Harness(app) as harness:
        run = await change(code, harness)
        expected = f"step 'x' was a {TOOLS[old]} before, and is a {TOOLS[new]} now.*determinism is 'strict'"
        with pytest.raises(RunFailed, match=expected) as caught:
            await run.aresult("1s")
        assert caught.value.name == "NonDeterminismError"
        await harness.advance(days=40)
        await nothing_is_left_of(harness, run)
        assert await harness.next_due_ms() is None
    assert "new" not in code.executed


async def test_the_first_tool_may_come_back(app: TaskFlow, caplog: pytest.LogCaptureFixture) -> None:
    """S4.5: after a deploy was rolled back, what the new code left does not count either."""
    plan: list[Callable[[Step], Awaitable[Any]]] = []
    executed: list[int] = []

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> list[Any]:
        first = await plan[-1](step)
        await step.sleep("nap", "1h")
        await step.sleep("nap", "1h")
        await step.sleep("nap", "1h")
        return [first]

    plan.append(lambda step: step.run("x", executed.append, 1))
    async with Harness(app) as harness:
        run = await harness.start(flow)
        plan.append(lambda step: step.send_event("x", Event("told", {})))
        await harness.advance(hours=1)
        plan.pop()
        await harness.advance(hours=3)
        assert await run.aresult("1s") == [None]
    assert executed == [1, 1]
    assert len(warnings(caplog)) == 2
