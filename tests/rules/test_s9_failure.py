"""S9.3 to S9.8: what holds when processes die and connections break. In one process; real ones are killed elsewhere."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from typing import Any

import pytest
import redis.asyncio as redis

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunFailed, StepError
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.crashes import Cut, Doomed, new_worker
from tests.rules.passing import all_final, pass_time, turn_clock
from tests.waiting import until

FAILED = "taskflow/function.failed"


# --- S9.3, S9.4: claims ---


async def test_the_runs_of_a_silent_worker_go_to_others(app: TaskFlow) -> None:
    """S9.3: beat finds a host without heartbeat and hands its claims back within 15 s."""
    executed: list[str] = []
    gate = asyncio.Event()

    async def work(name: str) -> str:
        executed.append(name)
        if len(executed) == 2:
            await gate.wait()
        return name

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> list[str]:
        return [await step.run(name, work, name) for name in "abc"]

    async with Harness(app, workers=0) as harness:
        doomed = await Doomed.start(app, harness, cut=Cut(after=1_000))
        worker_id = doomed.worker.child_id.rpartition(":")[0]
        now_ms = harness.clock.now_ms()
        await harness.store.scripts.heartbeat(
            now_ms=now_ms, worker_id=worker_id, serving="", child_ids=[doomed.worker.child_id]
        )
        run = await flow.ainvoke()
        await until(lambda: len(executed) == 2, description="the second step to begin")
        doomed.kill()
        died_ms = harness.clock.now_ms()
        survivor = new_worker(app, harness)
        await survivor.start()
        harness.workers.append(survivor)
        gate.set()
        await pass_time(harness, lambda: all_final([run]), description="the end of the run")
        assert harness.clock.now_ms() - died_ms <= 15_000
        assert await run.aresult("1s") == ["a", "b", "c"]
        assert executed == ["a", "b", "b", "c"]
        await doomed.bury()


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_worker_that_lost_its_claim_can_not_write(app: TaskFlow, kind: str) -> None:
    """S9.4: it was paused in a step, the run went on elsewhere; what it commits then is refused, and it lets go."""
    executed: list[str] = []
    entered, gate = threading.Event(), threading.Event()

    def work() -> str:
        executed.append("work")
        if len(executed) == 1:
            entered.set()
            gate.wait(5)
            return "of the paused worker"
        return "of the other"

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> str:
        result = await step.run("work", work)
        await step.run("after", executed.append, f"after {result}")
        return result

    @app.function()
    def blocking_flow(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        result = step.run("work", work)
        step.run("after", executed.append, f"after {result}")
        return result

    async with Harness(app) as harness:
        run = await (flow if kind == "async" else blocking_flow).ainvoke()
        await until(entered.is_set, description="the step to begin")
        paused = harness.workers[0]
        other = new_worker(app, harness)
        await harness.store.claims.hand_back(
            paused.child_id, [], crashed=True, cause="silent", now_ms=harness.clock.now_ms(), tells=False
        )
        paused.executor.is_draining = True  # it claims nothing more
        await other.start()
        assert await run.aresult("5s") == "of the other"
        gate.set()
        await until(lambda: not paused.executor.executions, description="the paused worker to let go")
        assert harness.slots_in_use == 0
        assert await run.aresult("1s") == "of the other"
        assert executed == ["work", "work", "after of the other"]
        await other.stop()
        paused.executor.is_draining = False


async def test_a_worker_whose_lease_is_over_starts_no_step(app: TaskFlow) -> None:
    """S9.4: it asks the store before each step, and learns that the run is somebody else's."""
    executed: list[str] = []
    gate = asyncio.Event()

    class LostLease:
        epoch = 0
        is_lost = False

        def is_valid(self, *, epoch: int | None = None) -> bool:
            return not self.is_lost

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        await gate.wait()  # outside of any step
        await step.run("charge", executed.append, "charge")

    async with Harness(app) as harness:
        worker = harness.workers[0]
        worker.executor.lease = lease = LostLease()
        run = await flow.ainvoke()
        await until(lambda: worker.executor.executions, description="the run to begin")
        lease.is_lost = True
        await harness.store.claims.hand_back(
            worker.child_id, [], crashed=True, cause="silent", now_ms=harness.clock.now_ms(), tells=False
        )
        gate.set()
        await until(lambda: not worker.executor.executions, description="the worker to let go")
        assert executed == []
        assert await run.astatus() is RunStatus.QUEUED
        lease.is_lost = False
        worker.executor.look_for_work("default")
        await run.aresult("5s")
    assert executed == ["charge"]


