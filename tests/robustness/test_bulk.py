"""kill -9 of the beat that carries on a bulk operation: the next one goes on where it was, and each run counts once. Rule S14.6."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from taskflow import Run
from taskflow.runs.bulk import BulkAction, BulkRequest
from taskflow.values.ids import new_ulid
from tests.processes import wait_until
from tests.robustness.deployment import Deployment

pytestmark = pytest.mark.chaos

RUNS = 6_000


def test_a_bulk_operation_survives_the_beats_that_carry_it_on(deployment: Deployment) -> None:
    deployment.start_worker()
    app = deployment.app

    async def make() -> list[str]:
        # In a queue that nobody serves.
        runs: list[Run[Any]] = await asyncio.gather(
            *[app.ainvoke("robust/held", {}, queue="nobody") for _ in range(RUNS)]
        )
        return [run.id for run in runs]

    async def begin() -> str:
        control = app._control()
        request = BulkRequest.plan(
            BulkAction.CANCEL, None, reason="a test", who="a test", now_ms=control.clock.now_ms()
        )
        return (await control.start_bulk(new_ulid(request.created_ms), request)).id

    def told(name: str) -> str:
        value = cast(bytes | None, deployment.redis.hget(deployment.keys.bulk(bulk_id), name))
        return (value or b"").decode()

    def wait_for_more(than: int) -> None:
        wait_until(lambda: int(told("done")) > than, what="some of its runs")

    run_ids = app._link.block_on(make)
    bulk_id = app._link.block_on(begin)
    killed_at: list[int] = []
    for _ in range(2):
        before = int(told("done"))
        beat = deployment.start_beat(line="")
        wait_for_more(before)
        beat.kill()
        killed_at.append(int(told("done")))
    assert killed_at[0] < RUNS, "the first beat was killed too late to show anything"
    deployment.start_beat(line="")
    wait_until(lambda: told("status") == "completed", what="the end of the operation")
    assert [int(told(name)) for name in ("looked", "done", "failed")] == [RUNS, RUNS, 0]
    assert {run.status for run in deployment.runs(run_ids)} == {"cancelled"}
