"""Replay: a fault made orders fail; once it is mended, they run anew from the step that failed, or all of them at once.

taskflow dev -A examples.flow.replay
taskflow send order/placed --data '{"item": "oolong", "card": "4242"}'
taskflow send order/placed --data '{"item": "oolong", "card": null}'
taskflow runs list --status failed
taskflow runs rerun RUN_ID --from-step charge --output '"paid in cash"'
taskflow replay replay-example/fulfil --since 1h --status failed
"""

from __future__ import annotations

from taskflow import Context, NonRetriableError, Step, TaskFlow

app = TaskFlow("replay-example")


@app.function(trigger="order/placed")
async def fulfil(ctx: Context[Step], step: Step) -> str:
    order = ctx.event.data
    reserved = await step.run("reserve", lambda: f"reserved {order['item']}")
    paid = await step.run("charge", charge_card, order["card"])
    return f"{reserved}, {paid}"


def charge_card(card: str | None) -> str:
    if card is None:
        raise NonRetriableError("no card")
    return f"charged {card}"
