"""Workers of several code bases execute one app side by side, as in a deploy that rolls. Rule S2.7."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.flow.cancel import Cancel
from taskflow.flow.concurrency import Concurrency
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.triggers import TriggerEvent
from taskflow.worker.child.runner import AppRunner, RunnerOptions
from tests.conftest import MakeApp
from tests.waiting import until


@asynccontextmanager
async def worker(harness: Harness, app: TaskFlow, name: str) -> AsyncIterator[AppRunner]:
    """A worker of another code base beside the one of the harness."""
    runner = AppRunner(app, RunnerOptions(), child_id=f"{name}:1", clock=harness.clock)
    await runner.start()
    harness.workers.append(runner)
    try:
        yield runner
    finally:
        harness.workers.remove(runner)
        await runner.stop()


def listener(app: TaskFlow, slug: str, event: str, seen: list[str]) -> None:
    @app.function(id=slug, trigger=event)
    async def listen(ctx: Context[Step]) -> str:
        seen.append(f"{slug} {ctx.event.name}")
        return slug


@pytest.fixture
def old(make_app: MakeApp) -> TaskFlow:
    return make_app("shop")


@pytest.fixture
def new(make_app: MakeApp) -> TaskFlow:
    return make_app("shop")


async def statuses(app: TaskFlow, function: str) -> list[str]:
    return [run.status.value for run in await app.aruns(f"shop/{function}")]


async def test_an_old_worker_routes_events_to_a_function_that_only_the_new_version_has(
    old: TaskFlow, new: TaskFlow
) -> None:
    """The new worker routes nothing here: what starts its function was planned from its manifest."""
    seen: list[str] = []
    listener(old, "both", "order", seen)
    listener(new, "both", "order", seen)

    @new.function(
        trigger=TriggerEvent("order", expression="event.data.total > 100"),
        concurrency=Concurrency(1, key="event.data.user"),
        cancel=[Cancel("order.void", match="data.id")],
    )
    async def check(ctx: Context[Step]) -> str:
        seen.append("check")
        await ctx.step.sleep("a while", "1h")
        return "checked"

    async with Harness(old) as harness, worker(harness, new, "new") as fresh:
        fresh.intake.take_events(False)
        await old.asend("order", {"id": 1, "total": 10, "user": "a"})
        await old.asend("order", {"id": 2, "total": 500, "user": "a"})
        await harness.settled()
        await old.asend("order.void", {"id": 2})
        await harness.settled()
        assert sorted(seen) == ["both order", "both order", "check"]
        assert await statuses(old, "check") == ["cancelled"]


async def test_the_definition_of_the_newest_version_counts_whoever_routes(
    old: TaskFlow, new: TaskFlow
) -> None:
    seen: list[str] = []
    listener(old, "both", "first", seen)
    listener(new, "both", "second", seen)
    async with Harness(old) as harness:
        await old.asend("first")
        await harness.settled()
        async with worker(harness, new, "new"):
            for name in ("first", "second"):
                await old.asend(name)
            await harness.settled()
        await old.asend("first")
        await harness.settled()
    assert seen == ["both first", "both second", "both first"]


async def test_runs_of_a_function_that_is_gone_wait_for_a_worker_that_has_it(
    old: TaskFlow, new: TaskFlow
) -> None:
    seen: list[str] = []
    listener(old, "kept", "order", seen)
    listener(new, "kept", "order", seen)

    @old.function(trigger="order")
    async def leaving(ctx: Context[Step]) -> str:
        await ctx.step.sleep("a while", "1h")
        return "left"

    async with Harness(new) as harness:
        async with worker(harness, old, "old"):
            await old.asend("order")
            await harness.settled()
        await old.asend("order")
        await harness.advance(hours=2)
        assert await statuses(new, "leaving") == ["queued"]
        async with worker(harness, old, "old-again"):
            await harness.advance(seconds=5)
            assert await statuses(new, "leaving") == ["completed"]
    assert seen == ["kept order", "kept order"]


async def test_runs_keep_the_version_of_the_code_that_is_derived_from_it(old: TaskFlow) -> None:
    listener(old, "both", "order", [])
    async with Harness(old) as harness:
        await old.asend("order")
        await harness.settled()
        (run,) = await old.aruns("shop/both")
        (base,) = await harness.store.registry.code_bases("shop")
        assert run.version == base.version
        assert len(run.version) == 8


@pytest.mark.parametrize(
    ("versions", "slugs", "warning"),
    [
        (
            ("7", "7"),
            ("both", "more"),
            "workers of app shop with different code call it the same version, '7'",
        ),
        (
            ("7", "8"),
            ("one", "two"),
            "two code bases share the app id 'shop', and have no function in common",
        ),
        (("", ""), ("one", "two"), "two code bases share the app id 'shop', and have no function in common"),
        (("7", "8"), ("both", "both"), ""),
        (("", ""), ("both", "both"), ""),
        (("7", "8"), ("both", "both more"), ""),
    ],
)
async def test_code_bases_that_clash_are_a_warning_in_the_log_of_both_and_a_rolling_deploy_is_none(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture, versions: tuple[str, str],
    slugs: tuple[str, str], warning: str,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING, "taskflow")
    apps = []
    for number, (version, names) in enumerate(zip(versions, slugs, strict=True)):
        app = TaskFlow("shop", broker=valkey_url, store=valkey_url, namespace=namespace, app_version=version)
        for slug in names.split():
            listener(app, slug, f"event-{number}", [])
        apps.append(app)
    async with Harness(apps[0]) as harness, worker(harness, apps[1], "second"):
        heard_by_one = [record.getMessage() for record in caplog.records]
        await harness.workers[0].check_up()
        heard = [record.getMessage() for record in caplog.records]
    for app in apps:
        await app.aclose()
    assert len(heard_by_one) == bool(warning)
    assert len(heard) == 2 * bool(warning)
    assert all(text.startswith(warning) for text in heard)


async def test_a_worker_that_cannot_read_a_function_leaves_events_to_one_that_can(
    old: TaskFlow, new: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one has a newer taskflow, whose functions say what this one does not know."""
    seen: list[str] = []
    listener(old, "both", "order", seen)
    listener(new, "both", "order", seen)
    listener(new, "future", "order", seen)
    async with Harness(old) as harness, worker(harness, new, "new") as fresh:
        functions = fresh.store.keys.functions("shop")
        manifest = (await fresh.store.registry.manifests("shop"))["future"]
        broken = manifest.replace(b'"warn"', b'"telepathic"')
        await fresh.store.client.call("HSET", functions, "future", broken)
        await old.asend("order")
        await harness.settled()
        assert sorted(seen) == ["both order", "future order"]
        assert not harness.workers[0].intake.takes_events
        assert "future is of a worker with another version of taskflow" in caplog.text


async def test_a_worker_that_has_routed_nothing_since_learns_of_new_code_from_its_runs(
    old: TaskFlow, new: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """It gives back what it claimed, and passes work messages on, so that no run waits for beat to notice."""
    listener(old, "both", "order", [])
    listener(new, "both", "order", [])
    listener(new, "added", "order", [])
    async with Harness(old) as harness, worker(harness, new, "new") as fresh:
        idle = harness.workers[0]
        fresh.intake.listen(False)
        assert idle.known.ids == ["shop/both"]
        run = await new.ainvoke("shop/added")
        await until(lambda: "shop/added" in idle.known.ids, description="the old worker to learn of it")
        fresh.intake.listen(True)
        assert await run.aresult("5s") == "added"
        assert "WARNING" not in caplog.text
