"""The functions of the app whose site is tested: one with a step and a wait, one that fails, one without a trigger."""

from __future__ import annotations

from taskflow import Context, Step, TaskFlow


def declare(app: TaskFlow) -> None:
    @app.function(trigger="shop/order")
    async def fulfil(ctx: Context[Step]) -> str:
        await ctx.step.run("reserve", lambda: "shelf 7")
        if ctx.event.data.get("waits"):
            await ctx.step.wait_for_signal("approval", signal="approve", timeout="1h")
        return f"sent {ctx.event.data.get('sku')}"

    @app.function(trigger="shop/broken", retries=0)
    async def broken(ctx: Context[Step]) -> None:
        raise ValueError("no stock")

    @app.function(queue="mail")
    async def post(ctx: Context[Step]) -> str:
        return "posted"
