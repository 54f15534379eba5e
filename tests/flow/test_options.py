"""S7.9, S2.5: options that are wrong, or exclude each other, are refused when the decorator runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest

from taskflow import (
    Batch,
    Concurrency,
    ConfigError,
    Context,
    Debounce,
    Priority,
    RateLimit,
    Singleton,
    Step,
    TaskFlow,
)
from taskflow.flow.options import FlowControl, FlowOptions, limit_kinds
from taskflow.values.manifest import from_manifest, to_manifest


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: RateLimit(0, "1m"), "rate_limit.limit must be an int from 1"),
        (lambda: RateLimit(True, "1m"), "rate_limit.limit must be an int"),
        (lambda: RateLimit(1, "0.5s"), "rate_limit.period must be from 1 s to"),
        (lambda: RateLimit(1, "25h"), "rate_limit.period must be from 1 s to"),
        (lambda: RateLimit(1, "soon"), "rate_limit.period"),
        (lambda: RateLimit(1, "1m", key="event.data."), "rate_limit.key"),
        (lambda: Debounce("0s"), "debounce.period must be from 1 s to"),
        (lambda: Debounce("8d"), "debounce.period must be from 1 s to"),
        (lambda: Debounce("1m", timeout="30s"), "debounce.timeout .* is shorter than debounce.period"),
        (lambda: Debounce("1m", key="]"), "debounce.key"),
        (lambda: Batch(1, "5s"), "batch_events.max_size must be an int from 2 to 100"),
        (lambda: Batch(101, "5s"), "batch_events.max_size must be an int from 2 to 100"),
        (lambda: Batch(10, "8d"), "batch_events.timeout must be from 1 s to"),
        (lambda: Batch(10, "5s", if_exp="&&"), "batch_events.if_exp"),
        (lambda: Singleton(mode="queue"), "singleton.mode must be one of"),  # type: ignore[arg-type]
        (lambda: Singleton("event.data["), "singleton.key"),
    ],
)
def test_a_wrong_value_is_refused_by_name(make: Callable[[], object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"idempotency": "event.data.n"}, "idempotency"),
        ({"rate_limit": RateLimit(1, "1m")}, "rate_limit"),
        ({"debounce": Debounce("1m")}, "debounce"),
        ({"priority": Priority("1")}, "priority"),
        ({"concurrency": Concurrency(1, "event.data.n")}, "a keyed concurrency"),
    ],
)
def test_a_batch_excludes_what_looks_at_one_event(app: TaskFlow, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=rf"shop/job.*batch_events can't be used with {what}"):

        @app.function(trigger="job", id="job", batch_events=Batch(10, "5s"), **options)
        async def job(ctx: Context[Step]) -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {"rate_limit": 5},
        {"debounce": "5s"},
        {"batch_events": 100},
        {"singleton": True},
        {"idempotency": 7},
        {"idempotency": "event."},
    ],
    ids=repr,
)
def test_an_option_of_another_type_is_refused_with_function_and_option(
    app: TaskFlow, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=rf"shop/job.*{next(iter(options))}"):

        @app.function(trigger="job", id="job", **options)
        async def job(ctx: Context[Step]) -> None: ...


@pytest.mark.parametrize(
    "flow",
    [
        FlowControl.of(
            rate_limit=RateLimit(7, "1h", "event.data.a"),
            idempotency="event.data.b",
            debounce=Debounce("1m", "event.data.c", "1h"),
            singleton=Singleton("event.data.d", "cancel"),
        ),
        FlowControl.of(batch_events=Batch(9, timedelta(minutes=2), "event.data.a", "event.data.b > 1")),
        FlowControl.of(debounce=Debounce(1.5)),
    ],
)
def test_options_survive_their_manifest(flow: FlowControl) -> None:
    assert from_manifest(FlowControl, orjson.loads(orjson.dumps(to_manifest(flow)))) == flow


def test_each_option_has_a_limit_of_that_name() -> None:
    assert limit_kinds().keys() == FlowOptions.__optional_keys__
    assert {option: kind.option for option, kind in limit_kinds().items()} == {
        option: option for option in limit_kinds()
    }
