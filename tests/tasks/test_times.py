"""S15.2, S7: when a call begins, until when it may begin, how long it is kept, and in which order calls go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.errors import ConfigError, InvalidDuration, RunCancelled, RunNotFound, RunSkipped
from taskflow.flow.batch import Batch
from taskflow.flow.concurrency import Concurrency
from taskflow.flow.debounce import Debounce
from taskflow.flow.rate_limit import RateLimit
from taskflow.flow.singleton import Singleton
from taskflow.run import RunStatus
from taskflow.store.store import Store
from taskflow.tasks.task import Task
from taskflow.testing import Harness
from taskflow.timeouts import Timeouts
from tests.conftest import MakeApp

SOON = "2s"


def sum_task(app: TaskFlow, **options: Any) -> Task[..., int]:
    @app.task(id="add", **options)
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


# --- countdown and eta ---


async def test_a_call_begins_after_its_countdown(app: TaskFlow) -> None:
    """S15.2: no worker holds it meanwhile, and none has to be up."""
    add = sum_task(app)
    run = await add.options(countdown="10m").adelay(1, 2)
    assert await run.astatus() is RunStatus.SCHEDULED
    async with Harness(app) as harness:
        run = await add.options(countdown="10m").adelay(1, 2)
        await harness.advance(minutes=9)
        assert await run.astatus() is RunStatus.SCHEDULED
        assert harness.slots_in_use == 0
        await harness.advance(minutes=2)
        assert await run.aresult(SOON) == 3


async def test_a_call_begins_at_its_eta(app: TaskFlow) -> None:
    """S15.2: which has a time zone."""
    add = sum_task(app)
    async with Harness(app) as harness:
        eta = datetime.fromtimestamp(harness.clock.now_ms() / 1000, UTC) + timedelta(hours=3)
        run = await add.options(eta=eta).adelay(1, 2)
        await harness.advance(hours=2)
        assert await run.astatus() is RunStatus.SCHEDULED
        await harness.advance(hours=2)
        assert await run.aresult(SOON) == 3
    with pytest.raises(InvalidDuration, match="time zone"):
        add.options(eta=eta.replace(tzinfo=None))
    with pytest.raises(ConfigError, match=r"countdown=\.\.\. or eta=\.\.\., not both"):
        add.options(eta=eta, countdown=1)


# --- expires ---


async def test_a_call_that_has_not_begun_in_time_is_cancelled(app: TaskFlow) -> None:
    """S15.2: at that moment, with a reason; it never begins."""
    add = sum_task(app)
    async with Harness(app) as harness:
        run = await add.options(queue="nobody", expires="5m").adelay(1, 2)
        await harness.advance(minutes=4)
        assert await run.astatus() is RunStatus.QUEUED
        await harness.advance(minutes=2)
        with pytest.raises(RunCancelled, match="expired: it had not begun in time"):
            await run.aresult(SOON)


async def test_a_claim_finds_that_a_run_has_expired(app: TaskFlow, namespace: str) -> None:
    """S15.2: while no beat is up, the worker that would begin it ends it."""
    add = sum_task(app, expires="5m")
    run = await add.adelay(1)
    store = await Store.open(app.config.store, namespace=namespace)
    try:
        now_ms = (await run.aview()).created_ms + 300_000
        reply = await store.claims.claim(
            "w1:1", "shop", "default", limit=5, by_hint=True, unknown=(), now_ms=now_ms
        )
        (claimed,) = reply.runs
        assert (claimed.claim.run_id, b"expired" in claimed.cancel) == (run.id, True)
    finally:
        await store.close()
    assert await run.acancel()


async def test_the_moment_of_expiry_may_be_given_and_counts_from_the_call(app: TaskFlow) -> None:
    """S15.2: also behind a countdown; a call that could never begin is refused."""
    add = sum_task(app)
    async with Harness(app) as harness:
        at = datetime.fromtimestamp(harness.clock.now_ms() / 1000, UTC) + timedelta(minutes=30)
        run = await add.options(queue="nobody", countdown="10m", expires=at).adelay(1)
        await harness.advance(minutes=29)
        assert await run.astatus() is RunStatus.QUEUED
        await harness.advance(minutes=2)
        assert await run.astatus() is RunStatus.CANCELLED
        with pytest.raises(ConfigError, match="would expire before it may begin"):
            await add.options(countdown="2h", expires="1h").adelay(1)


async def test_a_run_that_has_begun_does_not_expire(app: TaskFlow) -> None:
    """S15.2: a retry may come after that time."""
    attempts: list[int] = []

    @app.task(id="flaky", expires="1m", retries=1)
    async def flaky() -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("once")
        return 7

    async with Harness(app) as harness:
        run = await flaky.adelay()
        await harness.settled()
        await harness.advance(minutes=30)
        assert await run.aresult(SOON) == 7


async def test_timeouts_start_holds_beside_expires(app: TaskFlow) -> None:
    """S6.3, S15.2: the shorter one counts, and says which it was."""
    add = sum_task(app, timeouts=Timeouts(start="1m"))
    async with Harness(app) as harness:
        long = await add.options(queue="nobody", expires="1h").adelay(1)
        short = await add.options(queue="nobody", expires="30s").adelay(1)
        await harness.advance(minutes=2)
        with pytest.raises(RunCancelled, match=r"timeouts\.start"):
            await long.aresult(SOON)
        with pytest.raises(RunCancelled, match="expired"):
            await short.aresult(SOON)


# --- keep ---


async def test_a_run_is_kept_as_long_as_its_task_or_its_call_says(make_app: MakeApp) -> None:
    """S15.2, S10.1"""
    app = make_app(retention="1h")
    add = sum_task(app, keep="10h")
    async with Harness(app) as harness:
        usual = await add.adelay(1)
        none = await add.options(keep=0).adelay(1)
        long = await add.options(keep="20h").adelay(1)
        await harness.settled()
        assert [await run.aresult(SOON) for run in (usual, none, long)] == [1, 1, 1]
        await harness.advance(minutes=5)
        with pytest.raises(RunNotFound):
            await none.astatus()
        assert await usual.astatus() is RunStatus.COMPLETED
        await harness.advance(hours=11)
        with pytest.raises(RunNotFound):
            await usual.astatus()
        assert await long.astatus() is RunStatus.COMPLETED


async def test_a_task_may_keep_nothing(app: TaskFlow) -> None:
    """S15.2: its failed runs are kept all the same."""

    @app.task(id="work", keep=0, retries=0)
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError("no")

    async with Harness(app) as harness:
        done, failed = await work.adelay(False), await work.adelay(True)
        await harness.settled()
        await harness.advance(minutes=5)
        with pytest.raises(RunNotFound):
            await done.astatus()
        assert await failed.astatus() is RunStatus.FAILED


# --- flow control ---


async def test_a_call_goes_ahead_by_its_priority(app: TaskFlow) -> None:
    """S7.2"""
    order: list[str] = []

    @app.task(id="work", concurrency=1)
    async def work(name: str) -> None:
        order.append(name)

    await work.adelay("plain")
    await work.options(priority="low").adelay("low")
    await work.options(priority="high").adelay("high")
    await work.options(priority=600).adelay("highest")
    async with Harness(app, concurrency=1) as harness:
        await harness.settled()
    assert order == ["highest", "high", "plain", "low"]
    with pytest.raises(ConfigError, match="priority must be one of"):
        work.options(priority="urgent")  # type: ignore[arg-type]


async def test_flow_control_reads_the_arguments_by_name(app: TaskFlow) -> None:
    """S15.1, S7: the event of a task is its call."""
    add = sum_task(app, rate_limit=RateLimit(1, period="1h", key="event.data.x"))
    async with Harness(app) as harness:
        first, second, other = await add.adelay(1, 2), await add.adelay(1, 3), await add.adelay(2)
        await harness.settled()
        assert [await first.aresult(SOON), await other.aresult(SOON)] == [3, 2]
        with pytest.raises(RunSkipped, match="rate limit"):
            await second.aresult(SOON)


async def test_a_debounced_call_returns_the_run_that_it_joins(app: TaskFlow) -> None:
    """S15.1, S7.5: the last arguments count."""
    add = sum_task(app, debounce=Debounce("10s"))
    async with Harness(app) as harness:
        first = await add.adelay(1)
        await harness.advance(seconds=1)
        second = await add.adelay(5)
        assert second.id == first.id
        await harness.advance(seconds=20)
        assert await first.aresult(SOON) == 5


async def test_concurrency_and_singletons_hold_for_tasks(app: TaskFlow) -> None:
    """S7.1, S7.7"""
    gate = asyncio.Event()

    @app.task(id="one", singleton=Singleton(mode="skip", key="event.data.name"))
    async def one(name: str) -> str:
        await gate.wait()
        return name

    @app.task(id="limited", concurrency=Concurrency(1, key="event.data.name"))
    async def limited(name: str) -> str:
        return name

    async with Harness(app) as harness:
        a, b = await one.adelay("a"), await one.adelay("a")
        runs = [await limited.adelay(name) for name in "aab"]
        gate.set()
        await harness.settled()
        assert await a.aresult(SOON) == "a"
        with pytest.raises(RunSkipped):
            await b.aresult(SOON)
        assert [await run.aresult(SOON) for run in runs] == ["a", "a", "b"]


def test_a_task_takes_no_batches(app: TaskFlow) -> None:
    """S2.5"""
    with pytest.raises(ConfigError, match="it takes no batch_events"):
        sum_task(app, batch_events=Batch(10, timeout="1s"))
