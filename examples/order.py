"""An order, from the shelf to the thank-you mail, as one durable function.

It shows steps, two of them side by side, a step that fails and is tried again, a wait for an event, a sleep, and what
happens when the event never comes. Start it in one terminal:

    taskflow dev -A examples.order

and order something in another. The order waits for its parcel some two seconds later; then let that leave:

    taskflow send shop/order.created --data '{"order_id": "A-1", "item": "oolong", "cents": 1250, "email": "ada@example.org"}'
    taskflow send shop/order.shipped --data '{"order_id": "A-1"}'

`taskflow runs list` shows the run, and the mail lies in the maildir `.taskflow/shop/mail/sent` at the end. Kill the
worker on the way, with -9 if you like: the order goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import mailbox
import os
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from taskflow import Context, Retries, Step, TaskFlow

app = TaskFlow("shop")

UNPACKING_TIME = "2s"  # "3 days" in a shop that isn't an example: a sleep of any length costs nothing


@app.function(trigger="shop/order.created", retries=Retries(4, initial="1s", jitter=False))
async def fulfil_order(ctx: Context[Step], step: Step) -> dict[str, Any]:
    """Reserve, charge, wait until the parcel has left, and say thank you."""
    order = ctx.event.data
    order_id = order["order_id"]
    await step.run("reserve", reserve, order_id, order["item"])
    receipt, invoice = await asyncio.gather(
        step.run("charge", charge, order_id, order["cents"]),
        step.run("write invoice", write_invoice, order_id, order["cents"]),
    )
    shipped = await step.wait_for_event(
        "parcel leaves", "shop/order.shipped", timeout="7 days", match="data.order_id"
    )
    if shipped is None:
        await step.run("refund", refund, order_id)
        await step.run("release", release, order_id)
        return {"status": "refunded"}
    ctx.logger.info("order %s is on its way", order_id)
    await step.sleep("let it arrive", UNPACKING_TIME)
    mail = await step.run("say thank you", send_thanks, order_id, order["email"])
    return {"status": "shipped", "receipt": receipt, "invoice": invoice, "mail": mail}


# The steps. Each may run again after a crash, so each is safe to repeat: the order's id is what makes it so.


def reserve(order_id: str, item: str) -> None:
    """Put a slip with the order's number on the shelf."""
    (folder("shelf") / order_id).write_text(item)


def release(order_id: str) -> None:
    (folder("shelf") / order_id).unlink(missing_ok=True)


def charge(order_id: str, cents: int) -> str:
    """The bank takes the money, but its first answer gets lost, so nobody knows, and the step is tried again.

    It gets the order's id along, as every good payment API does, and takes the money once.
    """
    try:
        with (folder("bank") / f"{order_id}.json").open("x") as entry:
            json.dump({"order_id": order_id, "cents": cents}, entry)
    except FileExistsError:
        return f"receipt for {order_id}"
    raise ConnectionError("the bank hung up before it answered")


def refund(order_id: str) -> None:
    (folder("bank") / f"{order_id}.json").unlink(missing_ok=True)


async def write_invoice(order_id: str, cents: int) -> str:
    """Slow, and in no way urgent: it goes on beside the charge."""
    await asyncio.sleep(0.2)
    path = folder("invoices") / f"{order_id}.txt"
    path.write_text(f"Invoice {order_id}: {cents / 100:.2f}\n")
    return path.name


def send_thanks(order_id: str, email: str) -> str:
    """Deliver the mail to the maildir; its Message-ID tells whether that has happened before."""
    mails = mailbox.Maildir(folder("mail") / "sent")
    message_id = f"<thanks-{order_id}@shop.example>"
    if not any(mail["Message-ID"] == message_id for mail in mails):
        message = EmailMessage()
        message["Message-ID"] = message_id
        message["To"] = email
        message["Subject"] = f"Your order {order_id}"
        message.set_content("Thank you! We hope that it arrived in one piece.\n")
        mails.add(message)
    return message_id


def folder(name: str) -> Path:
    """Where the shop keeps its papers; SHOP_FOLDER names another place."""
    path = Path(os.environ.get("SHOP_FOLDER", ".taskflow/shop")) / name
    path.mkdir(parents=True, exist_ok=True)
    return path
