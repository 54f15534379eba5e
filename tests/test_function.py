import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Unpack

import orjson
import pytest

from taskflow.channel import TopicRef
from taskflow.errors import ConfigError, InvalidEvent
from taskflow.event import Event
from taskflow.flow.cancel import Cancel
from taskflow.flow.options import FlowOptions
from taskflow.function import Function, FunctionSpec, InvokeData, InvokeOptions
from taskflow.function_options import FunctionOptions, build_spec
from taskflow.handler_shape import HandlerShape, handler_shape
from taskflow.retries import Retries
from taskflow.timeouts import Timeouts
from taskflow.triggers import TriggerCron, TriggerEvent
from taskflow.types import Duration, FunctionId, Handler, JsonObject


class RecordingApp:
    """Keeps what a Function asks of its app."""

    def __init__(self) -> None:
        self.dependency_overrides: dict[Any, Any] = {}
        self.sent: list[Event] = []
        self.invoked: list[tuple[str, InvokeData, JsonObject | None]] = []
        self.run: Any = object()

    def send(self, event: Event, /, *, delay: Duration | None = None) -> list[str]:
        self.sent.append(event)
        return [event.id or "01"]

    def invoke(self, function_id: FunctionId, /, data: InvokeData, **options: Unpack[InvokeOptions]) -> Any:
        self.invoked.append((function_id, data, options.get("user")))
        return self.run

    async def ainvoke(
        self, function_id: FunctionId, /, data: InvokeData, **options: Unpack[InvokeOptions]
    ) -> Any:
        return self.invoke(function_id, data, **options)

    async def _publish_of_run(self, topic: TopicRef[Any], data: Any, *, run_id: str) -> None:
        raise NotImplementedError

    async def _apublish_of_run(self, topic: TopicRef[Any], data: Any, *, run_id: str, uid: str) -> None:
        raise NotImplementedError


def send_receipt(ctx: str) -> str:
    """Say thanks."""
    return f"thanks, {ctx}"


async def charge_card(ctx: str, step: int) -> int:
    return len(ctx) + step


def make(
    handler: Handler = send_receipt, app: RecordingApp | None = None, **options: Any
) -> Function[..., Any]:
    spec = build_spec(handler, app_id="shop", **options)
    return Function(handler, spec=spec, app=app or RecordingApp())


def test_the_id_comes_from_the_handlers_name() -> None:
    spec = build_spec(send_receipt, app_id="shop", trigger="shop/paid")
    assert (spec.id, spec.slug, spec.name) == ("shop/send-receipt", "send-receipt", "send-receipt")
    assert (spec.triggers, spec.retries, spec.timeouts) == (
        (TriggerEvent("shop/paid"),),
        Retries(),
        Timeouts(),
    )
    assert (spec.queue, spec.determinism) == ("default", "warn")


def test_every_option_ends_up_in_the_spec_and_survives_its_manifest() -> None:
    spec = build_spec(
        charge_card,
        app_id="shop",
        id="charge",
        name="Charge the card",
        trigger=[
            "shop/*",
            TriggerEvent("a", "event.data.n > 1"),
            TriggerCron("0 9 * * *", jitter="90s", catchup="all", data={"report": ["sales", 1.5, None]}),
        ],
        retries=Retries(attempts=7, initial="1.5s", maximum=60, multiplier=3, jitter=False),
        timeouts=Timeouts(start="1h", step=0.25),
        queue="slow",
        determinism="strict",
        cancel=[
            Cancel("undone", match="data.order", timeout="1h"),
            Cancel("gone*", if_exp="async.data.n == event.data.n"),
        ],
    )
    manifest = orjson.loads(orjson.dumps(spec.manifest()))
    assert FunctionSpec.from_manifest(manifest) == spec
    assert FunctionSpec.from_manifest(manifest | {"of_a_later_version": 1}) == spec
    assert manifest["triggers"][2] == {
        "cron": "0 9 * * *", "jitter_ms": 90_000, "catchup": "all", "data": {"report": ["sales", 1.5, None]}
    }  # fmt: skip
    assert manifest["retries"]["initial_ms"] == 1_500


