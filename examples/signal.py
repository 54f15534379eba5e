"""An expense that somebody approves: one run waits for one signal, and whoever sends it learns whether a run was waiting.

Start it in one terminal:

    taskflow dev -A examples.signal

and claim and approve in another:

    taskflow send expense/claimed --data '{"claim": 7, "cents": 1250}'
    taskflow signal approve-7 --data '{"by": "ada", "ok": true}'
"""

from __future__ import annotations

from taskflow import Context, Step, TaskFlow

app = TaskFlow("expenses")


@app.function(trigger="expense/claimed")
async def approve(ctx: Context[Step], step: Step) -> str:
    """Wait for the approval; a claim that is handed in again takes the place of the first."""
    name = f"approve-{ctx.event.data['claim']}"
    approval = await step.wait_for_signal("approval", name, timeout="7 days", on_conflict="replace")
    if approval is None:
        return "nobody looked at it"
    return f"{'paid' if approval.data['ok'] else 'refused'} by {approval.data['by']}"


def answer(claim: int, *, by: str, ok: bool) -> bool:
    """What a web page calls when somebody has pressed a button; False when the claim is not to be approved any more."""
    return app.send_signal(f"approve-{claim}", {"by": by, "ok": ok})
