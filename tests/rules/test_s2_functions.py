"""S2: functions, what triggers them, what they get, and what they may return."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from taskflow.app import TaskFlow
from taskflow.cancellation import Timeouts
from taskflow.context import Context
from taskflow.errors import ConfigError, RunFailed
from taskflow.event import Event, ReceivedEvent
from taskflow.function import Function
from taskflow.handle import RunStatus
from taskflow.retries import Retries
from taskflow.step import BlockingStep, Step
from taskflow.testing import Harness, VirtualClock
from taskflow.triggers import Trigger, TriggerCron, TriggerEvent
from tests.conftest import MakeApp

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    """An ISO-8601 moment in ms since the epoch."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def record(
    app: TaskFlow, trigger: str | Trigger | Sequence[str | Trigger], id: str = "seen"
) -> list[ReceivedEvent]:
    """Registers a function, and returns the list of events that it will have got."""
    got: list[ReceivedEvent] = []

    @app.function(trigger=trigger, id=id)
    async def seen(ctx: Context[Step]) -> None:
        got.append(ctx.event)

    return got


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
    with pytest.raises(TypeError):
        app.function("shop/paid")  # type: ignore[call-arg]


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


# --- S2.3 ---


@pytest.mark.parametrize(
    ("cron", "start", "ticks"),
    [
        ("30 9 * * mon-fri", "2030-01-04T00:00:00Z",  # a Friday
         ["2030-01-04T09:30:00+00:00", "2030-01-07T09:30:00+00:00", "2030-01-08T09:30:00+00:00"]),
        ("*/20 30 9 1 * *", "2030-01-01T00:00:00Z",  # the second first
         ["2030-01-01T09:30:00+00:00", "2030-01-01T09:30:20+00:00", "2030-01-01T09:30:40+00:00"]),
        ("TZ=Europe/Paris 0 9 * * *", "2030-03-30T00:00:00Z",  # the clocks go forward on the 31st
         ["2030-03-30T08:00:00+00:00", "2030-03-31T07:00:00+00:00", "2030-04-01T07:00:00+00:00"]),
        ("TZ=America/New_York 15 0 0 29 2 *", "2030-01-01T00:00:00Z",  # a leap day, with seconds
         ["2032-02-29T05:00:15+00:00", "2036-02-29T05:00:15+00:00", "2040-02-29T05:00:15+00:00"]),
    ],
)  # fmt: skip
async def test_a_cron_starts_a_run_at_each_tick(
    app: TaskFlow, cron: str, start: str, ticks: list[str]
) -> None:
    """S2.3"""
    clock = VirtualClock(ms(start))
    got: list[tuple[str, Any, int]] = []

    @app.function(trigger=TriggerCron(cron))
    async def tick(ctx: Context[Step]) -> None:
        got.append((ctx.event.name, ctx.event.data, clock.now_ms()))

    async with Harness(app, clock=clock) as harness:
        await harness.advance(ms=ms(ticks[-1]) - clock.now_ms())
    expected = [("taskflow/scheduled.timer", {"cron": cron, "scheduled_at": at}, ms(at)) for at in ticks]
    assert got == expected


async def test_a_jitter_delays_a_tick_by_less_than_itself_and_tells_the_tick(app: TaskFlow) -> None:
    """S2.3"""
    got = record(app, TriggerCron("0 * * * *", jitter="10m"))
    async with Harness(app, clock=VirtualClock(ms("2030-01-01T00:30:00Z"))) as harness:
        for hour in (1, 2, 3):
            await harness.advance(ms=ms(f"2030-01-01T0{hour}:00:00Z") - 1 - harness.clock.now_ms())
            assert len(got) == hour - 1
            await harness.advance(minutes=10)
            assert len(got) == hour
    assert [event.data["scheduled_at"] for event in got] == [
        f"2030-01-01T0{n}:00:00+00:00" for n in (1, 2, 3)
    ]


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


# --- S2.5 ---


def handler(ctx: Context[Any], step: Any) -> None: ...


def no_ctx() -> None: ...


