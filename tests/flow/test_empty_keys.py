"""S7: an event without the key has the empty key, its run says why, and a condition says why it can't be judged."""

from __future__ import annotations

import logging

import pytest

from taskflow import Concurrency, Context, Event, RateLimit, Step, TaskFlow, TriggerEvent
from taskflow.run import RunStatus
from taskflow.testing import Harness
from tests.rules.views import view

pytestmark = pytest.mark.usefixtures("no_bugs")


async def test_a_run_says_why_its_key_is_empty(app: TaskFlow) -> None:
    @app.function(
        trigger="job",
        concurrency=Concurrency(1, key="event.data.tenant"),
        rate_limit=RateLimit(1, "1h", key="event.data.region + event.data.zone"),
    )
    async def job(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        await harness.send(
            [
                Event("job", {"tenant": "acme", "region": "eu", "zone": "1"}),
                Event("job", {"region": "eu", "zone": 1}),
                Event("job", {"tenant": "b", "region": "us", "zone": 2}),
            ]
        )
        await harness.settled()
        views = [await view(harness, run) for run in await harness.runs(job)]
    told = {str(each.event["data"].get("tenant")): each for each in views}
    assert told["acme"].empty_keys == ()
    tenant, region = told["None"].empty_keys
    assert 'concurrency.key is ""' in tenant
    assert "there is no event.data.tenant" in tenant
    assert "rate_limit.key" in region
    assert "there is no sum of str and int" in region
    assert told["b"].status is RunStatus.SKIPPED
    assert "rate_limit.key" in told["b"].empty_keys[0]


async def test_a_condition_that_cannot_be_judged_says_once_why_nothing_started(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    @app.function(trigger=TriggerEvent("job", expression="event.data.total > 100"))
    async def big(ctx: Context[Step]) -> None: ...

    @app.function(trigger=TriggerEvent("job", expression="event.data.archived != true"))
    async def live(ctx: Context[Step]) -> None: ...

    caplog.set_level(logging.INFO, logger="taskflow.router")
    async with Harness(app) as harness:
        await harness.send([Event("job", {}), Event("job", {}), Event("job", {"archived": True})])
        await harness.settled()
        assert len(await harness.runs(live)) == 2
        assert await harness.runs(big) == []
    (line,) = [
        record.getMessage() for record in caplog.records if "was not started by" in record.getMessage()
    ]
    assert line.startswith(f"{big.id} was not started by event 'job'")
    assert "there is no event.data.total" in line
