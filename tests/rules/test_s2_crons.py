"""S2.3: crons."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.step import Step
from taskflow.testing import Harness, VirtualClock
from taskflow.triggers import TriggerCron
from tests.rules.givens import record

pytestmark = pytest.mark.usefixtures("no_bugs")


def ms(text: str) -> int:
    """An ISO-8601 moment in ms since the epoch."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("cron", "start", "ticks"),
    [
        ("30 9 * * mon-fri", "2030-01-04T00:00:00Z",  # a Friday
         ["2030-01-04T09:30:00+00:00", "2030-01-07T09:30:00+00:00", "2030-01-08T09:30:00+00:00"]),
        ("*/20 30 9 1 * *", "2030-01-01T00:00:00Z",  # the second first
         ["2030-01-01T09:30:00+00:00", "2030-01-01T09:30:20+00:00", "2030-01-01T09:30:40+00:00"]),
        ("TZ=Europe/Paris 0 9 * * *", "2030-03-30T00:00:00Z",  # the clocks go forward on the 31st
         ["2030-03-30T08:00:00+00:00", "2030-03-31T07:00:00+00:00", "2030-04-01T07:00:00+00:00"]),
        ("TZ=America/New_York 15 0 0 29 2 *", "2030-01-01T00:00:00Z",  # a leap day, with seconds
         ["2032-02-29T05:00:15+00:00", "2036-02-29T05:00:15+00:00", "2040-02-29T05:00:15+00:00"]),
    ],
)  # fmt: skip
async def test_a_cron_starts_a_run_at_each_tick(
    app: TaskFlow, cron: str, start: str, ticks: list[str]
) -> None:
    """S2.3"""
    clock = VirtualClock(ms(start))
    got: list[tuple[str, Any, int]] = []

    @app.function(trigger=TriggerCron(cron))
    async def tick(ctx: Context[Step]) -> None:
        got.append((ctx.event.name, ctx.event.data, clock.now_ms()))

    async with Harness(app, clock=clock) as harness:
        await harness.advance(ms=ms(ticks[-1]) - clock.now_ms())
    expected = [("taskflow/scheduled.timer", {"cron": cron, "scheduled_at": at}, ms(at)) for at in ticks]
    assert got == expected


async def test_the_event_of_each_tick_has_the_data_of_its_trigger(app: TaskFlow) -> None:
    """S2.3"""
    got = record(app, TriggerCron("0 * * * *", data={"report": "sales", "days": [1, 2]}))
    async with Harness(app, clock=VirtualClock(ms("2030-01-01T00:30:00Z"))) as harness:
        await harness.advance(hours=1)
    assert [event.data for event in got] == [
        {"report": "sales", "days": [1, 2], "cron": "0 * * * *", "scheduled_at": "2030-01-01T01:00:00+00:00"}
    ]


async def test_a_jitter_delays_a_tick_by_less_than_itself_and_tells_the_tick(app: TaskFlow) -> None:
    """S2.3"""
    got = record(app, TriggerCron("0 * * * *", jitter="10m"))
    async with Harness(app, clock=VirtualClock(ms("2030-01-01T00:30:00Z"))) as harness:
        for hour in (1, 2, 3):
            await harness.advance(ms=ms(f"2030-01-01T0{hour}:00:00Z") - 1 - harness.clock.now_ms())
            assert len(got) == hour - 1
            await harness.advance(minutes=10)
            assert len(got) == hour
    assert [event.data["scheduled_at"] for event in got] == [
        f"2030-01-01T0{n}:00:00+00:00" for n in (1, 2, 3)
    ]