def three_parameters(ctx: Any, step: Any, more: Any) -> None: ...


def keyword_only(ctx: Any, *, option: int) -> None: ...


def generator(ctx: Any) -> Any:
    yield 1


async def async_generator(ctx: Any) -> Any:
    yield 1


class Holder:
    def method(self, ctx: Any) -> None: ...


TOO_MANY = [f"e{n}" for n in range(11)]
CRON_HINT = "Write five fields"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"id": "a/b"}, r"id of a function must have 1 to 64 of the characters .* got 'a/b'"),
        ({"id": ""}, r"id of a function must have 1 to 64 of the characters .* got ''"),
        ({"id": "x" * 65}, r"id of a function must have 1 to 64 of the characters"),
        ({"name": ""}, r"'shop/handler': name must be a str of 1 to 128 characters, got ''"),
        ({"name": 7}, r"'shop/handler': name must be a str of 1 to 128 characters, got 7"),
        ({"trigger": 7}, r"'shop/handler': trigger must be an event name, TriggerEvent, TriggerCron or a list of them, got int"),
        ({"trigger": ["a", 7]}, r"'shop/handler': a trigger must be an event name, TriggerEvent or TriggerCron, got int"),
        ({"trigger": TOO_MANY}, r"'shop/handler': trigger holds at most 10 triggers, got 11; an event name may end in '\*'"),
        ({"trigger": ["a", "a"]}, r"'shop/handler': trigger names .*'a'.* twice; remove one"),
        ({"trigger": ""}, r"'shop/handler': trigger event must have 1 to 256 characters, got 0"),
        ({"trigger": "e" * 257}, r"'shop/handler': trigger event must have 1 to 256 characters, got 257"),
        ({"trigger": "a*b"}, r"'shop/handler': trigger event may have a '\*' only at its end, got 'a\*b'; use an expression"),
        ({"retries": -1}, r"'shop/handler': retries must be an int from 0 to 20, got -1; 0 means a single attempt"),
        ({"retries": 21}, r"'shop/handler': retries must be an int from 0 to 20, got 21"),
        ({"retries": "4"}, r"'shop/handler': retries must be an int from 0 to 20, got '4'"),
        ({"retries": True}, r"'shop/handler': retries must be an int from 0 to 20, got True"),
        ({"timeouts": "1h"}, r"'shop/handler': timeouts must be a Timeouts, got '1h'; write Timeouts\(finish='1h'\)"),
        ({"queue": "a.b"}, r"'shop/handler': queue must have 1 to 64 of the characters .* got 'a.b'"),
        ({"determinism": "maybe"}, r"'shop/handler': determinism must be 'warn' or 'strict', got 'maybe'"),
        ({"on_failure": 7}, r"on_failure"),
        ({"on_failure": no_ctx}, r"on_failure"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_by_the_decorator(
    app: TaskFlow, options: dict[str, Any], text: str
) -> None:
    """S2.5: the error names the function, the option, the value and the remedy."""
    with pytest.raises(ConfigError, match=text):
        app.function(**options)(handler)
    assert app.functions == {}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TriggerEvent("a", "event.data.x >"), r"expression of the trigger 'a'.*event\.data\.x >"),
        (lambda: TriggerEvent("a", "evnt.data.x > 1"), r"expression of the trigger 'a'.*evnt"),
        (lambda: TriggerEvent("a", ""), r"expression of the trigger 'a'"),
        (lambda: TriggerEvent("a", 7), r"expression of the trigger 'a'"),  # type: ignore[arg-type]
        (lambda: TriggerCron("* * *"), rf"trigger cron '\* \* \*' has 3 fields\. {CRON_HINT}"),
        (lambda: TriggerCron("0 0 1 * * 2030 1"), "has 7 fields"),
        (lambda: TriggerCron("61 * * * *"), rf"trigger cron '61 \* \* \* \*' can't be read: .*{CRON_HINT}"),
        (lambda: TriggerCron("x * * * *"), r"can't be read"),
        (lambda: TriggerCron("0 0 30 2 *"), r"never comes: there is no such day"),
        (lambda: TriggerCron("@daily"), r"for @daily write '0 0 \* \* \*'"),
        (lambda: TriggerCron("H * * * *"), r"H and R would differ from process to process; use jitter instead"),
        (lambda: TriggerCron("TZ=Mars/Base 0 0 * * *"), r"there is no time zone 'Mars/Base'; write it like 'TZ=Europe/Berlin '"),
        (lambda: TriggerCron(""), r"trigger cron must be a str of 1 to 200 characters, got ''"),
        (lambda: TriggerCron("0 * * * *", jitter="soon"), r"trigger cron '0 \* \* \* \*': trigger jitter can't be read: 'soon'"),
        (lambda: TriggerCron("0 * * * *", jitter=-1), r"trigger jitter must not be negative, got -1"),
        (lambda: TriggerCron("0 * * * *", catchup="some"), r"catchup is 'some', but must be one of"),  # type: ignore[arg-type]
        (lambda: Retries(4, multiplier=0.5), r"retries.multiplier must be a number from 1 to 100, got 0.5"),
        (lambda: Retries(4, initial="2h", maximum="1h"), r"retries.initial \('2h'\) is longer than retries.maximum \('1h'\)"),
        (lambda: Retries(4, initial="soon"), r"retries.initial can't be read: 'soon'"),
        (lambda: Retries(4, jitter="yes"), r"retries.jitter must be True or False, got 'yes'"),  # type: ignore[arg-type]
        (lambda: Timeouts(start=0), r"timeouts.start must be more than 0, got 0; for no limit leave it out"),
        (lambda: Timeouts(finish="2 years"), r"timeouts.finish has the unknown unit 'years'"),
        (lambda: Timeouts(finish="400d"), r"timeouts.finish must be at most 1 year \(366 days\), got '400d'"),
        (lambda: Timeouts(step=-1), r"timeouts.step must not be negative, got -1"),
    ],
)  # fmt: skip
def test_a_wrong_option_object_is_refused_when_it_is_made(make: Callable[[], object], text: str) -> None:
    """S2.5"""
    with pytest.raises(ConfigError, match=text):
        make()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (no_ctx, r"'shop/x': the handler takes \(\); write it as `def handler\(ctx\)` or `def handler\(ctx, step\)`"),
        (three_parameters, r"'shop/x': the handler takes \(ctx: .*more: "),
        (keyword_only, r"'shop/x': the handler takes \(ctx: .*option"),
        (generator, r"'shop/x': the handler has a `yield`, so calling it gives a generator"),
        (async_generator, r"'shop/x': the handler has a `yield`"),
        (Holder.method, r"'shop/x': the handler is a method without its object"),
        (7, r"'shop/x': the handler must be a function, got int"),
    ],
)  # fmt: skip
def test_a_handler_that_can_not_be_called_is_refused(app: TaskFlow, wrong: Any, text: str) -> None:
    """S2.4, S2.5"""
    with pytest.raises(ConfigError, match=text):
        app.function(id="x")(wrong)
    assert app.functions == {}


