"""S2.1, S2.2, S2.4: functions, the events that trigger them, and what they get."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import ConfigError
from taskflow.event import Event, ReceivedEvent
from taskflow.function import Function
from taskflow.function_options import FunctionOptions, build_spec
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.triggers import Trigger, TriggerCron, TriggerEvent
from tests.conftest import MakeApp
from tests.rules.givens import record

pytestmark = pytest.mark.usefixtures("no_bugs")


# --- S2.1 ---


def test_the_id_is_the_handlers_name_with_hyphens_in_its_app(app: TaskFlow) -> None:
    """S2.1"""

    @app.function()
    async def send_the_receipt(ctx: Context[Step]) -> None: ...

    @app.function(id="own-id", name="For humans")
    async def other(ctx: Context[Step]) -> None: ...

    assert send_the_receipt.id == "shop/send-the-receipt"
    assert send_the_receipt.spec.name == "send-the-receipt"
    assert other.id == "shop/own-id"
    assert other.spec.name == "For humans"
    assert isinstance(other, Function)


def test_ids_are_unique_in_an_app_but_not_among_apps(make_app: MakeApp) -> None:
    """S2.1, S2.5"""
    shop, risk = make_app("shop"), make_app("risk")

    def score(ctx: Context[BlockingStep]) -> None: ...

    shop.function()(score)
    risk.function()(score)
    with pytest.raises(
        ConfigError,
        match=r"function 'shop/score' exists already, as .*score; give .* @app.function\(id='...'\)",
    ):
        shop.function()(score)


def test_options_are_keyword_only(app: TaskFlow) -> None:
    """S2.1"""
    with pytest.raises(
        TypeError, match=r"takes keywords only, got 'shop/paid'; .*trigger='shop/order.created'"
    ):
        app.function("shop/paid")  # type: ignore[call-overload]


async def test_a_decorator_without_parentheses_makes_a_function_that_can_be_invoked(app: TaskFlow) -> None:
    """S2.1, S2.2"""

    @app.function
    async def half(ctx: Context[Step]) -> float:
        return float(ctx.event.data["n"]) / 2

    assert isinstance(half, Function)
    assert (half.id, half.spec.triggers) == ("shop/half", ())
    async with Harness(app):
        assert await (await half.ainvoke({"n": 3})).aresult() == 1.5


def test_an_option_that_does_not_exist_is_refused_with_the_one_that_was_meant(app: TaskFlow) -> None:
    """S2.5"""
    with pytest.raises(
        TypeError, match=r"@app.function\(\) has no keyword 'triger'; did you mean 'trigger'\?"
    ):
        app.function(triger="shop/paid")(print)  # type: ignore[call-overload]
    with pytest.raises(
        TypeError, match=r"has no keyword 'x'\. There are batch_events, cancel, concurrency, "
    ):
        app.function(x=1)(print)  # type: ignore[call-overload]
    assert app.functions == {}


def test_an_option_that_is_none_counts_as_left_out(app: TaskFlow) -> None:
    """S2.5"""

    def score(ctx: Context[BlockingStep]) -> None: ...

    options: FunctionOptions = {}
    for option in FunctionOptions.__optional_keys__:
        options[option] = None  # type: ignore[literal-required]
    assert app.function(**options)(score).spec == build_spec(score, app_id="shop")


async def test_a_decorated_handler_can_be_called_as_the_plain_handler(app: TaskFlow) -> None:
    """S2.1"""

    @app.function(trigger="a")
    async def double(ctx: Context[Any]) -> int:
        """Doubles."""
        return 2 * int(ctx.event.data["n"])

    @app.function(trigger="a")
    def triple(ctx: Context[Any], step: Any) -> int:
        return 3 * int(step.run("n", lambda: ctx.event.data["n"]))

    class FakeStep:
        def run(self, id: str, fn: Callable[[], Any]) -> Any:
            return fn()

    event = ReceivedEvent("uid", "id", "a", {"n": 21}, 0)
    log: Any = logging.getLogger("unit-test")
    ctx = Context[Any](event, [event], "run", "shop/double", 0, datetime.now(UTC), FakeStep(), log)
    assert await double(ctx) == 42
    assert triple(ctx, ctx.step) == 63
    assert getattr(double, "__name__", "") == "double"
    assert double.__doc__ == "Doubles."


async def test_a_function_sends_the_event_of_its_first_trigger_with_a_full_name(app: TaskFlow) -> None:
    """S2.1"""
    got = record(app, ["shop/*", TriggerCron("0 0 1 1 *"), "shop/paid", "shop/other"])
    seen = app.functions["shop/seen"]
    async with Harness(app) as harness:
        event_id = await asyncio.to_thread(seen.send, {"n": 1}, id="order-7", user={"u": 1})
        await harness.settled()
    assert event_id == "order-7"
    assert [(event.name, event.id, event.data, event.user) for event in got] == [
        ("shop/paid", "order-7", {"n": 1}, {"u": 1})
    ]


def test_a_function_without_a_full_name_can_not_send(app: TaskFlow) -> None:
    """S2.1"""
    record(app, "shop/*")
    with pytest.raises(
        ConfigError,
        match=r"'shop/seen': send\(\) needs a trigger with the full name of an event, .*use invoke",
    ):
        app.functions["shop/seen"].send()


async def test_a_function_can_be_invoked_from_sync_and_async_code(app: TaskFlow) -> None:
    """S2.1"""

    @app.function()
    async def echo(ctx: Context[Step]) -> Any:
        return [ctx.event.data, ctx.event.user, ctx.event.name]

    async with Harness(app) as harness:
        sync = await asyncio.to_thread(echo.invoke, {"n": 1}, user={"u": 1})
        asynchronous = await echo.ainvoke()
        assert await asyncio.to_thread(sync.result, "2s") == [{"n": 1}, {"u": 1}, "taskflow/function.invoked"]
        assert await asyncio.to_thread(sync.status) == RunStatus.COMPLETED
        assert await asynchronous.aresult("2s") == [{}, None, "taskflow/function.invoked"]
        assert len(await harness.runs(echo)) == 2


# --- S2.2 ---


async def test_an_event_name_triggers_exactly_its_function(app: TaskFlow) -> None:
    """S2.2"""
    got = record(app, "shop/paid")
    async with Harness(app) as harness:
        for name in ("shop/paid", "shop/Paid", "shop/pai", "shop/paid2", "paid"):
            await harness.send(name)
    assert [event.name for event in got] == ["shop/paid"]


async def test_a_name_that_ends_in_a_star_stands_for_all_that_begin_so(app: TaskFlow) -> None:
    """S2.2"""
    orders, everything = record(app, "shop/order.*", "orders"), record(app, "*", "everything")
    names = ["shop/order.created", "shop/order.", "shop/order", "shop/order.paid.late", "blog/post"]
    async with Harness(app) as harness:
        for name in names:
            await harness.send(name)
    assert [event.name for event in orders] == ["shop/order.created", "shop/order.", "shop/order.paid.late"]
    assert [event.name for event in everything] == names


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("event.data.total > 100", [1]),
        ("event.data.total > 100 || event.user.vip", [1, 2]),
        ("event.data.country in ['FR', 'DE'] && !has(event.data.test)", [0]),
        ("event.name == 'shop/paid' && event.ts > 0 && event.id != ''", [0, 1, 2, 3]),
        ("event.data.items.exists(i, i.sku.startsWith('A'))", [3]),
        ("event.data.missing.deeper == 1", []),
    ],
)  # fmt: skip
async def test_an_expression_picks_the_events(app: TaskFlow, expression: str, wanted: list[int]) -> None:
    """S2.2: CEL over `event`; an expression that fails on an event does not want it."""
    got = record(app, TriggerEvent("shop/paid", expression))
    events = [
        Event("shop/paid", {"i": 0, "total": 99, "country": "FR"}, user={"vip": False}),
        Event("shop/paid", {"i": 1, "total": 101, "country": "FR", "test": True}),
        Event("shop/paid", {"i": 2, "total": 1}, user={"vip": True}),
        Event("shop/paid", {"i": 3, "items": [{"sku": "B1"}, {"sku": "A7"}]}),
    ]
    async with Harness(app) as harness:
        for event in events:
            await harness.send(event)
    assert [event.data["i"] for event in got] == wanted


async def test_a_list_holds_up_to_10_triggers_of_both_kinds(app: TaskFlow) -> None:
    """S2.2"""
    triggers: list[str | Trigger] = [f"event/{n}" for n in range(8)]
    got = record(app, [*triggers, TriggerEvent("event/x", "event.data.ok"), TriggerCron("0 * * * *")])
    async with Harness(app) as harness:
        for n in range(8):
            await harness.send(f"event/{n}")
        await harness.send("event/x", {"ok": True})
        await harness.send("event/x", {"ok": False})
        await harness.advance(hours=1)
    names = [*[f"event/{n}" for n in range(8)], "event/x", "taskflow/scheduled.timer"]
    assert [event.name for event in got] == names


async def test_a_function_without_a_trigger_can_only_be_invoked(app: TaskFlow) -> None:
    """S2.2"""
    started: list[str] = []

    @app.function()
    async def quiet(ctx: Context[Step]) -> None:
        started.append(ctx.event.name)

    async with Harness(app) as harness:
        await harness.send("quiet")
        await harness.send("shop/quiet")
        await harness.advance(days=1)
        assert started == []
        await harness.start(quiet)
        assert started == ["taskflow/function.invoked"]


# --- S2.4 ---


async def test_handlers_are_async_or_not_and_take_ctx_or_ctx_and_step(app: TaskFlow) -> None:
    """S2.4"""

    @app.function(id="async-1")
    async def one(ctx: Context[Step]) -> Any:
        return await ctx.step.run("s", lambda: "async 1")

    @app.function(id="async-2")
    async def two(ctx: Context[Step], step: Step) -> Any:
        assert step is ctx.step
        return await step.run("s", lambda: "async 2")

    @app.function(id="def-1")
    def three(ctx: Context[BlockingStep]) -> Any:
        return ctx.step.run("s", lambda: "def 1")

    @app.function(id="def-2")
    def four(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        assert step is ctx.step
        return step.run("s", lambda: "def 2")

    class Handler:
        async def __call__(self, ctx: Context[Step], step: Step) -> str:
            return "object"

        def method(self, ctx: Context[BlockingStep]) -> str:
            return "method"

    five = app.function(id="object")(Handler())
    six = app.function(id="method")(Handler().method)

    def with_option(option: str, ctx: Context[BlockingStep]) -> str:
        return option

    seven = app.function(id="partial")(partial(with_option, "partial"))
    functions: list[Function[..., Any]] = [one, two, three, four, five, six, seven]
    async with Harness(app) as harness:
        results = [await (await harness.start(function)).aresult("1s") for function in functions]
    assert results == ["async 1", "async 2", "def 1", "def 2", "object", "method", "partial"]


async def test_ctx_tells_of_the_run(app: TaskFlow, caplog: pytest.LogCaptureFixture) -> None:
    """S2.4, S10.6"""
    seen: list[Context[Step]] = []

    @app.function(trigger="go", retries=Retries(2, initial="1m", jitter=False))
    async def look(ctx: Context[Step], step: Step) -> None:
        seen.append(ctx)
        ctx.logger.info("begin")
        await step.sleep("an hour", "1h")
        ctx.logger.info("after the hour")
        if ctx.attempt < 2:
            raise ValueError("again")

    with caplog.at_level(logging.INFO, logger="taskflow.run"):
        async with Harness(app) as harness:
            start_ms = harness.clock.now_ms()
            (event_id,) = await harness.send("go", {"n": 1})
            run = await harness.run_of(look, event_id)
            await harness.advance(hours=2)
            assert await run.astatus() == RunStatus.COMPLETED
    assert {ctx.run_id for ctx in seen} == {run.id}
    assert {ctx.function_id for ctx in seen} == {"shop/look"}
    assert {ctx.started_at for ctx in seen} == {datetime.fromtimestamp(start_ms / 1000, UTC)}
    assert all(
        ctx.event.id == event_id and ctx.event.data == {"n": 1} and ctx.events == [ctx.event] for ctx in seen
    )
    assert [ctx.attempt for ctx in seen] == [0, 0, 1, 2]
    lines = [
        (record.message, record.__dict__["attempt"])
        for record in caplog.records
        if record.name == "taskflow.run"
    ]
    assert lines == [("begin", 0), ("after the hour", 0), ("after the hour", 1), ("after the hour", 2)]
    assert {record.__dict__["run_id"] for record in caplog.records if record.name == "taskflow.run"} == {
        run.id
    }


async def test_a_sync_handler_does_not_block_the_loop(app: TaskFlow) -> None:
    """S2.4"""
    inside, leave = threading.Event(), threading.Event()

    @app.function()
    def blocks(ctx: Context[BlockingStep]) -> str:
        inside.set()
        assert leave.wait(5)
        return "left"

    @app.function()
    async def quick(ctx: Context[Step]) -> str:
        return "quick"

    async with Harness(app) as harness:
        run = await blocks.ainvoke()
        await asyncio.to_thread(inside.wait, 5)
        other = await quick.ainvoke()
        assert await other.aresult("1s") == "quick"
        leave.set()
        assert await run.aresult("1s") == "left"
        await harness.settled()
