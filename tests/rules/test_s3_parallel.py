"""S3.7: steps side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import NonRetriableError, RunFailed, StepError
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import Gates, both_kinds

pytestmark = pytest.mark.usefixtures("no_bugs")


async def by_gather(step: Step, hold: Callable[[str], Any], names: Sequence[str]) -> list[str]:
    return list(await asyncio.gather(*[step.run(name, hold, name) for name in names]))


async def by_task_group(step: Step, hold: Callable[[str], Any], names: Sequence[str]) -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(step.run(name, hold, name)) for name in names]
    return [task.result() for task in tasks]


async def by_wait(step: Step, hold: Callable[[str], Any], names: Sequence[str]) -> list[str]:
    tasks = [asyncio.create_task(step.run(name, hold, name)) for name in names]
    done, pending = await asyncio.wait(tasks)
    assert not pending
    return [task.result() for task in tasks if task in done]


async def by_as_completed(step: Step, hold: Callable[[str], Any], names: Sequence[str]) -> list[str]:
    found = [await each for each in asyncio.as_completed([step.run(name, hold, name) for name in names])]
    return sorted(found)


async def by_create_task(step: Step, hold: Callable[[str], Any], names: Sequence[str]) -> list[str]:
    tasks = [asyncio.create_task(step.run(name, hold, name)) for name in names]
    return [await task for task in reversed(tasks)][::-1]


async def by_parallel(step: Step, hold: Callable[[str], Any], names: Sequence[str]) -> list[str]:
    return list(await step.parallel([partial(step.run, name, hold, name) for name in names]))


WAYS = [by_gather, by_task_group, by_wait, by_as_completed, by_create_task, by_parallel]
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@ways
async def test_parallel_steps_execute_side_by_side(app: TaskFlow, way: Callable[..., Any]) -> None:
    """S3.7, S4.4"""
    together = asyncio.Barrier(3)

    async def meet(name: str) -> str:
        await together.wait()
        return name

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        return await way(step, meet, ["a", "b", "c"])

    async with Harness(app) as harness:
        run = await harness.start(handler)
        assert await run.aresult("1s") == ["a", "b", "c"]


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
@ways
async def test_each_gets_its_own_result_whatever_the_order_in_which_they_end(
    app: TaskFlow, way: Callable[..., Any], order: str
) -> None:
    """S3.7, S4.1: and in the replay too."""
    gates = Gates()
    passes: list[Any] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        passes.append(await way(step, gates.hold, ["a", "b", "c"]))
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        await handler.ainvoke()
        for name in order:
            await gates.open(name)
        await harness.settled()
        await harness.advance(hours=1)
    assert passes == [["a", "b", "c"]] * 2
    assert sorted(gates.started) == ["a", "b", "c"]


@both_kinds
async def test_parallel_sleeps_take_as_long_as_the_longest_and_hold_no_slot(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.7, S4.3"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(*[step.sleep(f"{hours}", f"{hours}h") for hours in (3, 1, 2)])

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.parallel([partial(step.sleep, f"{hours}", f"{hours}h") for hours in (3, 1, 2)])

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        for _ in range(3):
            assert harness.slots_in_use == 0
            assert await run.astatus() == RunStatus.WAITING
            await harness.advance(hours=1)
        assert await run.astatus() == RunStatus.COMPLETED


@both_kinds
async def test_all_kinds_of_steps_go_side_by_side(app: TaskFlow, is_async: bool) -> None:
    """S3.7, S4.4: a branch that is suspended does not hold up another."""
    calls: list[str] = []

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "2h")
        return "child"

    def note(name: str) -> str:
        calls.append(name)
        return name

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> list[Any]:
        async def chain() -> str:
            await step.sleep("chain nap", "1h")
            return await step.run("chain", note, "chain")

        async def waits() -> Any:
            event = await step.wait_for_event("paid", "paid", "1d")
            return event and event.data

        return list(
            await asyncio.gather(
                step.run("run", note, "run"), chain(), waits(), step.invoke("child", function=child)
            )
        )

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> list[Any]:
        def chain() -> str:
            step.sleep("chain nap", "1h")
            return step.run("chain", note, "chain")

        def waits() -> Any:
            event = step.wait_for_event("paid", "paid", "1d")
            return event and event.data

        return list(
            step.parallel(
                (
                    lambda: step.run("run", note, "run"),
                    chain,
                    waits,
                    lambda: step.invoke("child", function=child),
                )
            )
        )

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app, workers=2) as harness:
        run = await harness.start(functions[is_async])
        assert calls == ["run"]
        await harness.advance(hours=1)
        assert calls == ["run", "chain"]
        await harness.advance(hours=1)
        await harness.send("paid", {"n": 1})
        assert await run.aresult("1s") == ["run", "chain", {"n": 1}, "child"]
    assert calls == ["run", "chain"]


async def test_nested_groups_and_gathers_of_gathers(app: TaskFlow) -> None:
    """S3.7"""

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        async def pair(name: str) -> list[str]:
            async with asyncio.TaskGroup() as group:
                one = group.create_task(step.run(f"{name}1", lambda: f"{name}1"))
                two = group.create_task(step.sleep(f"{name}2", "1h"))
            assert two.result() is None
            return [one.result()]

        return await asyncio.gather(
            asyncio.gather(pair("a"), pair("b")), step.parallel((lambda: pair("c"), lambda: pair("d")))
        )

    async with Harness(app) as harness:
        run = await harness.start(handler)
        assert harness.slots_in_use == 0
        await harness.advance(hours=1)
        assert await run.aresult("1s") == [[["a1"], ["b1"]], [["c1"], ["d1"]]]


def refuse() -> None:
    raise NonRetriableError("refused")


async def test_a_failed_branch_of_a_gather_can_be_caught_while_the_others_go_on(app: TaskFlow) -> None:
    """S3.7, S5.4"""

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        outcomes = await asyncio.gather(
            step.run("bad", refuse),
            step.run("good", lambda: "good"),
            step.sleep("nap", "1h"),
            return_exceptions=True,
        )
        return [outcome.message if isinstance(outcome, StepError) else outcome for outcome in outcomes]

    async with Harness(app) as harness:
        run = await harness.start(handler)
        await harness.advance(hours=1)
        assert await run.aresult("1s") == ["refused", "good", None]


async def test_a_failed_member_of_a_task_group_fails_the_group_and_ends_its_waits(app: TaskFlow) -> None:
    """S3.7: the members that sleep and wait are gone at once."""

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(step.sleep("nap", "1h"))
                group.create_task(step.wait_for_event("paid", "paid", "1h"))
                group.create_task(step.run("bad", refuse))
        except* StepError as errors:
            caught = [error.message for error in errors.exceptions if isinstance(error, StepError)]
        return caught

    async with Harness(app) as harness:
        run = await harness.start(handler)
        assert await run.aresult("1s") == ["refused"]
        assert await harness.next_due_ms() is None


@both_kinds
async def test_parallel_raises_the_first_error(app: TaskFlow, is_async: bool) -> None:
    """S3.7"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel((lambda: step.sleep("nap", "1h"), lambda: step.run("bad", refuse)))

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.parallel((lambda: step.sleep("nap", "1h"), lambda: step.run("bad", refuse)))

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(RunFailed, match="refused"):
            await run.aresult("1s")


