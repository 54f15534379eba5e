"""Functions whose runs are shown: what fails again and again, has many steps, waits for an event, and has hostile texts."""

from __future__ import annotations

from taskflow import Context, Step, TaskFlow
from taskflow.values.text import printable


def declare_shown(app: TaskFlow) -> None:
    @app.function(trigger="shop/flaky", retries=1)
    async def flaky(ctx: Context[Step]) -> None:
        def fail() -> None:
            raise ValueError("declined")

        await ctx.step.run("charge", fail)

    @app.function(trigger="shop/many")
    async def many(ctx: Context[Step]) -> None:
        for number in range(100):
            await ctx.step.run(f"item {number}", lambda: None)

    @app.function(trigger="shop/parcel")
    async def parcel(ctx: Context[Step]) -> None:
        await ctx.step.wait_for_event("delivery", "shop/it's there", timeout="1h", match="data.parcel.id")

    @app.function(trigger="evil", retries=0)
    async def evil(ctx: Context[Step]) -> None:
        text = ctx.event.data["text"]
        await ctx.step.run(printable(text), lambda: {text: text})
        raise ValueError(text)
