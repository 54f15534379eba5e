"""S10.7: whoever watches a run hears of each change as it is stored; a run that nobody watches tells nobody."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import RunNotFound
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import Run, RunStatus, RunView
from taskflow.runs import watch
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import Gates
from tests.waiting import until


def three_steps(app: TaskFlow, gates: Gates) -> Function[..., object]:
    @app.function()
    async def work(ctx: Context[Step], step: Step) -> str:
        for name in ("one", "two", "three"):
            await step.run(name, gates.hold, name)
        return "done"

    return work


class Watcher:
    """Collects what it is told of a run."""

    def __init__(self, run: Run) -> None:
        self.seen: list[RunView] = []
        self.task = asyncio.create_task(self.watch(run))

    async def watch(self, run: Run) -> None:
        async with aclosing(run.awatch()) as views:
            async for view in views:
                self.seen.append(view)

    async def has_seen(self, *steps: str) -> None:
        """Wait until the last view has exactly these steps."""
        await until(
            lambda: bool(self.seen) and tuple(self.seen[-1].steps) == steps,
            description=f"a view with {steps}",
        )

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a message, a watcher looks once in an hour: what comes sooner comes by a message."""
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 3_600.0)


async def messages(harness: Harness) -> int:
    """How many messages the store was asked to publish so far, by scripts too."""
    stats = (await harness.store.client.call("INFO", "commandstats")).decode()
    line = next((line for line in stats.splitlines() if line.startswith("cmdstat_publish:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


async def is_marked(harness: Harness, run: Run) -> bool:
    return bool(await harness.store.client.call("HEXISTS", harness.store.keys.run(run.id), "watched"))


@pytest.mark.usefixtures("patient")
async def test_a_watcher_is_told_of_each_commit_in_order_and_of_the_end(app: TaskFlow) -> None:
    gates = Gates()
    work = three_steps(app, gates)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        watcher = Watcher(run)
        await watcher.has_seen()
        await gates.open("one")
        await watcher.has_seen("one")
        await gates.open("two")
        await watcher.has_seen("one", "two")
        await gates.open("three")
        async with asyncio.timeout(5):
            await watcher.task
        assert [tuple(view.steps) for view in watcher.seen][:3] == [(), ("one",), ("one", "two")]
        assert watcher.seen[-1].status is RunStatus.COMPLETED
        assert watcher.seen[-1].output == "done"
        assert harness.slots_in_use == 0


@pytest.mark.usefixtures("patient")
async def test_a_watcher_is_told_of_waits_retries_and_starts(app: TaskFlow) -> None:
    """Whatever changes the run's status."""
    calls: list[int] = []

    @app.function(retries=Retries(1, initial="1s", jitter=False))
    async def work(ctx: Context[Step], step: Step) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("once")
        await step.sleep("nap", "1s")

    async with Harness(app) as harness:
        run = await harness.start(work)
        watcher = Watcher(run)
        await until(lambda: watcher.seen, description="the first view")
        for _ in range(2):
            await harness.advance(seconds=1)
        async with asyncio.timeout(5):
            await watcher.task
        assert watcher.seen[0].attempt == 1
        assert watcher.seen[-1].status is RunStatus.COMPLETED
        assert any(view.status is RunStatus.WAITING and "nap" in view.steps for view in watcher.seen)


async def test_a_run_that_nobody_watches_sends_only_that_it_has_ended(app: TaskFlow) -> None:
    gates = Gates()
    work = three_steps(app, gates)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        before = await messages(harness)
        for name in ("one", "two", "three"):
            await gates.open(name)
        await run.aresult("2s")
        assert await messages(harness) - before == 1
        assert not await is_marked(harness, run)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", ["leaves", "dies"])
async def test_the_mark_of_a_watcher_that_is_gone_goes_with_the_next_commit(app: TaskFlow, how: str) -> None:
    """One message finds nobody; after that the run costs nothing again."""
    gates = Gates()
    work = three_steps(app, gates)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        watcher = Watcher(run)
        await watcher.has_seen()
        assert await is_marked(harness, run)
        if how == "dies":
            subscriber = app._link.session().subscriber
            assert subscriber is not None
            await (
                subscriber.close()
            )  # as when its process is killed: the connection is gone, and doesn't come back
        else:
            await watcher.leave()
        await until(lambda: nobody_listens(harness, run), description="the end of the subscription")
        before = await messages(harness)
        await gates.open("one")
        await until(lambda: is_unmarked(harness, run), description="the end of the mark")
        await gates.open("two")
        await gates.open("three")
        await harness.settled()
        assert await messages(harness) - before == 2, "of step one, and of the end"
        await watcher.leave()


async def nobody_listens(harness: Harness, run: Run) -> bool:
    channel = harness.store.keys.watch_channel(run.id)
    return bool((await harness.store.client.call("PUBSUB", "NUMSUB", channel))[1] == 0)


async def is_unmarked(harness: Harness, run: Run) -> bool:
    return not await is_marked(harness, run)


@pytest.mark.usefixtures("patient")
async def test_a_watcher_whose_connection_was_lost_looks_again_at_once(app: TaskFlow) -> None:
    """What was told meanwhile is lost with it."""
    gates = Gates()
    work = three_steps(app, gates)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        watcher = Watcher(run)
        await watcher.has_seen()
        await harness.store.client.call("CLIENT", "KILL", "TYPE", "pubsub")
        await gates.open("one")
        await watcher.has_seen("one")
        await gates.open("two")
        await gates.open("three")
        assert await run.aresult("5s") == "done"
        await watcher.leave()


async def test_a_watcher_looks_now_and_then_though_it_is_told_nothing(
    app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when each message is lost, and the mark too."""
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.01)
    gates = Gates()
    work = three_steps(app, gates)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        watcher = Watcher(run)
        await watcher.has_seen()
        await harness.store.client.call("HDEL", harness.store.keys.run(run.id), "watched")
        for name in ("one", "two", "three"):
            await gates.open(name)
        async with asyncio.timeout(5):
            await watcher.task
        assert watcher.seen[-1].output == "done"


async def test_two_watch_and_one_of_them_leaves(app: TaskFlow) -> None:
    gates = Gates()
    work = three_steps(app, gates)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        one, other = Watcher(run), Watcher(app.run(run.id))
        await one.has_seen()
        await other.has_seen()
        await one.leave()
        for name in ("one", "two", "three"):
            await gates.open(name)
        async with asyncio.timeout(5):
            await other.task
        assert other.seen[-1].output == "done"
        await harness.settled()


async def test_a_run_that_has_ended_is_told_once_and_not_marked(app: TaskFlow) -> None:
    @app.function()
    async def work(ctx: Context[Step]) -> int:
        return 7

    async with Harness(app) as harness:
        run = await harness.start(work)
        assert [view.output async for view in run.awatch()] == [7]
        assert not await is_marked(harness, run)
        assert [view.output for view in await asyncio.to_thread(lambda: list(run.watch()))] == [7]


async def test_a_run_that_is_not_there_cant_be_watched(app: TaskFlow) -> None:
    async with Harness(app) as harness:
        with pytest.raises(RunNotFound, match="there is no run nope"):
            await anext(app.run("nope").awatch())
        assert not await harness.store.client.call("EXISTS", harness.store.keys.run("nope"))
