"""S3.4: wait_for_signal and send_signal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import InvalidDuration, NonRetriableError, SerializationError, StepError
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.endings import nothing_is_left_of
from tests.rules.givens import both_kinds, has_step, is_waiting
from tests.rules.views import view
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")


def approving(
    app: TaskFlow, *, on_conflict: Any = "fail", timeout: Any = "1h", id: str = "approve"
) -> Function[..., Any]:
    """A function that waits for the signal "go", and returns its data, None, or what went wrong."""

    @app.function(id=id)
    async def approve(ctx: Context[Step], step: Step) -> Any:
        try:
            got = await step.wait_for_signal("go", "go", timeout, on_conflict=on_conflict)
        except StepError as error:
            return [error.name, error.message, error.step_id]
        return got and got.data

    return approve


@both_kinds
async def test_a_signal_resumes_the_run_that_waits_for_it(app: TaskFlow, is_async: bool) -> None:
    """S3.4"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        got = await step.wait_for_signal("approval", "approve-7", timeout="7 days")
        return got and [got.name, got.data]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        got = step.wait_for_signal("approval", "approve-7", timeout="7 days")
        return got and [got.name, got.data]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert harness.slots_in_use == 0
        assert await app.asend_signal("approve-8") is False
        assert await is_waiting(run)
        assert await app.asend_signal("approve-7", {"by": "ann"}) is True
        assert await app.asend_signal("approve-7", {"by": "bob"}) is False
        await harness.settled()
        assert await run.aresult("1s") == ["approve-7", {"by": "ann"}]
        assert await harness.next_due_ms() is None
        await nothing_is_left_of(harness, run)


@both_kinds
async def test_a_wait_for_a_signal_returns_none_at_its_timeout(app: TaskFlow, is_async: bool) -> None:
    """S3.4: then nobody waits for it any more."""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return [await step.wait_for_signal("s", "go", timeout="1h")]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return [step.wait_for_signal("s", "go", timeout="1h")]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(ms=3_599_999)
        assert await is_waiting(run)
        await harness.advance(ms=1)
        assert await run.aresult("1s") == [None]
        assert await app.asend_signal("go") is False


@pytest.mark.parametrize("data", [None, False, 0, "", [], {"a": [1, None]}, 2.5])
async def test_a_signal_carries_any_json_and_is_told_from_a_timeout(app: TaskFlow, data: Any) -> None:
    """S3.4"""

    @app.function()
    async def waits(ctx: Context[Step], step: Step) -> Any:
        got = await step.wait_for_signal("s", "go", timeout="1h")
        assert got is not None
        return {"got": got.data}

    async with Harness(app) as harness:
        run = await harness.start(waits)
        assert await app.asend_signal("go", data)
        await harness.settled()
        assert await run.aresult("1s") == {"got": data}


async def test_sync_code_sends_signals_too(app: TaskFlow) -> None:
    """S3.4"""
    approve = approving(app)
    async with Harness(app) as harness:
        run = await harness.start(approve)
        assert await asyncio.to_thread(app.send_signal, "go", {"n": 1}) is True
        assert await asyncio.to_thread(app.send_signal, "go") is False
        await harness.settled()
        assert await run.aresult("1s") == {"n": 1}


async def test_the_second_run_that_waits_for_a_signal_fails_and_is_told_who_has_it(app: TaskFlow) -> None:
    """S3.4: on_conflict="fail"."""
    approve = approving(app)
    async with Harness(app, workers=2) as harness:
        first = await harness.start(approve)
        second = await harness.start(approve)
        name, message, step_id = await second.aresult("1s")
        assert (name, step_id) == ("SignalConflict", "go")
        assert message == f"signal 'go' is waited for already, by run {first.id}"
        assert await is_waiting(first)
        assert await app.asend_signal("go", 1)
        await harness.settled()
        assert await first.aresult("1s") == 1
        third = await harness.start(approve)  # the name is free again
        assert await app.asend_signal("go", 3)
        await harness.settled()
        assert await third.aresult("1s") == 3


