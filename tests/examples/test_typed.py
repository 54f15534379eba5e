"""examples/typed.py on the real engine."""

from __future__ import annotations

import pytest

from taskflow import InvalidEvent
from taskflow.testing import Harness
from tests.examples.conftest import Load


async def test_a_payment_of_each_version_is_booked_and_a_wrong_one_refused(load_example: Load) -> None:
    example = load_example("typed")
    async with Harness(example.app) as harness:
        new = await harness.send(example.Payment(order_id="A-1", cents=1250))
        old = await harness.send("shop/payment", {"order_id": "A-2", "euros": 7.5}, v="1")
        assert [await new.aresult(), await old.aresult()] == ["12.50 EUR for A-1", "7.50 EUR for A-2"]
        assert len(await harness.runs(example.print_receipt)) == 2
        with pytest.raises(InvalidEvent, match="cents: Input should be greater than 0, got -1"):
            await harness.send("shop/payment", {"order_id": "A-3", "cents": -1})