@both_kinds
async def test_parallel_of_nothing_is_an_empty_list(app: TaskFlow, is_async: bool) -> None:
    """S3.7"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel(())

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.parallel(())

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        assert await (await harness.start(functions[is_async])).aresult("1s") == []


async def test_tasks_that_the_handler_leaves_behind_end_with_it(app: TaskFlow) -> None:
    """S3.7: what they wait for is gone."""
    tasks: list[asyncio.Task[Any]] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> str:
        tasks.append(asyncio.create_task(step.sleep("forgotten", "30d")))
        tasks.append(asyncio.create_task(step.wait_for_event("forgotten too", "paid", "30d")))
        await step.run("work", lambda: 1)
        return "done"

    async with Harness(app) as harness:
        run = await harness.start(handler)
        assert await run.aresult("1s") == "done"
        assert await harness.next_due_ms() is None
        assert all(task.done() for task in tasks)


@both_kinds
async def test_a_branch_that_is_no_function_fails_the_run_at_once_and_says_what_to_write(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.7: `step.parallel((step.run(...), step.run(...)))` is an easy mistake, and would fail at each attempt."""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.parallel((step.run("one", int), step.run("two", int)))  # type: ignore[arg-type]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.parallel((step.run("one", int), step.run("two", int)))  # type: ignore[arg-type]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.run(functions[is_async])
        with pytest.raises(RunFailed, match=r"branch 0 is .*: write lambda: step\.run\(\.\.\.\)") as failure:
            await run.aresult()
        assert failure.value.name == "NonRetriableError"
        assert (await harness.view(run)).attempt == 0
