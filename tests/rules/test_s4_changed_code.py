"""S4.5: the code changes under a live run."""

from __future__ import annotations

import asyncio
import logging

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import RunFailed
from taskflow.run import Run
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.crashes import Cut, Doomed, new_worker
from tests.rules.journal import Journal, memos
from tests.waiting import until

# --- S4.5 ---


class Changing:
    """A function whose code changes: it runs the steps of `plan`, and sleeps where that says "zzz"."""

    def __init__(self, app: TaskFlow, *plan: str) -> None:
        self.plan = list(plan)
        self.journal = Journal()

        @app.function()
        async def changing(ctx: Context[Step], step: Step) -> list[int]:
            results = []
            for name in self.plan:
                if name.startswith("zzz"):
                    await step.sleep(name, "1h")
                else:
                    results.append(await step.run(name, self.journal.ado, name))
            return results

        self.function = changing

    async def run_and_change(self, harness: Harness, *plan: str) -> Run:
        """Run until the first sleep, change the code, and go on to the end."""
        run = await harness.start(self.function)
        self.plan = list(plan)
        await harness.advance(hours=5)
        return run


def warnings_about_order(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "taskflow.engine" and record.levelno == logging.WARNING
    ]


async def test_a_new_step_runs_when_it_is_first_met(app: TaskFlow, caplog: pytest.LogCaptureFixture) -> None:
    """S4.5: wherever it was put."""
    code = Changing(app, "a", "b", "zzz", "c")
    async with Harness(app) as harness:
        run = await code.run_and_change(harness, "new 1", "a", "new 2", "b", "zzz", "new 3", "c")
        assert await run.aresult("1s") == [3, 1, 4, 2, 5, 6]
        assert code.journal.executed == ["a", "b", "new 1", "new 2", "new 3", "c"]
    assert not warnings_about_order(caplog)


async def test_a_memo_whose_step_is_gone_is_ignored(app: TaskFlow, caplog: pytest.LogCaptureFixture) -> None:
    """S4.5"""
    code = Changing(app, "a", "b", "zzz", "c")
    async with Harness(app) as harness:
        run = await code.run_and_change(harness, "b", "c")
        assert await run.aresult("1s") == [2, 3]
        assert code.journal.executed == ["a", "b", "c"]
    assert not warnings_about_order(caplog)


async def test_a_removed_sleep_that_is_still_pending_is_dropped_at_the_end(app: TaskFlow) -> None:
    """S4.5: the run is woken by the other branch, under code that does not sleep any more."""
    is_old = True

    @app.function()
    async def changing(ctx: Context[Step], step: Step) -> str:
        async def short() -> None:
            await step.sleep("short", "1h")
            ctx.logger.info("slept")

        if is_old:
            await asyncio.gather(step.sleep("long", "10 days"), short())
            return "old"
        await step.sleep("short", "1h")
        return "new"

    async with Harness(app) as harness:
        run = await harness.start(changing)
        is_old = False
        await harness.advance(hours=1)
        assert await run.aresult("1s") == "new"
        assert (await memos(harness, run))["long"].state == "dropped"
        assert await harness.next_due_ms() is None


