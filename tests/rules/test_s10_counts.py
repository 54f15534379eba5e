"""How many runs there are, by function, queue and status: told from counts that the store keeps. Rule S10.8."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import NonRetriableError
from taskflow.redis.client import StoreClient
from taskflow.run import RunStatus
from taskflow.runs.counts import count_all, count_runs
from taskflow.runs.queues import find_queues
from taskflow.step import Step
from taskflow.testing import Harness

FINAL = {"completed": 0, "failed": 0, "cancelled": 0, "skipped": 0}
NONE = {"scheduled": 0, "queued": 0, "running": 0, "waiting": 0, **FINAL}


def define(app: TaskFlow) -> None:
    @app.function(trigger="work")
    async def work(ctx: Context[Step]) -> None:
        match ctx.event.data.get("how"):
            case "fail":
                raise NonRetriableError("no")
            case "sleep":
                await ctx.step.sleep("nap", "1h")

    @app.function(trigger="other", queue="nobody")
    async def other(ctx: Context[Step]) -> None: ...


async def told(app: TaskFlow, harness: Harness) -> dict[str, dict[str, int]]:
    counts = await count_runs(harness.store, ["shop/work", "shop/other"])
    return {function: each.to_json() for function, each in counts.items()}


async def test_runs_are_counted_by_function_and_status_as_they_go_through_their_lives(app: TaskFlow) -> None:
    define(app)
    async with Harness(app) as harness:
        assert await told(app, harness) == {"shop/work": NONE, "shop/other": NONE}
        for how in ("fail", "sleep", "sleep", "go", "go", "go"):
            await app.asend("work", {"how": how})
        await app.asend("work", {"how": "go"}, ts=harness.clock.now_ms() + 7_200_000)
        # A worker that serves the queue would execute it.
        await app.functions["shop/other"].ainvoke(queue="elsewhere")
        await harness.settled()
        assert await told(app, harness) == {
            "shop/work": {**NONE, "scheduled": 1, "waiting": 2, "completed": 3, "failed": 1},
            "shop/other": {**NONE, "queued": 1},
        }
        await app.acancel_runs("shop/work", status="scheduled")
        await app.apause("shop/work")
        await app.asend("work")
        await harness.settled()
        await app.aresume("shop/work")
        await harness.advance(hours=2)
        counts = await count_runs(harness.store, ["shop/work", "shop/other"])
        assert counts["shop/work"].to_json() == {
            **NONE, "completed": 5, "failed": 1, "cancelled": 1, "skipped": 1,
        }  # fmt: skip
        total = await count_all(harness.store)
        assert (total.live, total.of(), total.of(["failed", "queued"])) == (1, 9, 2)
        assert str(total) == "1 queued, 5 completed, 1 failed, 1 cancelled, 1 skipped"


async def test_queues_tell_what_is_live_there(app: TaskFlow) -> None:
    define(app)
    async with Harness(app) as harness:
        await app.asend("work", {"how": "sleep"})
        await app.functions["shop/other"].ainvoke(queue="elsewhere")
        await app.functions["shop/work"].ainvoke(queue="elsewhere")
        await harness.settled()
        found = {each.name: each for each in await find_queues(harness.store, "shop")}
        assert (found["default"].waiting, found["default"].queued) == (1, 0)
        assert (found["elsewhere"].waiting, found["elsewhere"].queued) == (0, 2)
        assert (found["nobody"].waiting, found["nobody"].queued) == (0, 0)


@contextmanager
def counted_commands() -> Iterator[list[str]]:
    """What is asked of the store meanwhile."""
    asked: list[str] = []
    original = StoreClient.call

    def call(self: StoreClient, *command: Any) -> Any:
        asked.append(str(command[0]))
        return original(self, *command)

    StoreClient.call = call  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        StoreClient.call = original  # type: ignore[method-assign]


async def test_no_read_of_counts_grows_with_the_history(app: TaskFlow) -> None:
    define(app)
    async with Harness(app) as harness:
        costs = []
        for count in (10, 200):
            for _ in range(count):
                await app.asend("work", {"how": "fail"})
            await harness.settled()
            with counted_commands() as asked:
                counts = await count_runs(harness.store, ["shop/work", "shop/other"])
                await find_queues(harness.store)
            costs.append(
                len([each for each in asked if each in ("ZCOUNT", "HGETALL", "ZRANGE", "SMEMBERS", "HGET")])
            )
        assert counts["shop/work"].of([RunStatus.FAILED]) == 210
        assert costs[0] == costs[1] < 25
