"""S10.1: how long a run is kept, by its function or by its app."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow import Context, NonRetriableError, RateLimit, RunNotFound, Step, TaskFlow, TriggerCron
from taskflow.errors import ConfigError
from taskflow.testing import Harness
from tests.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("no_bugs")

HOURS = (0.5, 2, 25, 24 * 8)  # looked at then; the app keeps runs for 24 h, failed ones for 7 days


async def kept_at(harness: Harness, run_id: str) -> list[bool]:
    """Whether the run is there at each of HOURS after now."""
    found, passed = [], 0.0
    for hours in HOURS:
        await harness.advance(hours=hours - passed)
        passed = hours
        try:
            await harness.apps[0].run(run_id).astatus()
            found.append(True)
        except RunNotFound:
            found.append(False)
    return found


OPTIONS: list[tuple[dict[str, Any], list[bool], list[bool]]] = [
    ({}, [True, True, False, False], [True, True, True, False]),
    ({"keep": "1h"}, [True, False, False, False], [True, True, True, False]),
    ({"keep_failed": "1h"}, [True, True, False, False], [True, False, False, False]),
    ({"keep": "1h", "keep_failed": "2 days"}, [True, False, False, False], [True, True, True, False]),
    ({"keep": "30 days", "keep_failed": "30 days"}, [True] * 4, [True] * 4),
]


@pytest.mark.parametrize(("options", "completed", "failed"), OPTIONS)
@pytest.mark.parametrize("does_fail", [False, True], ids=["completed", "failed"])
async def test_a_function_says_how_long_its_runs_are_kept(
    app: TaskFlow, options: dict[str, Any], completed: list[bool], failed: list[bool], does_fail: bool
) -> None:
    @app.function(trigger="job", **options)
    async def job(ctx: Context[Step]) -> None:
        if does_fail:
            raise NonRetriableError("no")

    async with Harness(app) as harness:
        run = (await harness.send("job")).run
        assert await kept_at(harness, run.id) == (failed if does_fail else completed)


@pytest.mark.parametrize("how", ["cancelled", "invoked"])
async def test_runs_that_end_otherwise_are_kept_as_long(app: TaskFlow, how: str) -> None:
    @app.function(trigger="job", keep="1h")
    async def job(ctx: Context[Step], step: Step) -> None:
        if how != "invoked":
            await step.wait_for_event("never", "never", timeout="30 days")

    @app.function
    async def parent(ctx: Context[Step], step: Step) -> None:
        await step.invoke("job", function=job)

    async with Harness(app) as harness:
        if how == "invoked":
            await harness.start(parent)
            (run,) = await harness.runs(job)
        else:
            run = (await harness.send("job")).run
            await app.run(run.id).acancel()
        assert await kept_at(harness, run.id) == [True, False, False, False]


async def test_skipped_runs_are_kept_as_long(app: TaskFlow) -> None:
    @app.function(trigger="job", keep="1h", rate_limit=RateLimit(1, "1h"))
    async def job(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        await harness.send("job")
        skipped = (await harness.send("job")).run
        assert (await skipped.astatus()).value == "skipped"
        assert await kept_at(harness, skipped.id) == [True, False, False, False]


async def test_the_runs_of_a_cron_and_reruns_are_kept_as_long(app: TaskFlow) -> None:
    @app.function(trigger=TriggerCron("0 0 1 1 *"), keep="1h")
    async def job(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        run = await harness.run(job)
        again = await app.arerun(run.id)
        await harness.settled()
        assert await kept_at(harness, again.id) == [True, False, False, False]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep": 0}, r"'shop/job': keep must be from 1 s to 366 d, got 0"),
        ({"keep_failed": "400d"}, r"'shop/job': keep_failed must be at most 1 year"),
        ({"keep": "soon"}, r"'shop/job': keep can't be read: 'soon'"),
    ],
)
def test_a_wrong_time_is_refused_by_name(make_app: MakeApp, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_app("shop").function(id="job", **options)(lambda ctx: None)
