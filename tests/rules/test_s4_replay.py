"""S4: what a replay does, and does not do, again."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.engine.operation import Operation
from taskflow.errors import RunFailed, StepError, Suspend
from taskflow.function import Function
from taskflow.handle import Run, RunStatus
from taskflow.step import BlockingStep, Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.crashes import Cut, Doomed, new_worker
from tests.rules.passing import pass_time
from tests.waiting import until


class Journal:
    """Which steps were executed; each execution returns another number, so that a memo can be told from a repeat."""

    def __init__(self) -> None:
        self.executed: list[str] = []

    def do(self, name: str) -> int:
        self.executed.append(name)
        return len(self.executed)

    async def ado(self, name: str) -> int:
        return self.do(name)


async def memos(harness: Harness, run: Run) -> dict[str, Operation]:
    """The operations that are stored of a run."""
    stored = await harness.store.history.run(run.id)
    assert stored is not None
    return {key: Operation.unpack(packed) for key, packed in stored.steps.items()}


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
            info = await client.call("XINFO", "STREAM", "tfb:q:taskflow.work.shop.default")
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
        gc.collect()
        assert [ref() for ref in held] == [None] * 5
        await until(
            lambda: worker.threads._idle_semaphore._value == len(worker.threads._threads),
            description="all threads of the pool idle",
        )
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
