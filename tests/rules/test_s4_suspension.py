"""S4.3, S4.4: what a suspended run holds, and how parallel steps find slots."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections import Counter
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.journal import Journal, memos
from tests.waiting import until

# --- S4.3 ---


def running_code() -> Counter[str]:
    """The code of all tasks, and how many of each."""
    return Counter(str(task.get_coro()).split(" at 0x")[0] for task in asyncio.all_tasks() if not task.done())


class Held:
    """Something that a handler's frame holds."""


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_suspended_run_holds_no_slot_task_thread_or_memory(app: TaskFlow, kind: str) -> None:
    """S4.3"""
    held: list[weakref.ref[Held]] = []

    @app.function()
    async def asleep(ctx: Context[Step], step: Step) -> str:
        thing = Held()
        held.append(weakref.ref(thing))
        await asyncio.gather(step.sleep("a", "1d"), step.wait_for_event("b", "never", timeout="1d"))
        return type(thing).__name__

    @app.function()
    def blocked(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        thing = Held()
        held.append(weakref.ref(thing))
        step.parallel(
            (lambda: step.sleep("a", "1d"), lambda: step.wait_for_event("b", "never", timeout="1d"))
        )
        return type(thing).__name__

    function: Function[..., Any] = asleep if kind == "async" else blocked
    async with Harness(app) as harness:
        worker = harness.workers[0]
        tasks = running_code()
        runs = [await harness.start(function) for _ in range(5)]
        assert harness.slots_in_use == 0
        assert not worker.executor.executions
        assert running_code() == tasks
        await until(  # a thread lets go of its frames a moment after the run was told that it ended
            lambda: len(worker.threads.idle) == len(worker.threads.threads),
            description="all threads of the pool idle",
        )
        gc.collect()
        assert [ref() for ref in held] == [None] * 5
        await harness.advance(days=1)
        assert [await run.aresult("1s") for run in runs] == ["Held"] * 5


async def test_a_branch_on_raw_io_keeps_the_run_in_memory_and_gets_its_memos_there(app: TaskFlow) -> None:
    """S4.3"""
    calls: list[int] = []
    answer = asyncio.Event()

    @app.function()
    async def mixed(ctx: Context[Step], step: Step) -> list[str]:
        calls.append(1)
        done: list[str] = []

        async def naps() -> None:
            await step.sleep("nap", "1h")
            done.append("nap")
            await step.run("after", done.append, "after")

        await asyncio.gather(naps(), answer.wait())
        return done

    async with Harness(app) as harness:
        run = await harness.start(mixed)
        assert harness.slots_in_use == 1
        assert await run.astatus() is RunStatus.RUNNING
        await harness.advance(hours=1)
        assert (await harness.view(run)).steps["after"].state == "done"
        answer.set()
        assert await run.aresult("1s") == ["nap", "after"]
        assert len(calls) == 1


# --- S4.4 ---


async def test_parallel_steps_start_at_once(app: TaskFlow) -> None:
    """S4.4: each of them waits until all have started."""
    barrier = asyncio.Barrier(20)

    @app.function()
    async def wide(ctx: Context[Step], step: Step) -> int:
        async def meet() -> int:
            await barrier.wait()
            return 1

        return sum(await asyncio.gather(*[step.run("meet", meet) for _ in range(20)]))

    async with Harness(app, concurrency=20) as harness:
        run = await harness.start(wide)
        assert await run.aresult("1s") == 20
        assert harness.slots_in_use == 0


async def test_parallel_blocking_steps_start_at_once(app: TaskFlow) -> None:
    """S4.4"""
    barrier = threading.Barrier(5, timeout=5)

    @app.function()
    def wide(ctx: Context[BlockingStep], step: BlockingStep) -> list[int]:
        def meet(number: int) -> int:
            barrier.wait()
            return number

        branches = [lambda n=n: step.run("meet", meet, n) for n in range(5)]
        return list(step.parallel(branches))

    async with Harness(app) as harness:
        run = await harness.start(wide)
        assert await run.aresult("1s") == [0, 1, 2, 3, 4]


async def test_parallel_steps_take_no_more_than_the_free_slots(app: TaskFlow) -> None:
    """S4.4"""
    current, highest = 0, 0

    async def work() -> None:
        nonlocal current, highest
        current += 1
        highest = max(highest, current)
        await asyncio.sleep(0.002)
        current -= 1

    @app.function()
    async def wide(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(*[step.run("work", work) for _ in range(12)])

    async with Harness(app, concurrency=3) as harness:
        runs = [await wide.ainvoke() for _ in range(2)]
        await harness.settled()
        assert [await run.astatus() for run in runs] == [RunStatus.COMPLETED] * 2
        assert highest == 3


async def test_parallel_steps_without_a_slot_here_go_to_other_workers(app: TaskFlow) -> None:
    """S4.4: three workers of one slot each; the steps wait for each other."""
    barrier = asyncio.Barrier(3)

    async def meet(number: int) -> int:
        await barrier.wait()
        return number

    @app.function()
    async def wide(ctx: Context[Step], step: Step) -> list[int]:
        return list(await asyncio.gather(*[step.run(f"meet {n}", meet, n) for n in range(3)]))

    async with Harness(app, workers=3, concurrency=1) as harness:
        run = await harness.start(wide)
        assert await run.aresult("1s") == [0, 1, 2]
        stored = await memos(harness, run)
        assert len({op.worker for op in stored.values()}) == 3
        assert harness.slots_in_use == 0


async def test_a_suspended_branch_does_not_hold_up_another(app: TaskFlow) -> None:
    """S4.4"""
    journal = Journal()

    @app.function()
    async def branches(ctx: Context[Step], step: Step) -> None:
        async def slow() -> None:
            await step.sleep("long", "30 days")
            await step.run("slow", journal.ado, "slow")

        async def quick() -> None:
            await step.run("one", journal.ado, "one")
            await step.sleep("short", "1s")
            await step.run("two", journal.ado, "two")

        await asyncio.gather(slow(), quick())

    async with Harness(app) as harness:
        await harness.start(branches)
        assert journal.executed == ["one"]
        await harness.advance(seconds=1)
        assert journal.executed == ["one", "two"]
        assert harness.slots_in_use == 0
        await harness.advance(days=30)
        assert journal.executed == ["one", "two", "slow"]