def test_a_lambda_needs_an_id(app: TaskFlow) -> None:
    """S2.1, S2.5"""
    with pytest.raises(
        ConfigError, match=r"a function's id comes from the handler's name, .* has none; pass id='...'"
    ):
        app.function()(lambda ctx: None)
    assert app.function(id="named")(lambda ctx: None).id == "shop/named"


# --- S2.6 ---


class Colour(Enum):
    RED = "red"


class Level(StrEnum):
    HIGH = "high"


@dataclass
class Address:
    street: str
    lines: tuple[int, ...] = (1, 2)
    when: date = date(2030, 1, 2)
    nested: list[Colour] = field(default_factory=lambda: [Colour.RED])


class Model(BaseModel):
    price: Decimal
    address: Address
    at: datetime | None = None


ID = UUID("12345678-1234-5678-1234-567812345678")
ADDRESS = {"street": "Main", "lines": [1, 2], "when": "2030-01-02", "nested": ["red"]}
VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (0, 0),
    (-(2**63), -(2**63)),
    (1.5, 1.5),
    ("täxt ✓", "täxt ✓"),
    ("", ""),
    ([1, [2, {"a": None}]], [1, [2, {"a": None}]]),
    ({"a": {"b": [True]}}, {"a": {"b": [True]}}),
    ((1, (2, 3)), [1, [2, 3]]),
    ({"t": (1,)}, {"t": [1]}),
    (datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "2030-01-02T03:04:05+00:00"),
    (
        datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2))),
        "2030-01-02T03:04:05.000006+02:00",
    ),
    (date(2030, 1, 2), "2030-01-02"),
    (ID, str(ID)),
    (Decimal("1.10"), "1.10"),
    (Colour.RED, "red"),
    (Level.HIGH, "high"),
    ([Colour.RED, Level.HIGH], ["red", "high"]),
    (Address("Main"), ADDRESS),
    (
        Model(price=Decimal("9.90"), address=Address("Main")),
        {"price": "9.90", "address": ADDRESS, "at": None},
    ),
]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])
async def test_what_steps_and_handlers_return_comes_back_as_json(app: TaskFlow, is_async: bool) -> None:
    """S2.6: the same value when the step has just run, after a replay, and to who waits for the run."""
    passes: list[list[Any]] = []

    async def coroutine(value: Any) -> Any:
        return value

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        got = [await step.run("value", coroutine, value) for value, _ in VALUES]
        passes.append(got)
        await step.sleep("then", "1h")
        return [value for value, _ in VALUES]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        got = [step.run("value", partial(identity, value)) for value, _ in VALUES]
        passes.append(got)
        step.sleep("then", "1h")
        return [value for value, _ in VALUES]

    expected = [value for _, value in VALUES]
    functions: tuple[Function[..., Any], ...] = (in_async, in_def)
    async with Harness(app) as harness:
        run = await harness.start(functions[not is_async])
        await harness.advance(hours=1)
        assert await run.aresult("1s") == expected
    assert passes == [expected, expected]
    assert [[type(value) for value in got] for got in passes] == [[type(value) for value in expected]] * 2


