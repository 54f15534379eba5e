"""examples/wait.py and examples/signal.py on the real engine."""

from __future__ import annotations

import asyncio

from taskflow.testing import Harness
from tests.examples.conftest import Load


async def test_a_table_is_kept_whether_the_guest_confirms_before_or_after(load_example: Load) -> None:
    example = load_example("wait")
    async with Harness(example.app) as harness:
        await harness.send("table/confirmed", {"booking": 1, "guests": 2})
        for booking in (1, 2, 3, 4):
            await harness.send("table/booked", {"booking": booking, "guest": "ada"})
        await harness.send("table/confirmed", {"booking": 2, "guests": 3})
        await harness.send("table/cancelled", {"booking": 3})
        *answered, silent = await harness.runs(example.book)
        outputs = [await run.aresult("1s") for run in answered]
        assert outputs == [{"kept": True, "guests": 2}, {"kept": True, "guests": 3}, {"kept": False}]
        await harness.advance(days=2)
        assert await silent.aresult("1s") == {"kept": False}


async def test_an_expense_is_approved_once(load_example: Load) -> None:
    example = load_example("signal")
    async with Harness(example.app) as harness:
        await harness.send("expense/claimed", {"claim": 7})
        assert await asyncio.to_thread(example.answer, 7, by="ada", ok=True) is True
        assert await asyncio.to_thread(example.answer, 7, by="bob", ok=False) is False
        await harness.send("expense/claimed", {"claim": 8})
        approved, forgotten = await harness.runs(example.approve)
        assert await approved.aresult("1s") == "paid by ada"
        await harness.advance(days=7)
        assert await forgotten.aresult("1s") == "nobody looked at it"