async def test_with_replace_the_first_run_fails_and_the_second_one_waits(app: TaskFlow) -> None:
    """S3.4: on_conflict="replace"."""
    approve = approving(app, on_conflict="replace")
    async with Harness(app, workers=2) as harness:
        first = await harness.start(approve)
        second = await harness.start(approve)
        name, message, step_id = await first.aresult("1s")
        assert (name, step_id) == ("SignalReplaced", "go")
        assert message == f"signal 'go' is waited for by another run now, run {second.id}"
        assert await is_waiting(second)
        assert await app.asend_signal("go", 2)
        await harness.settled()
        assert await second.aresult("1s") == 2


async def test_a_conflict_that_is_not_caught_fails_the_run_without_a_retry(app: TaskFlow) -> None:
    """S3.4, S5.4"""
    calls: list[str] = []

    @app.function()
    async def approve(ctx: Context[Step], step: Step) -> None:
        calls.append(ctx.run_id)
        await step.wait_for_signal("s", "go", "1h")

    async with Harness(app) as harness:
        first = await harness.start(approve)
        second = await harness.start(approve)
        assert await second.astatus() is RunStatus.FAILED
        assert calls.count(second.id) <= 2  # once more at most, to meet the error: no attempt of a retry
        assert (await harness.view(second)).attempt == 0
        await first.acancel()


async def test_a_conflict_beside_a_running_step_reaches_its_branch_at_once(app: TaskFlow) -> None:
    """S3.4, S3.7"""
    gate, caught = asyncio.Event(), asyncio.Event()
    approve = approving(app)

    @app.function()
    async def both(ctx: Context[Step], step: Step) -> Any:
        async def branch() -> str:
            try:
                await step.wait_for_signal("s", "go", "1h")
            except StepError as error:
                caught.set()
                return error.name
            return ""

        name, _ = await asyncio.gather(branch(), step.run("slow", gate.wait))
        return name

    async with Harness(app) as harness:
        first = await harness.start(approve)
        run = await both.ainvoke()
        await until(caught.is_set, description="the conflict, while the step executes")
        gate.set()
        await harness.settled()
        assert await run.aresult("1s") == "SignalConflict"
        await first.acancel()


async def test_signals_of_two_apps_are_apart(make_app: MakeApp) -> None:
    """S3.4: a name belongs to one app."""
    shop, risk = make_app("shop"), make_app("risk")
    functions = approving(shop), approving(risk)
    async with Harness(shop, risk) as harness:
        ours, theirs = [await harness.start(function) for function in functions]
        assert await risk.asend_signal("go", "risk")
        await harness.settled()
        assert await theirs.aresult("1s") == "risk"
        assert await is_waiting(ours)
        assert await shop.asend_signal("go", "shop")
        await harness.settled()
        assert await ours.aresult("1s") == "shop"


async def test_of_many_senders_one_reaches_the_run(app: TaskFlow) -> None:
    """S3.4: exact under concurrency."""
    approve = approving(app)
    async with Harness(app) as harness:
        run = await harness.start(approve)
        told = await asyncio.gather(*[app.asend_signal("go", n) for n in range(50)])
        assert sum(told) == 1
        await harness.settled()
        assert await run.aresult("1s") == told.index(True)


async def test_of_many_waiters_one_has_the_signal(app: TaskFlow) -> None:
    """S3.4: exact under concurrency; each run either waits or fails, and one waits."""
    fails, replaces = approving(app), approving(app, on_conflict="replace", id="replaces")
    async with Harness(app, workers=3) as harness:
        runs = [await (replaces if n % 3 == 0 else fails).ainvoke() for n in range(30)]
        await harness.settled()
        waiting = [run for run in runs if await is_waiting(run)]
        assert len(waiting) == 1
        assert await app.asend_signal("go", "you")
        await harness.settled()
        outputs = [await run.aresult("1s") for run in runs]
        assert outputs.count("you") == 1
        assert {output[0] for output in outputs if output != "you"} <= {"SignalConflict", "SignalReplaced"}


async def test_a_run_gets_one_signal_after_the_other(app: TaskFlow) -> None:
    """S3.4, S3.8"""

    @app.function()
    async def collect(ctx: Context[Step], step: Step) -> list[Any]:
        got = [await step.wait_for_signal("next", "next", "1h") for _ in range(4)]
        return [one and one.data for one in got]

    async with Harness(app, workers=2) as harness:
        run = await harness.start(collect)
        for n in range(3):
            assert await app.asend_signal("next", n)
            await harness.settled()
        await harness.advance(hours=1)
        assert await run.aresult("1s") == [0, 1, 2, None]


