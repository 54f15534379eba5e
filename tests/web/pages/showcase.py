"""A deployment to look at: runs in every state, of functions of every kind, as a small shop may have them."""

from __future__ import annotations

from taskflow import Context, RateLimit, Retries, Step, TaskFlow, TriggerCron
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock

SHOWN_MS = 12 * 60_000


def declare(app: TaskFlow, clock: VirtualClock) -> None:
    """The functions. Their steps take time by turning the clock."""

    @app.function(trigger="shop/order.created", retries=Retries(4, jitter=False))
    async def fulfil_order(ctx: Context[Step]) -> dict[str, object]:
        order = ctx.event.data

        def charge() -> dict[str, object]:
            clock.advance(ms=840)
            if order["id"] in ("A-1002", "A-1004") and ctx.run_id not in charged:
                charged.add(ctx.run_id)
                raise ConnectionError("the card processor gave no answer within 800 ms")
            return {"receipt": f"r-{order['id']}", "cents": order["cents"]}

        await ctx.step.run("reserve stock", takes, 320, {"shelf": 7, "items": order["items"]})
        await ctx.step.run("charge card", charge)
        if order["cents"] > 50_000:
            await ctx.step.wait_for_signal("approval", signal=f"approve {order['id']}", timeout="2d")
        await ctx.step.sleep("grace period", "45s")
        await ctx.step.run("print label", takes, 1_300, {"carrier": "post", "tracking": "00340434161094"})
        paid = await ctx.step.wait_for_event(
            "delivery", "shop/parcel.delivered", timeout="3d", match="data.id"
        )
        return {"order": order["id"], "delivered": paid is not None}

    charged: set[str] = set()

    def takes(ms: int, output: object) -> object:
        clock.advance(ms=ms)
        return output

    @app.function(trigger=TriggerCron("*/10 * * * *"), queue="reports")
    async def sales_report(ctx: Context[Step]) -> dict[str, int]:
        for page in range(1, 41):
            await ctx.step.run(f"page {page}", takes, 60 + page % 7 * 25, page)
        return {"pages": 40}

    @app.function(trigger="shop/stock.changed", retries=1)
    async def sync_stock(ctx: Context[Step]) -> None:
        def push() -> None:
            clock.advance(ms=450)
            raise PermissionError("the warehouse refused the token: it expired on Sunday")

        await ctx.step.run("push to warehouse", push)

    @app.function(trigger="shop/photo.added", queue="images")
    async def resize_photo(ctx: Context[Step]) -> str:
        return "done"

    @app.function(
        trigger="shop/customer.seen", rate_limit=RateLimit(limit=1, period="1h", key="event.data.customer")
    )
    async def greet_customer(ctx: Context[Step]) -> str:
        clock.advance(ms=25)
        return f"hello {ctx.event.data['customer']}"

    @app.function(trigger="shop/newsletter.due")
    async def send_newsletter(ctx: Context[Step]) -> str:
        return "sent"


async def play(app: TaskFlow, harness: Harness) -> dict[str, str]:
    """Some twelve minutes of the shop, up to the time when the harness was made and that long; gives runs by name."""
    control = app._link.control()
    orders = {}
    for number, cents in enumerate((4_250, 129_900, 1_990, 7_400), start=1001):
        sent = await harness.send(
            "shop/order.created", {"id": f"A-{number}", "cents": cents, "items": ["oolong", "cup"], "customer": "Ada Søndergård"}
        )  # fmt: skip
        orders[f"A-{number}"] = sent.id
        await harness.advance(seconds=20)
    for customer in ("ada", "ada", "grace"):
        await harness.send("shop/customer.seen", {"customer": customer})
    await harness.advance(minutes=8)
    broken = (await harness.send("shop/stock.changed", {"sku": "T-OOLONG", "count": 12})).id
    await harness.advance(minutes=2)
    await harness.send("shop/parcel.delivered", {"id": "A-1001"})
    await harness.send("shop/nobody.listens", {"note": "for the log"})
    await control.pause_queue("shop", "images")
    await harness.send("shop/photo.added", {"file": "cup.jpg"})
    await app.apause("shop/send-newsletter")
    await harness.settled()
    (report,) = (await harness.runs(app.functions["shop/sales-report"]))[:1]
    return {**orders, "broken": broken, "report": report.id}
