"""S3.7: steps side by side, races, and that a replay tells the same story."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import NonRetriableError, RunFailed, StepError
from taskflow.function import Function
from taskflow.handle import Run, RunStatus
from taskflow.step import BlockingStep, Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.waiting import until

both_kinds = pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])
some_orders = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # each example runs an engine: no shrinking
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Gates:
    """Steps that end when the test says so: `hold(name)` is the step's function."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.started: list[str] = []
        self.ended: list[str] = []

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    async def hold(self, name: str) -> str:
        self.started.append(name)
        await self.gate(name).wait()
        self.ended.append(name)
        return name

    async def open(self, name: str) -> None:
        """Let the step end, once it has started."""
        await until(lambda: name in self.started, description=f"start of {name}")
        self.gate(name).set()
        await until(lambda: name in self.ended, description=f"end of {name}")


async def has_step(harness: Harness, run: Run, key: str, state: str) -> bool:
    """Whether the store knows the step, in that state."""
    step = (await harness.view(run)).steps.get(key)
    return step is not None and step.state == state


# --- the ways to write it ---


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


# --- failures ---


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


# --- races ---


@both_kinds
async def test_a_race_returns_at_the_first_and_the_run_completes_at_once(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.7: waits and sleeps of the losers are removed; the check for leaks finds nothing."""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "2d")

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel(
            (
                lambda: step.sleep("long", "30d"),
                lambda: step.wait_for_event("paid", "paid", "30d"),
                lambda: step.wait_for_event("other", "other", "30d", match="data.x"),
                lambda: step.invoke("child", function=child, timeout="3d"),
                lambda: step.sleep("short", "1h"),
            ),
            mode="race",
        )

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.parallel(
            (
                lambda: step.sleep("long", "30d"),
                lambda: step.wait_for_event("paid", "paid", "30d"),
                lambda: step.wait_for_event("other", "other", "30d", match="data.x"),
                lambda: step.invoke("child", function=child, timeout="3d"),
                lambda: step.sleep("short", "1h"),
            ),
            mode="race",
        )

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert harness.slots_in_use == 0
        ended_ms = harness.clock.now_ms() + 3_600_000
        await harness.advance(hours=1)
        assert await run.aresult("1s") is None
        assert (await harness.view(run)).ended_ms == ended_ms
        states = {key: step.state for key, step in (await harness.view(run)).steps.items()}
        assert states == {
            "long": "dropped",
            "paid": "dropped",
            "other": "dropped",
            "child": "dropped",
            "short": "done",
        }
        assert await harness.store.client.call("KEYS", f"{harness.store.keys.prefix}wait*") == []
        await harness.advance(hours=47)  # the child goes on, and nobody waits for it
        (child_run,) = await harness.runs(child)
        assert await child_run.astatus() == RunStatus.COMPLETED


@both_kinds
async def test_the_losers_of_a_race_stay_gone_while_the_run_goes_on(app: TaskFlow, is_async: bool) -> None:
    """S3.7"""
    passes: list[Any] = []

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        first = await step.parallel(
            (lambda: step.wait_for_event("paid", "paid", "1d"), lambda: step.sleep("an hour", "1h")),
            mode="race",
        )
        second = await step.wait_for_event("paid", "paid", "1d")
        passes.append([first, second and second.data])

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        first = step.parallel(
            (lambda: step.wait_for_event("paid", "paid", "1d"), lambda: step.sleep("an hour", "1h")),
            mode="race",
        )
        second = step.wait_for_event("paid", "paid", "1d")
        passes.append([first, second and second.data])

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(hours=1)
        states = {key: step.state for key, step in (await harness.view(run)).steps.items()}
        assert states == {"paid": "dropped", "an hour": "done", "paid#1": "wait"}
        await harness.send("paid", {"n": 1})
        assert await run.astatus() == RunStatus.COMPLETED
    assert passes == [[None, {"n": 1}]]


@both_kinds
async def test_a_step_that_loses_a_race_ends_and_is_ignored(app: TaskFlow, is_async: bool) -> None:
    """S3.7: the run goes on at once; the step's function comes to its own end, and is never called again."""
    gates = Gates()
    passes: list[Any] = []

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        won = await step.parallel(
            (lambda: step.run("slow", gates.hold, "slow"), lambda: step.run("fast", gates.hold, "fast")),
            mode="race",
        )
        for _ in range(2):
            await step.sleep("nap", "1h")
        passes.append(won)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        won = step.parallel(
            (lambda: step.run("slow", gates.hold, "slow"), lambda: step.run("fast", gates.hold, "fast")),
            mode="race",
        )
        for _ in range(2):
            step.sleep("nap", "1h")
        passes.append(won)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await functions[is_async].ainvoke()
        await until(lambda: len(gates.started) == 2, description="both steps")
        await gates.open("fast")
        await until(lambda: has_step(harness, run, "nap", "wait"), description="the handler's next step")
        gates.gate("slow").set()
        await until(
            lambda: "slow" in gates.ended, description="the end of the loser's function", deadline_s=2
        )
        await harness.settled()
        await harness.advance(hours=2)
        assert await run.astatus() == RunStatus.COMPLETED
    assert passes == ["fast"]
    assert sorted(gates.started) == ["fast", "slow"]


async def test_a_sync_step_that_loses_a_race_ends_and_is_ignored(app: TaskFlow) -> None:
    """S3.7: as above, in a thread."""
    leave, calls = threading.Event(), []

    def slow() -> None:
        calls.append("slow")
        assert leave.wait(5)
        calls.append("slow ended")

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        won = await step.parallel(
            (lambda: step.run("slow", slow), lambda: step.run("fast", lambda: "fast")), mode="race"
        )
        await step.sleep("nap", "1h")
        await step.run("after", calls.append, "after")
        return won

    async with Harness(app) as harness:
        run = await handler.ainvoke()
        await until(lambda: has_step(harness, run, "nap", "wait"), description="the handler's next step")
        leave.set()
        await until(lambda: "slow ended" in calls, description="the end of the loser's function")
        await harness.settled()
        await harness.advance(hours=1)
        assert await run.aresult("1s") == "fast"
    assert calls == ["slow", "slow ended", "after"]


async def test_a_run_whose_handler_returns_after_a_race_is_over_though_a_loser_executes(
    app: TaskFlow,
) -> None:
    """S3.7: the run completes at once."""
    leave = threading.Event()

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel(
            (lambda: step.run("slow", leave.wait, 5), lambda: step.run("fast", lambda: "fast")), mode="race"
        )

    async with Harness(app) as harness:
        run = await handler.ainvoke()
        assert await run.aresult("1s") == "fast"
        leave.set()
        await harness.settled()


@both_kinds
async def test_a_race_is_lost_by_who_fails_later_and_won_by_who_fails_first(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.7"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel(
            (lambda: step.run("bad", refuse), lambda: step.sleep("nap", "1h")), mode="race"
        )

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.parallel((lambda: step.run("bad", refuse), lambda: step.sleep("nap", "1h")), mode="race")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(RunFailed, match="refused"):
            await run.aresult("1s")


@pytest.mark.parametrize("winner", ["a", "b", "c"])
async def test_a_race_has_the_same_winner_in_the_replay(app: TaskFlow, winner: str) -> None:
    """S3.7, S4.1"""
    passes: list[Any] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        async def branch(name: str) -> str:
            await step.wait_for_event(name, f"go {name}", "1d")
            return name

        first = await step.parallel([partial(branch, name) for name in "abc"], mode="race")
        done, pending = await asyncio.wait(
            [asyncio.create_task(branch(name)) for name in "abc"], return_when=asyncio.FIRST_COMPLETED
        )
        second = [task.result() for task in done]
        for task in pending:
            task.cancel()
        passes.append([first, second])
        await step.sleep("nap", "1h")
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(handler)
        await harness.send(f"go {winner}")
        await harness.send(f"go {winner}")
        await harness.send("go a")
        await harness.advance(hours=2)
        assert await run.astatus() == RunStatus.COMPLETED
    assert passes == [[winner, [winner]]] * 3


# --- replay of branches that use the same ids ---


@some_orders
@given(data=st.data())
async def test_branches_that_use_the_same_ids_get_their_own_results_in_each_replay(
    make_app: MakeApp, data: st.DataObject
) -> None:
    """S3.7, S3.8, S4.1: for every order in which the branches' steps end."""
    branches, length = 3, 3
    app = make_app()
    gates = Gates()
    passes: list[list[list[str]]] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        async def branch(number: int) -> list[str]:
            return [await step.run("work", gates.hold, f"{number}{place}") for place in range(length)]

        passes.append(list(await asyncio.gather(*[branch(number) for number in range(branches)])))
        await step.sleep("nap", "1h")
        await step.sleep("nap", "1h")

    order = data.draw(st.permutations([number for number in range(branches) for _ in range(length)]))
    async with Harness(app) as harness:
        await handler.ainvoke()
        places = [0] * branches
        for number in order:
            await gates.open(f"{number}{places[number]}")
            places[number] += 1
        await harness.settled()
        await harness.advance(hours=2)
    assert passes == [[[f"{number}{place}" for place in range(length)] for number in range(branches)]] * 3
    assert len(gates.started) == branches * length


@some_orders
@given(data=st.data())
async def test_branches_that_suspend_in_any_order_get_their_own_results(
    make_app: MakeApp, data: st.DataObject
) -> None:
    """S3.7, S3.8, S4.3: each event replays the handler, which must meet the same memos."""
    branches, length = 3, 3
    app = make_app()
    calls: list[str] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> list[list[str]]:
        def note(name: str) -> str:
            calls.append(name)
            return name

        async def branch(number: int) -> list[str]:
            got = []
            for place in range(length):
                await step.wait_for_event("turn", f"turn {number}", "1d")
                got.append(await step.run("work", note, f"{number}{place}"))
            return got

        return list(await asyncio.gather(*[branch(number) for number in range(branches)]))

    order = data.draw(st.permutations([number for number in range(branches) for _ in range(length)]))
    async with Harness(app, workers=2) as harness:
        run = await harness.start(handler)
        for number in order:
            await harness.send(f"turn {number}")
        expected = [[f"{number}{place}" for place in range(length)] for number in range(branches)]
        assert await run.aresult("1s") == expected
    assert sorted(calls) == sorted(name for names in expected for name in names)


@some_orders
@given(data=st.data())
async def test_branches_of_a_def_handler_that_use_the_same_ids_get_their_own_results(
    make_app: MakeApp, data: st.DataObject
) -> None:
    """S3.7, S3.8, S4.1: branches in threads meet the same memos, though threads run as they like."""
    branches, length = 4, 3
    app = make_app()
    gates = Gates()
    passes: list[list[list[str]]] = []

    @app.function()
    def handler(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        def branch(number: int) -> list[str]:
            return [step.run("work", gates.hold, f"{number}{place}") for place in range(length)]

        passes.append(step.parallel([partial(branch, number) for number in range(branches)]))
        step.sleep("nap", "1h")
        step.sleep("nap", "1h")

    order = data.draw(st.permutations([number for number in range(branches) for _ in range(length)]))
    async with Harness(app) as harness:
        await handler.ainvoke()
        places = [0] * branches
        for number in order:
            await gates.open(f"{number}{places[number]}")
            places[number] += 1
        await harness.settled()
        await harness.advance(hours=2)
    assert passes == [[[f"{number}{place}" for place in range(length)] for number in range(branches)]] * 3


async def test_thread_branches_reach_their_first_steps_in_their_order(app: TaskFlow) -> None:
    """S3.7, S3.8: however long the code in front of the first step takes in each pass."""
    passes: list[list[int]] = []
    first_pass = [True]

    @app.function()
    def handler(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        is_first, first_pass[0] = first_pass[0], False
        turns = [threading.Event() for _ in range(4)]

        def branch(number: int) -> int:
            # In the first pass the last branch comes first, in the replay the first, if threads run as they like.
            before = number + 1 if is_first else number - 1
            if 0 <= before < 4:
                turns[before].wait(0.02)
            turns[number].set()
            return step.run("work", lambda: number)

        passes.append(step.parallel([partial(branch, number) for number in range(4)]))
        step.sleep("nap", "1h")

    async with Harness(app) as harness:
        await harness.start(handler)
        await harness.advance(hours=1)
    assert passes == [[0, 1, 2, 3]] * 2
