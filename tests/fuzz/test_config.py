"""URLs, settings, options and manifests: taken, or refused with ConfigError that holds no password. Rules S2.5, S7.9."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.app import TaskFlow
from taskflow.broker.publisher import Publisher
from taskflow.broker.urls import broker_url
from taskflow.config import Config
from taskflow.context import Context
from taskflow.errors import BrokerUnavailable, ConfigError, StoreUnavailable
from taskflow.flow.batch import Batch
from taskflow.flow.cancel import Cancel
from taskflow.flow.concurrency import Concurrency
from taskflow.flow.debounce import Debounce
from taskflow.flow.priority import Priority
from taskflow.flow.rate_limit import RateLimit
from taskflow.flow.singleton import Singleton
from taskflow.flow.throttle import Throttle
from taskflow.function import FunctionSpec
from taskflow.redis.address import redact
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.store.store import Store
from taskflow.timeouts import Timeouts
from taskflow.triggers import TriggerCron, TriggerEvent
from tests.fuzz.profile import copied, damaged, examples, odd_values, places_in, texts

SECRET = "".join(["Hun", "ter", "42"])  # in parts, or hypothesis takes the constant for a host's name, too
schemes = st.sampled_from(
    [
        "redis",
        "rediss",
        "valkey",
        "unix",
        "amqp",
        "sqs",
        "memory",
        "REDIS",
        "http",
        "taskflow+redis",
        "redis+socket",
        "",
        "1redis",
    ]
)
logins = st.sampled_from(
    ["", f":{SECRET}@", f"user:{SECRET}@", f"us@er:{SECRET}@", "@", ":@", f"u%ZZ:{SECRET}@", f"u:p:{SECRET}@"]
)
hosts = st.sampled_from(
    ["127.0.0.1", "[::1]", "[::1", "]", "", "localhost", "a..b", "ü.example", "127.0.0.1;redis://127.0.0.1"]
)
ports = st.sampled_from(["", ":1", ":0", ":99999", ":x", ":-1", ":1:1", ":٣"])
paths = st.sampled_from(
    ["", "/0", "/x", "/-1", "/99999999999999999999", "//", "/0/1", "/tmp/no.sock", "/%00"]
)
queries = st.sampled_from(
    [
        "",
        "?",
        "?db=1",
        "?db=x",
        f"?password={SECRET}",
        "?timeout=x",
        "?ssl_cert_reqs=bogus",
        "?socket_timeout=1",
        "#x",
    ]
)
urls = st.builds(
    lambda scheme, *rest: f"{scheme}://{''.join(rest)}", schemes, logins, hosts, ports, paths, queries
)


@examples(300)
@given(st.one_of(texts, urls))
def test_a_url_is_taken_or_refused_and_its_password_is_never_told(url: str) -> None:
    for setting in ("broker", "store"):
        try:
            config = Config.resolve("shop", environ={f"TASKFLOW_{setting.upper()}": url})
        except ConfigError as error:
            assert SECRET not in str(error)
            continue
        assert SECRET not in repr(config)
        broker_url(config.broker)
    assert SECRET not in redact(url)


nowhere = st.builds(
    lambda scheme, login, port, path, query: f"{scheme}://{login}127.0.0.1{port}{path}{query}",
    st.sampled_from(["redis", "valkey", "amqp", "REDIS"]),
    logins,
    st.sampled_from([":1", ":99999", ":x", ":-1", ":1:1", ":٣"]),
    paths,
    queries,
)


@examples(80)
@given(nowhere)
def test_publishing_to_where_nobody_is_ends_in_time_with_the_documented_error(url: str) -> None:
    try:
        config = Config.resolve("shop", broker=url, store="redis://127.0.0.1:1/0", environ={})
    except ConfigError:
        return
    publisher = Publisher(config.broker, app_id="shop", send_timeout_ms=100)
    try:
        with pytest.raises((BrokerUnavailable, ConfigError)) as raised:
            publisher.publish_events([b"[]"])
        assert SECRET not in str(raised.value)
    finally:
        publisher.close()


@examples(80)
@given(nowhere.filter(lambda url: not url.startswith("amqp")))
def test_a_store_where_nobody_is_is_unavailable(url: str) -> None:
    async def look() -> None:
        async with asyncio.timeout(2):
            await (await Store.open(url, namespace="fuzz", timeout_s=0.1)).close()

    with pytest.raises((StoreUnavailable, ConfigError)) as raised:
        asyncio.run(look())
    assert SECRET not in str(raised.value)


SETTINGS = (
    "broker", "store", "app_version", "namespace", "send_timeout", "max_event_bytes", "retention", "failed_retention", "max_steps",
    "max_step_output_bytes", "max_run_bytes", "max_crashes", "determinism", "retries",
)  # fmt: skip


@examples(300)
@given(st.sampled_from(SETTINGS), odd_values, st.booleans())
def test_a_setting_is_taken_or_refused(name: str, value: Any, by_environment: bool) -> None:
    if by_environment:
        if not isinstance(value, str):
            return
        arguments: dict[str, Any] = {"environ": {f"TASKFLOW_{name.upper()}": value}}
    else:
        arguments = {name: value, "environ": {}}
    try:
        Config.resolve("shop", **arguments)
    except ConfigError as error:
        assert name in str(error).lower()


OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "Concurrency": (Concurrency, ("limit", "key", "scope")),
    "Priority": (Priority, ("run",)),
    "Throttle": (Throttle, ("limit", "period", "burst", "key")),
    "RateLimit": (RateLimit, ("limit", "period", "key")),
    "Debounce": (Debounce, ("period", "key", "timeout")),
    "Batch": (Batch, ("max_size", "timeout", "key", "if_exp")),
    "Singleton": (Singleton, ("key", "mode")),
    "Retries": (Retries, ("attempts", "initial", "maximum", "multiplier", "jitter")),
    "Timeouts": (Timeouts, ("start", "finish", "step")),
    "Cancel": (Cancel, ("event", "match", "if_exp", "timeout")),
    "TriggerEvent": (TriggerEvent, ("event", "expression")),
}
likely = st.sampled_from(
    [1, 10, 0, -1, "1s", "1h", "8d", 3600, "event.data.x", "event.data", "1 +", "skip", "fn", "app", "shop/paid", "data.id",
     True, 1.5]
)  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
@examples(80)
@given(st.data())
def test_flow_control_is_taken_or_refused(name: str, data: st.DataObject) -> None:
    kind, parameters = OPTIONS[name]
    given_names = data.draw(st.sets(st.sampled_from(parameters), min_size=1))
    arguments = {
        each: data.draw(st.one_of(likely, odd_values), label=each)
        for each in parameters
        if each in given_names
    }
    try:
        kind(**arguments)
    except ConfigError:
        return
    except TypeError as error:
        assert "required" in str(error)  # Python's own, of a missing argument


FUNCTION_OPTIONS = (
    "trigger", "id", "name", "retries", "timeouts", "queue", "determinism", "on_failure", "concurrency", "priority", "throttle",
    "rate_limit", "debounce", "batch_events", "singleton", "idempotency", "cancel",
)  # fmt: skip
good_options = st.sampled_from(
    [Concurrency(1), [Concurrency(1), Concurrency(2, key="event.data.x")], Throttle(1, "1s"), RateLimit(1, "1s"), Debounce("1s"),
     Batch(2, "1s"), Singleton(), Priority("1"), "event.data.x", 3, Retries(2), Timeouts(start="1s"), TriggerCron("* * * * *"),
     Cancel("shop/stop", match="data.id")]
)  # fmt: skip


@examples(300)
@given(
    st.dictionaries(
        st.sampled_from(FUNCTION_OPTIONS), st.one_of(good_options, likely, odd_values), max_size=4
    )
)
def test_a_decorator_registers_or_refuses(options: dict[str, Any]) -> None:
    app = TaskFlow("shop", broker="redis://127.0.0.1:1/0")
    try:

        @app.function(**options)
        async def work(ctx: Context[Step]) -> None: ...

    except ConfigError:
        return
    for function in app.functions.values():
        spec = function.spec
        assert FunctionSpec.from_manifest(orjson.loads(orjson.dumps(spec.manifest()))) == spec


def whole_manifest() -> Any:
    app = TaskFlow("shop", broker="redis://127.0.0.1:1/0")

    @app.function(
        trigger=[TriggerEvent("shop/paid", "event.data.x > 1"), TriggerCron("*/5 * * * *", jitter="1s")],
        timeouts=Timeouts(start="1h", step="1m"),
        concurrency=[Concurrency(3, key="event.data.x", scope="app"), Concurrency(9)],
        throttle=Throttle(5, "1m", key="event.data.x"),
        rate_limit=RateLimit(5, "1m"),
        debounce=Debounce("1s", timeout="1m"),
        priority=Priority("event.data.x"),
        singleton=Singleton("event.data.x"),
        idempotency="event.data.x",
    )
    async def work(ctx: Context[Step]) -> None: ...

    return work.spec.manifest()


MANIFEST = whole_manifest()


WRONG = [
    None,
    True,
    -1,
    0,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "x",
    "\ud800",
    "1" * 5_000,
    [],
    {},
    [1],
    {"a": 1},
]


def test_a_manifest_with_any_one_value_wrong_is_read_or_refused() -> None:
    """Beat and workers read what other versions of taskflow wrote."""
    for number in range(len(list(places_in(MANIFEST)))):
        for wrong in WRONG:
            manifest = copied(MANIFEST)
            holder, key = list(places_in(manifest))[number]
            holder[key] = wrong
            read_or_refuse(manifest)


@examples(150)
@given(damaged(MANIFEST))
def test_a_damaged_manifest_is_read_or_refused(manifest: Any) -> None:
    read_or_refuse(manifest)


def read_or_refuse(manifest: Any) -> None:
    with contextlib.suppress(ConfigError):
        FunctionSpec.from_manifest(manifest)
