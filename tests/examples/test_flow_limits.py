"""The examples of concurrency, throttle and priority do what they say."""

from __future__ import annotations

import pytest

from taskflow import Event
from taskflow.testing import Harness
from tests.examples.conftest import Load


async def test_concurrency_writes_all_reports(load_example: Load) -> None:
    example = load_example("flow.concurrency")
    async with Harness(example.app) as harness:
        await harness.send("report/wanted", {"customer": "acme", "count": 6})
        runs = await harness.runs(example.write_report)
        assert sorted([await run.aresult() for run in runs]) == [f"report {n}" for n in range(6)]


async def test_throttle_lets_three_go_together_and_then_one_each_200_ms(load_example: Load) -> None:
    example = load_example("flow.throttle")
    async with Harness(example.app) as harness:
        await harness.send([Event("mail/wanted", {"to": f"{n}@example.com"}) for n in range(5)])
        await harness.advance(seconds=1)
        told = sorted(
            [await run.aresult() for run in await harness.runs(example.send_mail)], key=lambda t: t[-15:]
        )
        assert [text[-9:-3] for text in told] == ["00.000", "00.000", "00.000", "00.200", "00.400"]


async def test_priority_lets_paid_reports_go_first(
    load_example: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load_example("flow.priority")
    order: list[str] = []
    write = example.write

    async def noted(customer: str) -> str:
        order.append(customer)
        return str(await write(customer))

    monkeypatch.setattr(example, "write", noted)
    async with Harness(example.app) as harness:
        plans = ["free"] * 5 + ["paid"]
        events = [Event("report/wanted", {"customer": f"c{n}", "plan": plan}) for n, plan in enumerate(plans)]
        await harness.send(events)
        assert len(order) == len(plans)
        assert order.index("c5") <= 1, "only the first had a slot before it came"