@pytest.mark.parametrize("way", ["claimed", "routed"])
async def test_a_worker_that_was_paused_since_its_claim_begins_no_body(app: TaskFlow, way: str) -> None:
    """S9.4, S4.7: others may execute the run by now; it is handed back, and nothing is counted."""
    executed: list[str] = []

    class LateLease:
        """It is over when the first reply comes."""

        epoch = 0
        answers = iter([False])

        def is_valid(self, *, epoch: int | None = None) -> bool:
            return epoch is None or next(self.answers, True)

    @app.function(trigger="order")
    async def work(ctx: Context[Step]) -> str:
        executed.append(ctx.run_id)
        return "done"

    async with Harness(app) as harness:
        worker = harness.workers[0]
        worker.executor.lease = worker.intake.router.lease = lease = LateLease()
        run = await work.ainvoke() if way == "claimed" else (await harness.send("order")).run
        assert await run.aresult("5s") == "done"
        fence, crashes = await harness.store.history.fields(run.id, "fence", "crashes")
        assert next(lease.answers, "asked") == "asked"
        assert executed == [run.id]
        assert (int(fence or 0) > 1, crashes) == (True, None)
        assert harness.slots_in_use == 0


# --- S9.5: connections ---


async def test_runs_survive_connections_that_are_cut_again_and_again(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S9.5: every connection to the store is cut ten times under load; no committed step is repeated, nothing hangs."""
    caplog.set_level(logging.INFO, "taskflow.store")
    executed: Counter[str] = Counter()

    async def work(name: str) -> str:
        executed[name] += 1
        await asyncio.sleep(0.001)
        return name

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> list[str]:
        number = ctx.event.data["n"]
        first = [await step.run(f"{n}", work, f"{number} {n}") for n in range(5)]
        both = await asyncio.gather(step.run("a", work, f"{number} a"), step.run("b", work, f"{number} b"))
        return first + list(both)

    async with Harness(app) as harness:
        runs = [await flow.ainvoke({"n": n}) for n in range(30)]
        async with redis.Redis.from_url(app.config.store) as admin:
            for _ in range(10):
                for kind in ("normal", "pubsub"):
                    await admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")  # type: ignore[no-untyped-call]
                await asyncio.sleep(0.02)
        await pass_time(harness, lambda: all_final(runs), description="the end of all runs", step_ms=100)
        for n, run in enumerate(runs):
            assert await run.aresult("1s") == [f"{n} {name}" for name in "01234ab"]
        later = await flow.ainvoke({"n": 99})
        assert await later.aresult("5s")
    assert set(executed.values()) == {1}
    lines = [record.getMessage() for record in caplog.records if record.name == "taskflow.store"]
    lost = [line for line in lines if "lost the connection" in line]
    back = [line for line in lines if "is back" in line]
    assert lost
    assert abs(len(lost) - len(back)) <= 2, "each loss is logged once, and each return"


async def test_a_message_that_was_missed_while_the_subscription_was_cut_is_made_up_for(app: TaskFlow) -> None:
    """S9.5: a resident run learns of its event although the channel was gone when it came."""
    answer = asyncio.Event()

    @app.function()
    async def mixed(ctx: Context[Step], step: Step) -> bool:
        found, _ = await asyncio.gather(step.wait_for_event("go", "go", timeout="1h"), answer.wait())
        return found is not None

    async with Harness(app) as harness:
        run = await harness.start(mixed)
        subscriber = harness.workers[0].subscriber.client
        assert subscriber.connection is not None
        assert subscriber.connection.transport is not None
        subscriber.connection.transport.abort()
        await app.asend("go")
        key = harness.store.keys.steps(run.id)
        await pass_time(
            harness, lambda: is_done(harness, key, "go"), description="the event to be routed", step_ms=1
        )
        answer.set()
        assert await run.aresult("5s") is True


async def is_done(harness: Harness, key: str, step: str) -> bool:
    packed = await harness.store.client.call("HGET", key, step)
    return packed is not None and b"done" in packed


# --- S9.8: poison ---


async def test_a_run_that_kills_its_worker_three_times_fails_and_says_how(app: TaskFlow) -> None:
    """S9.8: WorkerLost tells how the process ended each time; `on_failure` is told as well."""
    told: list[Any] = []
    entered: list[int] = []

    @app.function(trigger=FAILED)
    async def watch(ctx: Context[Step]) -> None:
        told.append(ctx.event.data["error"]["name"])

    @app.function()
    async def poison(ctx: Context[Step], step: Step) -> None:
        await step.run("eat memory", never_ends, entered)

    causes = ["killed by signal 9 (SIGKILL; out of memory?)", "exit code 70", "killed by signal 11 (SIGSEGV)"]
    async with Harness(app, workers=0) as harness:
        run = await poison.ainvoke()
        for cause in causes:
            await crash(app, harness, entered, cause)
        survivor = new_worker(app, harness)
        await survivor.start()
        harness.workers.append(survivor)
        with pytest.raises(RunFailed) as caught:
            await run.aresult("2s")
        await harness.settled()
    assert caught.value.name == "WorkerLost"
    for cause in causes:
        assert cause in caught.value.message
    assert len(entered) == 3, "it is not executed once more"
    assert told == ["WorkerLost"]


async def never_ends(entered: list[int]) -> None:
    entered.append(1)
    await asyncio.Event().wait()


async def crash(app: TaskFlow, harness: Harness, entered: list[int], cause: str) -> None:
    """A worker starts, takes the run and dies in its step."""
    before = len(entered)
    doomed = await Doomed.start(app, harness, cut=Cut(after=1_000))
    await until(lambda: len(entered) > before, description="the step to begin")
    assert await doomed.give_up(cause) == 1
    await doomed.bury()


@pytest.mark.parametrize("progress", ["step", "sleep"])
async def test_progress_resets_the_count_of_crashes(app: TaskFlow, progress: str) -> None:
    """S9.8: two crashes in one step and two in the next are not three in the same."""
    entered: list[int] = []
    survives = {"one": False, "two": False}

    async def dangerous(name: str) -> str:
        if survives[name]:
            return name
        await never_ends(entered)
        return "?"

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> list[str]:
        if progress == "step":
            return [await step.run(name, dangerous, name) for name in ("one", "two")]
        if not survives["one"]:
            await dangerous("one")  # outside of a step
        await step.sleep("nap", 1)
        return [await step.run("two", dangerous, "two")]

    async with Harness(app, workers=0) as harness:
        run = await flow.ainvoke()
        for _ in range(2):
            await crash(app, harness, entered, "killed by signal 9")
        survives["one"] = True
        if progress == "sleep":
            napping = new_worker(app, harness)
            await napping.start()
            harness.workers.append(napping)
            await harness.settled()
            harness.workers.remove(napping)
            await napping.stop()
            await turn_clock(harness, 1_000)
            await pass_time(harness, lambda: is_queued(run), description="the end of the nap")
        for _ in range(2):
            await crash(app, harness, entered, "killed by signal 9")
        survives["two"] = True
        survivor = new_worker(app, harness)
        await survivor.start()
        harness.workers.append(survivor)
        await run.aresult("2s")
    assert len(entered) == 4


async def is_queued(run: Run) -> bool:
    return await run.astatus() is RunStatus.QUEUED


async def test_a_failed_invoke_of_a_poisoned_child_reaches_the_parent(app: TaskFlow) -> None:
    """S9.8, S3.6: the parent does not wait for ever for a child that kills its workers."""
    entered: list[int] = []

    @app.function()
    async def poison(ctx: Context[Step], step: Step) -> None:
        await step.run("eat memory", never_ends, entered)

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> str:
        try:
            await step.invoke("child", function=poison)
        except StepError as error:
            return error.name
        return "?"

    async with Harness(app, workers=0) as harness:
        run = await parent.ainvoke()
        for _ in range(3):
            await crash(app, harness, entered, "killed by signal 9")
        survivor = new_worker(app, harness)
        await survivor.start()
        harness.workers.append(survivor)
        assert await run.aresult("2s") == "WorkerLost"
