"""A table that is booked: it is kept until the guest confirms, or given away.

The confirmation may come before the run waits for it, as a guest may click while the mail is still being sent: `lookback`
finds it. Start it in one terminal:

    taskflow dev -A examples.wait

and book and confirm in another, in either order:

    taskflow send table/booked --data '{"booking": 7, "guest": "ada"}'
    taskflow send table/confirmed --data '{"booking": 7, "guests": 4}'
"""

from __future__ import annotations

from typing import Any

from taskflow import Context, Step, TaskFlow

app = TaskFlow("tables-to-book")


@app.function(trigger="table/booked")
async def book(ctx: Context[Step], step: Step) -> dict[str, Any]:
    """Ask the guest, and wait for whatever comes first."""
    await step.run("ask", ask, ctx.event.data["guest"])
    answer = await step.wait_for_event(
        "answer",
        ["table/confirmed", "table/cancelled"],
        timeout="2 days",
        match="data.booking",
        lookback="1h",
    )
    if answer is None or answer.name == "table/cancelled":
        return {"kept": False}
    return {"kept": True, "guests": answer.data["guests"]}


def ask(guest: str) -> str:
    """Stands for a mail."""
    return f"{guest}, do you come?"
