"""The examples of pause and replay do what they say."""

from __future__ import annotations

import asyncio

import pytest

from taskflow.run import RunStatus
from taskflow.testing import Harness
from tests.examples.conftest import Load


async def test_pause_charges_afterwards_what_was_ordered_meanwhile(load_example: Load) -> None:
    example = load_example("flow.pause")
    async with Harness(example.app) as harness:
        await example.app.apause(example.charge)
        (event_id,) = await harness.send("order/placed", {"card": "4242", "cents": 1250})
        assert await (await harness.run_of(example.charge, event_id)).astatus() is RunStatus.SKIPPED
        assert await asyncio.to_thread(example.make_up_for_the_pause) == 1
        await harness.settled()
        results = [
            await run.aresult("2s")
            for run in await harness.runs(example.charge)
            if await run.astatus() is not RunStatus.SKIPPED
        ]
    assert results == ["charged 12.50 to 4242"]


async def test_replay_mends_orders_that_failed(load_example: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load_example("flow.replay")
    async with Harness(example.app) as harness:
        for name in ("one", "two"):
            await harness.send("order/placed", {"item": "oolong", "card": None}, id=name)
        failed = await harness.run_of(example.fulfil, "one")
        assert await failed.astatus() is RunStatus.FAILED
        rerun = await example.app.arerun(failed.id, from_step="charge", output="paid in cash")
        assert await rerun.aresult("2s") == "reserved oolong, paid in cash"
        monkeypatch.setattr(example, "charge_card", lambda card: "on the house")
        assert await example.app.areplay(example.fulfil, since="1h") == 1
        await harness.settled()
        statuses = [await run.astatus() for run in await harness.runs(example.fulfil)]
    assert sorted(statuses) == ["completed", "completed", "failed", "failed"]
