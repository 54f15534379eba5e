"""Pause: the shop stops charging cards for a while; what is ordered meanwhile is charged afterwards.

taskflow dev -A examples.flow.pause
taskflow pause pause-example/charge
taskflow send order/placed --data '{"card": "4242", "cents": 1250}'
taskflow resume pause-example/charge --replay-skipped
taskflow runs list
"""

from __future__ import annotations

from taskflow import Context, Step, TaskFlow

app = TaskFlow("pause-example")


@app.function(trigger="order/placed")
async def charge(ctx: Context[Step], step: Step) -> str:
    return await step.run("charge", charge_card, ctx.event.data["card"], ctx.event.data["cents"])


def charge_card(card: str, cents: int) -> str:
    return f"charged {cents / 100:.2f} to {card}"


def make_up_for_the_pause() -> int:
    """What `taskflow resume --replay-skipped` does, from code."""
    app.resume(charge)
    return app.replay(charge, since="1d", status=["skipped"])
