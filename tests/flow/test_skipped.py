"""S1.3, S10.1, S10.2, S10.5: what is recorded of a run that is not to be, and of an event that was decided before."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow import (
    Batch,
    Context,
    Debounce,
    Event,
    RateLimit,
    RunSkipped,
    RunStatus,
    Singleton,
    Step,
    TaskFlow,
)  # fmt: skip
from taskflow.flow.options import FlowControl
from taskflow.testing import Harness
from tests.commands.shell import Shell
from tests.flow.routers import Routers, run_of, wire
from tests.rules.views import view
from tests.store.scene import DAY_MS

pytestmark = pytest.mark.usefixtures("no_bugs")


@pytest.fixture
def shell(valkey_url: str, namespace: str) -> Shell:
    return Shell(
        {"TASKFLOW_STORE": valkey_url, "TASKFLOW_BROKER": valkey_url, "TASKFLOW_NAMESPACE": namespace}
    )


def limited(app: TaskFlow) -> None:
    @app.function(trigger="changed", id="index", rate_limit=RateLimit(1, "1h"), queue="slow")
    async def index(ctx: Context[Step]) -> None: ...


async def test_a_skipped_run_keeps_its_facts(app: TaskFlow) -> None:
    """S10.2"""
    limited(app)
    index = app.functions["shop/index"]
    async with Harness(app) as harness:
        ids = await harness.send([Event("changed", {"doc": n}) for n in range(2)])
        run = await harness.run_of(index, ids[1])
        seen = await view(harness, run)
        assert (seen.function, seen.status, seen.queue, seen.cause) == (
            "shop/index",
            "skipped",
            "slow",
            "event",
        )
        assert (seen.event["data"], seen.created_ms, seen.ended_ms) == (
            {"doc": 1},
            seen.ended_ms,
            seen.created_ms,
        )
        assert (seen.started_ms, seen.error, seen.is_final) == (None, None, True)
        assert run.id in [each.id for each in await harness.runs(index)]


async def test_the_command_line_lists_and_shows_skipped_runs_with_their_reason(
    app: TaskFlow, shell: Shell
) -> None:
    limited(app)
    async with Harness(app) as harness:
        ids = await harness.send([Event("changed") for _ in range(2)])
        run = await harness.run_of(app.functions["shop/index"], ids[1])
        listed = (await shell.arun("runs", "list", "--status", "skipped", "--json")).json
        assert [(each["run_id"], each["why"]) for each in listed] == [
            (run.id, "skipped: rate limit: 1 in 3600 s")
        ]
        shown = (await shell.arun("runs", "show", run.id)).stdout
        assert "shop/index" in shown
        assert "skipped: rate limit: 1 in 3600 s" in shown
        waited = await shell.arun("runs", "wait", run.id)
        assert (waited.code, waited.stderr) == (
            1,
            f"taskflow: run {run.id} was skipped: rate limit: 1 in 3600 s\n",
        )


async def test_a_handle_of_a_skipped_run_says_so(app: TaskFlow) -> None:
    limited(app)
    async with Harness(app) as harness:
        ids = await harness.send([Event("changed") for _ in range(2)])
        run = await harness.run_of(app.functions["shop/index"], ids[1])
        assert await run.astatus() is RunStatus.SKIPPED
        assert RunStatus.SKIPPED.is_final
        with pytest.raises(RunSkipped) as caught:
            await run.aresult()
        assert (caught.value.run_id, caught.value.reason) == (run.id, "rate limit: 1 in 3600 s")
        assert not await run.acancel(), "it has ended"


async def test_a_direct_start_that_is_skipped_can_be_awaited(app: TaskFlow) -> None:
    @app.function(singleton=Singleton())
    async def sync(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        await harness.start(sync)
        skipped = await harness.start(sync)
        with pytest.raises(RunSkipped, match="singleton"):
            await skipped.aresult("5s")
        await harness.advance(hours=1)


async def test_skipped_runs_are_removed_after_the_retention(valkey_url: str) -> None:
    """S10.1"""
    async with Routers.open(valkey_url, rate_limit=RateLimit(1, "1s")) as routers:
        await routers.scene.register()
        await routers.route(wire(1), wire(2))
        await routers.scene.cancel(run_of(wire(1)))
        assert await trim(routers, DAY_MS - 1) == 0
        # Runs go within some tens of seconds, and events a minute after the last of their runs may.
        assert await trim(routers, DAY_MS + 120_000) > 0
        left = {key.partition(":")[0] for key in await routers.scene.keys()}
        assert not left & {"run", "runs", "expiry", "timers", "event", "events"}


async def trim(routers: Routers, at_ms: int) -> int:
    duties, now_ms = routers.stores[0].duties, routers.scene.now_ms + at_ms
    return await duties.trim_history(event_retention_ms=DAY_MS, limit=100, now_ms=now_ms)


@pytest.mark.parametrize(
    "options",
    [
        {"rate_limit": RateLimit(1, "1h")},
        {"idempotency": "event.name"},
        {"singleton": Singleton()},
        {"singleton": Singleton(mode="cancel")},
        {"debounce": Debounce("10s")},
        {"batch_events": Batch(2, "10s")},
        {"batch_events": Batch(5, "10s")},
    ],
    ids=repr,
)
async def test_an_event_that_is_routed_again_changes_nothing(
    valkey_url: str, options: dict[str, Any]
) -> None:
    """S9.1: whatever it came to, and however late."""
    async with Routers.open(valkey_url, **options) as routers:
        events = [wire(number) for number in range(3)]
        for event in events:
            await routers.route(event)
        before = await routers.scene.state()
        for event in events:
            await routers.route(event, at_ms=5_000)
        assert await routers.scene.state() == before
        for run_id in await routers.statuses():
            await routers.scene.cancel(run_id)
        await routers.fire(at_ms=20_000)
        before = await routers.scene.state()
        for event in events:
            await routers.route(event, at_ms=7_200_000)
        assert await routers.scene.state() == before


async def test_a_function_that_is_new_to_an_event_is_decided_when_the_event_comes_again(
    valkey_url: str,
) -> None:
    """S2: it was routed by older code, which did not have the function."""
    async with Routers.open(valkey_url, rate_limit=RateLimit(1, "1h")) as routers:
        event = wire(1)
        await routers.route_without_function(event)
        assert await routers.statuses() == {}
        await routers.route(event)
        await routers.route(event)
        assert await routers.statuses() == {run_of(event): "queued"}
        assert await routers.record(event) == run_of(event)


async def test_a_duplicate_starts_no_plain_function_but_joins_debounce_and_batch(valkey_url: str) -> None:
    """S1.3"""
    async with Routers.open(valkey_url) as routers:
        first, second = wire(1, id="same"), wire(2, id="same")
        for flow in ({}, {"debounce": Debounce("10s")}, {"batch_events": Batch(2, "10s")}):
            await routers.stores[0].client.call("FLUSHDB")
            routers.flow = FlowControl.of(**flow)
            await routers.route(first)
            await routers.route(second)
            record = await routers.stores[0].history.event(second["uid"])
            assert record["duplicate_of"] == first["uid"].encode()
            assert record.get("fn:shop/work") == (run_of(first).encode() if flow else None)
            assert len(await routers.statuses()) == 1
