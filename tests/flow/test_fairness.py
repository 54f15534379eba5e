"""S7.11: keys with a backlog are served in turn."""

from __future__ import annotations

import pytest

from taskflow import Concurrency, Context, Event, Step, TaskFlow
from taskflow.testing import Harness

pytestmark = pytest.mark.usefixtures("no_bugs")

BACKLOG = 1_000


async def test_one_keys_backlog_does_not_hold_up_another_keys_first_run(app: TaskFlow) -> None:
    """One slot, and A's limit is far off: only turns keep A from taking it again and again."""
    order: list[str] = []

    @app.function(trigger="job", concurrency=Concurrency(100, key="event.data.tenant"))
    async def job(ctx: Context[Step]) -> None:
        order.append(ctx.event.data["tenant"])
        if len(order) == 10:
            await app.asend(Event("job", {"tenant": "B"}))

    async with Harness(app, concurrency=1, deadline_s=30) as harness:
        await harness.send([Event("job", {"tenant": "A"}) for _ in range(BACKLOG)])
    assert order.count("A") == BACKLOG
    assert order.index("B") < 100


async def test_keys_with_a_backlog_alternate(app: TaskFlow) -> None:
    order: list[str] = []

    @app.function(trigger="job", concurrency=Concurrency(1, key="event.data.tenant"))
    async def job(ctx: Context[Step]) -> None:
        order.append(ctx.event.data["tenant"])

    tenants = ["A"] * 50 + ["B"] * 50 + ["C"] * 50
    async with Harness(app, concurrency=1, deadline_s=30) as harness:
        await harness.send([Event("job", {"tenant": tenant}) for tenant in tenants])
    for start in range(10, 140, 30):
        part = order[start : start + 30]
        assert set(part) == {"A", "B", "C"}, f"runs {start} to {start + 30}: {part}"