async def test_a_run_that_gathers_signals_is_woken_by_the_last(app: TaskFlow) -> None:
    """S3.4, S3.7"""
    passes: list[int] = []

    @app.function()
    async def gathers(ctx: Context[Step], step: Step) -> list[Any]:
        passes.append(1)
        got = await asyncio.gather(*[step.wait_for_signal(name, name, "1h") for name in "abc"])
        return [one and one.data for one in got]

    async with Harness(app) as harness:
        run = await harness.start(gathers)
        for name in "cab":
            assert await app.asend_signal(name, name)
            await harness.settled()
        assert await run.aresult("1s") == ["a", "b", "c"]
    assert len(passes) == 2


@pytest.mark.parametrize("end", ["cancel", "timeout of the run's race", "the handler raises"])
async def test_a_run_that_ends_leaves_its_signal(app: TaskFlow, end: str) -> None:
    """S3.4, S3.7, S6.2"""

    @app.function(retries=0)
    async def waits(ctx: Context[Step], step: Step) -> None:
        if end == "the handler raises":
            task = asyncio.create_task(step.wait_for_signal("s", "go", "1d"))
            await step.sleep("nap", "1h")
            task.cancel()
            raise ValueError("no")
        await step.parallel(
            (lambda: step.wait_for_signal("s", "go", "1d"), lambda: step.sleep("nap", "1h")), mode="race"
        )
        await step.sleep("on", "1h")

    async with Harness(app) as harness:
        run = await harness.start(waits)
        assert await has_step(harness, run, "s", "wait")
        if end == "cancel":
            await run.acancel()
        await harness.advance(hours=1)
        assert await app.asend_signal("go") is False
        await harness.advance(hours=1)
        await nothing_is_left_of(harness, run)


async def test_a_run_that_waits_for_a_signal_says_so(app: TaskFlow) -> None:
    """S10.5"""
    approve = approving(app)
    async with Harness(app) as harness:
        run = await harness.start(approve)
        assert (await view(harness, run)).why == "waiting: signal go until 01:00"
        await run.acancel()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"signal": ""}, "a signal must be a string of 1 to 256 printable characters, but is ''"),
        ({"signal": 7}, "a signal must be a string of 1 to 256 printable characters, but is 7"),
        ({"signal": "a\x1fb"}, "a signal must be a string of 1 to 256 printable characters"),
        ({"timeout": "soon"}, r"wait_for_signal\('s'\) timeout can't be read: 'soon'"),
        ({"on_conflict": "wait"}, r"wait_for_signal\('s'\) on_conflict must be 'fail' or 'replace', but is 'wait'"),
    ],
)  # fmt: skip
async def test_a_wait_for_a_signal_that_can_not_be_raises(
    app: TaskFlow, arguments: dict[str, Any], text: str
) -> None:
    """S3.4"""
    caught: list[Exception] = []

    @app.function()
    async def wrong(ctx: Context[Step], step: Step) -> None:
        try:
            await step.wait_for_signal("s", **{"signal": "go", "timeout": "1h", **arguments})
        except (InvalidDuration, NonRetriableError) as error:
            caught.append(error)

    async with Harness(app) as harness:
        assert await (await harness.start(wrong)).astatus() is RunStatus.COMPLETED
    with pytest.raises(Exception, match=text):
        raise caught[0]


async def test_a_signal_that_can_not_be_sent_raises_in_the_sender(make_app: MakeApp) -> None:
    """S3.4, S1.5"""
    app = make_app(max_event_bytes=1_000)
    with pytest.raises(SerializationError, match=r"the data of signal 'go'.*object"):
        await app.asend_signal("go", object())
    with pytest.raises(
        NonRetriableError, match=r"signal 'go' has 1,002 bytes of JSON, but max_event_bytes allows 1,000"
    ):
        await app.asend_signal("go", "x" * 1_000)
    with pytest.raises(NonRetriableError, match="printable characters, but is ''"):
        await app.asend_signal("")
