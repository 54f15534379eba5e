"""A free trial, to be tested: `test_trial.py` beside it shows how.

It greets, lets 30 days go by, asks another app what the customer is worth, charges, and ends the trial if nobody can pay.
"""

from __future__ import annotations

from taskflow import Context, Retries, Step, StepError, TaskFlow

app = TaskFlow("trials")


@app.function(trigger="user/signed.up", retries=Retries(3, initial="1m", jitter=False))
async def trial(ctx: Context[Step], step: Step) -> dict[str, object]:
    """30 days for nothing, then a charge."""
    user = ctx.event.data
    await step.run("greet", send_mail, user["email"], "welcome")
    stopped = await step.wait_for_event("stopped", "user/stopped", timeout="30 days", match="data.id")
    if stopped is not None:
        return {"ended": "by the user"}
    price = await step.invoke("price", function_id="pricing/quote", data={"user": user["id"]})
    try:
        receipt = await step.run("charge", charge, user["id"], price["cents"])
    except StepError:
        await step.run("say goodbye", send_mail, user["email"], "goodbye")
        return {"ended": "by the bank"}
    return {"receipt": receipt}


def send_mail(address: str, text: str) -> None:
    """Stands for a mail server, which a test must not reach."""
    raise ConnectionError(f"no mail server for {text!r} to {address}")


async def charge(user_id: int, cents: int) -> str:
    """Stands for a bank."""
    raise ConnectionError(f"no bank to take {cents} cents of user {user_id}")
