"""S9.1, S9.2: what holds when messages are lost, doubled or delayed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import RunFailed
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.store.hints import Hint
from taskflow.testing import Harness
from taskflow.values.ids import run_id_for
from tests.rules.crashes import Cut, Doomed, new_worker
from tests.rules.passing import all_final, pass_time, turn_clock, work_stream
from tests.servers import ValkeyServer
from tests.waiting import until

FAILED = "taskflow/function.failed"


# --- S9.1, S9.2: messages ---


async def test_a_run_whose_work_message_is_lost_is_executed_all_the_same(app: TaskFlow) -> None:
    """S9.2: the reaper sends another within a few seconds."""

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> str:
        return await step.run("work", lambda: "done")

    async with Harness(app) as harness:
        lose_messages(app, harness)
        start_ms = harness.clock.now_ms()
        runs = [await work.ainvoke() for _ in range(20)]
        await pass_time(harness, lambda: all_final(runs), description="the end of all runs")
        assert harness.clock.now_ms() - start_ms < 10_000
        assert {await run.aresult("1s") for run in runs} == {"done"}


def lose_messages(app: TaskFlow, harness: Harness) -> None:
    """From now on neither the app nor a worker gets a work message through to the broker; beat does."""

    async def lose(hints: Sequence[Hint]) -> None: ...

    app._link.tell = lose  # type: ignore[method-assign]
    for worker in harness.workers:
        worker.courier.send_work = lambda hints: None  # type: ignore[method-assign]


async def test_all_work_messages_in_the_broker_vanish(app: TaskFlow) -> None:
    """S9.2: somebody empties the queue while no worker runs, and the worker that comes has missed them all."""
    seen: list[int] = []

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("work", seen.append, ctx.event.data["n"])

    async with Harness(app, concurrency=2) as harness:
        gate = asyncio.Event()

        @app.function()
        async def busy(ctx: Context[Step], step: Step) -> None:
            await step.run("wait", gate.wait)

        for _ in range(2):  # both slots are taken
            await app.ainvoke(busy)
        await until(lambda: harness.slots_in_use == 2, description="both slots to be taken")
        runs = [await work.ainvoke({"n": n}) for n in range(10)]
        await harness.store.client.call("DEL", work_stream(harness))
        gate.set()
        await pass_time(harness, lambda: all_final(runs), description="the end of all runs")
    assert sorted(seen) == list(range(10))


async def test_a_message_that_is_too_large_is_a_dead_letter_and_nothing_is_decoded(app: TaskFlow) -> None:
    """S9.1: of what nobody would send the beginning is kept, with the reason."""
    async with Harness(app) as harness:
        body = b"[" * 5_000_000
        await app._link.async_publisher.publish_events([body])
        (letter,) = await until_some(lambda: harness.store.history.dead_letters(limit=9))
        assert letter["body"] == body[:65_536]
        assert letter["reason"].startswith(b"it has 5,000,000 bytes, but")
        assert b"the first 65,536 are kept" in letter["reason"]


async def until_some(look: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
    found: list[Any] = []

    async def is_there() -> bool:
        found[:] = await look()
        return bool(found)

    await until(is_there, description="something")
    return found


async def test_doubled_messages_change_nothing(app: TaskFlow) -> None:
    """S9.1, S9.2: events and work messages come five times each; each function gets one run, each step one execution."""
    seen: Counter[str] = Counter()

    def work(name: str) -> None:
        seen[name] += 1

    @app.function(trigger="order")
    async def one(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work, f"one {ctx.event.data['n']}")

    @app.function(trigger="order")
    async def two(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1s")
        await step.run("work", work, f"two {ctx.event.data['n']}")

    async with Harness(app) as harness:
        publish = app._link.async_publisher.publish_events

        async def publish_often(messages: Sequence[bytes]) -> None:
            for _ in range(5):
                await publish(messages)

        app._link.async_publisher.publish_events = publish_often  # type: ignore[method-assign, assignment]
        for n in range(10):
            await app.asend("order", {"n": n})
            await app._link.async_publisher.publish_work(["default"] * 5)
        await harness.advance(seconds=2)
        assert len(await harness.runs(one)) == len(await harness.runs(two)) == 10
    assert seen == Counter([f"{name} {n}" for name in ("one", "two") for n in range(10)])


async def test_an_event_that_is_routed_again_later_resumes_nothing_that_came_after_it(app: TaskFlow) -> None:
    """S9.1, S3.3: a message that the broker delivers again, when a new wait for its name stands."""

    @app.function()
    async def waiter(ctx: Context[Step], step: Step) -> Any:
        found = await step.wait_for_event("paid", "paid", timeout="1h")
        return None if found is None else found.data

    async with Harness(app) as harness:
        first = await harness.start(waiter)
        messages: list[Sequence[bytes]] = []
        publish = app._link.async_publisher.publish_events

        async def keep(bodies: Sequence[bytes]) -> None:
            messages.append(bodies)
            await publish(bodies)

        app._link.async_publisher.publish_events = keep  # type: ignore[method-assign, assignment]
        await harness.send("paid", {"n": 1})
        assert await first.aresult("1s") == {"n": 1}
        second = await harness.start(waiter)
        await publish(messages[0])
        await harness.settled()
        assert await second.astatus() is RunStatus.WAITING
        await harness.send("paid", {"n": 2})
        assert await second.aresult("1s") == {"n": 2}


@pytest.mark.parametrize("seed", range(3))
async def test_every_run_ends_whatever_becomes_of_the_work_messages(app: TaskFlow, seed: int) -> None:
    """S9.2: each message is lost, doubled, delayed or delivered, at random, between two workers and beat."""
    draw = random.Random(seed)

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> int:
        await step.sleep("nap", "1s")
        return await step.run("n", lambda: ctx.event.data["n"])

    @app.function(retries=Retries(4, initial="1s", jitter=False))
    async def work(ctx: Context[Step], step: Step) -> int:
        number: int = ctx.event.data["n"]
        await step.sleep("nap", draw.random() * 3)
        one, two = await asyncio.gather(
            step.invoke("child", function=child, data={"n": number}), step.run("two", lambda: number)
        )
        found = await step.wait_for_event("go", "go", timeout="5s", match="data.n")
        return int(one) + two + (0 if found is None else 1)

    async with Harness(app, workers=2, concurrency=5) as harness:
        for publisher in [
            app._link.async_publisher,
            harness.beat.publisher,
            *[w.publisher for w in harness.workers],
        ]:
            make_unreliable(publisher, draw)
        runs = [await work.ainvoke({"n": n}) for n in range(12)]
        await pass_time(harness, lambda: all_final(runs), description="the end of all runs", step_ms=250)
        assert [await run.aresult("1s") for run in runs] == [2 * n for n in range(12)]
        await pass_time(
            harness, lambda: all_final_of(harness, child), description="the end of all children", step_ms=250
        )


async def all_final_of(harness: Harness, function: Any) -> bool:
    return await all_final(await harness.runs(function))


def make_unreliable(publisher: Any, draw: random.Random) -> None:
    publish = publisher.publish_work

    async def unreliable(queues: Sequence[str], **options: Any) -> None:
        fate = draw.random()
        if fate < 0.4:
            return
        if fate < 0.6:
            await publish([*queues, *queues], **options)
            return
        if fate < 0.8:
            await asyncio.sleep(0.02)
        await publish(queues, **options)

    publisher.publish_work = unreliable


async def test_no_wake_up_is_lost_when_an_event_comes_just_as_the_run_is_suspended(app: TaskFlow) -> None:
    """S9.2, S4.3: the event is routed while the last step that executes beside its wait ends."""

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> list[Any]:
        found, _ = await asyncio.gather(
            step.wait_for_event("go", "go", timeout="1h", match="data.n"),
            step.run("work", asyncio.sleep, ctx.event.data["n"] % 20 / 4_000),
        )
        return [found is not None]

    async with Harness(app, workers=2) as harness:
        runs = [await work.ainvoke({"n": n}) for n in range(100)]

        async def send(n: int) -> None:
            key = harness.store.keys.steps(runs[n].id)
            await until(
                lambda: harness.store.client.call("HEXISTS", key, "go"), description="the wait to be stored"
            )
            await app.asend("go", {"n": n})

        await asyncio.gather(*[send(n) for n in range(100)])
        await harness.settled()
        assert Counter([str(await run.astatus()) for run in runs]) == {"completed": 100}


# --- S9.1: events of finished runs ---


@pytest.mark.parametrize("loses_reply", [False, True], ids=["published", "reply lost"])
async def test_a_crash_around_the_end_of_a_run_tells_of_it_once(app: TaskFlow, loses_reply: bool) -> None:
    """S5.5, S9.1: whenever the process dies, `function.failed` comes once, and starts one run."""
    told: list[str] = []

    @app.function(trigger=FAILED)
    async def watch(ctx: Context[Step]) -> None:
        told.append(ctx.event.data["run_id"])

    @app.function(retries=0)
    async def failing(ctx: Context[Step], step: Step) -> None:
        await step.run("work", lambda: 1)
        raise ValueError("broken")

    async with Harness(app, workers=0) as harness:
        for after in range(12):
            told.clear()
            await fail_with_a_crash(app, harness, failing, told, Cut(after=after, loses_reply=loses_reply))
            assert len(await harness.runs(watch)) == after + 1


async def fail_with_a_crash(
    app: TaskFlow, harness: Harness, function: Function[..., Any], told: list[str], cut: Cut
) -> None:
    doomed = await Doomed.start(app, harness, cut=cut)
    run: Run = await function.ainvoke()
    await pass_time(harness, lambda: is_dead_or_over(cut, run), description="a crash or the end")
    await doomed.give_up()
    survivor = new_worker(app, harness)
    await survivor.start()
    harness.workers.append(survivor)
    await pass_time(harness, lambda: has_told(told), description=f"the news, after {cut.names}")
    outbox = f"{harness.store.keys.prefix}outbox"
    await pass_time(harness, lambda: is_empty(harness, outbox), description="an empty outbox")
    await harness.advance(seconds=20)
    assert set(told) == {run.id}, (
        f"crash after {cut.names}"
    )  # twice when the process died in the handler of the news
    assert await run.astatus() is RunStatus.FAILED
    harness.workers.remove(survivor)
    await survivor.stop()
    await doomed.bury()


async def is_dead_or_over(cut: Cut, run: Run) -> bool:
    return cut.is_dead or (await run.astatus()).is_final


async def has_told(told: list[str]) -> bool:
    return bool(told)


async def test_the_news_of_a_failed_run_waits_until_the_broker_is_back(
    valkey_url: str, namespace: str
) -> None:
    """S9.1, S9.5: the broker is down when the run fails; the event comes later, once."""
    told: list[str] = []
    with ValkeyServer(aof=True) as broker:
        app = TaskFlow("shop", broker=broker.url, store=valkey_url, namespace=namespace, send_timeout="200ms")
        gate = asyncio.Event()

        @app.function(trigger=FAILED)
        async def watch(ctx: Context[Step]) -> None:
            told.append(ctx.event.data["run_id"])

        @app.function(retries=0)
        async def failing(ctx: Context[Step], step: Step) -> None:
            await step.run("wait", gate.wait)
            raise ValueError("broken")

        async with Harness(app) as harness:
            run = await failing.ainvoke()
            await until(lambda: harness.slots_in_use, description="the run to begin")
            broker.kill()
            gate.set()
            with pytest.raises(RunFailed, match="broken"):
                await run.aresult("5s")
            outbox = f"{harness.store.keys.prefix}outbox"
            for _ in range(20):
                await turn_clock(harness, 1_000)
                await asyncio.sleep(0.005)
            assert await harness.store.client.call("ZCARD", outbox) == 1
            assert not told
            broker.restart()
            await pass_time(harness, lambda: has_told(told), description="the news")
            await pass_time(harness, lambda: is_empty(harness, outbox), description="an empty outbox")
            for _ in range(10):
                await turn_clock(harness, 1_000)
                await asyncio.sleep(0.005)
        assert told == [run.id]


async def is_empty(harness: Harness, key: str) -> bool:
    return not await harness.store.client.call("EXISTS", key)


async def test_a_run_is_found_by_the_event_that_was_accepted(app: TaskFlow) -> None:
    """S9.1: its id follows from event and function, so there is one however often the event is routed."""

    @app.function(trigger="order")
    async def one(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        (event_id,) = await harness.send("order")
        assert [run.id for run in await harness.runs(one)] == [run_id_for(event_id, one.id)]
