"""S7.1: how many steps execute at one time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from taskflow import Concurrency, Context, Event, Step, TaskFlow
from taskflow.errors import ConfigError
from taskflow.run import RunStatus
from taskflow.testing import Harness
from tests.flow.gauge import Gauge
from tests.rules.givens import Gates
from tests.rules.views import view
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")


async def work(gauge: Gauge, *keys: str) -> None:
    async with gauge.inside(*keys):
        await asyncio.sleep(0.001)


async def finish_all(harness: Harness, app: TaskFlow) -> None:
    """Every run of the app's functions has completed."""
    await harness.settled()
    for function in app.functions.values():
        statuses = {await run.astatus() for run in await harness.runs(function)}
        assert statuses == {RunStatus.COMPLETED}


async def test_a_number_limits_the_steps_of_a_function(app: TaskFlow) -> None:
    gauge = Gauge()

    @app.function(trigger="job", concurrency=3)
    async def job(ctx: Context[Step], step: Step) -> None:
        await step.run("one", work, gauge, "job")
        await step.run("two", work, gauge, "job")

    async with Harness(app, workers=3) as harness:
        await harness.send([Event("job") for _ in range(40)])
        await finish_all(harness, app)
    assert gauge.most["job"] == 3


async def test_parallel_steps_of_one_run_count_each(app: TaskFlow) -> None:
    gauge = Gauge()

    @app.function(trigger="job", concurrency=2)
    async def job(ctx: Context[Step], step: Step) -> int:
        done = await step.parallel([partial(step.run, f"part {n}", work, gauge, "job") for n in range(8)])
        return len(done)

    async with Harness(app, workers=2) as harness:
        await harness.send([Event("job") for _ in range(3)])
        await finish_all(harness, app)
    assert gauge.most["job"] == 2


async def test_each_value_of_a_key_has_a_limit_of_its_own(app: TaskFlow) -> None:
    gauge = Gauge()

    @app.function(trigger="job", concurrency=Concurrency(1, key="event.data.tenant"))
    async def job(ctx: Context[Step], step: Step) -> None:
        await step.run("one", work, gauge, "all", ctx.event.data["tenant"])

    async with Harness(app, workers=2) as harness:
        await harness.send([Event("job", {"tenant": f"t{n % 5}"}) for n in range(50)])
        await finish_all(harness, app)
    assert {gauge.most[f"t{n}"] for n in range(5)} == {1}
    assert gauge.most["all"] > 2


async def test_events_without_the_field_share_one_key(app: TaskFlow) -> None:
    gauge = Gauge()

    @app.function(trigger="job", concurrency=Concurrency(1, key="event.data.tenant"))
    async def job(ctx: Context[Step], step: Step) -> None:
        await step.run("one", work, gauge, "none")

    async with Harness(app) as harness:
        await harness.send([Event("job") for _ in range(10)])
        await finish_all(harness, app)
    assert gauge.most["none"] == 1


async def test_functions_share_a_limit_of_the_app(app: TaskFlow) -> None:
    gauge = Gauge()
    shared = Concurrency(2, key="event.data.tenant", scope="app")

    @app.function(trigger="job", concurrency=shared)
    async def one(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work, gauge, "both")

    @app.function(trigger="job", concurrency=shared)
    async def two(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work, gauge, "both")

    async with Harness(app, workers=2) as harness:
        await harness.send([Event("job", {"tenant": "t"}) for _ in range(20)])
        await finish_all(harness, app)
    assert gauge.most["both"] == 2


async def test_two_limits_hold_at_once(app: TaskFlow) -> None:
    """An account's 5 and a tenant's 1, of 20 tenants."""
    gauge = Gauge()

    @app.function(
        trigger="job",
        concurrency=[
            Concurrency(5, key="'all'", scope="account"),
            Concurrency(1, key="event.data.tenant"),
        ],
    )
    async def job(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work, gauge, "account", ctx.event.data["tenant"])

    async with Harness(app, workers=3) as harness:
        await harness.send([Event("job", {"tenant": f"t{n % 20}"}) for n in range(200)])
        await finish_all(harness, app)
    assert gauge.most.pop("account") == 5
    assert set(gauge.most.values()) == {1}


async def test_sleeping_runs_leave_their_place_to_others(app: TaskFlow) -> None:
    @app.function(trigger="job", concurrency=1)
    async def job(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        await harness.send([Event("job") for _ in range(10)])
        statuses = [await run.astatus() for run in await harness.runs(job)]
        assert statuses == [RunStatus.WAITING] * 10
        await harness.advance(hours=1)
        await finish_all(harness, app)


async def test_retries_of_the_handler_take_turns(app: TaskFlow) -> None:
    gauge = Gauge()

    @app.function(trigger="job", concurrency=1)
    async def job(ctx: Context[Step]) -> None:
        async with gauge.inside("job"):
            await asyncio.sleep(0)
            if ctx.attempt == 0:
                raise ValueError("once")

    async with Harness(app) as harness:
        await harness.send([Event("job") for _ in range(5)])
        await harness.advance(minutes=1)
        await finish_all(harness, app)
    assert gauge.most["job"] == 1


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (0, "concurrency.limit"),
        (True, "concurrency"),
        ("5", "concurrency must be"),
        ([Concurrency(1), Concurrency(2)], "same scope and key"),
        ([Concurrency(1), Concurrency(2, key="event.id"), Concurrency(3, key="event.name")], "at most 2"),
    ],
)
def test_wrong_limits_are_refused(app: TaskFlow, value: object, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as refused:
        app.function(trigger="job", id="job", concurrency=value)(lambda ctx: None)  # type: ignore[call-overload]
    assert "shop/job" in str(refused.value)


def test_a_shared_limit_needs_a_key() -> None:
    with pytest.raises(ConfigError, match="needs a key"):
        Concurrency(5, scope="account")


async def test_a_queued_run_says_which_limit_it_waits_for(app: TaskFlow) -> None:
    """S10.5"""
    gates = Gates()

    @app.function(trigger="job", concurrency=Concurrency(1, key="event.data.tenant"))
    async def job(ctx: Context[Step], step: Step) -> None:
        await step.run("work", gates.hold, "open")

    async with Harness(app) as harness:
        await app.asend([Event("job", {"tenant": "acme"}) for _ in range(3)])

        async def reasons() -> set[str | None]:
            return {(await view(harness, run)).why for run in await harness.runs(job)}

        wanted = {
            'queued: concurrency key "acme" is at 1 of 1',
            'queued: concurrency key "acme" is at 1 of 1, 1 ahead',
        }

        async def are_told() -> bool:
            return await reasons() >= wanted

        await until(are_told, description=f"the reasons {wanted}")
        gates.gate("open").set()
        await finish_all(harness, app)
