"""Throttle: mails start 200 ms apart, however many are wanted at once; the first three may go together.

taskflow dev -A examples.flow.throttle
taskflow send mail/wanted --data '{"to": "ada@example.com"}'
taskflow runs list
"""

from __future__ import annotations

from taskflow import Context, Step, TaskFlow, Throttle

app = TaskFlow("throttle-example")


@app.function(trigger="mail/wanted", throttle=Throttle(5, "1s", burst=3))
async def send_mail(ctx: Context[Step]) -> str:
    return f"sent to {ctx.event.data['to']} at {ctx.started_at:%H:%M:%S.%f}"
