"""S4: what a replay does, and does not do, again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import StepError, Suspend
from taskflow.function import Function
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.store.operation import Operation
from taskflow.testing import Harness
from tests.rules.crashes import Cut, Doomed, new_worker
from tests.rules.journal import Journal, memos
from tests.rules.passing import pass_time, work_stream

# --- S4.1 ---


async def test_a_memo_is_stored_before_the_next_step_starts(app: TaskFlow) -> None:
    """S4.1"""
    seen: list[list[str]] = []

    async with Harness(app) as harness:
        keys = harness.store.keys

        @app.function()
        async def chain(ctx: Context[Step], step: Step) -> None:
            async def look() -> None:
                names = await harness.store.client.call("HKEYS", keys.steps(ctx.run_id))
                seen.append(sorted(name.decode() for name in names))

            for name in "abc":
                await step.run(name, look)

        await harness.start(chain)
    assert seen == [[], ["a"], ["a", "b"]]


def five_steps(app: TaskFlow, journal: Journal) -> Function[..., Any]:
    @app.function()
    async def five(ctx: Context[Step], step: Step) -> list[int]:
        return [await step.run(name, journal.ado, name) for name in "abcde"]

    return five


def five_blocking_steps(app: TaskFlow, journal: Journal) -> Function[..., Any]:
    @app.function()
    def five(ctx: Context[BlockingStep], step: BlockingStep) -> list[int]:
        return [step.run(name, journal.do, name) for name in "abcde"]

    return five


def all_kinds(app: TaskFlow, journal: Journal) -> Function[..., Any]:
    """Steps one after the other and side by side, a sleep, and an invoke."""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> int:
        return await step.run("of child", journal.ado, "of child")

    @app.function()
    async def every(ctx: Context[Step], step: Step) -> list[int]:
        first = await step.run("a", journal.ado, "a")
        await step.sleep("nap", "1s")
        both = await asyncio.gather(step.run("b", journal.do, "b"), step.run("c", journal.ado, "c"))
        invoked = await step.invoke("child", function=child)
        return [first, *both, invoked, await step.run("d", journal.ado, "d")]

    return every


KINDS = {"async": five_steps, "blocking": five_blocking_steps, "all kinds": all_kinds}
MAX_COMMANDS = 60


@pytest.mark.parametrize("loses_reply", [False, True], ids=["reply seen", "reply lost"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_crash_after_any_store_command_repeats_no_committed_step(
    app: TaskFlow, kind: str, loses_reply: bool
) -> None:
    """S4.1: a process dies after its first, second, ... command to the store; the run goes on in another."""
    journal = Journal()
    function = KINDS[kind](app, journal)
    async with Harness(app, workers=0) as harness:
        for after in range(MAX_COMMANDS):
            cut = Cut(after=after, loses_reply=loses_reply)
            if not await crash_and_go_on(app, harness, function, journal, cut):
                break
        else:
            pytest.fail(f"the run took more than {MAX_COMMANDS} commands")
        assert after > 5, "no crash was early enough to matter"


async def crash_and_go_on(
    app: TaskFlow, harness: Harness, function: Function[..., Any], journal: Journal, cut: Cut
) -> bool:
    """Whether the process died before the run had ended."""
    journal.executed.clear()
    doomed = await Doomed.start(app, harness, cut=cut)
    harness.workers.append(doomed.worker)
    run = await function.ainvoke()
    await pass_time(harness, lambda: is_over(harness, run, cut), description="a crash or the end")
    has_died = cut.is_dead
    harness.workers.remove(doomed.worker)
    before = await committed(harness)
    executed_before = len(journal.executed)
    await doomed.give_up()
    survivor = new_worker(app, harness)
    await survivor.start()
    harness.workers.append(survivor)
    await pass_time(harness, lambda: is_over(harness, run, Cut(after=0)), description="the end of the run")
    output = await run.aresult("1s")
    harness.workers.remove(survivor)
    await survivor.stop()
    await doomed.bury()

    where = f"crash after {cut.names}"
    assert not before & set(journal.executed[executed_before:]), where
    assert not [name for name, count in Counter(journal.executed).items() if count > 2], where
    stored = await memos(harness, run)
    results = [
        int(op.data)
        for op in sorted(stored.values(), key=lambda op: op.index)
        if op.kind != "sleep" and op.data
    ]
    assert output == results, where
    assert not [op for op in stored.values() if op.attempts], f"{where}: a crash counts as no attempt"
    return has_died


async def committed(harness: Harness) -> set[str]:
    """The steps of live runs that are done."""
    names: set[str] = set()
    for key in await harness.store.client.call("KEYS", f"{harness.store.keys.prefix}steps:*"):
        run_id = key.decode().rpartition("steps:")[2]
        stored = await harness.store.history.run(run_id)
        if stored is not None and "ended" not in stored.fields:
            names |= {name for name, packed in stored.steps.items() if Operation.unpack(packed).is_finished}
    return names


async def is_over(harness: Harness, run: Run, cut: Cut) -> bool:
    (ended,) = await harness.store.history.fields(run.id, "ended")
    return cut.is_dead or ended is not None


# --- S4.2 ---


async def test_steps_run_back_to_back_in_one_call_of_the_handler(app: TaskFlow) -> None:
    """S4.2: no suspension, so neither a replay nor a message of the broker."""
    calls: list[str] = []

    @app.function()
    async def long(ctx: Context[Step], step: Step) -> int:
        calls.append(ctx.run_id)
        return sum([await step.run("add", int, n) for n in range(50)])

    async with Harness(app) as harness:
        client = harness.store.client

        async def messages() -> int:
            info = await client.call("XINFO", "STREAM", work_stream(harness))
            return int(info[info.index(b"entries-added") + 1])

        warm = await harness.start(long)
        await warm.aresult("1s")
        calls.clear()
        before = await messages()
        run = await harness.start(long)
        assert await run.aresult("1s") == sum(range(50))
        assert len(calls) == 1
        assert await messages() - before == 1, "the message that told of the new run"


async def test_the_handler_is_called_again_once_for_each_suspension(app: TaskFlow) -> None:
    """S4.2"""
    calls: list[int] = []
    journal = Journal()

    @app.function()
    async def naps(ctx: Context[Step], step: Step) -> None:
        calls.append(1)
        for _ in range(3):
            await step.run("work", journal.ado, "work")
            await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(naps)
        for n in (1, 2, 3):
            assert len(calls) == n
            await harness.advance(hours=1)
        assert len(calls) == 4
        assert journal.executed == ["work"] * 3
        assert (await harness.view(run)).status is RunStatus.COMPLETED


# --- S4.6 ---


async def test_except_exception_does_not_catch_a_suspension(app: TaskFlow) -> None:
    """S4.6"""
    caught: list[BaseException] = []

    @app.function()
    async def careful(ctx: Context[Step], step: Step) -> str:
        try:
            await step.sleep("nap", "1h")
        except Exception as error:
            caught.append(error)
            raise
        return "slept"

    async with Harness(app) as harness:
        run = await harness.start(careful)
        assert await run.astatus() is RunStatus.WAITING
        await harness.advance(hours=1)
        assert await run.aresult("1s") == "slept"
    assert not caught


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_finally_and_with_blocks_see_a_suspension_that_is_no_exception(
    app: TaskFlow, kind: str
) -> None:
    """S4.6: what commits on success and rolls back on `Exception` does neither."""
    seen: list[str] = []

    @contextmanager
    def transaction() -> Iterator[None]:
        try:
            yield
        except Exception:
            seen.append("rolled back")
            raise
        else:
            seen.append("committed")

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> str:
        try:
            with transaction():
                await step.wait_for_event("paid", "paid", timeout="1d")
        finally:
            seen.append("closed")
        return "done"

    @app.function()
    def blocking_flow(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        try:
            with transaction():
                step.wait_for_event("paid", "paid", timeout="1d")
        finally:
            seen.append("closed")
        return "done"

    function: Function[..., Any] = flow if kind == "async" else blocking_flow
    async with Harness(app) as harness:
        run = await harness.start(function)
        assert seen == ["closed"]
        await harness.send("paid")
        assert await run.aresult("1s") == "done"
        assert seen == ["closed", "committed", "closed"]


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_step_in_a_finally_block_runs_once_when_its_time_has_come(app: TaskFlow, kind: str) -> None:
    """S4.6: at the suspension it is refused."""
    journal = Journal()

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        try:
            await step.sleep("nap", "1h")
            await step.run("use", journal.ado, "use")
        finally:
            await step.run("release", journal.ado, "release")

    @app.function()
    def blocking_flow(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        try:
            step.sleep("nap", "1h")
            step.run("use", journal.do, "use")
        finally:
            step.run("release", journal.do, "release")

    function: Function[..., Any] = flow if kind == "async" else blocking_flow
    async with Harness(app) as harness:
        run = await harness.start(function)
        assert journal.executed == []
        await harness.advance(hours=1)
        assert journal.executed == ["use", "release"]
        assert await run.astatus() is RunStatus.COMPLETED


async def test_code_that_swallows_the_suspension_gets_no_step_and_changes_nothing(app: TaskFlow) -> None:
    """S4.6: a bare `except:` is a bug of the handler, but never makes a wait look finished."""
    journal = Journal()

    @app.function()
    async def rude(ctx: Context[Step], step: Step) -> str:
        try:
            await step.sleep("nap", "1h")
        except BaseException as error:
            assert isinstance(error, Suspend)
            await step.run("next", journal.ado, "next")
        return "too early"

    async with Harness(app) as harness:
        run = await harness.start(rude)
        assert await run.astatus() is RunStatus.WAITING
        assert journal.executed == []
        assert set(await memos(harness, run)) == {"nap"}
        await run.acancel()


async def test_step_errors_are_exceptions_and_so_are_not_mistaken_for_suspensions(app: TaskFlow) -> None:
    """S4.6"""

    @app.function(retries=0)
    async def flow(ctx: Context[Step], step: Step) -> str:
        try:
            await step.run("boom", int, "x")
        except Exception as error:
            assert isinstance(error, StepError)
            return "caught"
        return "missed"

    async with Harness(app) as harness:
        run = await harness.start(flow)
        assert await run.aresult("1s") == "caught"
