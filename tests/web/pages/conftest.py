"""Functions whose runs are shown: what fails again and again, has many steps, and has hostile texts."""

from __future__ import annotations

import pytest

from taskflow import Context, Step, TaskFlow
from taskflow.values.text import printable


@pytest.fixture
def shop(shop: TaskFlow) -> TaskFlow:
    @shop.function(trigger="shop/flaky", retries=1)
    async def flaky(ctx: Context[Step]) -> None:
        def fail() -> None:
            raise ValueError("declined")

        await ctx.step.run("charge", fail)

    @shop.function(trigger="shop/many")
    async def many(ctx: Context[Step]) -> None:
        for number in range(100):
            await ctx.step.run(f"item {number}", lambda: None)

    @shop.function(trigger="evil", retries=0)
    async def evil(ctx: Context[Step]) -> None:
        text = ctx.event.data["text"]
        await ctx.step.run(printable(text), lambda: {text: text})
        raise ValueError(text)

    return shop