async def test_another_order_gives_each_step_its_memo_and_one_warning_a_run(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S4.5: one warning, however often the run is replayed afterwards."""
    code = Changing(app, "a", "b", "c", "zzz")
    async with Harness(app) as harness:
        run = await code.run_and_change(harness, "c", "a", "b", "zzz", "zzz 2", "zzz 3", "d")
        assert await run.aresult("1s") == [3, 1, 2, 4]
        assert code.journal.executed == ["a", "b", "c", "d"]
    warnings = warnings_about_order(caplog)
    assert len(warnings) == 1
    assert "shop/changing" in warnings[0]
    assert run.id in warnings[0]
    assert "'a'" in warnings[0]


@pytest.mark.parametrize(
    "plan",
    [("b", "a", "zzz", "c"), ("a", "new", "b", "zzz", "c"), ("b", "zzz", "c")],
    ids=["reordered", "inserted", "removed"],
)
async def test_strict_determinism_fails_a_run_whose_code_has_changed(
    make_app: MakeApp, plan: tuple[str, ...]
) -> None:
    """S4.5"""
    app = make_app(determinism="strict")
    code = Changing(app, "a", "b", "zzz", "c")
    async with Harness(app) as harness:
        run = await code.run_and_change(harness, *plan)
        with pytest.raises(RunFailed, match=r"shop/changing: .*determinism is 'strict'") as caught:
            await run.aresult("1s")
        assert caught.value.name == "NonDeterminismError"
        assert code.journal.executed == ["a", "b"]


async def test_strict_determinism_lets_a_crash_repeat_one_of_several_parallel_steps(
    make_app: MakeApp,
) -> None:
    """S4.5, S4.1: the first has no memo when the process dies, the second has."""
    app = make_app(determinism="strict")
    gate = asyncio.Event()
    executed: list[str] = []

    async def work(name: str) -> str:
        executed.append(name)
        if name == "a":
            await gate.wait()
        return name

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> list[str]:
        return list(await asyncio.gather(*[step.run(name, work, name) for name in "abc"]))

    async with Harness(app, workers=0) as harness:
        doomed = await Doomed.start(app, harness, cut=Cut(after=1_000))
        run = await flow.ainvoke()
        key = harness.store.keys.steps(run.id)
        await until(lambda: has_memos(harness, key, 2), description="two memos")
        await doomed.give_up()
        gate.set()
        survivor = new_worker(app, harness)
        await survivor.start()
        assert await run.aresult("2s") == ["a", "b", "c"]
        assert sorted(executed) == ["a", "a", "b", "c"]
        await survivor.stop()
        await doomed.bury()


async def has_memos(harness: Harness, key: str, count: int) -> bool:
    return bool(await harness.store.client.call("HLEN", key) >= count)


async def test_strict_determinism_lets_unchanged_code_replay(make_app: MakeApp) -> None:
    """S4.5: also when parallel branches finish in another order than they began."""
    app = make_app(determinism="strict")

    @app.function()
    async def steady(ctx: Context[Step], step: Step) -> list[str]:
        order: list[str] = []

        async def branch(name: str, naps: int) -> None:
            for _ in range(3):
                await step.sleep(f"nap {name}", naps)
                order.append(await step.run(f"step {name}", lambda: name))

        await asyncio.gather(branch("slow", 10), branch("quick", 4), branch("other", 7))
        return order

    async with Harness(app) as harness:
        run = await harness.start(steady)
        await harness.advance(minutes=1)
        assert await run.aresult("1s") == [
            "quick", "other", "quick", "slow", "quick", "other", "slow", "other", "slow",
        ]  # fmt: skip


async def test_parallel_branches_with_the_same_step_ids_keep_their_own_memos(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S3.8, S4.1: the n-th call of an id gets the n-th memo, so the calls of all branches must replay in their order."""
    executed: list[str] = []

    async def work(branch: str, turn: int, pause_s: float) -> str:
        executed.append(f"{branch}{turn}")
        await asyncio.sleep(pause_s)
        return f"{branch}{turn}"

    @app.function()
    async def branches(ctx: Context[Step], step: Step) -> list[list[str]]:
        async def branch(name: str, pause_s: float, nap_s: int) -> list[str]:
            results = []
            for turn in range(3):
                results.append(await step.run("work", work, name, turn, pause_s))
                if turn == 1:
                    await step.sleep("nap", nap_s)
            return results

        return list(
            await asyncio.gather(branch("a", 0.02, 30), branch("b", 0.002, 10), branch("c", 0.007, 20))
        )

    async with Harness(app) as harness:
        run = await harness.start(branches)
        await harness.advance(minutes=1)
        assert await run.aresult("1s") == [["a0", "a1", "a2"], ["b0", "b1", "b2"], ["c0", "c1", "c2"]]
    assert sorted(executed) == ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]
    assert not warnings_about_order(caplog)


async def test_parallel_branches_replay_without_a_warning(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S4.5: unchanged code has no other order, however its branches interleave."""

    @app.function()
    async def branches(ctx: Context[Step], step: Step) -> list[str]:
        async def branch(name: str, pause_s: float) -> str:
            first = await step.run(f"{name} 1", asyncio.sleep, pause_s, name)
            await step.sleep(f"{name} 2", "1h" if name == "b" else "2h")
            return first + await step.run(f"{name} 3", asyncio.sleep, pause_s, name)

        return list(await asyncio.gather(branch("a", 0.01), branch("b", 0.002), branch("c", 0.005)))

    async with Harness(app) as harness:
        run = await harness.start(branches)
        await harness.advance(hours=3)
        assert await run.aresult("1s") == ["aa", "bb", "cc"]
    assert not warnings_about_order(caplog)
