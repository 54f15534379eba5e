"""S2.5: what is wrong raises when the decorator runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import ConfigError
from taskflow.retries import Retries
from taskflow.timeouts import Timeouts
from taskflow.triggers import TriggerCron, TriggerEvent

pytestmark = pytest.mark.usefixtures("no_bugs")


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
        ({"trigger": 7}, r"'shop/handler': trigger must be an event name, EventModel, .* or a list of them, got int"),
        ({"trigger": ["a", 7]}, r"'shop/handler': a trigger must be an event name, EventModel, .*, got int"),
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