def identity(value: Any) -> Any:
    return value


class Plain:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1, 2}, r"\$ is a set; turn it into a sorted list"),
        ({"a": [b"x"]}, r"\$\.a\[0\] is a bytes; turn it into text"),
        (Plain(), r"\$ is a Plain; return only JSON"),
        ({"at": {"deep": object}}, r"\$\.at\.deep is a type"),
        (float("inf"), r"\$ is inf, which JSON can't express"),
        ({1: "a"}, r"\$ is a dict with a key of type int; JSON has only str keys"),
        (1 << 64, r"\$ is an int beyond 64 bits"),
        (lambda: 1, r"\$ is a function"),
    ],
)  # fmt: skip
async def test_a_step_that_returns_no_json_fails_at_once(app: TaskFlow, value: Any, text: str) -> None:
    """S2.6: a SerializationError that names the step and the type, without a retry."""
    calls: list[int] = []

    def make() -> Any:
        calls.append(1)
        return value

    @app.function(id="run")
    async def function(ctx: Context[Step], step: Step) -> None:
        await step.run("make it", make)

    async with Harness(app) as harness:
        run = await harness.start(function)
        with pytest.raises(
            RunFailed, match=f"SerializationError: step 'make it' has no JSON form: {text}"
        ) as caught:
            await run.aresult("1s")
        await harness.advance(days=1)
    assert caught.value.name == "SerializationError"
    assert len(calls) == 1


async def test_a_handler_that_returns_no_json_fails_at_once(app: TaskFlow) -> None:
    """S2.6"""
    calls: list[int] = []

    @app.function()
    async def wrong(ctx: Context[Step]) -> Any:
        calls.append(1)
        return {"x": Plain()}

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        with pytest.raises(
            RunFailed,
            match=r"SerializationError: the result of shop/wrong has no JSON form: \$\.x is a Plain",
        ):
            await run.aresult("1s")
    assert len(calls) == 1