def test_a_manifest_that_can_not_be_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected the manifest of a function"):
        FunctionSpec.from_manifest({"app_id": "shop"})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"name": ""}, "function 'shop/send-receipt': name must be a str of 1 to 128 characters, got ''"),
        (
            {"trigger": "a*b"},
            "function 'shop/send-receipt': trigger event may have a '*' only at its end, got 'a*b'",
        ),
        ({"trigger": 5}, "function 'shop/send-receipt': trigger must be an event name"),
        ({"retries": 21}, "function 'shop/send-receipt': retries must be an int from 0 to 20, got 21"),
        (
            {"timeouts": "1h"},
            "function 'shop/send-receipt': timeouts must be a Timeouts, got '1h'; write Timeouts(",
        ),
        ({"queue": "a.b"}, "function 'shop/send-receipt': queue must have 1 to 64 of the characters"),
        (
            {"determinism": "lax"},
            "function 'shop/send-receipt': determinism must be 'warn' or 'strict', got 'lax'",
        ),
        ({"id": "a/b"}, "the id of a function must have 1 to 64 of the characters"),
        ({"app_id": "a/b"}, "app_id must have 1 to 64 of the characters"),
    ],
)
def test_a_wrong_option_is_refused_with_function_option_and_value(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_spec(send_receipt, **({"app_id": "shop"} | options))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("handler", [lambda ctx: None, functools.partial(send_receipt)])
def test_a_handler_without_a_name_needs_an_id(handler: Handler) -> None:
    with pytest.raises(ConfigError, match=r"pass id='\.\.\.'"):
        build_spec(handler, app_id="shop")
    assert build_spec(handler, app_id="shop", id="it").id == "shop/it"


class Callable1:
    def method(self, ctx: str) -> None: ...

    async def __call__(self, ctx: str, step: int) -> None: ...


def with_defaults(ctx: str, limit: int = 5) -> None: ...


def with_optional_step(ctx: str, step: int | None = None, *, verbose: bool = False) -> None: ...


def named_otherwise(context: str, tools: int) -> None: ...


@pytest.mark.parametrize(
    ("handler", "takes_step", "is_async"),
    [
        (send_receipt, False, False),
        (charge_card, True, True),
        (with_defaults, False, False),
        (with_optional_step, True, False),
        (named_otherwise, True, False),
        (Callable1().method, False, False),
        (Callable1(), True, True),
        (functools.partial(charge_card), True, True),
        (functools.wraps(charge_card)(lambda *args: None), True, False),
    ],
)
def test_a_handler_takes_ctx_or_ctx_and_step(handler: Handler, takes_step: bool, is_async: bool) -> None:
    assert handler_shape(handler, what="it") == HandlerShape(takes_step=takes_step, is_async=is_async)


def no_parameter() -> None: ...


def three(ctx: str, step: int, more: int) -> None: ...


def by_keyword(ctx: str, *, step: int) -> None: ...


def any_number(*args: str) -> None: ...


def generates(ctx: str) -> Iterator[int]:
    yield 1


async def generates_async(ctx: str) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (no_parameter, r"takes \(\); write it as `def handler\(ctx\)`"),
        (three, r"takes \(ctx: 'str', step: 'int', more: 'int'\)|takes \(ctx: str, step: int, more: int\)"),
        (by_keyword, "takes "),
        (any_number, "takes "),
        (Callable1.method, "is a method without its object"),
        (generates, "has a `yield`"),
        (generates_async, "has a `yield`"),
        (5, "must be a function, got int"),
    ],
)
def test_any_other_handler_is_refused(handler: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^function 'shop/it': the handler ({reason})"):
        build_spec(handler, app_id="shop", id="it")
    with pytest.raises(ConfigError, match=f"^function 'shop/send-receipt': on_failure ({reason})"):
        build_spec(send_receipt, app_id="shop", on_failure=handler)


async def test_a_function_is_its_plain_handler() -> None:
    app = RecordingApp()
    receipt = Function(send_receipt, spec=build_spec(send_receipt, app_id="shop"), app=app)
    thanks: str = receipt("you")
    assert thanks == "thanks, you"
    assert (inspect.getdoc(receipt), inspect.unwrap(receipt)) == ("Say thanks.", send_receipt)
    assert repr(receipt) == "<Function shop/send-receipt>"
    assert (receipt.id, receipt.takes_step, receipt.is_async) == ("shop/send-receipt", False, False)

    charge = Function(charge_card, spec=build_spec(charge_card, app_id="shop"), app=app)
    length: int = await charge("four", 1)
    assert length == 5
    assert (charge.takes_step, charge.is_async) == (True, True)


def test_help_has_a_line_for_each_option() -> None:
    told = f"{inspect.getdoc(FunctionOptions)}\n{inspect.getdoc(FlowOptions)}".splitlines()
    lines = {line.split()[0] for line in told if "  " in line and not line.startswith(" ")}
    assert lines == FunctionOptions.__optional_keys__


def test_send_sends_the_first_event_with_a_full_name() -> None:
    app = RecordingApp()
    function = make(
        app=app, trigger=["shop/*", TriggerCron("0 9 * * *"), "taskflow/function.failed", "shop/paid", "b"]
    )
    assert function.send({"n": 1}, id="order-1", ts=1_700_000_000_005, user={"id": 7}) == "order-1"
    assert function.send() == "01"
    assert app.sent == [
        Event("shop/paid", {"n": 1}, id="order-1", ts=1_700_000_000_005, user={"id": 7}),
        Event("shop/paid"),
    ]
    with pytest.raises(InvalidEvent):
        function.send([1])  # type: ignore[arg-type]


@pytest.mark.parametrize("trigger", [None, "shop/*", TriggerCron("0 9 * * *")])
def test_send_without_an_event_to_send_names_the_way_out(trigger: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"'shop/send-receipt': send\(\) needs .*; use invoke\(\) or ainvoke\(\)"
    ):
        make(trigger=trigger).send()


async def test_invoke_starts_this_function_alone() -> None:
    app = RecordingApp()
    function = make(app=app)
    assert function.invoke({"n": 1}, user={"id": 7}) is app.run
    assert await function.ainvoke() is app.run
    assert app.invoked == [("shop/send-receipt", {"n": 1}, {"id": 7}), ("shop/send-receipt", None, None)]
