"""What is certain to give no key is refused when the decorator runs. Rules S2.5, S7."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from taskflow import Batch, Concurrency, Context, Debounce, RateLimit, Singleton, Step, TaskFlow, Throttle
from taskflow.errors import ConfigError
from taskflow.expressions.cel import compile_key

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "event.data.a || event.data.b",
            r"never the first value .* write has\(event.data.a\) \? event.data.a",
        ),
        ("event.data.a && event.data.b", "never the first value"),
        ("event.data.a || event.data.b || 'none'", "never the first value"),
        ("'user-' + (event.data.a || event.data.b)", "column 12"),
        ("event.data.vip ? event.data.a || 'x' : event.data.b", "never the first value"),
        ("[event.data.a || 'x']", "never the first value"),
        ("string(event.data.a || 1)", "never the first value"),
        ("'user-' + 7", "no sum of number and text; write string"),
        ("'user-' + size(event.data.a)", "no sum of number and text"),
        ("event.data.a + 1 + 'x'", "no sum of number and text"),
        ("'a' + ['b']", "no sum of list and text"),
        ("true + 'b'", "no sum of bool and text"),
        ("null", "its value is null"),
        ("event.data.vip ? null : null", "its value is null"),
        ("timestamp(event.data.at)", "a time, which is no JSON"),
        ("duration('1h') + duration('1m')", "a time, which is no JSON"),
        ("bytes(event.data.a)", "bytes, which are no JSON"),
        ("type(event.data.a)", "its value is a type"),
    ],
)
def test_an_expression_that_never_gives_a_key_is_refused(source: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        compile_key(source, what="throttle.key")
    assert str(caught.value).startswith("throttle.key is no key (line 1, column ")


@pytest.mark.parametrize(
    "source",
    [
        "event.data.a",
        "event.data.a + event.data.b",
        "event.data.a + 'x' + string(7)",
        "has(event.data.a) ? event.data.a : event.data.b",
        "event.data.a == 1 || has(event.data.b)",
        "(event.data.a || event.data.b) == true",
        "(event.data.a || event.data.b) ? 'x' : 'y'",
        "event.data.vip ? 'vip' : null",
        "!event.data.a",
        "-event.data.a",
        "event.data.n * 2",
        "string(timestamp(event.data.at))",
        "timestamp(event.data.to) - timestamp(event.data.at) == duration('1h')",
        "event.data.lines.map(line, line.sku)",
        "[]",
        "{}",
        "'everybody'",
    ],
)
def test_an_expression_that_may_give_a_key_is_taken(source: str) -> None:
    assert compile_key(source, what="it").source == source


@pytest.mark.parametrize(
    "option",
    [
        lambda key: {"concurrency": Concurrency(1, key=key)},
        lambda key: {"throttle": Throttle(1, SECOND, key=key)},
        lambda key: {"rate_limit": RateLimit(1, SECOND, key=key)},
        lambda key: {"debounce": Debounce(SECOND, key=key)},
        lambda key: {"batch_events": Batch(2, SECOND, key=key)},
        lambda key: {"singleton": Singleton(key=key)},
        lambda key: {"idempotency": key},
    ],
)
def test_each_option_with_a_key_refuses_it(option: Callable[[str], dict[str, Any]]) -> None:
    app = TaskFlow("shop")
    app.function(trigger="a", **option("event.data.a"))(handler)
    with pytest.raises(ConfigError, match="is no key"):
        app.function(trigger="a", **option("event.data.a || event.data.b"))(handler)


async def handler(ctx: Context[Step]) -> None: ...
