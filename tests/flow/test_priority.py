"""S7.2: which of a function's runs go first."""

from __future__ import annotations

import math

import pytest

from taskflow import Concurrency, Context, Event, Priority, Step, TaskFlow
from taskflow.errors import ConfigError
from taskflow.flow.priority import ahead_ms
from taskflow.testing import Harness
from taskflow.types import Json
from tests.rules.givens import Gates
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")


NO_NUMBERS: list[Json] = ["5", None, True, [], {}]


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (10, 10_000),
        (-10, -10_000),
        (0.5, 500),
        (601, 600_000),
        (-1e9, -600_000),
        (math.inf, 600_000),
        (math.nan, 0),
    ],
)
def test_priorities_are_clipped(value: Json, ms: int) -> None:
    assert ahead_ms(value) == ms


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_anything_but_a_number_is_no_priority(value: Json) -> None:
    assert ahead_ms(value) == 0


@pytest.mark.parametrize("is_limited", [False, True], ids=["ready set", "key backlog"])
async def test_a_late_urgent_run_starts_next(app: TaskFlow, is_limited: bool) -> None:
    """1,000 runs are queued, of a function with a limit or without; then comes one of +600."""
    gates, started = Gates(), list[int]()

    @app.function(
        trigger="job",
        priority=Priority("event.data.rank"),
        concurrency=Concurrency(1, key="event.data.tenant") if is_limited else None,
    )
    async def job(ctx: Context[Step], step: Step) -> None:
        started.append(ctx.event.data["n"])
        await step.run("work", gates.hold, str(min(ctx.event.data["n"], 1)))

    async with Harness(app, concurrency=1, deadline_s=30) as harness:
        await app.asend(Event("job", {"n": 0, "rank": 0, "tenant": "t"}))
        await until(lambda: started == [0], description="the first run")
        await app.asend([Event("job", {"n": n, "rank": 0, "tenant": "t"}) for n in range(1, 1_001)])
        await app.asend(Event("job", {"n": 9_999, "rank": 600, "tenant": "t"}))

        async def are_queued() -> bool:
            return len(await harness.runs(job)) == 1_002

        await until(are_queued, description="1,002 runs", deadline_s=20)
        gates.gate("0").set()
        await until(lambda: len(started) == 2, description="the next run")
        assert started == [0, 9_999]
        gates.gate("1").set()
        await harness.settled()
        assert len(started) == 1_002


def test_a_priority_that_is_no_cel_is_refused() -> None:
    with pytest.raises(ConfigError, match="priority.run"):
        Priority("event.data.(")
