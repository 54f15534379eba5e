"""S11.2: events whose data has a type."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from taskflow import (
    Batch,
    Cancel,
    Context,
    Event,
    EventModel,
    InvalidEvent,
    Middleware,
    NonRetriableError,
    Outcome,
    ReceivedEvent,
    RunFailed,
    RunSkipped,
    RunStatus,
    Singleton,
    Step,
    StepError,
    TaskFlow,
    TriggerCron,
    TriggerEvent,
    upgrade_from,
)
from taskflow.blocking_step import BlockingStep
from taskflow.errors import ConfigError
from taskflow.testing import Harness
from tests.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("no_bugs")


class Item(BaseModel):
    sku: str
    count: int = Field(gt=0)


class OrderCreated(EventModel, name="shop/order.created", v="3"):
    order_id: str
    items: list[Item]
    at: datetime | None = None

    @upgrade_from("2")
    @classmethod
    def from_v2(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"order_id": data["order_id"], "items": [{"sku": sku, "count": 1} for sku in data["skus"]]}

    @upgrade_from("1", to="2")
    @classmethod
    def from_v1(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"order_id": str(data["id"]), "skus": [data["sku"]]}


class OrderPaid(EventModel, name="shop/order.paid"):
    order_id: str
    cents: int


class OrderCancelled(EventModel, name="shop/order.cancelled"):
    order_id: str


ORDER = OrderCreated(order_id="A-1", items=[Item(sku="tea", count=2)])
ORDER_JSON = {"order_id": "A-1", "items": [{"sku": "tea", "count": 2}], "at": None}


# --- triggers and sending ---


async def test_a_model_is_a_trigger_is_sent_and_is_the_data_of_the_event(app: TaskFlow) -> None:
    seen: list[ReceivedEvent[OrderCreated]] = []

    @app.function(trigger=OrderCreated)
    async def fulfil(ctx: Context[Step, OrderCreated], step: Step) -> str:
        seen.append(ctx.event)
        await step.sleep("wait", "1h")
        return ctx.event.data.items[0].sku

    async with Harness(app) as harness:
        run = await harness.send(ORDER, id="order-A-1", headers={"tenant": "acme"})
        await harness.finish(run)
        assert await run.aresult() == "tea"
        view = await app.event("order-A-1").aview()
        assert (view.name, view.v, view.data, view.headers) == (
            "shop/order.created", "3", ORDER_JSON, {"tenant": "acme"}
        )  # fmt: skip
    # the second call of the handler is the replay after the sleep
    assert [event.data for event in seen] == [ORDER, ORDER]


async def test_models_and_events_are_sent_in_one_list(app: TaskFlow) -> None:
    seen: list[Any] = []

    @app.function(
        trigger=[
            OrderCreated,
            TriggerEvent(OrderPaid, "event.data.cents > 100"),
            "shop/*",
            TriggerCron("0 * * * *"),
        ]
    )
    async def listen(ctx: Context[Step, Any]) -> None:
        seen.append(ctx.event.data)

    paid, cheap = OrderPaid(order_id="A-1", cents=500), OrderPaid(order_id="A-2", cents=5)
    async with Harness(app) as harness:
        await harness.send([ORDER, Event.of(paid, id="paid"), cheap, Event("shop/other", {"n": 1})])
        # A pattern of the function takes the cheap one, whose trigger has the type all the same.
        assert seen == [ORDER, paid, cheap, {"n": 1}]
        await harness.advance(hours=1)
        assert sorted(seen[-1]) == ["cron", "scheduled_at"]


async def test_a_step_sends_models_and_a_wait_gives_one(app: TaskFlow) -> None:
    shipped: list[Any] = []

    @app.function(trigger=OrderCreated)
    async def fulfil(ctx: Context[Step, OrderCreated], step: Step) -> int:
        paid = await step.wait_for_event("paid", OrderPaid, timeout="7 days", match="data.order_id")
        if paid is None:
            return 0
        await step.send_event("cancel", OrderCancelled(order_id=paid.data.order_id))
        return paid.data.cents

    @app.function(trigger=OrderCancelled)
    def note(ctx: Context[BlockingStep, OrderCancelled], step: BlockingStep) -> None:
        step.send_event("tell", [OrderPaid(order_id="other", cents=1)])
        shipped.append(ctx.event.data)

    async with Harness(app) as harness:
        run = (await harness.send(ORDER)).run
        await harness.send([OrderPaid(order_id="A-2", cents=1), OrderPaid(order_id="A-1", cents=700)])
        assert await run.aresult() == 700
        assert shipped == [OrderCancelled(order_id="A-1")]
        never = (await harness.send(ORDER)).run
        await harness.finish(never)
        assert await never.aresult() == 0


async def test_a_wait_for_several_models_gives_the_one_that_came(app: TaskFlow) -> None:
    @app.function
    async def wait(ctx: Context[Step], step: Step) -> str:
        found = await step.wait_for_event("end", [OrderPaid, OrderCancelled], timeout="1h")
        assert found is not None
        return type(found.data).__name__

    @app.function
    def wait_blocking(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        found = step.wait_for_event("end", ["shop/nothing", OrderCancelled], timeout="1h")
        assert found is not None
        return type(found.data).__name__

    async with Harness(app) as harness:
        runs = [await harness.start(wait), await harness.start(wait_blocking)]
        await harness.send(OrderCancelled(order_id="A-1"))
        assert [await run.aresult() for run in runs] == ["OrderCancelled", "OrderCancelled"]


async def test_a_wait_whose_event_does_not_fit_fails_the_run_or_is_caught(
    app: TaskFlow, make_app: MakeApp
) -> None:
    @app.function
    async def wait(ctx: Context[Step], step: Step) -> str:
        try:
            await step.wait_for_event("paid", OrderPaid, timeout="1h")
        except InvalidEvent as error:
            return str(error)
        return ""

    async with Harness(app) as harness:
        run = await harness.start(wait)
        await harness.send("shop/order.paid", {"order_id": "A-1"})
        assert (
            await run.aresult()
            == "event 'shop/order.paid' does not fit OrderPaid (version 1): cents: Field required"
        )


async def test_a_model_names_the_event_that_cancels(app: TaskFlow) -> None:
    @app.function(trigger=OrderCreated, cancel=Cancel(OrderCancelled, match="data.order_id"))
    async def fulfil(ctx: Context[Step, OrderCreated], step: Step) -> None:
        await step.sleep("wait", "1h")

    async with Harness(app) as harness:
        run = (await harness.send(ORDER)).run
        await harness.send(OrderCancelled(order_id="A-1"))
        assert await run.astatus() is RunStatus.CANCELLED


async def test_the_events_of_a_batch_are_models(app: TaskFlow) -> None:
    seen: list[list[OrderPaid]] = []

    @app.function(trigger=OrderPaid, batch_events=Batch(3, "5s"))
    async def total(ctx: Context[Step, OrderPaid]) -> int:
        seen.append([event.data for event in ctx.events])
        return sum(event.data.cents for event in ctx.events)

    paid = [OrderPaid(order_id=str(n), cents=n) for n in range(3)]
    async with Harness(app) as harness:
        sent = await harness.send([*paid])
        assert await sent.runs[0].aresult() == 3
    assert seen == [paid]


# --- invokes ---


async def test_an_invoke_takes_a_model_or_data_that_fits_it(app: TaskFlow) -> None:
    @app.function(trigger=OrderPaid)
    async def receipt(ctx: Context[Step, OrderPaid]) -> int:
        return ctx.event.data.cents

    @app.function
    async def parent(ctx: Context[Step], step: Step) -> list[int]:
        paid = OrderPaid(order_id="A-1", cents=7)
        first = await step.invoke("model", function=receipt, data=paid)
        return [first, await step.invoke("data", function=receipt, data={"order_id": "A-1", "cents": 8})]

    async with Harness(app) as harness:
        assert await (await harness.run(parent)).aresult() == [7, 8]
        assert await (await receipt.ainvoke(OrderPaid(order_id="A-1", cents=9))).aresult() == 9
        assert await (await app.ainvoke(receipt, {"order_id": "A-1", "cents": 10})).aresult() == 10
        assert await (await harness.run(receipt, OrderPaid(order_id="A-1", cents=11))).aresult() == 11
        with pytest.raises(
            InvalidEvent, match="none of its events: .*does not fit OrderPaid .*cents: Field required"
        ):
            await receipt.ainvoke({"order_id": "A-1"})
        with pytest.raises(InvalidEvent, match="none of its events"):
            await receipt.ainvoke(OrderCancelled(order_id="A-1"))


async def test_an_invoke_by_a_step_that_does_not_fit_fails_the_step(app: TaskFlow) -> None:
    @app.function(trigger=OrderPaid)
    async def receipt(ctx: Context[Step, OrderPaid]) -> int:
        return ctx.event.data.cents

    @app.function
    async def parent(ctx: Context[Step], step: Step) -> str:
        try:
            await step.invoke("receipt", function=receipt, data={"order_id": "A-1"})
        except StepError as error:
            return f"{error.name}: {error.message}"
        return ""

    async with Harness(app) as harness:
        told = await (await harness.run(parent)).aresult()
    assert told.startswith("InvalidEvent: the data with which shop/receipt was invoked is none of its events")


async def test_what_an_invoke_gives_is_of_the_first_type_that_it_fits(app: TaskFlow) -> None:
    @app.function(trigger=[OrderPaid, OrderCancelled])
    async def either(ctx: Context[Step, OrderPaid | OrderCancelled]) -> str:
        return type(ctx.event.data).__name__

    @app.function(trigger=[OrderPaid, "shop/plain"])
    async def plain_too(ctx: Context[Step, Any]) -> str:
        return type(ctx.event.data).__name__

    async with Harness(app) as harness:
        assert await (await harness.run(either, {"order_id": "1", "cents": 1})).aresult() == "OrderPaid"
        assert await (await harness.run(either, {"order_id": "1"})).aresult() == "OrderCancelled"
        assert await (await harness.run(plain_too, {"order_id": "1"})).aresult() == "dict"


# --- the check in the sender ---


async def test_what_does_not_fit_is_refused_in_the_sender_and_nothing_is_published(app: TaskFlow) -> None:
    ran: list[str] = []

    @app.function(trigger=OrderCreated, events=[OrderPaid])
    async def fulfil(ctx: Context[Step, OrderCreated]) -> None:
        ran.append(ctx.run_id)

    with pytest.raises(ValidationError):
        OrderCreated(order_id=7, items=[])  # type: ignore[arg-type]
    broken = OrderCreated(order_id="A-1", items=[Item(sku="tea", count=2)])
    broken.items[0].count = -1
    broken.order_id = 7  # type: ignore[assignment]
    message = (
        "event 'shop/order.created' does not fit OrderCreated (version 3): order_id: Input should be a valid string, got 7; "
        "items[0].count: Input should be greater than 0, got -1"
    )
    async with Harness(app) as harness:
        with pytest.raises(InvalidEvent) as raised:
            await harness.send([ORDER, broken])
        assert str(raised.value) == message
        with pytest.raises(InvalidEvent, match="order_id: Field required; items: Field required"):
            await app.asend("shop/order.created", {"orders": 1})
        with pytest.raises(InvalidEvent, match="cents: Input should be a valid integer"):
            app.send([Event("shop/order.paid", {"order_id": "A-1", "cents": "many"})])
        await harness.settled()
        assert ran == []
        await app.asend("shop/order.created", ORDER_JSON)
        await harness.settled()
        (run,) = await harness.runs(fulfil)
        view = await run.aview()
    assert view.event is not None and view.event["v"] == "3"  # it was checked as that


async def test_a_step_that_sends_what_does_not_fit_fails_at_once(app: TaskFlow) -> None:
    @app.function(events=[OrderPaid])
    async def pay(ctx: Context[Step], step: Step) -> None:
        await step.send_event("paid", Event("shop/order.paid", {"cents": 1}))

    async with Harness(app) as harness:
        run = await harness.run(pay)
        with pytest.raises(RunFailed, match="does not fit OrderPaid"):
            await run.aresult()
        assert (await harness.view(run)).step("paid").attempts == 1


def test_arguments_that_a_model_has_already_are_refused(app: TaskFlow) -> None:
    with pytest.raises(TypeError, match="the model has the data, and its class the v"):
        app.send(ORDER, {"n": 1})
    with pytest.raises(TypeError, match="fields of Event"):
        app.send([ORDER], id="x")


async def test_strict_events_refuse_names_without_a_type(make_app: MakeApp) -> None:
    app = TaskFlow("strict", strict_events=True)

    @app.function(trigger=OrderCreated)
    async def fulfil(ctx: Context[Step, OrderCreated]) -> None: ...

    with pytest.raises(
        InvalidEvent, match=r"'shop/order.create' has no type.*did you mean 'shop/order.created'"
    ):
        app.send("shop/order.create", {})
    with pytest.raises(InvalidEvent, match="has no type, but strict_events allows none without"):
        await TaskFlow("bare", strict_events=True).asend("shop/order.created", {})
    with pytest.raises(ConfigError, match="strict_events must be True or False"):
        TaskFlow("strict", strict_events="perhaps")  # type: ignore[arg-type]


# --- the check on receipt ---


async def test_an_event_that_does_not_fit_fails_its_run_without_a_retry(
    app: TaskFlow, make_app: MakeApp
) -> None:
    failures: list[Any] = []

    async def on_failure(ctx: Context[Step]) -> None:
        failures.append(ctx.event.data["error"]["name"])

    @app.function(trigger=OrderCreated, on_failure=on_failure)
    async def fulfil(ctx: Context[Step, OrderCreated]) -> None:
        raise AssertionError("never called")

    sender = make_app("sender")
    async with Harness(app, sender) as harness:
        run = (await harness.send("shop/order.created", {"order_id": "A-1"}, app=sender)).run
        with pytest.raises(
            RunFailed, match="InvalidEvent: event 'shop/order.created' does not fit.*items: Field required"
        ):
            await run.aresult()
        view = await harness.view(run)
        assert (view.attempt, view.error and view.error.name) == (0, "InvalidEvent")
    assert failures == ["InvalidEvent"]


async def test_with_skip_the_run_is_skipped_and_the_event_says_why(app: TaskFlow, make_app: MakeApp) -> None:
    @app.function(trigger=OrderPaid, on_invalid="skip")
    async def fulfil(ctx: Context[Step, OrderPaid]) -> int:
        return ctx.event.data.cents

    sender = make_app("sender")
    async with Harness(app, sender) as harness:
        sent = await harness.send("shop/order.paid", {"order_id": "A-1"}, app=sender)
        view = await app.event(sent[0]).aview()
        reason = "event 'shop/order.paid' does not fit OrderPaid (version 1): cents: Field required"
        assert (dict(view.skipped), dict(view.started)) == ({fulfil.id: reason}, {})
        (run,) = await harness.runs(fulfil)
        with pytest.raises(RunSkipped, match="cents: Field required"):
            await run.aresult()
        assert await harness.store.history.dead_letters(limit=10) == []
        fits = await harness.send(OrderPaid(order_id="A-1", cents=5), app=sender)
        assert await fits.aresult() == 5


async def test_an_invoke_of_a_function_that_skips_fails_as_such(app: TaskFlow) -> None:
    @app.function(
        trigger=OrderPaid, on_invalid="skip", singleton=Singleton(key="event.data.order_id", mode="skip")
    )
    async def receipt(ctx: Context[Step, OrderPaid]) -> int:
        return ctx.event.data.cents

    @app.function
    async def parent(ctx: Context[Step], step: Step) -> list[Any]:
        try:
            await step.invoke("bad", function_id=receipt.id, data={"order_id": "A-1"})
        except StepError as error:
            assert "cents: Field required" in error.message
            # The run that was skipped does not hold the key of the singleton.
            good = {"order_id": "A-1", "cents": 1}
            return [error.name, await step.invoke("good", function_id=receipt.id, data=good)]
        return []

    async with Harness(app) as harness:
        assert await (await harness.run(parent)).aresult() == ["RunSkipped", 1]


async def test_with_dead_letter_the_event_is_kept_there_with_the_reason(
    app: TaskFlow, make_app: MakeApp
) -> None:
    @app.function(trigger=OrderPaid, on_invalid="dead_letter")
    async def fulfil(ctx: Context[Step, OrderPaid]) -> None: ...

    sender = make_app("sender")
    async with Harness(app, sender) as harness:
        sent = await harness.send(
            "shop/order.paid", {"order_id": "A-1"}, headers={"tenant": "acme"}, app=sender
        )
        (letter,) = await harness.store.history.dead_letters(limit=10)
        assert b"cents: Field required" in letter["reason"]
        assert b'"order_id":"A-1"' in letter["body"] and b'"tenant":"acme"' in letter["body"]
        assert list((await app.event(sent[0]).aview()).skipped) == [fulfil.id]


@pytest.mark.parametrize("on_invalid", ["skip", "dead_letter"])
async def test_a_batch_leaves_out_the_events_that_do_not_fit(
    app: TaskFlow, make_app: MakeApp, on_invalid: Any
) -> None:
    @app.function(trigger=OrderPaid, batch_events=Batch(3, "5s"), on_invalid=on_invalid)
    async def total(ctx: Context[Step, OrderPaid], step: Step) -> list[int]:
        await step.sleep("wait", "1h")
        return [ctx.event.data.cents, *[event.data.cents for event in ctx.events]]

    sender = make_app("sender")
    good = {"order_id": "A-1", "cents": 1}
    async with Harness(app, sender) as harness:
        sent = await harness.send(
            [Event("shop/order.paid", data) for data in ({}, good, {"cents": 2})], app=sender
        )
        (run,) = await harness.runs(total)
        await harness.finish(run)
        assert await run.aresult() == [1, 1]
        letters = await harness.store.history.dead_letters(limit=10)
        assert len(letters) == (2 if on_invalid == "dead_letter" else 0)
        views = [await app.event(event_id).aview() for event_id in sent]
        assert [list(view.skipped) for view in views] == [[total.id], [], [total.id]]
        none = await harness.send([Event("shop/order.paid", {}) for _ in range(3)], app=sender)
        assert list((await app.event(none[2]).aview()).skipped) == [total.id]
        assert (await harness.runs(total))[-1].id != run.id
        assert await (await harness.runs(total))[-1].astatus() is RunStatus.SKIPPED


async def test_a_run_that_has_begun_fails_when_its_event_fits_no_more(
    app: TaskFlow, make_app: MakeApp
) -> None:
    new_code = False

    class Changing(EventModel, name="shop/changing"):
        n: int

        @upgrade_from("0")
        @classmethod
        def from_v0(cls, data: dict[str, Any]) -> dict[str, Any]:
            if new_code:
                raise LookupError("it has no n")
            return {"n": 1}

    @app.function(trigger=Changing, on_invalid="skip")
    async def work(ctx: Context[Step, Changing], step: Step) -> None:
        await step.sleep("wait", "1h")

    async with Harness(app) as harness:
        run = (await harness.send("shop/changing", {}, v="0")).run
        new_code = True
        await harness.advance(hours=1)
        with pytest.raises(RunFailed, match="from_v0 failed: LookupError: it has no n"):
            await run.aresult()


# --- versions ---


@pytest.mark.parametrize(
    ("v", "data"),
    [
        ("1", {"id": 7, "sku": "tea"}),
        ("2", {"order_id": "7", "skus": ["tea"]}),
        ("3", {"order_id": "7", "items": [{"sku": "tea", "count": 1}]}),
        (None, {"order_id": "7", "items": [{"sku": "tea", "count": 1}]}),
    ],
)
async def test_older_versions_are_read(
    app: TaskFlow, make_app: MakeApp, v: str | None, data: dict[str, Any]
) -> None:
    seen: list[OrderCreated] = []

    @app.function(trigger=OrderCreated)
    async def fulfil(ctx: Context[Step, OrderCreated]) -> None:
        seen.append(ctx.event.data)

    sender = make_app("sender")
    async with Harness(app, sender) as harness:
        await harness.send("shop/order.created", data, v=v, app=sender)
        await harness.send("shop/order.created", data, v=v)
    assert seen == [OrderCreated(order_id="7", items=[Item(sku="tea", count=1)])] * 2


async def test_a_version_that_nothing_reads_is_told(app: TaskFlow, make_app: MakeApp) -> None:
    @app.function(trigger=OrderCreated)
    async def fulfil(ctx: Context[Step, OrderCreated]) -> None: ...

    sender = make_app("sender")
    async with Harness(app, sender) as harness:
        run = (await harness.send("shop/order.created", ORDER_JSON, v="4", app=sender)).run
        with pytest.raises(
            RunFailed, match=r"has version '4', but .*OrderCreated reads version '3' and, by upgrades, 2, 1"
        ):
            await run.aresult()


def test_upgrades_must_lead_to_the_present_version() -> None:
    with pytest.raises(
        ConfigError, match=r"@upgrade_from\('1'\) leads to version '2', but must lead to version '3'"
    ):

        class Gap(EventModel, name="shop/gap", v="3"):
            @upgrade_from("1", to="2")
            @classmethod
            def from_v1(cls, data: dict[str, Any]) -> dict[str, Any]:
                return data

    with pytest.raises(ConfigError, match=r"must stand above @classmethod"):

        class Plain(EventModel, name="shop/plain"):
            @upgrade_from("1")
            def from_v1(self, data: dict[str, Any]) -> dict[str, Any]:
                return data


async def test_an_upgrade_that_returns_no_dict_is_told(app: TaskFlow) -> None:
    class Odd(EventModel, name="shop/odd", v="2"):
        @upgrade_from("1")
        @classmethod
        def from_v1(cls, data: dict[str, Any]) -> Any:
            return [data]

    @app.function(trigger=Odd)
    async def work(ctx: Context[Step, Odd]) -> None: ...

    with pytest.raises(InvalidEvent, match="from_v1 must return a dict, but returned a list"):
        await app.asend("shop/odd", {}, v="1")


# --- definition ---


def test_two_models_of_one_name_are_refused_with_both_places(app: TaskFlow) -> None:
    class Other(EventModel, name="shop/order.paid"):
        amount: float

    @app.function(trigger=OrderPaid)
    async def fulfil(ctx: Context[Step, OrderPaid]) -> None: ...

    with pytest.raises(
        ConfigError,
        match=r"shop/other.*'shop/order.paid' has two types.*\.OrderPaid \(version 1\) and .*\.Other",
    ):

        @app.function(events=[Other])
        async def other(ctx: Context[Step]) -> None: ...


@pytest.mark.parametrize("name", ["", "shop/*", "taskflow/function.failed", "x" * 257])
def test_a_name_that_no_event_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="Wrong"):

        class Wrong(EventModel, name=name): ...


def test_a_base_without_a_name_shares_its_fields_and_is_no_event(app: TaskFlow) -> None:
    class Base(EventModel):
        order_id: str

    class Child(Base, name="shop/child"):
        n: int

    assert set(Child.model_fields) == {"order_id", "n"}
    with pytest.raises(ConfigError, match="Base is no event yet: give it a name"):
        app.function(trigger=Base)(lambda_free)
    with pytest.raises(ConfigError, match="Base is no event yet"):
        app.send(Base(order_id="1"))


def lambda_free(ctx: Context[Step]) -> None: ...


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"on_invalid": "drop"}, "on_invalid must be one of"),
        ({"events": ["shop/order.paid"]}, "events must be a list of EventModels"),
        ({"trigger": Item}, "a trigger must be an event name, EventModel"),
    ],
)
def test_options_that_are_wrong_are_told(app: TaskFlow, options: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"function 'shop/lambda-free': {reason}"):
        app.function(**options)(lambda_free)


async def test_the_schemas_stand_in_the_manifest_and_a_function_without_types_has_none(app: TaskFlow) -> None:
    @app.function(trigger=OrderPaid, events=[OrderCancelled, OrderPaid], on_invalid="skip")
    async def typed(ctx: Context[Step, OrderPaid]) -> None: ...

    @app.function(trigger="shop/plain")
    async def plain(ctx: Context[Step]) -> None: ...

    manifest = typed.spec.manifest()
    assert [(each["name"], each["v"]) for each in manifest["events"]] == [
        ("shop/order.paid", "1"), ("shop/order.cancelled", "1")
    ]  # fmt: skip
    assert manifest["events"][0]["schema"] == OrderPaid.model_json_schema()
    assert {"events", "on_invalid", "event_types"} & plain.spec.manifest().keys() == set()
    read = typed.spec.from_manifest(manifest)
    assert read.events is not None and read.events[0].schema == OrderPaid.model_json_schema()
    assert read.on_invalid == "skip"


async def test_user_code_may_raise_nonretriable_in_a_validator_as_elsewhere(app: TaskFlow) -> None:
    class Picky(EventModel, name="shop/picky"):
        n: int

        def model_post_init(self, context: Any) -> None:
            if self.n < 0:
                raise NonRetriableError("n is negative")

    @app.function(trigger=Picky)
    async def work(ctx: Context[Step, Picky]) -> int:
        return ctx.event.data.n

    async with Harness(app) as harness:
        with pytest.raises(NonRetriableError, match="n is negative"):
            await harness.send("shop/picky", {"n": -1})
        assert await (await harness.send(Picky(n=1))).aresult() == 1


# --- together with middleware ---


class Unwraps(Middleware):
    """Data travels inside of "box"; the model is of what is in it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def wrap_send(self, events: Any, send: Any) -> Any:
        return await send([dataclasses.replace(event, data={"box": event.data}) for event in events])

    def transform_event(self, event: ReceivedEvent[Any]) -> ReceivedEvent[Any]:
        return dataclasses.replace(event, data=event.data["box"])

    def on_run_end(self, run: Any, outcome: Outcome) -> None:
        self.told.append(f"{outcome.status} {type(outcome.error).__name__}")


async def test_a_model_is_checked_before_middleware_sends_and_after_it_transforms(
    app: TaskFlow, make_app: MakeApp
) -> None:
    unwraps = Unwraps()

    @app.function(trigger=OrderPaid, middleware=[unwraps], on_invalid="skip")
    async def total(ctx: Context[Step, OrderPaid], step: Step) -> int:
        await step.send_event("next", OrderCancelled(order_id=ctx.event.data.order_id))
        found = await step.wait_for_event("end", OrderCancelled, timeout="1h", lookback="1h")
        assert found is not None and found.data.order_id == "A-1"
        return ctx.event.data.cents

    sender = make_app("sender")
    async with Harness(app, sender) as harness:
        good = await harness.send("shop/order.paid", {"box": {"order_id": "A-1", "cents": 3}}, app=sender)
        assert await good.aresult() == 3
        bad = await harness.send("shop/order.paid", {"box": {"order_id": "A-1"}}, app=sender)
        assert "cents: Field required" in (await app.event(bad[0]).aview()).skipped[total.id]
    assert unwraps.told == ["completed NoneType", "skipped InvalidEvent"]
