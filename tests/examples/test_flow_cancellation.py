"""The example of cancellation does what it says."""

from __future__ import annotations

from taskflow import Event
from taskflow.testing import Harness
from tests.examples.conftest import Load


async def test_a_cart_that_is_bought_is_not_reminded_of(load_example: Load) -> None:
    example = load_example("flow.cancellation")
    async with Harness(example.app) as harness:
        carts = [{"cart": number, "user": user} for number, user in enumerate(("ann", "bob", "cat"))]
        await harness.send([Event("cart/left", cart) for cart in carts])
        (bought,) = await harness.send("cart/bought", {"cart": 0})
        assert await example.app.acancel_runs(example.remind, if_exp='event.data.user == "bob"') == 1
        await harness.settled()
        told = sorted([await run.aresult() for run in await harness.runs(example.count)])
        assert told == ["cancelled in bulk", f"event cart/bought came: {bought}"]
        await harness.advance(hours=23)
        assert [str(await run.astatus()) for run in await harness.runs(example.remind)].count(
            "cancelled"
        ) == 2
        await harness.advance(hours=1)
        assert await (await harness.runs(example.remind))[-1].aresult() == "reminded cat"
